"""A learner that is watched: how long it samples, scores and learns, and what that must cost.

It behaves as the learner it wraps, so that an algorithm cannot tell; seconds and operations are
kept by phase.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks import flops
from benchmarks.flops import DecodingStep
from benchmarks.limits import clock
from heedful.engines.base import Batch, Loss, Outputs, Role, Sampled, Sampler, Sampling
from heedful.engines.local import LocalLearner
from heedful.engines.networks import SCALAR_ROLES

PHASES = ("sampling", "scoring", "learning")


@dataclass
class Meter:
    """Seconds, operations and tokens by phase; one may serve several learners."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    operations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))
    tokens: dict[str, int] = field(default_factory=lambda: dict.fromkeys(PHASES, 0))

    @contextmanager
    def watch(self, phase: str) -> Iterator[None]:
        """Count the time of a phase, an accelerator's too."""
        _finish_queue()
        began = clock()
        yield
        _finish_queue()
        self.seconds[phase] += clock() - began

    def clear(self) -> None:
        """Begin again."""
        for counted in (self.seconds, self.operations, self.tokens):
            counted.update(dict.fromkeys(PHASES, 0))

    @property
    def arithmetic(self) -> tuple[int, float]:
        """(operations, seconds) of scoring and learning together."""
        parts = ("scoring", "learning")
        return sum(self.operations[p] for p in parts), sum(self.seconds[p] for p in parts)

    def report(self) -> dict[str, Any]:
        """All of it, for a file."""
        return {"phases": self.seconds, "operations": self.operations, "tokens": self.tokens}


class MeteredLearner:
    """A :class:`heedful.engines.base.Learner` under a meter."""

    def __init__(self, learner: LocalLearner, shape: flops.Shape, meter: Meter) -> None:
        self.learner, self.shape, self.meter = learner, shape, meter
        self.frozen = getattr(learner.network, "lora", None) is not None

    @property
    def rounding(self) -> float:
        """See the learner."""
        return self.learner.rounding

    def evaluate(self, batch: Batch, role: Role, *, entropy: bool = False, exact_kl: bool = False, ref_states: bool = False) -> Outputs:
        """Scoring; with the exact KL two models are computed."""
        with self.meter.watch("scoring"):
            found = self.learner.evaluate(batch, role, entropy=entropy, exact_kl=exact_kl, ref_states=ref_states)
        once = flops.forward(self.shape, _rows(batch), logits=role not in SCALAR_ROLES)
        self._count("scoring", batch, once * (2 if exact_kl else 1))
        return found

    def forward_backward(self, batch: Batch, loss: Loss) -> dict[str, float]:
        """Learning."""
        with self.meter.watch("learning"):
            found = self.learner.forward_backward(batch, loss)
        logits = self.learner.trains not in SCALAR_ROLES
        self._count("learning", batch, flops.training(self.shape, _rows(batch), logits=logits, frozen=self.frozen))
        return found

    def step(self) -> dict[str, float]:
        """Learning; the optimiser's own arithmetic is not counted."""
        with self.meter.watch("learning"):
            return self.learner.step()

    def sampler(self) -> Sampler:
        """Sampling, under the same meter."""
        return _MeteredSampler(self.learner.sampler(), self)

    def save(self, folder: Path) -> None:
        """See the learner."""
        self.learner.save(folder)

    def load(self, folder: Path) -> None:
        """See the learner."""
        self.learner.load(folder)

    def _count(self, phase: str, batch: Batch, operations: int) -> None:
        self.meter.operations[phase] += operations
        self.meter.tokens[phase] += sum(p + sum(completions) for p, completions in _rows(batch))


class _MeteredSampler:
    def __init__(self, sampler: Sampler, owner: MeteredLearner) -> None:
        self.inner, self.owner = sampler, owner

    def sample(self, prompt_ids: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Sampled]:
        """Tokens counted are those drawn."""
        meter = self.owner.meter
        with meter.watch("sampling"):
            found = self.inner.sample(prompt_ids, sampling, seeds)
        meter.operations["sampling"] += flops.forward(self.owner.shape, flops.rows_of(prompt_ids, [s.token_ids for s in found]))
        meter.tokens["sampling"] += sum(len(s.token_ids) for s in found)
        return found


def decoding_step(
    learner: LocalLearner, shape: flops.Shape, prompts: Sequence[Sequence[int]], length: int, repeats: int = 3
) -> DecodingStep:
    """Completions of ``length`` tokens against completions of one: the rest is decoding. The median of several repeats."""
    sampler, seeds = learner.sampler(), list(range(len(prompts)))
    found = []
    for _ in range(repeats):
        short, _ = _timed(sampler, prompts, 1, seeds)
        long, drawn = _timed(sampler, prompts, length, seeds)
        found.append((long - short) / (max(len(s.token_ids) for s in drawn) - 1))
    width = torch.finfo(learner.network.precision).bits // 8
    operations, read = flops.decoding(shape, flops.rows_of(prompts, [s.token_ids for s in drawn]), width)
    return DecodingStep(sorted(found)[len(found) // 2], operations, read, len(prompts))


def _timed(sampler: Sampler, prompts: Sequence[Sequence[int]], length: int, seeds: Sequence[int]) -> tuple[float, list[Sampled]]:
    _finish_queue()
    began = clock()
    drawn = sampler.sample(prompts, Sampling(length), seeds)
    _finish_queue()
    return clock() - began, drawn


def _rows(batch: Batch) -> flops.Rows:
    return flops.rows_of(batch.prompt_ids, batch.completion_ids)


def _finish_queue() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
