"""Copies of weights: in the precision of the arithmetic, side by side, and with an adapter merged.

A copy is made once, and again only when what it was made from has changed: autocast alone would convert
every weight again at every token of a completion and at every micro-batch of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

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
        self._turn_to(adapter)
        return _current(self._merged, module, _sources(module, adapter), lambda: _with_adapter(module, adapter).to(self.precision))

    def joined(self, modules: Sequence[Any], adapter: str | None) -> list[Tensor]:
        """The weights ``[out, in]`` of layers one below the other, an adapter merged where one is given and a layer has it.

        One by one where nothing has to be converted or merged: a copy of them would be as large as they are.
        """
        merges = adapter is not None and any(adapts(module, adapter) for module in modules)
        if not merges and all(base_of(module).weight.dtype == self.precision for module in modules):
            return [base_of(module).weight.detach() for module in modules]
        if len(modules) == 1:
            return [self.merged(modules[0], str(adapter)) if merges else self.plain(base_of(modules[0]))]
        if adapter is not None:
            self._turn_to(adapter)
        sources = [source for module in modules for source in _sources(module, adapter)]
        made = self._plain if adapter is None else self._merged
        return [_current(made, tuple(modules), sources, lambda: torch.cat([merged(module, adapter, self.precision) for module in modules]))]

    def forget(self) -> None:
        """Give back the memory of all copies."""
        self._plain.clear()
        self._merged.clear()

    def forget_merged(self) -> None:
        """Give back the memory of merged weights."""
        self._merged.clear()

    def _turn_to(self, adapter: str) -> None:
        if adapter != self._adapter:
            self.forget_merged()
            self._adapter = adapter


def _sources(module: Any, adapter: str | None) -> list[Tensor]:
    """What a weight is made from."""
    weight = base_of(module).weight.detach()
    if adapter is None or not adapts(module, adapter):
        return [weight]
    return [weight, module.lora_A[adapter].weight, module.lora_B[adapter].weight]


def _current(made: dict[Hashable, tuple[Stamp, Tensor]], key: Hashable, sources: list[Tensor], make: Callable[[], Tensor]) -> Tensor:
    """What was made under this key; made again where a source is another tensor now or has been written to."""
    stamp = tuple((source.data_ptr(), source._version) for source in sources)
    if key not in made or made[key][0] != stamp:
        with torch.inference_mode(False), torch.no_grad():  # who samples may ask first; who learns goes on with it
            made[key] = stamp, make()
    return made[key][1]


def merged(module: Any, adapter: str | None, dtype: torch.dtype) -> Tensor:
    """The weight ``[out, in]`` of a linear layer in a precision, with an adapter merged where it has one of that name."""
    layer = base_of(module)
    narrow = (_with_adapter(module, adapter) if adapter is not None and adapts(module, adapter) else layer.weight.detach()).to(dtype)
    return narrow.T if is_transposed(layer) else narrow


def joined_biases(modules: Sequence[Any], dtype: torch.dtype) -> Tensor | None:
    """The biases ``[out]`` of layers one behind the other, 0 where one has none; ``None`` where none has."""
    layers = [base_of(module) for module in modules]
    if all(layer.bias is None for layer in layers):
        return None
    found = [layer.weight.new_zeros(outputs(layer)) if layer.bias is None else layer.bias.detach() for layer in layers]
    return torch.cat([bias.to(dtype) for bias in found])


def outputs(layer: Any) -> int:
    """How wide what a linear layer gives is."""
    return int(layer.weight.shape[1 if is_transposed(layer) else 0])


def _with_adapter(module: Any, adapter: str) -> Tensor:
    """The weight of a layer with an adapter's part added, in float32."""
    weight: Tensor = module.base_layer.weight.detach().float() + module.get_delta_weight(adapter).detach().float()
    return weight


def has_adapter(module: nn.Module) -> bool:
    """Is this a linear layer under adapters?"""
    return hasattr(module, "lora_A") and hasattr(module, "base_layer")


def adapts(module: Any, adapter: str) -> bool:
    """Does a linear layer have an adapter of this name?"""
    return has_adapter(module) and adapter in module.lora_A


def base_of(module: Any) -> Any:
    """The linear layer itself, without what adapters put around it."""
    return module.base_layer if has_adapter(module) else module


def is_transposed(module: nn.Module) -> bool:
    """GPT-2 keeps its linear layers as ``[in, out]``."""
    return type(module).__name__ == "Conv1D"
