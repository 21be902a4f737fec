"""From a score per completion to an advantage per token. All tensors ``[B, T]`` unless said.

A row of the mask is 1 from its left edge to its last completion token, then 0. Results are 0 off
the mask, and what stands off the mask in the inputs never matters.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.maths.masking import at_least_float32, keep, masked_variance


def shaped_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """``-kl_coef * kl`` at every token, and the score ``[B]`` added at the last completion token.

    A row without tokens gets nothing. (Ziegler et al. 2019, equation 2, per token.)
    """
    on = mask.bool()
    last = on & (on.cumsum(1) == on.sum(1, keepdim=True))
    return keep(-kl_coef * kl, on) + keep(scores.unsqueeze(1), last)


def gae(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and returns, not standardised.

    ``delta_t = r_t + gamma V(s_{t+1}) - V(s_t)``, ``A_t = sum_l (gamma lam)^l delta_{t+l}`` and
    ``R_t = A_t + V(s_t)``; the state after the last token is terminal and worth 0. ``values[:, t]``
    is V of the state before token ``t``. (Schulman et al. 2016, equation 16.)
    """
    rewards, values = keep(rewards, mask), keep(values, mask)
    next_values = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    deltas = rewards + gamma * next_values - values
    advantages, running = torch.zeros_like(deltas), deltas.new_zeros(len(deltas))
    for t in reversed(range(deltas.shape[1])):
        running = deltas[:, t] + gamma * lam * running
        advantages[:, t] = running
    return keep(advantages, mask), keep(advantages + values, mask)


def group_advantages(scores: Tensor, scale: str = "group") -> Tensor:
    """How much better each completion scored than the others of its prompt: ``[G, K]`` scores to ``[G, K]``.

    ``(score - mean) / sd`` over the ``K`` completions, with the unbiased sd (Shao et al. 2024, section
    4.1.2); with ``scale = "none"`` the difference alone, since the sd makes prompts count more whose
    scores hardly differ (Liu et al. 2025, section 3.1). A group whose scores are equal, or differ by no
    more than rounding, gives exactly 0. Raises ``ValueError`` for another scale, or where ``K`` is below 2.
    """
    if scale not in GROUP_SCALES:
        raise ValueError(f"no scale of group advantages is called {scale!r}; there are {', '.join(GROUP_SCALES)}")
    if scores.shape[1] < 2:
        raise ValueError(f"a group needs two completions or more to compare, got {scores.shape[1]}")
    scores = at_least_float32(scores)
    deviations, sd = scores - scores.mean(1, keepdim=True), scores.std(1, keepdim=True)
    differ = sd > 8 * torch.finfo(scores.dtype).eps * scores.abs().amax(1, keepdim=True)
    return torch.where(differ, deviations / sd if scale == "group" else deviations, 0)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Share of the returns' variance over the mask that the values explain, 0-d: ``1 - var(R - V) / var(R)``.

    1 is a perfect critic, 0 one that knows no more than the mean, below 0 a harmful one.
    0 where all returns are equal.
    """
    total = masked_variance(returns, mask)
    return torch.where(total > 0, 1 - masked_variance(returns - values, mask) / total, 0)


GROUP_SCALES = ("group", "none")
