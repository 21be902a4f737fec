"""Logprobs, entropy and KL without the logits of a batch: chunked is unchunked, and so are the gradients."""

from __future__ import annotations

import pytest
import torch

from heedful.engines import head as ours
from heedful.engines.head import Head, token_statistics


def case(rows=13, width=6, vocabulary=31, dtype=torch.float32, bias=True):
    generator = torch.Generator().manual_seed(1)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_(True)

    head = Head(normal(vocabulary, width), normal(vocabulary) if bias else None)
    other = Head(normal(vocabulary, width).detach(), None)
    return head, normal(rows, width), torch.randint(0, vocabulary, (rows,), generator=generator), (other, normal(rows, width).detach())


def whole(head, hidden, targets, temperature, reference):
    """The same in one piece, by definition."""
    logits = hidden @ head.weight.T + (0 if head.bias is None else head.bias)
    p = (logits / temperature).log_softmax(-1)
    q = (reference[1] @ reference[0].weight.T / temperature).log_softmax(-1)
    taken, ref_taken = (x.gather(1, targets[:, None]).squeeze(1) for x in (p, q))
    return taken, -(p.exp() * p).sum(-1), (p.exp() * (p - q)).sum(-1), ref_taken


@pytest.mark.parametrize("rows", [1, 16, 17, 37])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_are_those_of_the_whole(monkeypatch, rows, temperature, bias):
    """Chunked is unchunked, and both are the definition; of gradients up to 20 the last digits are the definition's own rounding."""
    head, hidden, targets, reference = case(rows, bias=bias)
    leaves = [hidden, head.weight, *([head.bias] if bias else [])]
    weights = torch.randn(3, rows, generator=torch.Generator().manual_seed(2))

    def gradients(outs):
        return torch.autograd.grad(sum((x * w).sum() for x, w in zip(outs[:3], weights, strict=True)), leaves)

    def in_chunks_of(rows_per_chunk):
        monkeypatch.setattr(ours, "CHUNK_BYTES", 4 * len(head.weight) * rows_per_chunk)
        outs = token_statistics(head, hidden, targets, temperature=temperature, reference=reference)
        return tuple(outs), gradients(outs)

    chunked, unchunked = in_chunks_of(16), in_chunks_of(100)
    torch.testing.assert_close(chunked, unchunked, atol=1e-5, rtol=1e-5)
    wanted = whole(head, hidden, targets, temperature, reference)
    expected = gradients(wanted)
    for outs, found in (chunked, unchunked):
        torch.testing.assert_close(outs, wanted, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_only_what_is_asked_for_gets_a_gradient():
    head, hidden, targets, _ = case(bias=False)
    frozen = Head(head.weight.detach(), None)
    logprobs, entropy, kl, _ = token_statistics(frozen, hidden, targets)
    assert kl is None
    logprobs.sum().backward()
    assert hidden.grad is not None
    assert frozen.weight.grad is None
    assert entropy.shape == (13,)


def test_a_gradient_of_logprobs_alone_by_hand():
    """Two tokens, one state: d log p / d logits is onehot - p."""
    head = Head(torch.eye(2, requires_grad=True), None)
    hidden = torch.tensor([[0.0, 1.0986123]], requires_grad=True)  # probabilities 1/4 and 3/4
    logprobs, *_ = token_statistics(head, hidden, torch.tensor([0]))
    logprobs.sum().backward()
    assert logprobs.tolist() == pytest.approx([-1.3862944])
    assert hidden.grad.tolist()[0] == pytest.approx([0.75, -0.75])


def test_bfloat16_drifts_little_where_logits_are_large():
    """Logits of size 30: rounded to bfloat16 they are off by up to 0.125; a confident token's logprob must not be."""
    head, hidden, _, _ = case(200, 64, 500, bias=False)
    with torch.no_grad():
        sure = Head(head.weight * 1.5, None)
        targets = (hidden @ sure.weight.T).argmax(-1)
        wanted, entropies, *_ = token_statistics(sure, hidden, targets)
        found, others, *_ = token_statistics(sure, hidden, targets, dtype=torch.bfloat16)
    assert (found <= 1e-6).all(), "a probability is at most 1"
    assert float((found - wanted).abs().mean()) < 0.01
    assert float((others - entropies).abs().mean()) < 0.02


def test_a_token_that_cannot_be_drawn_makes_no_nan():
    head = Head(torch.eye(3), torch.tensor([0.0, 0.0, -torch.inf]))
    logprobs, entropy, *_ = token_statistics(head, torch.zeros(1, 3), torch.tensor([0]))
    assert logprobs.tolist() == pytest.approx([-0.6931472])
    assert entropy.tolist() == pytest.approx([0.6931472])
