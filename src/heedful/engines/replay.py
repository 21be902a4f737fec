"""A step of decoding recorded once and replayed.

A GPU computes one token of each row sooner than Python can ask for it, operation by operation. So
the operations of a step are recorded, and asked for all at once as long as the same rows write.
Every recording is tried beside the plain step before it is believed.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from heedful.engines.cache import Cache, Turn
from heedful.engines.memory import is_out_of_memory
from heedful.engines.padding import rounded
from heedful.engines.tap import Frontier

Work = Callable[[], Frontier]
Recorder = Callable[[Work], Work]
"""From work over tensors that stay where they are to the same work, asked for all at once; it may do the work meanwhile, or not."""

REACH = 64
"""How many more tokens a recording is made for at most."""
PLAIN = 2
"""Steps that are not recorded after rows came or went: they ready what a recording may not, and rows that end soon need none."""


def cuda_graph(work: Work) -> Work:
    """A CUDA graph: its kernels start one after the other without Python in between."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = work()

    def replay() -> Frontier:
        graph.replay()
        return found

    return replay


def recorder_for(device: torch.device) -> Recorder | None:
    """How steps are recorded on a device; ``None`` where asking costs little beside computing."""
    return cuda_graph if device.type == "cuda" else None


class Replay:
    """One step after the other of a cache's rows.

    ``step``: from tokens ``[n]`` and their plan to where the rows stand then, without asking the device
    anything. What it gives is valid until the next step.
    """

    def __init__(self, step: Callable[[Tensor, Turn], Frontier], cache: Cache, recorder: Recorder) -> None:
        self.step, self.cache, self.recorder = step, cache, recorder
        self.recordings = 0
        self.refused = False
        """Has a recording failed, or given other numbers than the plain step?"""
        self.forget()

    def forget(self) -> None:
        """Rows have come, gone or moved."""
        self._most: int | None = None
        """How many tokens the longest row has written, or one that ended could have."""
        self._reach, self._taken = 0, 0
        self._recorded: Work | None = None

    def __call__(self, tokens: Tensor) -> Frontier:
        """Every row reads one more token, ``[n]``."""
        if self.refused:
            return self.step(tokens, self.cache.turn())
        if self._most is None:
            self._most = int(self.cache.written.max())
        if self._most >= self._reach:
            self._reach, self._recorded = min(rounded(self._most + 1, REACH), self.cache.room), None
        self._most, self._taken = min(self._most + 1, self.cache.room - 1), self._taken + 1
        if self._taken <= PLAIN:
            return self._plain(tokens)
        if self._recorded is None:
            return self._record(tokens)
        self._tokens.copy_(tokens)
        return self._recorded()

    def _plain(self, tokens: Tensor) -> Frontier:
        return self.step(tokens, self.cache.turn(self._reach))

    def _record(self, tokens: Tensor) -> Frontier:
        """The plain step, and a recording of it for the next ones."""
        before = self.cache.written.clone()
        expected, after = self._plain(tokens), self.cache.written.clone()
        self._tokens = tokens.clone()
        self.refused = not self._agrees(before, expected)
        self.cache.written.copy_(after)
        return expected

    def _agrees(self, before: Tensor, expected: Frontier) -> bool:
        """Record the step that was just done, and see whether it gives the same again."""
        self.recordings += 1
        step, cache, tokens, reach = self.step, self.cache, self._tokens, self._reach
        cache.written.copy_(before)
        try:
            self._recorded = self.recorder(lambda: step(tokens, cache.turn(reach)))
            cache.written.copy_(before)
            found = self._recorded()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            return False
        tolerance = torch.finfo(torch.bfloat16).eps
        return torch.allclose(found.logits, expected.logits, atol=tolerance, rtol=tolerance)
