"""Weights as a forward pass without gradient wants them: adapters merged, in the precision of the arithmetic.

A copy is made for the duration of a pass; the weights that learn are never touched, so that
nothing drifts by merging and unmerging. Autocast alone would convert every weight again at
every token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    layer = module.base_layer if _has_adapter(module) else module
    weight, bias = layer.weight, layer.bias
    merged = _has_adapter(module) and adapter in module.lora_A
    if not merged and weight.dtype == dtype and layer is module:
        return None
    if merged:
        weight = weight.float() + module.get_delta_weight(adapter).float()
    narrow = weight.detach().to(dtype)
    narrow_bias = None if bias is None else bias.detach().to(dtype)
    if _is_transposed(layer):
        narrow = narrow.T
    return lambda x: functional.linear(x.to(dtype), narrow, narrow_bias)


def _has_adapter(module: nn.Module) -> bool:
    return hasattr(module, "lora_A") and hasattr(module, "base_layer")


def _is_transposed(module: nn.Module) -> bool:
    """GPT-2 keeps its linear layers as ``[in, out]``."""
    return type(module).__name__ == "Conv1D"
