"""Attention that knows how tokens lie: in one row without padding, or one by one with a cache.

transformers lets a registered function take the place of every architecture's attention. Ours asks
the *plan* that is in force (:func:`following`) what belongs together; everything else in a model
works on single tokens and need not know.

``h`` heads, ``k`` heads of keys and values (fewer where they are grouped), ``d`` their width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from heedful.engines.layout import Layout, Part
from heedful.engines.padding import rounded

NAME = "heedful"
TILE = 256
"""Queries computed at once on a CPU: a tile sees the keys up to its own end only, half of all in the long run."""


class Plan(Protocol):
    """What belongs together where tokens lie in one row. ``wanted [W]``: the places of those tokens whose states are
    looked at after the last layer; ``None`` means all. ``trimmed``: the last layer went on with those alone."""

    wanted: Tensor | None
    trimmed: bool

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """``[h, N, d]``, ``[k, N, d]`` twice -> ``[N, h, d]``.

        With gradient it may be called again for any layer, and its graph must not hold on to the three themselves
        (:mod:`heedful.engines.block` lets go of them); plans that remember what they saw are called without, layer after layer.
        """
        ...


_plan: Plan | None = None


@contextmanager
def following(plan: Plan | None) -> Iterator[None]:
    """Let models that were given to :func:`adopt` follow a plan; ``None`` is the usual padded batch with its mask."""
    global _plan
    before, _plan = _plan, plan
    try:
        yield
    finally:
        _plan = before


def plan_in_force() -> Plan | None:
    """The plan that is followed now."""
    return _plan


def adopt(model: Any) -> bool:
    """Give a model our attention; ``False``, and the model as it was, where its attention needs more than we know."""
    if not model._can_set_attn_implementation() or _beyond_us(model.config):
        return False
    set_attention(model, NAME)
    return True


def set_attention(model: Any, name: str) -> None:
    """Choose the attention of a model and all its parts. Parts may hold a configuration of their own, which
    transformers forgets where an encoder and a decoder were put together by hand."""
    model.set_attn_implementation(name)
    for part in model.modules():
        if hasattr(getattr(part, "config", None), "_attn_implementation"):
            part.config._attn_implementation_internal = name


def _beyond_us(config: Any) -> bool:
    """Windows, caps and sinks change which keys count, and by how much."""
    windows = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    return bool(windows) or kinds != {"full_attention"} or getattr(config, "attn_logit_softcapping", None) is not None


def _registered(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """What transformers calls: ``[B, h, L, d]`` and the two-dimensional mask ``[B, M]`` in, ``[B, L, h, d]`` out."""
    query, key = query.to(value.dtype), key.to(value.dtype)  # rotating in float32 leaves them wider under autocast
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if _plan is not None:
        return _plan.attend(query[0], key[0], value[0], scale)[None], None
    allowed = None if mask is None else mask[:, None, None, :]
    found = attention(query, key, value, scale, causal=module.is_causal, allowed=allowed, bias=position_bias)
    return found.transpose(1, 2), None


def _keep_mask(*_: Any, attention_mask: Tensor | None = None, **__: Any) -> Tensor | None:
    """transformers' masks stay two-dimensional: what is causal, the layer says itself."""
    return attention_mask


class Packed:
    """The tokens of a batch as one row: see :class:`heedful.engines.layout.Layout`."""

    def __init__(self, layout: Layout, wanted: Tensor | None = None) -> None:
        self.layout, self.wanted, self.trimmed = layout, wanted, False

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Every part by itself; the parts stand one behind the other in the row."""
        q, k, v = (x.transpose(0, 1) for x in (query, key, value))  # [N, heads, d]
        queries, keys, values = (Unpack.apply(x, self.layout, whole) for x, whole in ((q, False), (k, True), (v, True)))
        found = [
            self._part(part, query, key, value, scale)
            for part, query, key, value in zip(self.layout.parts, queries, keys, values, strict=True)
        ]
        return Pack.apply(self.layout, *found)

    @staticmethod
    def _part(part: Part, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
        if (prefix := part.prefix) is None:
            return attention(queries, keys, values, scale, causal=True)
        known = torch.arange(prefix.places.shape[1], device=keys.device)[None, :] < prefix.lengths[prefix.owner][:, None]
        return attention(queries, keys, values, scale, causal=True, allowed=known[:, None, None, :])


class Unpack(torch.autograd.Function):
    """``[N, heads, d]`` tokens in a row -> for each part ``[S, heads, L, d]``, or ``whole`` with what each sequence goes on from in
    front, ``[S, heads, P + L, d]``.

    Sequences shorter than the others repeat their last token: causally nothing before sees it, and what it sees itself
    falls away in :class:`Pack`. Beginnings shorter than the others do so, too, and attention is told.
    """

    @staticmethod
    def forward(ctx: Any, row: Tensor, layout: Layout, whole: bool) -> tuple[Tensor, ...]:
        """Laid out by head once: each of the products would do so again."""
        ctx.layout, ctx.whole = layout, whole
        places = [part.whole if whole else part.places for part in layout.parts]
        found = (row.index_select(0, wanted.flatten()).unflatten(0, wanted.shape) for wanted in places)
        return tuple(rectangle.transpose(1, 2).contiguous() for rectangle in found)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradients of repeated tokens are 0; those of a shared beginning come from all that go on from it."""
        parts = ctx.layout.parts
        own = [g[:, :, g.shape[2] - part.places.shape[1] :] for part, g in zip(parts, gradients, strict=True)]
        row = _in_a_row(ctx.layout, own)
        for part, gradient in zip(parts, gradients, strict=True):
            if ctx.whole and part.prefix is not None:
                length = part.prefix.places.shape[1]
                row.index_add_(0, part.whole[:, :length].flatten(), gradient[:, :, :length].transpose(1, 2).flatten(0, 1))
        return row, None, None


class Pack(torch.autograd.Function):
    """The inverse of :class:`Unpack`."""

    @staticmethod
    def forward(ctx: Any, layout: Layout, *rectangles: Tensor) -> Tensor:
        """``[S, heads, L, d]`` for each part -> ``[N, heads, d]``."""
        ctx.layout = layout
        return _in_a_row(layout, rectangles)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Repeated tokens have no gradient."""
        return None, *(_apart(part, gradients[0][part.start : part.end]) for part in ctx.layout.parts)


def _in_a_row(layout: Layout, rectangles: Sequence[Tensor]) -> Tensor:
    found = []
    for part, rectangle in zip(layout.parts, rectangles, strict=True):
        tokens = rectangle.transpose(1, 2).flatten(0, 1)
        found.append(tokens if len(part.flat) == len(tokens) else tokens.index_select(0, part.flat))
    if layout.spare:
        found.append(found[0].new_zeros((layout.spare, *found[0].shape[1:])))
    return found[0] if len(found) == 1 else torch.cat(found)


def _apart(part: Part, tokens: Tensor) -> Tensor:
    if len(part.flat) < part.places.numel():
        tokens = tokens.new_zeros((part.places.numel(), *tokens.shape[1:])).index_copy_(0, part.flat, tokens)
    return tokens.unflatten(0, part.places.shape).transpose(1, 2).contiguous()


def attention(
    q: Tensor, k: Tensor, v: Tensor, scale: float, *, causal: bool, allowed: Tensor | None = None, bias: Tensor | None = None
) -> Tensor:
    """``softmax(q k' * scale + bias) v`` (Vaswani et al. 2017, eq. 1): ``[S, h, L, d]``, ``[S, k, M, d]`` twice -> ``[S, h, L, d]``.

    ``causal``: query ``i`` sees the keys up to ``M - L + i``. ``allowed [S, 1, 1, A]``: which of the first ``A`` keys
    may be seen at all. ``bias [1, h, L, M]``: relative positions (Raffel et al. 2020). ``h`` is a multiple of ``k``:
    neighbouring heads share keys and values (Ainslie et al. 2023).
    """
    length, keys = q.shape[-2], k.shape[-2]
    if q.device.type == "cpu":
        plain = causal and allowed is None and bias is None and length == keys and q.shape[1] == k.shape[1]
        if plain and not torch.is_grad_enabled():  # torch's own is quick forwards
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        return Attention.apply(q, k, v, scale, causal, allowed, bias)
    mask: Tensor | None = None
    if allowed is not None or (causal and keys != length) or bias is not None:
        seen = torch.ones((length, keys), dtype=torch.bool, device=q.device)
        seen = (seen.tril(keys - length) if causal else seen)[None, None]
        if allowed is not None:
            seen = seen & functional.pad(allowed, (0, keys - allowed.shape[-1]), value=True)
        mask = seen if bias is None else bias.to(q.dtype).masked_fill(~seen, torch.finfo(q.dtype).min)
    return functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=causal and mask is None, scale=scale, enable_gqa=k.shape[1] != q.shape[1]
    )


class Attention(torch.autograd.Function):
    """Attention on a CPU, in tiles of queries. In bfloat16 with its gradient, twice as fast as the fused kernel at the
    lengths of completions."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, causal: bool, allowed: Tensor | None, bias: Tensor | None
    ) -> Tensor:
        """Probabilities are kept in the precision of the inputs and computed in float32."""
        found, kept = [], []
        for rows, seen in _tiles(q.shape[2], k.shape[2], causal):
            p = _probabilities(q, k, scale, rows, seen, causal, allowed, bias).to(v.dtype)
            found.append(_unfolded(torch.matmul(p, v[:, :, :seen]), q.shape[1] // k.shape[1]))
            kept.append(p)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.scale, ctx.causal, ctx.bias = scale, causal, None if bias is None else (bias.shape, bias.dtype)
        return found[0] if len(found) == 1 else torch.cat(found, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """``dS = P * (dP - sum(dP * P))``, tile by tile, the last one first, which sees all keys."""
        q, k, v, *kept = ctx.saved_tensors
        gradient, group = gradients[0], q.shape[1] // k.shape[1]
        dq: list[Tensor] = []
        dk, dv = None, None
        dbias = q.new_zeros((q.shape[1], q.shape[2], k.shape[2]), dtype=torch.float32) if ctx.needs_input_grad[6] else None
        for (rows, seen), p in reversed(list(zip(_tiles(q.shape[2], k.shape[2], ctx.causal), kept, strict=True))):
            dout = _folded(gradient[:, :, rows], group)
            dv = _onto(dv, torch.matmul(p.transpose(-1, -2), dout), seen)
            dp = torch.matmul(dout, v[:, :, :seen].transpose(-1, -2))
            ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)
            if dbias is not None:
                dbias[:, rows, :seen] += _unfolded(ds, group).sum(0, dtype=torch.float32)
            dq.append(_unfolded(_product(ds, k[:, :, :seen], ctx.scale), group))
            dk = _onto(dk, _product(ds.transpose(-1, -2), _folded(q[:, :, rows], group), ctx.scale), seen)
        if dbias is not None:
            shape, dtype = ctx.bias
            dbias = dbias.expand(shape).to(dtype)
        return dq[0] if len(dq) == 1 else torch.cat(dq[::-1], 2), dk, dv, None, None, None, dbias


def _product(a: Tensor, b: Tensor, scale: float, onto: Tensor | None = None) -> Tensor:
    """``a b * scale + onto`` of ``[S, k, n, m]`` and ``[S, k, m, l]``, in one go; ``onto`` broadcasts to ``[S * k, n, l]``."""
    start = a.new_empty((1, 1, 1)) if onto is None else onto
    found = torch.baddbmm(start, a.flatten(0, 1), b.flatten(0, 1), beta=0 if onto is None else 1, alpha=scale)
    return found.unflatten(0, a.shape[:2])


def _onto(total: Tensor | None, part: Tensor, seen: int) -> Tensor:
    """A sum over tiles of which the first one sees all keys."""
    if total is None:
        return part
    total[:, :, :seen] += part
    return total


def _tiles(queries: int, keys: int, causal: bool) -> Iterator[tuple[slice, int]]:
    """Slices of the queries, as even as can be, and how many keys each can see."""
    size = rounded(-(-queries // -(-queries // TILE)))
    for start in range(0, queries, size):
        stop = min(start + size, queries)
        yield slice(start, stop), keys - queries + stop if causal else keys


def _probabilities(
    q: Tensor, k: Tensor, scale: float, rows: slice, seen: int, causal: bool, allowed: Tensor | None, bias: Tensor | None
) -> Tensor:
    """``[S, k, group * rows, seen]``, summed in float32. Of ``allowed`` keys, what may not be seen gets the lowest finite
    score, since a row of padding, which sees nothing at all, must not become NaN; causally every query sees some key."""
    group, n = q.shape[1] // k.shape[1], rows.stop - rows.start
    unseen = None
    if causal:
        unseen = torch.full((n, seen), -torch.inf, dtype=q.dtype).triu(rows.start + k.shape[2] - q.shape[2] + 1).repeat(group, 1)
    scores = _product(_folded(q[:, :, rows], group), k[:, :, :seen].transpose(-1, -2), scale, unseen)
    apart = scores.view(*k.shape[:2], group, n, seen)
    if bias is not None:
        apart = apart + bias[:, :, rows, :seen].reshape(1, k.shape[1], group, n, seen)
    if allowed is not None:
        width = min(allowed.shape[-1], seen)
        apart[..., :width].masked_fill_(~allowed[:, :, None, :, :width], torch.finfo(apart.dtype).min)
    # In 16 bits the sums are float32 all the same, and a copy in float32 would cost more than the softmax.
    p = torch.softmax(apart, -1, dtype=None if apart.dtype in (torch.bfloat16, torch.float16) else torch.float32)
    return p.view(scores.shape)


def _folded(x: Tensor, group: int) -> Tensor:
    """``[S, h, L, d]`` -> ``[S, k, group * L, d]``: heads that share keys, one below the other."""
    return x if group == 1 else x.reshape(x.shape[0], x.shape[1] // group, -1, x.shape[3])


def _unfolded(x: Tensor, group: int) -> Tensor:
    """The inverse of :func:`_folded`."""
    return x if group == 1 else x.reshape(x.shape[0], x.shape[1] * group, -1, x.shape[3])


def _register() -> None:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register(NAME, _registered)
    ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, _keep_mask)


_register()
