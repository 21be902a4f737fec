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
Recorder = Callable[[Work, torch.device], tuple[Callable[[], None], Frontier]]
"""From work over tensors of a device that stay where they are to the same work, asked for all at once, and where it leaves what
it found. A recorder may do the work meanwhile, or not."""

REACH = 64
"""How many more tokens a recording is made for at most."""
PLAIN = 2
"""Steps that are not recorded after rows came or went: they ready what a recording may not, and rows that end soon need none."""
PATIENCE = 0.5
"""Rows that have ended stay until this share of all has: when rows go, what is recorded is of no use any more."""


def cuda_graph(work: Work, device: torch.device) -> tuple[Callable[[], None], Frontier]:
    """A CUDA graph: its kernels start one after the other without Python in between."""
    with torch.cuda.device(device):  # what runs on another device than the current one would not be recorded
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            with torch.cuda.graph(graph):
                found = work()
        finally:
            torch.cuda.set_stream(stream)  # where recording fails, torch stays on the one that it recorded on
    return graph.replay, found


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
        self._recorded: tuple[Callable[[], None], Frontier] | None = None

    @property
    def patience(self) -> float:
        """What share of the rows may have ended and yet stay."""
        return 0.0 if self.refused else PATIENCE

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
        again, found = self._recorded
        again()
        return found

    def _plain(self, tokens: Tensor) -> Frontier:
        return self.step(tokens, self.cache.turn(self._reach))

    def _record(self, tokens: Tensor) -> Frontier:
        """The plain step, and a recording of it for the next ones."""
        before = self.cache.written.clone()
        expected, after = self._plain(tokens), self.cache.written.clone()
        self._tokens = tokens.clone()
        if not self._agrees(before, expected):
            self.refused, self._recorded = True, None
        self.cache.written.copy_(after)
        return expected

    def _agrees(self, before: Tensor, expected: Frontier) -> bool:
        """Record the step that was just done, and see whether it gives the same again."""
        self.recordings += 1
        step, cache, tokens, reach = self.step, self.cache, self._tokens, self._reach
        cache.written.copy_(before)
        try:
            again, found = self._recorded = self.recorder(lambda: step(tokens, cache.turn(reach)), cache.device)
            found.logits.zero_()  # what recording left there must not pass for what replaying finds
            cache.written.copy_(before)
            again()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            return False
        tolerance = torch.finfo(torch.bfloat16).eps
        return torch.allclose(found.logits, expected.logits, atol=tolerance, rtol=tolerance)
