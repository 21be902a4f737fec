"""Means and scales over a mask. What stands off the mask never matters, not even NaN or infinity.

A mask has the shape of what it masks, ``[B, T]``: 1 (or True) on completion tokens, 0 elsewhere.
"""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of ``x`` over the mask, 0-d; 0 where the mask is empty.

    Raises ``ValueError`` where the shapes differ.
    """
    on = _on(x, mask)
    return keep(at_least_float32(x), on).sum() / on.sum().clamp(min=1)


def masked_variance(x: Tensor, mask: Tensor) -> Tensor:
    """Unbiased variance of ``x`` over the mask, 0-d; 0 where fewer than two tokens are on it."""
    on = _on(x, mask)
    deviations = keep(at_least_float32(x) - masked_mean(x, mask), on)
    return deviations.square().sum() / (on.sum() - 1).clamp(min=1)


def standardise(x: Tensor, mask: Tensor) -> Tensor:
    """``x`` with mean 0 and unbiased variance 1 over the mask, and 0 off it; the shape of ``x``.

    Where all tokens on the mask are equal, or there is only one, the result is 0.
    (Whitened advantages: Ziegler et al. 2019; lm-human-preferences.)
    """
    return keep(at_least_float32(x) - masked_mean(x, mask), mask) * inverse_deviation(x, mask)


def scale_to_unit_variance(x: Tensor, mask: Tensor) -> Tensor:
    """``x`` with unbiased variance 1 over the mask and the mean it had, and 0 off it; the shape of ``x``.

    This is reward whitening: moving the mean of the rewards would pay for longer or shorter completions.
    """
    return standardise(x, mask) + keep(masked_mean(x, mask).expand_as(x), mask)


def inverse_deviation(x: Tensor, mask: Tensor) -> Tensor:
    """1 / standard deviation over the mask, 0-d; 0 where rounding alone could explain the deviation."""
    variance = masked_variance(x, mask)
    rounding = 8 * torch.finfo(variance.dtype).eps * masked_mean(x.detach().abs(), mask)
    return torch.where(variance > rounding.square(), variance, torch.inf).rsqrt()


def keep(x: Tensor, mask: Tensor) -> Tensor:
    """``x`` on the mask, 0 off it, for values and gradients alike (a product would let NaN through)."""
    return torch.where(mask.bool(), x, 0)


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` itself in float32 or float64; half precision is widened."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _on(x: Tensor, mask: Tensor) -> Tensor:
    if x.shape != mask.shape:
        raise ValueError(f"x has shape {tuple(x.shape)} and its mask {tuple(mask.shape)}")
    return mask.bool()
