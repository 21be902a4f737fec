"""Supervised fine-tuning: raise the log-probability of given completions, and of nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from heedful.engines.base import Batch, Learner, Outputs
from heedful.engines.fit import fit, shuffled_parts
from heedful.progress import Progress


@dataclass(frozen=True)
class SFTLoss:
    """``-log pi(a_t | s_t)`` on completion tokens, end token included: ``[B, T]``."""

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        assert outputs.logprobs is not None
        return -outputs.logprobs, {}


def train_sft(
    learner: Learner,
    prompt_ids: Sequence[Sequence[int]],
    completion_ids: Sequence[Sequence[int]],
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    folder: Path,
    log: Callable[[int, dict[str, float]], None],
    progress: Progress,
) -> int:
    """Fit completions to prompts; returns the optimiser steps made."""

    def batches(epoch: int) -> list[Batch]:
        parts = shuffled_parts(len(prompt_ids), batch_size, seed, epoch)
        return [Batch([prompt_ids[i] for i in part], [completion_ids[i] for i in part]) for part in parts]

    return fit(learner, batches, SFTLoss(), epochs=epochs, folder=folder, log=log, progress=progress, title="SFT")


def held_out_loss(learner: Learner, prompt_ids: Sequence[Sequence[int]], completion_ids: Sequence[Sequence[int]]) -> float:
    """Mean negative log-probability per completion token, in nats."""
    batch = Batch(list(prompt_ids), list(completion_ids))
    logprobs = learner.evaluate(batch, "policy").logprobs
    assert logprobs is not None
    return float(-(logprobs * batch.mask).sum() / batch.mask.sum())
