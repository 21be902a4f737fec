"""PPO's losses: worked by hand, where the gradient stops, and finite differences."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heedful.maths.policy_losses import approx_kl, clip_fraction, clipped_policy_loss, clipped_value_loss, ratio, value_clip_fraction

E = math.e
FINITE = st.floats(-3, 3)


def t(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


# log-ratio, advantage, loss at clip 0.2, gradient with respect to the log-probability
POLICY_CASES = [
    (0.0, 1.0, -1.0, -1.0),  # untouched policy: -A, and the policy gradient
    (0.0, -1.0, 1.0, 1.0),
    (1.0, 1.0, -1.2, 0.0),  # e > 1.2 and good: clipped, nothing more to gain
    (1.0, -1.0, E, E),  # e > 1.2 and bad: not clipped, pushed back with full force
    (-1.0, 1.0, -1 / E, -1 / E),  # 1/e < 0.8 and good: not clipped
    (-1.0, -1.0, 0.8, 0.0),  # 1/e < 0.8 and bad: clipped
    (0.1, 2.0, -2 * E**0.1, -2 * E**0.1),  # inside the trust region
]


def matches_the_worked_policy_losses(loss_function) -> bool:
    log_ratio, advantage, loss, slope = t(*range(7)), t(*range(7)), t(*range(7)), t(*range(7))
    for row, case in enumerate(POLICY_CASES):
        log_ratio[row], advantage[row], loss[row], slope[row] = case
    old = t(-1, -2, -3, -1, -2, -3, -1)
    logprobs = (old + log_ratio).requires_grad_()
    got = loss_function(logprobs, old, advantage, 0.2)
    if not torch.allclose(got, loss) or not got.requires_grad:
        return False
    return torch.allclose(torch.autograd.grad(got.sum(), logprobs)[0], slope)


def test_policy_loss_by_hand() -> None:
    assert matches_the_worked_policy_losses(clipped_policy_loss)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda lp, old, a, clip: torch.zeros_like(lp),
        lambda lp, old, a, clip: (lp * 0).sum() + torch.ones_like(lp),
        lambda lp, old, a, clip: -ratio(lp, old) * a,  # no clip
        lambda lp, old, a, clip: -ratio(lp, old).clamp(1 - clip, 1 + clip) * a,  # clip without the minimum
        lambda lp, old, a, clip: -clipped_policy_loss(lp, old, a, clip),  # sign
        lambda lp, old, a, clip: clipped_policy_loss(old, lp, a, clip),  # ratio upside down
        lambda lp, old, a, clip: clipped_policy_loss(lp, old, a, clip / 2),
    ],
)
def test_the_check_can_see(mutant) -> None:
    assert not matches_the_worked_policy_losses(mutant)


def test_an_upper_end_of_its_own() -> None:
    """Ratio e at clip 0.2: with the upper end at 2 it may rise further; downwards nothing changes."""
    log_ratio, advantage = t(1.0, 1.0, -1.0, -1.0), t(1.0, -1.0, 1.0, -1.0)
    found = clipped_policy_loss(log_ratio, torch.zeros_like(log_ratio), advantage, 0.2, clip_high=2.0)
    torch.testing.assert_close(found, t(-E, E, -1 / E, 0.8))
    assert clip_fraction(log_ratio, torch.zeros_like(log_ratio), advantage, 0.2, 2.0).tolist() == [0, 0, 0, 1]
    torch.testing.assert_close(clipped_policy_loss(log_ratio, 0 * log_ratio, advantage, 0.2, 1.5), t(-2.5, E, -1 / E, 0.8))


def test_value_loss_by_hand() -> None:
    # V_old 0, clip 0.2
    # V 1, R 2: V is clipped to 0.2; errors 1 and 1.8^2 = 3.24; half the larger is 1.62
    # V 1, R 0: errors 1 and 0.04; half the larger is 0.5
    # V 0.1, R 1: inside, 0.9^2 / 2 = 0.405
    # V -1, R -2: V is clipped to -0.2; 1.8^2 / 2 = 1.62
    values = t(1, 1, 0.1, -1).requires_grad_()
    loss = clipped_value_loss(values, t(0, 0, 0, 0), t(2, 0, 1, -2), 0.2)
    torch.testing.assert_close(loss, t(1.62, 0.5, 0.405, 1.62))
    # where the clip binds there is no gradient; elsewhere it is V - R
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), values)[0], t(0, 1, -0.9, 0))
    assert value_clip_fraction(values, t(0, 0, 0, 0), t(2, 0, 1, -2), 0.2).tolist() == [1, 0, 0, 1]


def test_clip_fraction_is_where_the_gradient_is_0() -> None:
    log_ratio, advantage = t(*(c[0] for c in POLICY_CASES)), t(*(c[1] for c in POLICY_CASES))
    bound = clip_fraction(log_ratio, torch.zeros_like(log_ratio), advantage, 0.2)
    assert bound.tolist() == [float(c[3] == 0) for c in POLICY_CASES]


def test_ratio_and_approx_kl_by_hand() -> None:
    new, old = t(-1.0, -2.0, -3.0), t(-1.0, -2.5, -1.0)
    torch.testing.assert_close(ratio(new, old), t(1, E**0.5, E**-2))
    torch.testing.assert_close(approx_kl(new, old), t(0, 0.125, 2.0))


@given(FINITE, FINITE, FINITE, st.floats(0.01, 0.5))
def test_the_loss_is_a_pessimistic_bound(new, old, advantage, clip) -> None:
    new, old, advantage = t(new), t(old), t(advantage)
    assert clipped_policy_loss(new, old, advantage, clip) >= -ratio(new, old) * advantage
    assert clipped_value_loss(new, old, advantage, clip) >= 0.5 * (new - advantage) ** 2


@given(FINITE, FINITE)
def test_at_the_old_policy_nothing_is_clipped(logprob, advantage) -> None:
    logprob, advantage = t(logprob), t(advantage)
    assert torch.equal(clipped_policy_loss(logprob, logprob, advantage, 0.2), -advantage)
    assert clip_fraction(logprob, logprob, advantage, 0.2).item() == 0
    assert value_clip_fraction(logprob, logprob, advantage, 0.2).item() == 0


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    new, old, other = (torch.randn(3, 4, dtype=torch.float64, generator=generator) for _ in range(3))
    new.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: clipped_policy_loss(x, old, other, 0.2), new)
    assert torch.autograd.gradcheck(lambda x: clipped_value_loss(x, old, other, 0.2), new)
    assert torch.autograd.gradcheck(lambda x: approx_kl(x, old), new)


def test_shapes_are_kept() -> None:
    x = torch.zeros(3, 4)
    assert {f(x, x, x, 0.2).shape for f in (clipped_policy_loss, clipped_value_loss, clip_fraction, value_clip_fraction)} == {(3, 4)}
