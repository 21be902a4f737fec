"""Operations of a transformer layer, each with its backward pass.

Written as one operation after the other, a norm or a gated unit reads and writes its
tokens many times and keeps several copies for the backward pass; on a CPU, and in bfloat16, that
costs as much as a good part of the matrix products. Each operation here reads its tokens as seldom as
it can.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """``x / rms(x) * weight`` (Zhang & Sennrich 2019, eq. 4) of ``[..., H]``, computed in float32 and given back in ``dtype``,
    and ``1 / rms(x)``, ``[..., 1]``."""
    wide = x.float()
    scale = (torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]) + eps).rsqrt_()
    return torch.mul(wide, scale).mul_(weight).to(dtype), scale


def norm_backward(dy: Tensor, x: Tensor, scale: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | None]:
    """The gradients of ``x`` and of the weight, if it learns. With ``n = x scale`` and ``g = dy weight``:
    ``dx = scale (g - n mean(g n))``."""
    wide, normed = dy.float(), torch.mul(x.float(), scale)
    by_weight = torch.mul(wide, normed)
    shared = (by_weight @ weight.float())[..., None] / x.shape[-1]
    dweight = by_weight.flatten(0, -2).sum(0).to(weight.dtype) if weight.requires_grad else None
    dx = (wide if wide is not dy else wide.clone()).mul_(weight).addcmul_(normed, shared, value=-1).mul_(scale)
    return dx.to(x.dtype), dweight


class RMSNorm(torch.autograd.Function):
    """:func:`norm` alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        """``[..., H]`` -> ``[..., H]``."""
        found, scale = norm(x, weight, eps, dtype)
        ctx.save_for_backward(x, weight, scale)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """See :func:`norm_backward`."""
        x, weight, scale = ctx.saved_tensors
        return *norm_backward(gradients[0], x, scale, weight), None, None


def eps_of(module: Any) -> float:
    """What a norm adds before it takes the root; 0 where it has no such thing."""
    return float(getattr(module, "variance_epsilon", getattr(module, "eps", 0.0)))


@dataclass(frozen=True)
class Activation:
    """A gate's activation, and its gradient from ``(dy, x)``, written into ``grad_input``."""

    of: Callable[[Tensor], Tensor]
    gradient: Callable[..., Tensor]


ACTIVATIONS = (
    Activation(functional.silu, torch.ops.aten.silu_backward.grad_input),
    Activation(partial(functional.gelu, approximate="tanh"), partial(torch.ops.aten.gelu_backward.grad_input, approximate="tanh")),
)


def unit(gate_up: Tensor, act: Activation) -> tuple[Tensor, Tensor]:
    """``act(gate) up`` (Shazeer 2020, eq. 6) of both side by side, ``[n, 2 I]`` -> ``[n, I]``, and ``act(gate)``, which costs most."""
    gate, up = gate_up.chunk(2, -1)
    activated = act.of(gate)
    return activated * up, activated


def unit_again(gate_up: Tensor, activated: Tensor) -> Tensor:
    """What :func:`unit` gave; not keeping it saves a quarter of a unit's memory, and this is the cheapest of its steps."""
    return activated * gate_up.chunk(2, -1)[1]


def unit_backward(dy: Tensor, gate_up: Tensor, activated: Tensor, act: Activation) -> Tensor:
    """The product rule, ``[n, I]`` -> ``[n, 2 I]``."""
    gate, up = gate_up.chunk(2, -1)
    found = torch.empty_like(gate_up)
    dgate, dup = found.chunk(2, -1)
    torch.mul(dy, activated, out=dup)
    act.gradient(dy * up, gate, grad_input=dgate)
    return found


class GatedUnit(torch.autograd.Function):
    """``act(gate) up`` where the two are not side by side: only they are kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, act: Activation) -> Tensor:
        """``[..., I]`` twice -> ``[..., I]``."""
        ctx.save_for_backward(gate, up)
        ctx.act = act
        return act.of(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        """The product rule."""
        gate, up = ctx.saved_tensors
        dgate = ctx.act.gradient(gradients[0] * up, gate, grad_input=torch.empty_like(gate))
        return dgate, ctx.act.of(gate).mul_(gradients[0]), None


def turned(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, *, back: bool = False) -> Tensor:
    """Pairs of entries, half a head apart, turned by the angle of their position (Su et al. 2021, section 3.4.2), or turned back:
    ``[n, heads, d]``, and ``[n, 1, d / 2]`` twice, into ``out [n, heads, d]``."""
    sign = -1 if back else 1
    (a, b), (c, d) = x.chunk(2, -1), out.chunk(2, -1)
    torch.mul(a, cos, out=c).addcmul_(b, sin, value=-sign)
    torch.mul(b, cos, out=d).addcmul_(a, sin, value=sign)
    return out
