"""Davidson's model of one comparison: numbers worked by hand, derivatives against finite differences, and its limits."""

from __future__ import annotations

import numpy as np
import pytest

from heedful.maths.davidson import NODE_WEIGHTS, NODES, curvature, log_probability, probabilities, slope, tie_slope

D, T = (grid.ravel() for grid in np.meshgrid(np.linspace(-8, 8, 9), np.linspace(-3, 2, 6)))
STEP = 1e-5


def test_by_hand() -> None:
    # Weights 2 : 1 : 1/2 with d = 2 log 2 and t = 0.
    assert np.array(probabilities(np.array(2 * np.log(2)), np.array(0.0))) == pytest.approx([4 / 7, 1 / 7, 2 / 7])
    assert np.array(probabilities(np.array(0.0), np.array(0.0))) == pytest.approx([1 / 3] * 3)


def test_without_ties_it_is_bradley_and_terry() -> None:
    first, second, tie = probabilities(D, np.full_like(D, -60))
    assert first == pytest.approx(1 / (1 + np.exp(-D)))
    assert second == pytest.approx(1 / (1 + np.exp(D)))
    assert tie.max() < 1e-20


def test_probabilities_sum_to_one_and_stay_exact_far_out() -> None:
    assert sum(probabilities(D, T)) == pytest.approx(np.ones_like(D))
    first, second, tie = probabilities(np.array([500.0, -500.0]), np.array([0.0, 5.0]))
    assert first[1] == pytest.approx(np.exp(-500), rel=1e-9, abs=0)
    assert second[0] == pytest.approx(np.exp(-500), rel=1e-9, abs=0)
    assert np.isfinite(tie).all()


@pytest.mark.parametrize("outcome", [1, 0, -1])
def test_every_derivative_against_finite_differences(outcome: int) -> None:
    said = np.full_like(D, outcome)
    first, second, tie = probabilities(D, T)
    chance = {1: first, 0: tie, -1: second}[outcome]
    assert log_probability(said, D, T) == pytest.approx(np.log(chance))
    up, down = log_probability(said, D + STEP, T), log_probability(said, D - STEP, T)
    assert slope(said, first, second) == pytest.approx((up - down) / (2 * STEP), abs=1e-8)
    after, before = (slope(said, *probabilities(D + s, T)[:2]) for s in (STEP, -STEP))
    assert curvature(first, second) == pytest.approx((before - after) / (2 * STEP), abs=1e-8)
    up, down = log_probability(said, D, T + STEP), log_probability(said, D, T - STEP)
    assert tie_slope(said, tie) == pytest.approx((up - down) / (2 * STEP), abs=1e-8)


def test_quadrature_is_exact_on_polynomials() -> None:
    # Moments of a standard normal: 1, 0, 1, 3, 15.
    assert [float((NODES**k) @ NODE_WEIGHTS) for k in (0, 1, 2, 4, 6)] == pytest.approx([1, 0, 1, 3, 15], abs=1e-9)
