"""Weights as a pass wants them: in the precision of the arithmetic, and without gradient with an adapter merged.

The weights that learn are never touched, so that nothing drifts by merging and unmerging: linear layers
compute with copies of them (:mod:`heedful.engines.copies`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heedful.engines.copies import Copies, adapts, base_of, has_adapter, is_transposed, joined_biases, merged
from heedful.engines.fuse import fused, replaced

Forward = Callable[[Tensor], Tensor]


@contextmanager
def computing(model: nn.Module, copies: Copies, adapter: str | None = None) -> Iterator[None]:
    """Compute in the precision of the copies, with an adapter or with none; gradients reach the weights themselves."""
    device, precision = next(model.parameters()).device.type, copies.precision
    if torch.is_grad_enabled():
        copies.forget_merged()  # learning is about to change the adapter
    with (
        fused(model, copies, adapter),
        replaced(linear_forwards(model, copies, adapter)),
        torch.autocast(device, precision, enabled=precision != torch.float32),
    ):
        yield


def linear_forwards(model: nn.Module, copies: Copies, adapter: str | None) -> dict[nn.Module, Forward]:
    """How every linear layer computes that would not do so by itself: adapted ones, and those in another precision."""
    return {module: forward for module in _linear_layers(model) if (forward := _forward_of(module, copies, adapter)) is not None}


def _linear_layers(model: nn.Module) -> Iterator[nn.Module]:
    """Linear layers, those under adapters as the adapter's layer."""
    below = {id(module.base_layer) for module in model.modules() if has_adapter(module)}
    for module in model.modules():
        if has_adapter(module) or (id(module) not in below and (type(module) is nn.Linear or is_transposed(module))):
            yield module


def _forward_of(module: Any, copies: Copies, adapter: str | None) -> Forward | None:
    layer = base_of(module)
    if layer is module and layer.weight.dtype == copies.precision:
        return None
    if adapter is None or not adapts(module, adapter):
        return _plain_forward(layer, lambda: copies.plain(layer))
    if torch.is_grad_enabled():
        return _beside(_plain_forward(layer, lambda: copies.plain(layer)), module, adapter, copies.precision)
    return _plain_forward(layer, lambda: copies.merged(module, adapter))


def _plain_forward(layer: Any, copy: Callable[[], Tensor]) -> Forward:
    """One product; the copy is made when it is first wanted, since not every layer is asked."""

    def forward(x: Tensor) -> Tensor:
        weight, narrow, bias = layer.weight, copy(), layer.bias
        if is_transposed(layer):
            weight, narrow = weight.T, narrow.T
        if not torch.is_grad_enabled():
            return functional.linear(x.to(narrow.dtype), narrow, None if bias is None else bias.detach().to(narrow.dtype))
        return Linear.apply(x.to(narrow.dtype), weight, narrow, None if bias is None else bias.to(narrow.dtype))

    return forward


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


class Product:
    """Linear layers side by side, ``[n, in]`` -> ``[n, out]``, laid out once for many calls.

    In bfloat16 a CPU's library computes with weights in an order of its own. It would bring them into that order at
    every call, which for a few rows takes longer than the product.
    """

    def __init__(self, modules: Sequence[Any], order: Tensor | None = None, *, adapter: str | None, dtype: torch.dtype, rows: int) -> None:
        """``order [out]`` is one of the outputs other than the layers' own; ``rows`` are the most that most calls have."""
        weights = [merged(module, adapter, dtype) for module in modules]
        self.weight, self.bias = weights[0] if len(weights) == 1 else torch.cat(weights), joined_biases(modules, dtype)
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
