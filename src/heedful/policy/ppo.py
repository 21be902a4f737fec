"""Proximal policy optimisation (Schulman et al. 2017) for language models (Ziegler et al. 2019).

One iteration has two phases (`ppo_step`): experience, then small updates inside a trust region.
Where this departs from the papers:

1. the value is a head on the policy's own trunk, and one pass gives both;
2. the loss is summed over the tokens of the whole minibatch and divided once, so no completion
   weighs more because of the micro-batch it fell in;
3. every minibatch is one optimiser step;
4. KL goes into the reward, per token, as k1, k3 or the exact sum over the vocabulary. The exact sum
   says nothing about the token drawn, so that its local gradient is added to the loss, divided by the
   same deviation as the advantages are; with k1 the reward alone gives the whole gradient, with k3 a
   biased one.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from heedful.engines.base import Batch, Learner, Outputs
from heedful.maths.advantages import explained_variance, gae, shaped_rewards
from heedful.maths.masking import inverse_deviation, masked_mean, standardise
from heedful.maths.policy_losses import approx_kl, clip_fraction, clipped_policy_loss, clipped_value_loss, ratio
from heedful.policy.kl_control import KLControl, make_kl_control
from heedful.policy.rollout import Experience, describe
from heedful.policy.shaping import RewardScale
from heedful.policy.updates import Metrics, mean_metrics, minibatches
from heedful.settings import PpoSettings


@dataclass(frozen=True)
class PPOLoss:
    """``L = L_policy + c1 * L_value - c2 * H``, one number per token ``[B, T]``."""

    clip: float
    value_clip: float
    value_coef: float
    entropy_coef: float
    exact_kl_coef: float = 0.0
    """beta over the deviation of the advantages where the KL is the exact sum; sampled estimators do all their work in the reward."""

    @property
    def needs(self) -> frozenset[str]:
        """Optional outputs that the engine must compute."""
        return frozenset({"entropy", "kl"} if self.exact_kl_coef else {"entropy"})

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        assert outputs.logprobs is not None
        assert outputs.values is not None
        assert outputs.entropy is not None
        old, advantages = batch.columns["logprobs"], batch.columns["advantages"]
        policy = clipped_policy_loss(outputs.logprobs, old, advantages, self.clip)
        value = clipped_value_loss(outputs.values, batch.columns["values"], batch.columns["returns"], self.value_clip)
        loss = policy + self.value_coef * value - self.entropy_coef * outputs.entropy
        if self.exact_kl_coef:
            assert outputs.kl is not None
            loss = loss + self.exact_kl_coef * outputs.kl
        return loss, {
            "loss/policy": policy,
            "loss/value": value,
            "policy/entropy": outputs.entropy,
            "policy/approx_kl": approx_kl(outputs.logprobs, old),
            "policy/clip_fraction": clip_fraction(outputs.logprobs, old, advantages, self.clip),
            "policy/ratio": ratio(outputs.logprobs, old),
        }


@dataclass
class PPO:
    """PPO as :class:`heedful.policy.reinforce.Reinforcement` runs it; the KL controller is all that it remembers."""

    settings: PpoSettings
    name = "PPO"
    completions_per_prompt = 1

    def __post_init__(self) -> None:
        self.kl_control, self.kl_estimator = make_kl_control(self.settings), self.settings.kl_estimator
        self.exact_kl = self.kl_estimator == "exact" and self.settings.kl_coef > 0

    def improve(self, learner: Learner, experience: Experience, scale: RewardScale, seed: int) -> Metrics:
        """One rollout in, an improved policy out."""
        return ppo_step(learner, experience, scale, self.kl_control, self.settings, seed)


def ppo_step(
    learner: Learner, experience: Experience, scale: RewardScale, kl_control: KLControl, settings: PpoSettings, seed: int
) -> Metrics:
    """Phase 2: one rollout in, an improved policy out."""
    mask = experience.batch.mask
    scores = scale(experience.scores, experience.finish_reasons)
    rewards = shaped_rewards(scores, experience.kl, mask, kl_control.coef)
    advantages, returns = gae(rewards, experience.values, mask, settings.gamma, settings.lam)
    batch = experience.batch.with_columns(
        logprobs=experience.logprobs, values=experience.values, advantages=standardise(advantages, mask), returns=returns
    )
    exact = kl_control.coef * float(inverse_deviation(advantages, mask)) if settings.kl_estimator == "exact" else 0.0
    loss = PPOLoss(settings.clip, settings.value_clip, settings.value_coef, settings.entropy_coef, exact)

    metrics = []
    for minibatch in minibatches(batch, settings, seed):
        metrics.append({**learner.forward_backward(minibatch, loss), **learner.step()})

    recorded = {
        "objective/kl_coef": kl_control.coef,  # the coefficient that was used, not the next
        "objective/advantage": float(masked_mean(advantages, mask)),
        "value/mean": float(masked_mean(experience.values, mask)),
        "value/return": float(masked_mean(returns, mask)),
        "value/explained_variance": float(explained_variance(experience.values, returns, mask)),
    }
    kl_control.update(float(experience.kl.sum(1).mean()), len(batch))
    return {**mean_metrics(metrics), **describe(experience, scores), **recorded}
