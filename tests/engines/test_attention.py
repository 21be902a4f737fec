"""Our attention against torch's, and its gradients; windows and caps are left to others."""

from __future__ import annotations

from functools import wraps

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import MistralConfig, MistralForCausalLM

import tiny
from heedful.engines import attention as ours
from heedful.engines.attention import adopt, attention
from heedful.engines.tap import examine


def inputs(heads=4, shared=2, queries=7, keys=7, dtype=torch.float64, rows=3):
    generator = torch.Generator().manual_seed(0)
    shapes = [(rows, heads, queries, 5), (rows, shared, keys, 5), (rows, shared, keys, 5)]
    return [torch.randn(s, generator=generator, dtype=dtype, requires_grad=True) for s in shapes]


def theirs(q, k, v, causal, allowed, bias):
    """torch's, with one dense mask."""
    queries, keys = q.shape[2], k.shape[2]
    seen = torch.ones(queries, keys, dtype=torch.bool)
    seen = (seen.tril(keys - queries) if causal else seen)[None, None].expand(len(q), 1, -1, -1).clone()
    if allowed is not None:
        seen[..., : allowed.shape[-1]] &= allowed
    mask = torch.zeros(seen.shape, dtype=q.dtype).masked_fill(~seen, -torch.inf)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask if bias is None else mask + bias, scale=0.3, enable_gqa=True)


@pytest.mark.parametrize("tile", [3, 128])
@pytest.mark.parametrize("shared", [1, 2, 4])
@pytest.mark.parametrize(("queries", "keys"), [(7, 7), (7, 12), (1, 9)])
@pytest.mark.parametrize("how", ["causal", "allowed", "both", "bias"])
def test_values_and_gradients_are_those_of_torch(monkeypatch, tile, shared, queries, keys, how):
    monkeypatch.setattr(ours, "TILE", tile)
    q, k, v = inputs(shared=shared, queries=queries, keys=keys)
    allowed = None
    if how in ("allowed", "both"):
        allowed = torch.ones(3, 1, 1, keys - queries if how == "both" else keys, dtype=torch.bool)
        allowed[1, ..., :2] = False
    bias = torch.randn(1, 4, queries, keys, dtype=torch.float64, requires_grad=True) if how == "bias" else None
    causal = how != "allowed"
    wanted = theirs(q, k, v, causal, allowed, bias)
    found = attention(q, k, v, 0.3, causal=causal, allowed=allowed, bias=bias)
    torch.testing.assert_close(found, wanted, atol=1e-6, rtol=1e-6)  # probabilities are float32 inside
    weights = torch.randn(found.shape, dtype=torch.float64)
    leaves = [q, k, v, *([bias] if bias is not None else [])]
    for one, other in zip(*(torch.autograd.grad((out * weights).sum(), leaves) for out in (found, wanted)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_row_that_may_see_nothing_stays_finite():
    q, k, v = inputs(dtype=torch.float32)
    nothing = torch.zeros(3, 1, 1, 7, dtype=torch.bool)
    found = attention(q, k, v, 0.3, causal=False, allowed=nothing)
    assert torch.isfinite(found).all()
    found.sum().backward()
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v))


def test_bfloat16_is_near():
    q, k, v = inputs(dtype=torch.float32, queries=40, keys=40)
    wanted = attention(q, k, v, 0.3, causal=True)
    found = attention(*(x.bfloat16() for x in (q, k, v)), 0.3, causal=True)
    assert found.dtype == torch.bfloat16
    assert float((found.float() - wanted).detach().abs().max()) < 0.03


def sliding():
    config = MistralConfig(
        vocab_size=tiny.VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, sliding_window=3, bos_token_id=tiny.START, eos_token_id=tiny.END, pad_token_id=tiny.PAD,
    )  # fmt: skip
    return MistralForCausalLM(config).eval()


def test_a_sliding_window_is_left_to_transformers():
    model = sliding()
    assert not adopt(model)
    assert model.config._attn_implementation != ours.NAME
    assert examine(model) == (False, True)


def test_a_model_that_mixes_tokens_outside_attention_is_not_packed():
    model = tiny.language_model("llama")
    norm = model.model.norm.forward
    model.model.norm.forward = lambda hidden: norm(hidden) + hidden.mean(1, keepdim=True)
    assert examine(model) == (False, True)


def test_a_head_that_caps_its_logits_is_not_plain():
    model = tiny.language_model("llama")
    inner = model.forward

    @wraps(inner)
    def capped(*args, **kwargs):
        found = inner(*args, **kwargs)
        found.logits = 5 * torch.tanh(found.logits / 5)
        return found

    model.forward = capped
    assert examine(model) == (True, False)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_usual_models_pack_where_they_are_causal_and_have_plain_heads(kind):
    assert examine(tiny.language_model(kind)) == (kind in tiny.CAUSAL, True)
