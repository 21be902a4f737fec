"""Group relative policy optimisation (Shao et al. 2024): completions of one prompt are judged by one another.

The advantage of a completion is how much better it scored than the others of its prompt, so no
value head is needed. Where this departs from the paper:

1. the loss is summed over the tokens of the whole minibatch and divided once: a mean per completion
   would make a token of a long one weigh less (Liu et al. 2025; Yu et al. 2025);
2. the KL in the loss is the exact sum over the vocabulary. The sampled estimator k3 is there too,
   weighted by the ratio: without that its gradient is of another KL (see :mod:`heedful.maths.kl`);
3. completions from which nothing can be learnt, because all of their prompt scored the same, are
   not computed at all where no other term of the loss needs them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heedful.engines.base import Batch, Learner, Outputs
from heedful.maths.advantages import group_advantages
from heedful.maths.kl import k3
from heedful.maths.policy_losses import approx_kl, clip_fraction, clipped_policy_loss, ratio
from heedful.policy.kl_control import KLControl, make_kl_control
from heedful.policy.rollout import Experience, describe
from heedful.policy.shaping import RewardScale
from heedful.policy.updates import Metrics, mean_metrics, minibatches
from heedful.settings import GrpoSettings


@dataclass(frozen=True)
class GRPOLoss:
    """``L = share * (L_policy + beta * KL - c2 * H)``, one number per token ``[B, T]``.

    ``share`` is that of the minibatch's tokens which the loss gets to see; the others would have added 0.
    """

    clip: float
    clip_high: float | None = None
    kl_coef: float = 0.0
    kl_estimator: str = "exact"
    entropy_coef: float = 0.0
    share: float = 1.0

    @property
    def needs(self) -> frozenset[str]:
        """Optional outputs that the engine must compute."""
        return frozenset({"entropy", "kl"} if self.kl_coef and self.kl_estimator == "exact" else {"entropy"})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        assert outputs.logprobs is not None
        assert outputs.entropy is not None
        old, advantages = batch.columns["logprobs"], batch.columns["advantages"][:, None]
        policy = clipped_policy_loss(outputs.logprobs, old, advantages, self.clip, self.clip_high)
        loss = policy - self.entropy_coef * outputs.entropy
        metrics = {
            "loss/policy": self.share * policy,
            "policy/entropy": outputs.entropy,
            "policy/approx_kl": approx_kl(outputs.logprobs, old),
            "policy/clip_fraction": clip_fraction(outputs.logprobs, old, advantages, self.clip, self.clip_high),
            "policy/ratio": ratio(outputs.logprobs, old),
        }
        if self.kl_coef:
            kl = self._kl(outputs, batch)
            loss, metrics["loss/kl"] = loss + self.kl_coef * kl, kl
        return self.share * loss, metrics

    def _kl(self, outputs: Outputs, batch: Batch) -> Tensor:
        """KL(policy || reference) at every token, ``[B, T]``, with its gradient."""
        if outputs.kl is not None:
            return outputs.kl
        assert outputs.logprobs is not None
        return ratio(outputs.logprobs, batch.columns["logprobs"]) * k3(outputs.logprobs, batch.columns["ref_logprobs"])


@dataclass
class GRPO:
    """GRPO as :class:`heedful.policy.reinforce.Reinforcement` runs it; the KL controller is all that it remembers."""

    settings: GrpoSettings
    name = "GRPO"
    kl_estimator = "k1"
    """Of the rollout, to be looked at; the KL that is paid for stands in the loss."""

    def __post_init__(self) -> None:
        self.kl_control, self.completions_per_prompt = make_kl_control(self.settings), self.settings.completions_per_prompt
        self.exact_kl = self.settings.kl_estimator == "exact" and self.settings.kl_coef > 0

    def improve(self, learner: Learner, experience: Experience, scale: RewardScale, seed: int) -> Metrics:
        """One rollout in, an improved policy out."""
        return grpo_step(learner, experience, scale, self.kl_control, self.settings, seed)


def grpo_step(
    learner: Learner, experience: Experience, scale: RewardScale, kl_control: KLControl, settings: GrpoSettings, seed: int
) -> Metrics:
    """One rollout in, an improved policy out; its rows are ``completions_per_prompt`` of each prompt, prompt after prompt."""
    size, coef = settings.completions_per_prompt, kl_control.coef
    scores = scale(experience.scores, experience.finish_reasons)
    groups = scores.view(-1, size)
    advantages = group_advantages(groups, settings.scale)
    batch = experience.batch.with_columns(
        logprobs=experience.logprobs, ref_logprobs=experience.ref_logprobs, advantages=advantages.flatten()
    )

    metrics = []
    for minibatch in minibatches(batch, settings, seed, together=size):
        learnt = minibatch if coef or settings.entropy_coef else telling_rows(minibatch)
        share = sum(learnt.lengths) / sum(minibatch.lengths)
        loss = GRPOLoss(settings.clip, settings.clip_high, coef, settings.kl_estimator, settings.entropy_coef, share)
        metrics.append({**learner.forward_backward(learnt, loss), **learner.step()})

    recorded = {
        "objective/kl_coef": coef,
        "groups/spread": float(groups.std(1).mean()),
        "groups/equal": float((advantages == 0).all(1).float().mean()),
    }
    kl_control.update(float(experience.kl.sum(1).mean()), len(batch))
    return {**mean_metrics(metrics), **describe(experience, scores), **recorded}


def telling_rows(batch: Batch) -> Batch:
    """The rows whose advantage is not 0; one row where there is none, so that an optimiser step still has a gradient (of 0) to make."""
    rows = torch.nonzero(batch.columns["advantages"]).flatten().tolist()
    return batch.select(rows or [0])
