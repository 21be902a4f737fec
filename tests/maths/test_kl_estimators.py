"""KL estimators against exact enumeration of a categorical policy: their means and their gradients.

With a vocabulary of five tokens an expectation under the policy is a sum of five terms, so every
claim of the table in ``heedful.maths.kl`` is checked without sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.distributions import Categorical, kl_divergence

from heedful.maths import kl

Estimator = Callable[[Tensor, Tensor], Tensor]
RATIO_WEIGHTED = {f"{name} times ratio": lambda lp, ref, e=e: e(lp, ref) * torch.exp(lp - lp.detach()) for name, e in kl.ESTIMATORS.items()}


@pytest.fixture
def policy() -> Tensor:
    return torch.tensor([0.3, -1.2, 0.8, 0.0, 1.5], dtype=torch.float64, requires_grad=True)


@pytest.fixture
def reference() -> Tensor:
    return torch.tensor([-0.5, 0.4, 0.1, 1.0, 0.7], dtype=torch.float64)


def expectation(estimator: Estimator, policy: Tensor, reference: Tensor) -> Tensor:
    """Mean of the estimator over tokens drawn from the policy; the draw itself carries no gradient."""
    logprobs, ref_logprobs = policy.log_softmax(-1), reference.log_softmax(-1)
    return (logprobs.exp().detach() * estimator(logprobs, ref_logprobs)).sum()


def gradient(value: Tensor, policy: Tensor) -> Tensor:
    return torch.autograd.grad(value, policy)[0]


def true_kl(left: Tensor, right: Tensor) -> Tensor:
    return kl_divergence(Categorical(logits=left), Categorical(logits=right))


def is_unbiased(estimator: Estimator, policy: Tensor, reference: Tensor) -> bool:
    return bool(torch.isclose(expectation(estimator, policy, reference), true_kl(policy, reference), atol=1e-12))


def has_reverse_kl_gradient(estimator: Estimator, policy: Tensor, reference: Tensor) -> bool:
    got, wanted = gradient(expectation(estimator, policy, reference), policy), gradient(true_kl(policy, reference), policy)
    return bool(torch.allclose(got, wanted, atol=1e-12))


def test_by_hand() -> None:
    # d = log 2: k1 = log 2, k2 = (log 2)^2 / 2, k3 = 1/2 - 1 + log 2
    logprobs, ref_logprobs = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
    assert kl.k1(logprobs, ref_logprobs).item() == pytest.approx(0.6931472)
    assert kl.k2(logprobs, ref_logprobs).item() == pytest.approx(0.2402265)
    assert kl.k3(logprobs, ref_logprobs).item() == pytest.approx(0.1931472)
    # p = (1/2, 1/2), q = (1/4, 3/4): KL = 1/2 log 2 + 1/2 log 2/3
    p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    assert kl.exact(p, q).item() == pytest.approx(0.5 * math.log(4 / 3))


def test_means(policy, reference) -> None:
    assert is_unbiased(kl.k1, policy, reference)
    assert is_unbiased(kl.k3, policy, reference)
    assert not is_unbiased(kl.k2, policy, reference)
    torch.testing.assert_close(kl.exact(policy, reference), true_kl(policy, reference))


def test_gradients_of_the_plain_estimators(policy, reference) -> None:
    assert gradient(expectation(kl.k1, policy, reference), policy).abs().max() < 1e-12  # it does nothing
    assert has_reverse_kl_gradient(kl.k2, policy, reference)
    assert not has_reverse_kl_gradient(kl.k3, policy, reference)
    forward = gradient(true_kl(reference, policy), policy)
    torch.testing.assert_close(gradient(expectation(kl.k3, policy, reference), policy), forward)


def test_gradients_with_the_ratio(policy, reference) -> None:
    assert has_reverse_kl_gradient(RATIO_WEIGHTED["k1 times ratio"], policy, reference)
    assert has_reverse_kl_gradient(RATIO_WEIGHTED["k3 times ratio"], policy, reference)
    assert not has_reverse_kl_gradient(RATIO_WEIGHTED["k2 times ratio"], policy, reference)


def test_gradient_of_the_exact_sum(policy, reference) -> None:
    torch.testing.assert_close(gradient(kl.exact(policy, reference), policy), gradient(true_kl(policy, reference), policy))
    assert torch.autograd.gradcheck(kl.exact, (policy, reference.requires_grad_()))


@pytest.mark.parametrize(
    "mutant",
    [
        lambda lp, ref: ref - lp,  # the other direction
        lambda lp, ref: (lp - ref).clamp(min=0),  # clamped
        lambda lp, ref: (lp - ref).abs(),
        lambda lp, ref: torch.zeros_like(lp),  # constant
        lambda lp, ref: torch.exp(lp - ref) - 1 - (lp - ref),  # k3 upside down
    ],
)
def test_the_checks_can_see(mutant, policy, reference) -> None:
    assert not is_unbiased(mutant, policy, reference)


def test_gradient_checks_can_see_a_detached_estimator(policy, reference) -> None:
    assert not has_reverse_kl_gradient(lambda lp, ref: 0.5 * lp * 0 + kl.k2(lp, ref).detach(), policy, reference)


@given(st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=20))
def test_k3_is_never_below_0(differences) -> None:
    d = torch.tensor(differences)
    assert (kl.k3(d, torch.zeros_like(d)) >= 0).all()


@given(st.floats(-1e-3, 1e-3))
def test_k3_of_near_policies_is_k2(d) -> None:
    # the naive exp(-d) - 1 + d has an error of 1e-16 here, as large as the value at d = 1e-8
    d = torch.tensor(d, dtype=torch.float64)
    zero = torch.zeros_like(d)
    difference = (kl.k3(d, zero) - kl.k2(d, zero)).abs()
    assert difference <= d.abs() ** 3 / 6 * 1.01 + d.abs() * 3e-16


def test_float32_k3_keeps_its_digits() -> None:
    d = torch.tensor([1e-3, -1e-3])
    torch.testing.assert_close(kl.k3(d, torch.zeros(2)), d.square() / 2, rtol=1e-3, atol=0)


def test_equal_logits_give_exactly_0() -> None:
    logits = torch.randn(3, 4, 50, generator=torch.Generator().manual_seed(1)) * 20
    assert (kl.exact(logits, logits.clone()) == 0).all()
    assert (kl.exact(logits.bfloat16(), logits.bfloat16()) == 0).all()


def test_a_constant_added_to_logits_changes_nothing(policy, reference) -> None:
    torch.testing.assert_close(kl.exact(policy + 30, reference - 4), kl.exact(policy, reference))


def test_tokens_that_cannot_be_drawn() -> None:
    barred, free = torch.tensor([0.0, 0.0, -torch.inf], requires_grad=True), torch.zeros(3)
    value = kl.exact(barred, free)
    assert value.item() == pytest.approx(math.log(3 / 2))
    value.backward()
    assert barred.grad.isfinite().all()
    assert kl.exact(free, barred.detach()).item() == torch.inf
    assert kl.exact(barred.detach(), barred.detach()).item() == 0


def test_estimate_chooses_by_name() -> None:
    a, b = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -0.5])
    for name in ("k1", "k2", "k3"):
        assert torch.equal(kl.estimate(name, a, b), getattr(kl, name)(a, b))
    with pytest.raises(ValueError, match=r"k4.*k1, k2, k3"):
        kl.estimate("k4", a, b)
