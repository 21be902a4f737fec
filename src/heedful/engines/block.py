"""A decoder layer as Llama and its kin have it, for tokens that lie in one row, with a backward pass of its own.

As transformers has it, a layer is some fifty operations, each with a node in the graph of gradients and tensors of its
own. Here it is one: products side by side are one product, norms and units read their tokens as seldom as
they can, and kept are only what the backward pass needs. The last layer goes on from its attention with those tokens
only that the plan in force asks for, since a loss looks at the completions alone.

``N`` tokens, ``W`` of them wanted, ``H`` the width of states, ``h`` heads, ``k`` heads of keys and values, ``d`` their width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from heedful.engines.attention import Plan, plan_in_force
from heedful.engines.copies import Copies, base_of
from heedful.engines.operations import Activation, eps_of, norm, norm_backward, turned, unit, unit_again, unit_backward
from heedful.engines.projections import Projections

_recomputing = False


@contextmanager
def recomputing() -> Iterator[None]:
    """Let layers keep nothing but what torch keeps for them, since torch may compute them once more instead."""
    global _recomputing
    before, _recomputing = _recomputing, True
    try:
        yield
    finally:
        _recomputing = before


@dataclass
class Layer:
    """What one pass through a layer computes with; ``keeps`` where a backward pass will find what attention computed."""

    keeps: bool
    plan: Plan
    heads: tuple[int, int]
    """``h`` and ``k``."""
    scale: float
    act: Activation
    norms: tuple[tuple[Tensor, float], tuple[Tensor, float]]
    inner: Projections
    """Queries, keys and values."""
    outer: Projections
    gate_up: Projections
    down: Projections
    wanted: Tensor | None

    @property
    def parameters(self) -> list[Tensor]:
        """All that may learn, in the order of the gradients."""
        parts = (self.inner, self.outer, self.gate_up, self.down)
        return [*(weight for weight, _ in self.norms), *(parameter for part in parts for parameter in part.parameters)]


def block(layer: Any, act: Activation, copies: Copies, adapter: str | None, *, last: bool) -> Callable[..., Tensor]:
    """The forward of a decoder layer: its own where no plan is in force or a head turns in part only, else ours."""
    own = layer.forward

    def forward(hidden: Tensor, *more: Any, position_embeddings: Any = None, **others: Any) -> Tensor:
        plan = plan_in_force()
        if plan is None or position_embeddings is None or position_embeddings[0].shape[-1] != layer.self_attn.head_dim:
            return own(hidden, *more, position_embeddings=position_embeddings, **others)
        ours = _layer(layer, act, plan, copies, adapter, last)
        learns = torch.is_grad_enabled() and any(x.requires_grad for x in (hidden, *ours.parameters))
        plan.trimmed = plan.trimmed or ours.wanted is not None
        # Both halves of a head turn by the same angles.
        turns = (x[0, :, None, : x.shape[-1] // 2].to(copies.precision) for x in position_embeddings)
        return DecoderLayer.apply(hidden, *turns, ours, learns, *ours.parameters)

    return forward


def _layer(layer: Any, act: Activation, plan: Plan, copies: Copies, adapter: str | None, last: bool) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp

    def of(*modules: Any) -> Projections:
        return Projections.of(modules, copies, adapter)

    inner = of(attention.q_proj, attention.k_proj, attention.v_proj)
    h, k = (len(base_of(p).weight) // attention.head_dim for p in (attention.q_proj, attention.k_proj))
    first, second = layer.input_layernorm, layer.post_attention_layernorm
    norms = (first.weight, eps_of(first)), (second.weight, eps_of(second))
    outer, gate_up, down = of(attention.o_proj), of(mlp.gate_proj, mlp.up_proj), of(mlp.down_proj)
    wanted = plan.wanted if last else None
    return Layer(not _recomputing, plan, (h, k), attention.scaling, act, norms, inner, outer, gate_up, down, wanted)


class DecoderLayer(torch.autograd.Function):
    """``x + attention(norm(x))``, then ``x + unit(norm(x))``."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, cos: Tensor, sin: Tensor, layer: Layer, learns: bool, *parameters: Tensor) -> Tensor:
        """``[1, N, H]`` and ``[N, 1, d / 2]`` twice -> ``[1, N, H]``, or ``[1, W, H]``; ``learns``: a backward pass may follow."""
        with torch.autocast(hidden.device.type, enabled=False):
            x, dtype, ((weight1, eps1), (weight2, eps2)) = hidden[0], cos.dtype, layer.norms
            normed, scale1 = norm(x, weight1, eps1, dtype)
            heads = _turned(layer, layer.inner(normed), cos, sin)
            found, graph = _attend(layer, heads) if learns and layer.keeps else (_follow(layer, heads), None)
            rest = x
            if layer.wanted is not None:
                found, rest = found.index_select(0, layer.wanted), rest.index_select(0, layer.wanted)
            # A CPU adds two precisions several times slower than it converts the one and adds.
            middle = rest + layer.outer(found).to(x.dtype)
            normed2, scale2 = norm(middle, weight2, eps2, dtype)
            gate_up = layer.gate_up(normed2)
            product, gate = unit(gate_up, layer.act)
            out = layer.down(product).to(x.dtype).add_(middle)
            if learns:
                ctx.layer, ctx.graph = layer, graph
                more = heads if graph is None else ()
                ctx.save_for_backward(x, cos, sin, scale1, normed, found, middle, scale2, normed2, gate_up, gate, *more)
            return out[None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Part by part, the last one first."""
        layer: Layer = ctx.layer
        with torch.autocast(gradients[0].device.type, enabled=False):
            x, cos, sin, scale1, normed, found, middle, scale2, normed2, gate_up, gate, *heads = ctx.saved_tensors
            dout, ((weight1, _), (weight2, _)) = gradients[0][0], layer.norms
            dproduct, ddown = layer.down.backward(dout.to(cos.dtype), unit_again(gate_up, gate))
            dnormed2, dgate_up = layer.gate_up.backward(unit_backward(dproduct, gate_up, gate, layer.act), normed2)
            dmiddle, dweight2 = norm_backward(dnormed2, middle, scale2, weight2)
            dmiddle += dout
            dfound, douter = layer.outer.backward(dmiddle.to(cos.dtype), found)
            if layer.wanted is not None:  # one token may be wanted by several completions
                dfound, dmiddle = (rows.new_zeros((len(x), rows.shape[1])).index_add_(0, layer.wanted, rows) for rows in (dfound, dmiddle))
            graph, ctx.graph = ctx.graph or _attend(layer, tuple(heads))[1], None  # torch lets go only of what it keeps itself
            dheads = _attend_backward(graph, dfound)
            dnormed, dinner = layer.inner.backward(_turned_back(layer, dheads, cos, sin), normed)
            dx, dweight1 = norm_backward(dnormed, x, scale1, weight1)
            dx += dmiddle
            return dx[None], None, None, None, None, dweight1, dweight2, *dinner, *douter, *dgate_up, *ddown


Heads = tuple[Tensor, Tensor, Tensor]
"""Queries ``[N, h, d]``, keys and values ``[N, k, d]``."""
Graph = tuple[Tensor, Heads]
"""What attention found, and from what: torch keeps its gradients."""


def _turned(layer: Layer, rows: Tensor, cos: Tensor, sin: Tensor) -> Heads:
    """The heads of ``[N, (h + 2 k) d]``, queries and keys turned."""
    h, k = layer.heads
    heads = rows.unflatten(1, (h + 2 * k, -1))
    both = turned(heads[:, : h + k], cos, sin, torch.empty_like(heads[:, : h + k], memory_format=torch.contiguous_format))
    return both[:, :h], both[:, h:], heads[:, h + k :]


def _turned_back(layer: Layer, heads: Heads, cos: Tensor, sin: Tensor) -> Tensor:
    """The gradient ``[N, (h + 2 k) d]``."""
    h, k = layer.heads
    queries, keys, values = heads
    rows = values.new_empty((len(values), h + 2 * k, values.shape[2]))
    turned(queries, cos, sin, rows[:, :h], back=True)
    turned(keys, cos, sin, rows[:, h : h + k], back=True)
    rows[:, h + k :] = values
    return rows.flatten(1)


def _attend(layer: Layer, heads: Heads) -> tuple[Tensor, Graph]:
    """``[N, h d]``, and the graph that leads there."""
    with torch.enable_grad():
        leaves = tuple(x.detach().requires_grad_() for x in heads)
        found = _follow(layer, leaves)  # type: ignore[arg-type]
        for leaf in leaves:  # a plan lays tokens out before it computes with them, so that the graph has no need of these
            leaf.data = leaf.new_empty(0)
    return found.detach(), (found, leaves)  # type: ignore[return-value]


def _follow(layer: Layer, heads: Heads) -> Tensor:
    return layer.plan.attend(*(x.transpose(0, 1) for x in heads), layer.scale).flatten(1)  # type: ignore[call-arg, arg-type]


def _attend_backward(graph: Graph, gradient: Tensor) -> Heads:
    found, leaves = graph
    return torch.autograd.grad(found, leaves, gradient.to(found.dtype))  # type: ignore[return-value]
