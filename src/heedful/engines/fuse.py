"""Which modules of a model are computed by parts of ours (:mod:`heedful.engines.operations`, :mod:`heedful.engines.block`).

A module is replaced for the time of a pass, and only where ours gives the same numbers on random
inputs: which architecture it belongs to does not matter.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer

from heedful.engines.attention import Packed, following
from heedful.engines.block import block
from heedful.engines.copies import Copies, base_of, has_adapter
from heedful.engines.layout import lay_out_texts
from heedful.engines.memory import is_out_of_memory
from heedful.engines.operations import ACTIVATIONS, Activation, GatedUnit, RMSNorm, eps_of

GATED = (("gate_proj", "up_proj", "down_proj"), ("wi_0", "wi_1", "wo"))
"""What gated units call their three layers: Llama's kin, T5's."""
PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
"""What a layer of Llama's kin calls its parts, and its attention its projections."""


Build = Callable[[Any, Copies, str | None], Callable[..., Tensor]]
"""From a module, copies of weights and the adapter that is on, to the function that computes it."""


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
def fused(model: nn.Module, copies: Copies, adapter: str | None = None) -> Iterator[None]:
    """Let a model compute its layers with parts of ours, wherever they give the same numbers."""
    with replaced({module: build(module, copies, adapter) for module, build in fusible(model).items()}):
        yield


def fusible(model: nn.Module) -> dict[nn.Module, Build]:
    """The modules that can be replaced, and by what; found once per model."""
    known: dict[nn.Module, Build] | None = model.__dict__.get("heedful_fusible")
    if known is None:
        ours = layers(model)
        inside = dict.fromkeys(module for layer in ours for module in layer.modules())
        known = {m: _norm for m in inside if _is_norm(m)}
        known |= {m: partial(_gated, act=act) for m in inside if (act := activation_of(m))}
        known |= {m: partial(_block, act=act, last=m is ours[-1]) for m in ours if (act := activation_of_block(m))}
        model.__dict__["heedful_fusible"] = known
    return known


def layers(model: nn.Module) -> list[nn.Module]:
    """The layers of a model, as transformers marks them."""
    return [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]


def _block(layer: Any, copies: Copies, adapter: str | None, *, act: Activation, last: bool) -> Callable[..., Tensor]:
    return block(layer, act, copies, adapter, last=last)


def _norm(module: Any, copies: Copies, _adapter: str | None) -> Callable[[Tensor], Tensor]:
    eps = eps_of(module)
    return lambda x: RMSNorm.apply(x, module.weight, eps, copies.precision if x.dtype == torch.float32 else x.dtype)


def _gated(module: Any, _copies: Copies, _adapter: str | None, *, act: Activation) -> Callable[[Tensor], Tensor]:
    return _unit(module, names_of(module), act)


def _unit(module: Any, names: Sequence[str], act: Activation) -> Callable[[Tensor], Tensor]:
    gate, up, down = (getattr(module, name) for name in names)
    return lambda x: down(GatedUnit.apply(gate(x), up(x), act))


def names_of(module: nn.Module) -> Sequence[str]:
    """What a gated unit calls its three layers; none where it is none."""
    return next((names for names in GATED if all(hasattr(module, name) for name in names)), ())


@torch.no_grad()
def _is_norm(module: Any) -> bool:
    """The trial's inputs are not 0 on average, since some norms take the average off."""
    weight = getattr(module, "weight", None)
    if not isinstance(weight, Tensor) or weight.dim() != 1 or list(module.children()) or not eps_of(module):
        return False
    wide = copy.deepcopy(module).float()
    x = 1 + _draw(3, len(weight)).to(weight.device)
    return _same(wide(x), RMSNorm.apply(x, wide.weight, eps_of(module), torch.float32))


@torch.no_grad()
def activation_of(module: Any) -> Activation | None:
    """The activation of a gated unit; ``None`` where a module is none that we know.

    It is tried where activations differ: near 0, where small weights put random inputs, all are much the same.
    """
    names = names_of(module)
    if not names:
        return None
    gate = base_of(getattr(module, names[0]))
    x = _draw(3, getattr(gate, "in_features", gate.weight.shape[-1])).to(gate.weight.device, gate.weight.dtype)
    x = x * (2 / gate(x).abs().mean())
    with without_adapters(module):
        return next((act for act in ACTIVATIONS if _same(module(x), _unit(module, names, act)(x))), None)


@torch.no_grad()
def activation_of_block(layer: Any) -> Activation | None:
    """The activation of a layer that gives the same numbers as ours, on three tokens; ``None`` where one does not."""
    attention: Any = getattr(layer, "self_attn", None)
    if any(getattr(layer, part, None) is None for part in PARTS) or not all(hasattr(attention, part) for part in ("head_dim", "scaling")):
        return None
    linear = [getattr(attention, name, None) for name in PROJECTIONS] + [getattr(layer.mlp, name, None) for name in GATED[0]]
    if any(module is None or type(base_of(module)) is not nn.Linear for module in linear):
        return None
    norms = layer.input_layernorm, layer.post_attention_layernorm
    if not all(isinstance(getattr(norm, "weight", None), Tensor) and eps_of(norm) for norm in norms):
        return None
    act = activation_of(layer.mlp)
    return act if act is not None and _computes_the_same(layer, act) else None


def _computes_the_same(layer: Any, act: Activation) -> bool:
    weight, width = layer.input_layernorm.weight, layer.self_attn.head_dim
    layout = lay_out_texts([[0, 0, 0]], weight.device)
    hidden = 1 + _draw(1, layout.ids.shape[1], len(weight)).to(weight)
    angles = _draw(1, layout.ids.shape[1], width // 2).to(weight.device).repeat(1, 1, 2)
    turns = angles.cos().to(weight.dtype), angles.sin().to(weight.dtype)
    with following(Packed(layout)), without_adapters(layer):
        try:
            theirs = layer(hidden, position_embeddings=turns, attention_mask=None)
        except (RuntimeError, TypeError, ValueError, AttributeError) as error:
            if is_out_of_memory(error):
                raise
            return False  # it wants something else
        ours = block(layer, act, Copies(weight.dtype), None, last=False)(hidden, position_embeddings=turns)
    return isinstance(theirs, Tensor) and _same(theirs, ours)


@contextmanager
def without_adapters(module: nn.Module) -> Iterator[None]:
    """Let the linear layers inside compute as if there were no adapters."""
    with replaced({inner: base_of(inner).forward for inner in module.modules() if has_adapter(inner)}):
        yield


def _draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _same(a: Tensor, b: Tensor) -> bool:
    near = 1e-5 if a.dtype == torch.float32 else 0.05
    return a.shape == b.shape and torch.allclose(a.float(), b.float(), atol=near, rtol=near)
