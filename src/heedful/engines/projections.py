"""Linear layers that read the same tokens, as one product, with adapters beside them and a backward pass of their own.

Queries, keys and values are three products of the same tokens, and so are the two halves of a gated unit. Side by side
they are one that reads its tokens once, and whose gradient by the tokens need not be added up.
``n`` tokens, ``in`` and ``out`` the widths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from heedful.engines.copies import Copies, adapts, base_of, joined_biases


class Low(NamedTuple):
    """An adapter (Hu et al. 2021, eq. 3) in the precision of the arithmetic: ``down [r, in]``, ``up [out, r]``, and what
    their product is multiplied by."""

    down: Tensor
    up: Tensor
    scale: float


class Part(NamedTuple):
    """One layer, whose outputs are ``columns`` of all, and its adapter where one learns."""

    layer: Any
    columns: slice
    low: Low | None


@dataclass
class Projections:
    """Layers side by side, ``[n, in]`` -> ``[n, out]``.

    ``weights`` are one for all, or one for each layer. ``parameters`` are what may learn: of each layer weight, bias where it
    has one, and ``A`` and ``B`` of an adapter that learns. :meth:`backward` gives their gradients in the same order.
    """

    weights: list[Tensor]
    bias: Tensor | None
    parameters: list[Tensor]
    parts: list[Part]

    @classmethod
    def of(cls, modules: Sequence[Any], copies: Copies, adapter: str | None) -> Projections:
        """Of layers as they are now: with gradient an adapter stands beside its layer, without it is merged."""
        learning, dtype = torch.is_grad_enabled(), copies.precision
        parts: list[Part] = []
        parameters: list[Tensor] = []
        start = 0
        for module in modules:
            layer, low = base_of(module), None
            columns = slice(start, start + len(layer.weight))
            start = columns.stop
            parameters += [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
            if learning and adapter is not None and adapts(module, adapter):
                down, up = module.lora_A[adapter].weight, module.lora_B[adapter].weight
                low = Low(down.detach().to(dtype), up.detach().to(dtype), module.scaling[adapter])
                parameters += [down, up]
            parts.append(Part(layer, columns, low))
        return cls(copies.joined(modules, None if learning else adapter), joined_biases(modules, dtype), parameters, parts)

    def __call__(self, x: Tensor) -> Tensor:
        """All layers' outputs side by side."""
        pieces = self._pieces()
        found = [functional.linear(x, weight, None if self.bias is None else self.bias[columns]) for columns, weight in pieces]
        whole = found[0] if len(found) == 1 else torch.cat(found, 1)
        for _, columns, low in self.parts:
            if low is not None:
                whole[:, columns].addmm_(x @ low.down.T, low.up.T, alpha=low.scale)
        return whole

    def backward(self, dy: Tensor, x: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """``dx = dy W`` and the gradients of the parameters, those of a base that does not learn as ``None``."""
        dx = None
        for columns, weight in self._pieces():
            dx = dy[:, columns] @ weight if dx is None else dx.addmm_(dy[:, columns], weight)
        assert dx is not None
        gradients: list[Tensor | None] = []
        learns = any(part.layer.weight.requires_grad for part in self.parts)
        dweight = (dy.T @ x).to(self.parameters[0].dtype) if learns else None
        for layer, columns, low in self.parts:
            gradients.append(None if dweight is None or not layer.weight.requires_grad else dweight[columns])
            if layer.bias is not None:
                gradients.append(dy[:, columns].sum(0, dtype=torch.float32).to(layer.bias.dtype) if layer.bias.requires_grad else None)
            if low is not None:
                gradients += self._adapter_backward(low, dy[:, columns], x, dx)
        return dx, gradients

    def _pieces(self) -> Iterator[tuple[slice, Tensor]]:
        """Each weight with the columns of the output that are its own."""
        start = 0
        for weight in self.weights:
            yield slice(start, start + len(weight)), weight
            start += len(weight)

    @staticmethod
    def _adapter_backward(low: Low, own: Tensor, x: Tensor, dx: Tensor) -> list[Tensor | None]:
        """Of a layer's ``own`` outputs ``dy``: ``dA = s (dy B)' x`` and ``dB = s dy' (x A')``; ``dx`` gets its part."""
        dlow = (own @ low.up) * low.scale
        dx.addmm_(dlow, low.down)
        return [(dlow.T @ x).float(), ((own.T @ (x @ low.down.T)) * low.scale).float()]
