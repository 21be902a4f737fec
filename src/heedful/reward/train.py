"""Reward models from pairs: ``-log sigmoid(r_chosen - r_rejected - margin)`` (Ouyang et al. 2022, eq. 1).

All pairs of a prompt are one group: its K completions are encoded K times, not K(K-1), and the
group's loss is the mean over its pairs, so that prompts with many pairs weigh no more than others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from heedful.engines.base import Batch, Learner, Outputs
from heedful.engines.fit import fit, shuffled_parts
from heedful.maths.preference_losses import bradley_terry, wins
from heedful.progress import Progress
from heedful.records import Pair, plain_text

Encode = Callable[[Pair, bool], tuple[list[int], list[int]]]
"""(pair, is it the chosen one?) -> (prompt ids, completion ids)."""


@dataclass(frozen=True)
class Comparisons:
    """Within one group: row ``better[i]`` was preferred to row ``worse[i]`` with probability ``p[i]``."""

    better: list[int]
    worse: list[int]
    p: list[float]
    margin: list[float]


@dataclass(frozen=True)
class PairwiseLoss:
    """Bradley-Terry over the comparisons of each group: ``[G]``. ``comparisons`` is keyed by group id."""

    comparisons: Mapping[int, Comparisons]

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        assert outputs.scores is not None
        losses, accuracies, gaps = [], [], []
        for group, rows in batch.rows_by_group.items():
            known, scores = self.comparisons[group], outputs.scores[rows]
            chosen, rejected = scores[known.better], scores[known.worse]
            p, margin = scores.new_tensor(known.p), scores.new_tensor(known.margin)
            losses.append(bradley_terry(chosen, rejected, margin, p).mean())
            accuracies.append(wins(chosen, rejected).mean())
            gaps.append((chosen - rejected).mean())
        return torch.stack(losses), {"accuracy": torch.stack(accuracies), "score_gap": torch.stack(gaps)}


@dataclass(frozen=True)
class PairSet:
    """Encoded pairs: one group per prompt, each distinct completion once.

    ``rows[g]`` are the (prompt ids, completion ids) of group ``g``.
    """

    rows: list[list[tuple[list[int], list[int]]]]
    comparisons: list[Comparisons]
    pairs: list[Pair]
    """The pairs, group after group: the order of :func:`score_pairs`."""

    def batch(self, groups: Sequence[int]) -> Batch:
        """The rows of some groups, group after group."""
        flat = [(g, row) for g in groups for row in self.rows[g]]
        return Batch([row[0] for _, row in flat], [row[1] for _, row in flat], [g for g, _ in flat])

    @property
    def loss(self) -> PairwiseLoss:
        """The loss that knows these comparisons."""
        return PairwiseLoss(dict(enumerate(self.comparisons)))


def encode_pairs(pairs: Sequence[Pair], encode: Encode) -> PairSet:
    """Group pairs by prompt; a completion that stands in several pairs becomes one row."""
    by_prompt: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_prompt.setdefault(pair.prompt_id or plain_text(pair.prompt), []).append(pair)
    found = [_encode_group(group, encode) for group in by_prompt.values()]
    return PairSet(
        [rows for rows, _ in found], [comparisons for _, comparisons in found], [p for group in by_prompt.values() for p in group]
    )


def _encode_group(pairs: Sequence[Pair], encode: Encode) -> tuple[list[tuple[list[int], list[int]]], Comparisons]:
    index: dict[str, int] = {}
    rows: list[tuple[list[int], list[int]]] = []

    def row(pair: Pair, chosen: bool) -> int:
        key = (pair.chosen_id or pair.chosen) if chosen else (pair.rejected_id or pair.rejected)
        if key not in index:
            index[key] = len(rows)
            rows.append(encode(pair, chosen))
        return index[key]

    better, worse = [row(p, True) for p in pairs], [row(p, False) for p in pairs]
    return rows, Comparisons(better, worse, [p.p for p in pairs], [p.margin for p in pairs])


def train_reward(
    learner: Learner,
    pairs: PairSet,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    folder: Path,
    log: Callable[[int, dict[str, float]], None],
    progress: Progress,
) -> int:
    """Fit scores to comparisons, ``batch_size`` prompts a step; returns the optimiser steps made."""

    def batches(epoch: int) -> list[Batch]:
        return [pairs.batch(part) for part in shuffled_parts(len(pairs.rows), batch_size, seed, epoch)]

    return fit(learner, batches, pairs.loss, epochs=epochs, folder=folder, log=log, progress=progress, title="Reward model")


def score_pairs(learner: Learner, pairs: PairSet) -> tuple[np.ndarray, np.ndarray]:
    """Scores of the chosen and of the rejected completions, one entry per comparison."""
    groups = range(len(pairs.rows))
    outputs = learner.evaluate(pairs.batch(groups), "reward")
    assert outputs.scores is not None
    scores, start = outputs.scores.numpy(), 0
    chosen: list[float] = []
    rejected: list[float] = []
    for rows, known in zip(pairs.rows, pairs.comparisons, strict=True):
        chosen.extend(scores[start + i] for i in known.better)
        rejected.extend(scores[start + i] for i in known.worse)
        start += len(rows)
    return np.array(chosen, dtype=np.float64), np.array(rejected, dtype=np.float64)
