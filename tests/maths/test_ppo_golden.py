"""The whole of PPO's mathematics against what trl 0.11.4 computed, in float64."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from heedful.maths import kl
from heedful.maths.advantages import gae, shaped_rewards
from heedful.maths.logprobs import entropy
from heedful.maths.masking import masked_mean, masked_variance, scale_to_unit_variance, standardise
from heedful.maths.policy_losses import approx_kl, clip_fraction, clipped_policy_loss, clipped_value_loss, value_clip_fraction

KL = {"kl": kl.k1, "abs": lambda a, b: kl.k1(a, b).abs(), "mse": kl.k2, "full": kl.exact}


@pytest.fixture(params=range(5))
def case(request, shared) -> SimpleNamespace:
    row = json.loads((shared / "golden" / "ppo.json").read_text())["cases"][request.param]
    tensors = {k: torch.tensor(v, dtype=torch.float64) if isinstance(v, list) else v for k, v in row["inputs"].items()}
    return SimpleNamespace(**tensors, expected=row["expected"])


def check(got: Tensor, wanted: object, mask: Tensor | None = None) -> None:
    wanted = torch.tensor(wanted, dtype=torch.float64)
    if mask is not None:
        got, wanted = got[mask.bool()], wanted[mask.bool()]
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6)


def test_rewards_and_advantages(case) -> None:
    divergence = KL[case.kl_penalty](case.logprobs, case.ref_logprobs)
    check(divergence, case.expected["kl"])
    rewards = shaped_rewards(case.scores, divergence, case.mask, case.kl_coef)
    check(rewards, case.expected["rewards"], case.mask)
    mask, values = case.mask, case.values
    if case.whiten_rewards:
        (rewards, mask), values = leaky_whitening(rewards, case.mask), values * case.mask
    advantages, returns = gae(rewards, values, mask, case.gamma, case.lam)
    check(standardise(advantages, case.mask), case.expected["advantages"], case.mask)
    check(returns, case.expected["returns"], case.mask)


def leaky_whitening(rewards: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Whitened rewards as trl hands them to GAE, and the mask that it then uses: none.

    On the mask they are heedful's. On padding trl leaves ``mean - mean / deviation``, and GAE carries
    that back into real tokens; heedful's never does (test_advantages.py), so the leak is rebuilt here.
    """
    mean = masked_mean(rewards, mask)
    leak = mean - mean * masked_variance(rewards, mask).rsqrt()
    return torch.where(mask.bool(), scale_to_unit_variance(rewards, mask), leak), torch.ones_like(mask)


def test_losses_and_what_is_watched(case) -> None:
    advantages, returns = (torch.tensor(case.expected[name], dtype=torch.float64) for name in ("advantages", "returns"))
    stats, policy, value = case.expected["stats"], (case.new_logprobs, case.old_logprobs), (case.new_values, case.values)

    def mean(x: Tensor) -> Tensor:
        return masked_mean(x, case.mask)

    check(mean(clipped_policy_loss(*policy, advantages, case.cliprange)), case.expected["policy_loss"])
    check(mean(clipped_value_loss(*value, returns, case.cliprange_value)), stats["loss/value"])
    check(mean(case.vf_coef * clipped_value_loss(*value, returns, case.cliprange_value)), case.expected["weighted_value_loss"])
    check(mean(clip_fraction(*policy, advantages, case.cliprange)), stats["policy/clipfrac"])
    check(mean(value_clip_fraction(*value, returns, case.cliprange_value)), stats["val/clipfrac"])
    check(mean(approx_kl(*policy)), stats["policy/approxkl"])
    check(-mean(kl.k1(*policy)), stats["policy/policykl"])
    check(mean(entropy(case.logits)), stats["policy/entropy"])
