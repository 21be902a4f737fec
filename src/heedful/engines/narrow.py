"""Weights as a pass wants them: in the precision of the arithmetic, and without gradient with an adapter merged.

The weights that learn are never touched, so that nothing drifts by merging and unmerging. A copy is
made once, and again only when what it was made from has changed: autocast alone would convert
every weight again at every token of a completion and at every micro-batch of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heedful.engines.fuse import fused, replaced

Forward = Callable[[Tensor], Tensor]
Stamp = tuple[tuple[int, int], ...]


class Copies:
    """Copies of a network's weights in a precision; of merged weights those of one adapter at a time."""

    def __init__(self, precision: torch.dtype) -> None:
        self.precision = precision
        self._plain: dict[Hashable, tuple[Stamp, Tensor]] = {}
        self._merged: dict[Hashable, tuple[Stamp, Tensor]] = {}
        self._adapter: str | None = None

    def plain(self, layer: Any) -> Tensor:
        """A layer's weight; the weight itself where it is in this precision already."""
        weight = layer.weight.detach()
        return weight if weight.dtype == self.precision else _current(self._plain, layer, [weight], lambda: weight.to(self.precision))

    def merged(self, module: Any, adapter: str) -> Tensor:
        """The weight of a layer under an adapter, with the adapter's part added."""
        if adapter != self._adapter:
            self.forget_merged()
            self._adapter = adapter
        sources = [module.base_layer.weight.detach(), module.lora_A[adapter].weight, module.lora_B[adapter].weight]
        return _current(self._merged, module, sources, lambda: _with_adapter(module, adapter).to(self.precision))

    def forget_merged(self) -> None:
        """Give back the memory of merged weights."""
        self._merged.clear()


def _current(made: dict[Hashable, tuple[Stamp, Tensor]], key: Hashable, sources: list[Tensor], make: Callable[[], Tensor]) -> Tensor:
    """What was made under this key; made again where a source is another tensor now or has been written to."""
    stamp = tuple((source.data_ptr(), source._version) for source in sources)
    if key not in made or made[key][0] != stamp:
        with torch.inference_mode(False), torch.no_grad():  # who samples may ask first; who learns goes on with it
            made[key] = stamp, make()
    return made[key][1]


@contextmanager
def computing(model: nn.Module, copies: Copies, adapter: str | None = None) -> Iterator[None]:
    """Compute in the precision of the copies, with an adapter or with none; gradients reach the weights themselves."""
    device, precision = next(model.parameters()).device.type, copies.precision
    if torch.is_grad_enabled():
        copies.forget_merged()  # learning is about to change the adapter
    with (
        fused(model, precision),
        replaced(linear_forwards(model, copies, adapter)),
        torch.autocast(device, precision, enabled=precision != torch.float32),
    ):
        yield


def linear_forwards(model: nn.Module, copies: Copies, adapter: str | None) -> dict[nn.Module, Forward]:
    """How every linear layer computes that would not do so by itself: adapted ones, and those in another precision."""
    return {module: forward for module in _linear_layers(model) if (forward := _forward_of(module, copies, adapter)) is not None}


def _linear_layers(model: nn.Module) -> Iterator[nn.Module]:
    """Linear layers, those under adapters as the adapter's layer."""
    below = {id(module.base_layer) for module in model.modules() if _has_adapter(module)}
    for module in model.modules():
        if _has_adapter(module) or (id(module) not in below and (type(module) is nn.Linear or _is_transposed(module))):
            yield module


def _forward_of(module: Any, copies: Copies, adapter: str | None) -> Forward | None:
    layer = module.base_layer if _has_adapter(module) else module
    adapted = _has_adapter(module) and adapter is not None and adapter in module.lora_A
    if layer is module and layer.weight.dtype == copies.precision:
        return None
    if adapted and torch.is_grad_enabled():
        return _beside(_plain_forward(layer, copies.plain(layer)), module, str(adapter), copies.precision)
    return _plain_forward(layer, copies.merged(module, str(adapter)) if adapted else copies.plain(layer))


def _plain_forward(layer: Any, narrow: Tensor) -> Forward:
    """One product."""
    weight, bias, dtype = layer.weight, layer.bias, narrow.dtype
    if _is_transposed(layer):
        weight, narrow = weight.T, narrow.T
    if not torch.is_grad_enabled():
        narrow_bias = None if bias is None else bias.detach().to(dtype)
        return lambda x: functional.linear(x.to(dtype), narrow, narrow_bias)
    return lambda x: Linear.apply(x.to(dtype), weight, narrow, None if bias is None else bias.to(dtype))


def _beside(base: Forward, module: Any, adapter: str, dtype: torch.dtype) -> Forward:
    """A layer and its adapter side by side, so that the adapter gets a gradient (Hu et al. 2021, eq. 3)."""
    down, up, scale = module.lora_A[adapter].weight, module.lora_B[adapter].weight, module.scaling[adapter]

    def forward(x: Tensor) -> Tensor:
        low = functional.linear(x.to(dtype), down.to(dtype))
        return base(x) + functional.linear(low, up.to(dtype)) * scale

    return forward


class Linear(torch.autograd.Function):
    """``x W' + b``, computed with a copy of ``W``; the gradient is that of ``W`` itself."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, narrow: Tensor, bias: Tensor | None) -> Tensor:
        """``[..., in]`` -> ``[..., out]``; ``narrow`` is ``weight [out, in]`` in the precision of ``x``."""
        ctx.save_for_backward(x, narrow)
        ctx.dtype = weight.dtype
        return functional.linear(x, narrow, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """``dx = dy W``, ``dW = dy' x``."""
        x, narrow = ctx.saved_tensors
        dy = gradients[0]
        rows = dy.flatten(0, -2)
        dx = dy @ narrow if ctx.needs_input_grad[0] else None
        dweight = (rows.T @ x.flatten(0, -2)).to(ctx.dtype) if ctx.needs_input_grad[1] else None
        return dx, dweight, None, rows.sum(0) if ctx.needs_input_grad[3] else None


def merged(module: Any, adapter: str | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weight ``[out, in]`` and bias of a linear layer in a precision, with an adapter merged where it has one of that name."""
    layer = module.base_layer if _has_adapter(module) else module
    adapted = adapter is not None and _has_adapter(module) and adapter in module.lora_A
    narrow = (_with_adapter(module, str(adapter)) if adapted else layer.weight.detach()).to(dtype)
    return narrow.T if _is_transposed(layer) else narrow, None if layer.bias is None else layer.bias.detach().to(dtype)


def _with_adapter(module: Any, adapter: str) -> Tensor:
    """The weight of a layer with an adapter's part added, in float32."""
    weight: Tensor = module.base_layer.weight.detach().float() + module.get_delta_weight(adapter).detach().float()
    return weight


class Product:
    """Linear layers side by side, ``[n, in]`` -> ``[n, out]``, laid out once for many calls.

    In bfloat16 a CPU's library computes with weights in an order of its own. It would bring them into that order at
    every call, which for a few rows takes longer than the product.
    """

    def __init__(self, modules: Sequence[Any], order: Tensor | None = None, *, adapter: str | None, dtype: torch.dtype, rows: int) -> None:
        """``order [out]`` is one of the outputs other than the layers' own; ``rows`` are the most that most calls have."""
        weights, biases = zip(*(merged(module, adapter, dtype) for module in modules), strict=True)
        self.weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        none = all(bias is None for bias in biases)
        self.bias = None if none else torch.cat([w.new_zeros(len(w)) if b is None else b for w, b in zip(weights, biases, strict=True)])
        if order is not None:
            self.weight, self.bias = self.weight[order], None if self.bias is None else self.bias[order]
        self.ordered = dtype == torch.bfloat16 and self.weight.device.type == "cpu" and _has_an_order()
        if self.ordered:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(self.weight.contiguous(), rows)

    def __call__(self, x: Tensor) -> Tensor:
        """``x W' + b``; ``x`` is in the precision of the weights."""
        if self.ordered:
            found: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
            return found
        return functional.linear(x, self.weight, self.bias)


@cache
def _has_an_order() -> bool:
    """Can this build of torch keep weights in the order of its library?"""
    if not torch.backends.mkldnn.is_available():
        return False
    names = ("_reorder_linear_weight", "_linear_pointwise", "_is_mkldnn_bf16_supported")
    return all(hasattr(torch.ops.mkldnn, name) for name in names) and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _has_adapter(module: nn.Module) -> bool:
    return hasattr(module, "lora_A") and hasattr(module, "base_layer")


def _is_transposed(module: nn.Module) -> bool:
    """GPT-2 keeps its linear layers as ``[in, out]``."""
    return type(module).__name__ == "Conv1D"
