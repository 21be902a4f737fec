"""Logprobs and entropy against torch's own distributions, and numbers by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import Categorical

from heedful.maths.logprobs import entropy, scale_logits, token_logprobs


@pytest.fixture
def logits() -> torch.Tensor:
    return torch.randn(2, 3, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_by_hand() -> None:
    # probabilities 1/6, 2/6, 3/6
    logits = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).log()[None] + 5
    assert token_logprobs(logits, torch.tensor([2])).item() == pytest.approx(math.log(0.5))
    by_hand = math.log(6) / 6 + math.log(3) / 3 + math.log(2) / 2
    assert entropy(logits).item() == pytest.approx(by_hand)
    # at temperature 1/2 the probabilities are squared: 1/14, 4/14, 9/14
    assert token_logprobs(scale_logits(logits, 0.5), torch.tensor([1])).item() == pytest.approx(math.log(4 / 14))


def test_against_the_categorical_distribution(logits) -> None:
    oracle = Categorical(logits=logits / 0.7)
    ids = oracle.sample()
    scaled = scale_logits(logits, 0.7)
    torch.testing.assert_close(token_logprobs(scaled, ids), oracle.log_prob(ids))
    torch.testing.assert_close(entropy(scaled), oracle.entropy())


def test_gradients(logits) -> None:
    ids = torch.tensor([[0, 6, 3], [2, 2, 5]])
    assert torch.autograd.gradcheck(lambda x: token_logprobs(scale_logits(x, 0.7), ids), logits.requires_grad_())
    assert torch.autograd.gradcheck(entropy, logits)


def test_half_precision_is_computed_in_float32(logits) -> None:
    half, ids = logits.to(torch.bfloat16), torch.zeros(2, 3, dtype=torch.long)
    for got, exact in [
        (token_logprobs(half, ids), token_logprobs(half.double(), ids)),
        (entropy(half), entropy(half.double())),
        (scale_logits(half, 0.7), scale_logits(half.double(), 0.7)),
    ]:
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.double(), exact, atol=1e-6, rtol=1e-6)


def test_tokens_that_cannot_be_drawn() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf]], requires_grad=True)
    assert entropy(logits).item() == pytest.approx(math.log(2))
    assert token_logprobs(logits, torch.tensor([2])).item() == -torch.inf
    entropy(logits).sum().backward()
    assert logits.grad.isfinite().all()


def test_large_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, 0.0, -1e4]])
    assert token_logprobs(logits, torch.tensor([0])).item() == 0
    assert entropy(logits).item() == 0


def test_entropy_lies_between_0_and_log_v(logits) -> None:
    assert entropy(torch.zeros(1, 7)).item() == pytest.approx(math.log(7))
    assert ((entropy(logits * 10) >= 0) & (entropy(logits) <= math.log(7))).all()


def test_temperature_1_changes_nothing_and_0_is_refused(logits) -> None:
    assert scale_logits(logits, 1.0) is logits
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            scale_logits(logits, temperature)
