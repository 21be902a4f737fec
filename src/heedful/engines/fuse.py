"""Parts of a transformer layer with a backward pass of their own.

Written as one operation after the other, a norm or a gated unit reads and writes its
tokens many times and keeps several copies for the backward pass; on a CPU, and in bfloat16, that
costs as much as a good part of the matrix products. Each part here reads its tokens as seldom as
it can, and keeps only its inputs.

A module is replaced for the time of a pass, and only where ours gives the same numbers on random
inputs: which architecture it belongs to does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_layers import GradientCheckpointingLayer

from heedful.engines.attention import Packed, following
from heedful.engines.block import block
from heedful.engines.layout import lay_out_texts


class RMSNorm(torch.autograd.Function):
    """``x / rms(x) * weight`` (Zhang & Sennrich 2019, eq. 4), computed in float32 and given back in ``dtype``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        """``[..., H]`` -> ``[..., H]``."""
        wide = x.float()
        scale = (torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]) + eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(wide, scale).mul_(weight).to(dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """With ``n = x * scale`` and ``g = dy * weight``: ``dx = scale (g - n mean(g n))``."""
        x, weight, scale = ctx.saved_tensors
        dy, normed = gradients[0].float(), torch.mul(x.float(), scale)
        dweight = torch.mul(dy, normed).flatten(0, -2).sum(0).to(weight.dtype) if ctx.needs_input_grad[1] else None
        g = dy * weight
        shared = torch.linalg.vecdot(g, normed)[..., None] / x.shape[-1]
        return g.sub_(normed.mul_(shared)).mul_(scale).to(x.dtype), dweight, None, None


@dataclass(frozen=True)
class Activation:
    """A gate's activation, and its gradient from ``(dy, x)``."""

    of: Callable[[Tensor], Tensor]
    gradient: Callable[[Tensor, Tensor], Tensor]


ACTIVATIONS = (
    Activation(functional.silu, torch.ops.aten.silu_backward),
    Activation(partial(functional.gelu, approximate="tanh"), partial(torch.ops.aten.gelu_backward, approximate="tanh")),
)
GATED = (("gate_proj", "up_proj", "down_proj"), ("wi_0", "wi_1", "wo"))
"""What gated units call their three layers: Llama's kin, T5's."""
PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
"""What a layer of Llama's kin calls its parts, and its attention its projections."""


class GatedUnit(torch.autograd.Function):
    """``act(gate) * up`` (Shazeer 2020, eq. 6): only the two inputs are kept."""

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
        dgate = ctx.act.gradient(gradients[0] * up, gate)
        return dgate, ctx.act.of(gate).mul_(gradients[0]), None


Build = Callable[[Any, torch.dtype], Callable[..., Tensor]]


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Let modules compute with other functions."""
    before: dict[nn.Module, Any] = {module: module.__dict__.get("forward") for module in forwards}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, forward in before.items():
            if forward is None:
                del module.forward
            else:
                module.forward = forward


@contextmanager
def fused(model: nn.Module, precision: torch.dtype) -> Iterator[None]:
    """Let a model compute its layers with the parts above, wherever they give the same numbers."""
    with replaced({module: build(module, precision) for module, build in fusible(model).items()}):
        yield


def fusible(model: nn.Module) -> dict[nn.Module, Build]:
    """The modules that can be replaced, and by what; found once per model."""
    known: dict[nn.Module, Build] | None = model.__dict__.get("heedful_fusible")
    if known is None:
        layers = _layers(model)
        inside = dict.fromkeys(module for layer in layers for module in layer.modules())
        known = {m: _norm for m in inside if _is_norm(m)} | {m: build for m in inside if (build := _gated(m))}
        known |= {m: partial(_block, last=m is layers[-1]) for m in layers if is_block(m)}
        model.__dict__["heedful_fusible"] = known
    return known


def trims(model: nn.Module) -> bool:
    """Does the model's last layer go on with those tokens only that a plan wants?"""
    layers = _layers(model)
    return bool(layers) and layers[-1] in fusible(model)


def _layers(model: nn.Module) -> list[nn.Module]:
    return [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]


def _block(layer: Any, precision: torch.dtype, *, last: bool) -> Callable[..., Tensor]:
    return block(layer, last=last)


def _norm(module: Any, precision: torch.dtype) -> Callable[[Tensor], Tensor]:
    eps = eps_of(module)
    return lambda x: RMSNorm.apply(x, module.weight, eps, precision if x.dtype == torch.float32 else x.dtype)


def eps_of(module: Any) -> float:
    """What a norm adds before it takes the root; 0 where it has no such thing."""
    return float(getattr(module, "variance_epsilon", getattr(module, "eps", 0.0)))


@torch.no_grad()
def _is_norm(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 1 or list(module.children()) or not eps_of(module):
        return False
    x = torch.randn(3, len(weight), generator=torch.Generator().manual_seed(0)).to(weight.device)
    return _same(module(x.to(weight.dtype)), RMSNorm.apply(x.to(weight.dtype), weight, eps_of(module), weight.dtype))


@torch.no_grad()
def _gated(module: Any) -> Build | None:
    """How to build the forward of a gated unit; ``None`` where a module is none that we know.

    It is tried where activations differ: near 0, where small weights put random inputs, all are much the same.
    """
    for names in GATED:
        if all(hasattr(module, name) for name in names):
            gate = getattr(module, names[0])
            weight = next(gate.parameters())
            width = getattr(gate, "in_features", weight.shape[-1])
            x = torch.randn(3, width, generator=torch.Generator().manual_seed(0)).to(weight.device, weight.dtype)
            x = x * (2 / gate(x).abs().mean())
            for act in ACTIVATIONS:
                if _same(module(x), _unit(module, names, act)(x)):
                    return lambda module, precision, names=names, act=act: _unit(module, names, act)  # type: ignore[misc]
    return None


def _unit(module: Any, names: tuple[str, str, str], act: Activation) -> Callable[[Tensor], Tensor]:
    gate, up, down = (getattr(module, name) for name in names)
    return lambda x: down(GatedUnit.apply(gate(x), up(x), act))


@torch.no_grad()
def is_block(layer: Any) -> bool:
    """Does a layer give the same numbers as ours, on three tokens?"""
    attention: Any = getattr(layer, "self_attn", None)
    if not all(hasattr(layer, part) for part in PARTS) or not all(
        hasattr(attention, part) for part in (*PROJECTIONS, "head_dim", "scaling")
    ):
        return False
    draw, weight = torch.Generator().manual_seed(0), layer.input_layernorm.weight
    layout = lay_out_texts([[0, 0, 0]], weight.device)
    tokens = layout.ids.shape[1]
    hidden = torch.randn(1, tokens, len(weight), generator=draw).to(weight)
    angles = torch.randn(1, tokens, attention.head_dim // 2, generator=draw).to(weight.device).repeat(1, 1, 2)
    turns = angles.cos().to(weight.dtype), angles.sin().to(weight.dtype)
    with following(Packed(layout)):
        theirs = layer(hidden, position_embeddings=turns, attention_mask=None)
        ours = block(layer, last=False)(hidden, position_embeddings=turns)
    return isinstance(theirs, Tensor) and _same(theirs, ours)


def _same(a: Tensor, b: Tensor) -> bool:
    near = 1e-5 if a.dtype == torch.float32 else 0.05
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=near, rtol=near)
