"""A decoder layer as Llama and its kin have it, for tokens that lie in one row.

transformers rotates queries and keys in six operations each, in float32 under autocast, and carries
every token through the last layer, though a loss looks at the completions alone. Here queries
and keys are rotated in the precision of the arithmetic, in a third of the operations, and the last layer goes
on from its attention with those tokens only that the plan in force asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from heedful.engines.attention import Plan, plan_in_force


class Rotated(torch.autograd.Function):
    """Pairs of entries, half a head apart, turned by the angle of their position (Su et al. 2021, section 3.4.2)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """``[N, heads, d]``, and ``[N, 1, d / 2]`` twice -> ``[N, heads, d]``."""
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Turned back."""
        cos, sin = ctx.saved_tensors
        return _turn(gradients[0], cos, sin, -1), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor, sign: int) -> Tensor:
    found = torch.empty_like(x, memory_format=torch.contiguous_format)
    (a, b), (c, d) = x.chunk(2, -1), found.chunk(2, -1)
    torch.mul(a, cos, out=c).addcmul_(b, sin, value=-sign)
    torch.mul(b, cos, out=d).addcmul_(a, sin, value=sign)
    return found


def block(layer: Any, *, last: bool) -> Callable[..., Tensor]:
    """The forward of a decoder layer: its own where no plan is in force, else ours."""
    own = layer.forward

    def forward(hidden: Tensor, *more: Any, position_embeddings: Any = None, **others: Any) -> Tensor:
        plan = plan_in_force()
        if plan is None or position_embeddings is None:
            return own(hidden, *more, position_embeddings=position_embeddings, **others)
        cos, sin = position_embeddings
        return _follow(layer, hidden, cos, sin, plan, last)

    return forward


def _follow(layer: Any, hidden: Tensor, cos: Tensor, sin: Tensor, plan: Plan, last: bool) -> Tensor:
    """``[1, N, H]`` and ``[1, N, d]`` twice -> ``[1, N, H]``, or in the last layer ``[1, W, H]`` of the tokens that are wanted."""
    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    q, k, v = (
        project(normed)[0].unflatten(-1, (-1, attention.head_dim)) for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    cos, sin = (x[0, :, None, : x.shape[-1] // 2].to(q.dtype) for x in (cos, sin))  # both halves of a head turn by the same angles
    q, k = Rotated.apply(q, cos, sin), Rotated.apply(k, cos, sin)
    found = plan.attend(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), attention.scaling).flatten(1)[None]
    wanted = plan.wanted if last else None
    if wanted is not None:
        found, hidden = found.index_select(1, wanted), hidden.index_select(1, wanted)
    # A CPU adds two precisions several times slower than it converts the one and adds.
    hidden = hidden + attention.o_proj(found).to(hidden.dtype)
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden)).to(hidden.dtype)
