"""Direct preference optimisation (Rafailov et al. 2023): a policy learns from pairs, without a reward model or sampling.

What a policy makes likelier than its reference does is taken for what it thinks better: ``beta`` times
the difference of the two log-probabilities is its *implicit reward*. The loss is that of a reward
model, on implicit rewards. Three things to know:

1. a pair is a group of two rows, the chosen one first. The engine never splits it, and reads its prompt once;
2. the reference's log-probabilities never change, so they are computed once, before the first step;
3. a pair with probability ``p`` counts ``p`` as it is and ``1 - p`` turned round.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from heedful.engines.base import Batch, Learner, Outputs, Role
from heedful.engines.fit import fit, shuffled_parts
from heedful.maths.preference_losses import dpo, implicit_rewards, wins
from heedful.policy.reference import check_neutral_start
from heedful.progress import Progress
from heedful.records import write_atomically

Ids = Sequence[int]

ROWS_AT_ONCE = 512
"""Completions whose log-probabilities ``[B, T]`` are held at a time."""


@dataclass(frozen=True)
class DPOLoss:
    """One number per pair ``[G]``; rows come in twos, the chosen one first.

    ``columns`` hold ``reference [B]``, log-probabilities of whole completions, and ``p [B]``, the same for both rows of a pair.
    """

    beta: float = 0.1
    label_smoothing: float = 0.0
    variant: str = "sigmoid"

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        assert outputs.logprobs is not None
        policy, reference = outputs.logprobs.sum(1), batch.columns["reference"]
        chosen, rejected, p = policy[::2], policy[1::2], batch.columns["p"][::2]
        loss = dpo(chosen, rejected, reference[::2], reference[1::2], self.beta, self.label_smoothing, self.variant, p)
        rewards = implicit_rewards(policy, reference, self.beta)
        return loss, {
            "rewards/chosen": rewards[::2],
            "rewards/rejected": rewards[1::2],
            "rewards/margin": rewards[::2] - rewards[1::2],
            "rewards/accuracy": wins(rewards[::2], rewards[1::2]),
            "logprobs/chosen": chosen,
            "logprobs/rejected": rejected,
        }


def pair_batch(pairs: Sequence[tuple[Ids, Ids, Ids]], p: Sequence[float]) -> Batch:
    """Pairs, (prompt, chosen, rejected) each, as rows: two for a pair, the chosen one first, in one group."""
    prompts, completions = [x[0] for x in pairs for _ in range(2)], [ids for x in pairs for ids in x[1:]]
    groups = [number for number in range(len(pairs)) for _ in range(2)]
    return Batch(prompts, completions, groups, {"p": torch.tensor([p[number] for number in groups])})


def with_reference(learner: Learner, pairs: Batch, file: Path) -> Batch:
    """The pairs with their ``reference`` column, from ``file`` where a run goes on; else it is computed, checked and written there."""
    from safetensors.torch import load_file, save

    if not file.exists():
        check_neutral_start(learner, pairs)
        write_atomically(file, save({"reference": completion_logprobs(learner, pairs, "reference")}))
    return pairs.with_columns(**load_file(file))


def completion_logprobs(learner: Learner, batch: Batch, role: Role) -> Tensor:
    """The log-probability of each whole completion, ``[B]``."""
    found = []
    for start in range(0, len(batch), ROWS_AT_ONCE):
        logprobs = learner.evaluate(batch.select(range(start, min(start + ROWS_AT_ONCE, len(batch)))), role).logprobs
        assert logprobs is not None
        found.append(logprobs.sum(1))
    return torch.cat(found)


def train_dpo(
    learner: Learner,
    pairs: Batch,
    loss: DPOLoss,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    folder: Path,
    log: Callable[[int, dict[str, float]], None],
    progress: Progress,
    checkpoint_every: int = 100,
) -> int:
    """Fit the policy to pairs that carry their ``reference``, ``batch_size`` pairs a step; returns the optimiser steps made."""

    def batches(epoch: int) -> list[Batch]:
        parts = shuffled_parts(len(pairs) // 2, batch_size, seed, epoch)
        return [pairs.select([row for pair in part for row in (2 * pair, 2 * pair + 1)]) for part in parts]

    return fit(
        learner, batches, loss, epochs=epochs, folder=folder, log=log, progress=progress, title="DPO", checkpoint_every=checkpoint_every
    )
