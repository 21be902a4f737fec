"""The losses of PPO and GRPO and what to watch beside them (Schulman et al. 2017). All ``[B, T]``, unreduced.

They take no mask: whoever reduces them uses ``masking.masked_mean``, and hands in finite numbers
(0, say) off the mask, because a NaN there would meet the gradient before the mask does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.maths import kl


def ratio(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """``rho = policy / old policy`` of the sampled tokens; 1 before the first update."""
    return torch.exp(logprobs - old_logprobs)


def clipped_policy_loss(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float, clip_high: float | None = None) -> Tensor:
    """``-min(rho A, clip(rho, 1 - clip, 1 + clip_high) A)`` (equation 7, with the sign of a loss).

    ``clip_high`` is ``clip`` unless given; a larger one leaves unlikely tokens more room to grow (Yu et al.
    2025, section 3.1). Advantages of whole completions come as ``[B, 1]``.
    """
    free, clipped = _policy_losses(logprobs, old_logprobs, advantages, clip, clip_high)
    return torch.maximum(free, clipped)


def clipped_value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """``1/2 max((V - R)^2, (clip(V, V_old - clip, V_old + clip) - R)^2)``."""
    free, clipped = _value_errors(values, old_values, returns, clip)
    return 0.5 * torch.maximum(free, clipped)


def approx_kl(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """How far the policy has moved since it sampled: k2 of KL(policy || old policy), in nats."""
    return kl.k2(logprobs, old_logprobs)


def clip_fraction(logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float, clip_high: float | None = None) -> Tensor:
    """1.0 where the clip of the policy loss binds, so that the token gives no gradient; 0.0 elsewhere."""
    free, clipped = _policy_losses(logprobs, old_logprobs, advantages, clip, clip_high)
    return (clipped > free).to(logprobs.dtype)


def value_clip_fraction(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> Tensor:
    """1.0 where the clip of the value loss binds; 0.0 elsewhere."""
    free, clipped = _value_errors(values, old_values, returns, clip)
    return (clipped > free).to(values.dtype)


def _policy_losses(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, clip: float, clip_high: float | None
) -> tuple[Tensor, Tensor]:
    rho = ratio(logprobs, old_logprobs)
    return -rho * advantages, -rho.clamp(1 - clip, 1 + (clip if clip_high is None else clip_high)) * advantages


def _value_errors(values: Tensor, old_values: Tensor, returns: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    near = torch.minimum(torch.maximum(values, old_values - clip), old_values + clip)
    return (values - returns).square(), (near - returns).square()
