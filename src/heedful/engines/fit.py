"""Epochs over batches: the supervised loop that SFT, reward models and classifiers share."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from heedful.engines.base import Batch, Learner, Loss
from heedful.progress import Progress
from heedful.run import Checkpoints


def fit(
    learner: Learner,
    batches: Callable[[int], Sequence[Batch]],
    loss: Loss,
    *,
    epochs: int,
    folder: Path,
    log: Callable[[int, dict[str, float]], None],
    progress: Progress,
    title: str,
    checkpoint_every: int = 100,
) -> int:
    """One optimiser step per batch; returns the number of steps.

    ``batches(epoch)`` must be the same whenever it is asked: a killed run goes on in the middle of
    an epoch from its last checkpoint under ``folder``.
    """
    checkpoints = Checkpoints(folder, keep=2, warn=progress.say)
    per_epoch = len(batches(0))
    done = _resume(learner, checkpoints)
    with progress.track(per_epoch * epochs, title) as bar:
        bar.advance(done)
        for epoch in range(done // per_epoch if per_epoch else 0, epochs):
            for batch in batches(epoch)[done - epoch * per_epoch :]:
                metrics = {**learner.forward_backward(batch, loss), **learner.step()}
                done += 1
                log(done, metrics)
                bar.advance(1, loss=metrics["loss"])
                if done % checkpoint_every == 0:
                    checkpoints.save(done, lambda where, step=done: _save(learner, where, step))  # type: ignore[misc]
    return done


def shuffled_parts(count: int, size: int, seed: int, epoch: int) -> list[list[int]]:
    """One shuffled pass over ``count`` rows in parts of ``size``: the same for the same seed and epoch."""
    order = [int(i) for i in np.random.default_rng([seed, epoch]).permutation(count)]
    return [order[start : start + size] for start in range(0, count, size)]


def _save(learner: Learner, folder: Path, done: int) -> None:
    learner.save(folder)
    (folder / "fit.json").write_text(json.dumps({"done": done}))


def _resume(learner: Learner, checkpoints: Checkpoints) -> int:
    newest = checkpoints.newest()
    if newest is None:
        return 0
    learner.load(newest[1])
    return int(json.loads((newest[1] / "fit.json").read_text())["done"])
