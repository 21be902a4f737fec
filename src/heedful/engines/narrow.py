"""Weights as a forward pass without gradient wants them: adapters merged, in the precision of the arithmetic.

A copy is made for the duration of a pass; the weights that learn are never touched, so that
nothing drifts by merging and unmerging. Autocast alone would convert every weight again at
every token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heedful.engines.fuse import fused

Forward = Callable[[Tensor], Tensor]


@contextmanager
def computing(model: nn.Module, adapter: str | None, precision: torch.dtype) -> Iterator[None]:
    """Compute in a precision: under autocast, and without gradient with narrow copies of the weights.

    ``adapter`` is the one to merge without gradient; a name that the model does not know means none.
    """
    device = next(model.parameters()).device.type
    with torch.autocast(device, precision, enabled=precision != torch.float32), fused(model, precision):
        if torch.is_grad_enabled():
            yield
        else:
            with narrowed(model, adapter, precision):
                yield


@contextmanager
def narrowed(model: nn.Module, adapter: str | None, dtype: torch.dtype) -> Iterator[None]:
    """Let every linear layer of a model compute in ``dtype`` with an adapter merged (or none)."""
    swapped = {module: forward for module in _linear_layers(model) if (forward := _forward_of(module, adapter, dtype)) is not None}
    for module, forward in swapped.items():
        module.forward = forward
    try:
        yield
    finally:
        for module in swapped:
            del module.forward


def _linear_layers(model: nn.Module) -> Iterator[nn.Module]:
    """Linear layers, those under adapters as the adapter's layer."""
    below = {id(module.base_layer) for module in model.modules() if _has_adapter(module)}
    for module in model.modules():
        if _has_adapter(module) or (id(module) not in below and (type(module) is nn.Linear or _is_transposed(module))):
            yield module


def _forward_of(module: Any, adapter: str | None, dtype: torch.dtype) -> Forward | None:
    """The layer as one product; ``None`` where it is one already, in the right precision."""
    if not _has_adapter(module) and module.weight.dtype == dtype:
        return None
    weight, bias = merged(module, adapter, dtype)
    return lambda x: functional.linear(x.to(dtype), weight, bias)


def merged(module: Any, adapter: str | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """Weight ``[out, in]`` and bias of a linear layer in a precision, with an adapter merged where it has one of that name."""
    layer = module.base_layer if _has_adapter(module) else module
    weight, bias = layer.weight, layer.bias
    if _has_adapter(module) and adapter in module.lora_A:
        weight = weight.float() + module.get_delta_weight(adapter).float()
    narrow = weight.detach().to(dtype)
    return narrow.T if _is_transposed(layer) else narrow, None if bias is None else bias.detach().to(dtype)


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
