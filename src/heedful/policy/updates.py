"""Phase 2 of reinforcement learning: small updates, several shuffled passes over one rollout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from heedful.engines.base import Batch
from heedful.settings import ReinforcementSettings

Metrics = dict[str, float]


def minibatches(batch: Batch, settings: ReinforcementSettings, seed: int, together: int = 1) -> Iterator[Batch]:
    """The rows of each optimiser step; every ``together`` rows in sequence stay in one minibatch."""
    shuffle, rows = np.random.default_rng(seed), np.arange(len(batch)).reshape(-1, together)
    for _ in range(settings.epochs):
        order = shuffle.permutation(len(rows))
        for start in range(0, len(rows), settings.minibatch_size // together):
            yield batch.select(rows[order[start : start + settings.minibatch_size // together]].flatten().tolist())


def mean_metrics(metrics: Sequence[Metrics]) -> Metrics:
    """The mean of each metric over the minibatches; the first ratio apart, because it must be 1."""
    means = {name: float(np.mean([m[name] for m in metrics])) for name in metrics[0]}
    return {**means, "policy/first_ratio": metrics[0]["policy/ratio"]}
