"""Calibration measures against hand-worked numbers, scikit-learn and simulated over-confidence."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from heedful.maths.calibration import brier, ece, nll, reliability_curve, temperature_scale

RNG = np.random.default_rng(0)
P = RNG.uniform(0.01, 0.99, 500)
Y = (RNG.random(500) < P).astype(float)


def test_ece_by_hand() -> None:
    # Two bins of two: mean 0.15 against 0.5, mean 0.85 against 1.0.
    assert ece([0.1, 0.9, 0.2, 0.8], [0, 1, 1, 1], bins=2) == pytest.approx((0.35 + 0.15) / 2)
    # Unequal bins weigh by their size: {0.1, 0.2} -> |0.5 - 0.15| = 0.35, {0.9} -> 0.1.
    assert ece([0.1, 0.2, 0.9], [0, 1, 1], bins=2) == pytest.approx((2 * 0.35 + 0.1) / 3)


def test_bins_have_equal_mass_and_rise() -> None:
    curve = reliability_curve(P, Y, bins=7)
    assert sum(b.n for b in curve) == 500
    assert max(b.n for b in curve) - min(b.n for b in curve) <= 1
    assert [b.predicted for b in curve] == sorted(b.predicted for b in curve)
    assert len(reliability_curve(P[:3], Y[:3], bins=10)) == 3


def test_proper_scores_equal_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    assert brier(P, Y) == pytest.approx(metrics.brier_score_loss(Y, P), abs=1e-12)
    assert nll(P, Y) == pytest.approx(metrics.log_loss(Y, P), abs=1e-12)


def test_a_certain_mistake_costs_much_but_not_infinity() -> None:
    assert nll([0.0], [1.0]) == pytest.approx(-np.log(1e-12))


@pytest.mark.parametrize("truth", [0.5, 1.0, 3.0])
def test_temperature_is_recovered_and_calibrates(truth: float) -> None:
    honest: NDArray[np.float64] = np.random.default_rng(1).normal(0, 2, 20_000)
    outcomes = (np.random.default_rng(2).random(20_000) < 1 / (1 + np.exp(-honest))).astype(float)
    found = temperature_scale(honest * truth, outcomes)
    assert found == pytest.approx(truth, rel=0.05)
    assert ece(1 / (1 + np.exp(-honest * truth / found)), outcomes) < 0.02


def test_bad_input_is_refused() -> None:
    for p, y in (([1.2], [1]), ([0.5], [2]), ([], []), ([0.5], [1, 0])):
        with pytest.raises(ValueError):
            brier(p, y)
    with pytest.raises(ValueError, match="logits"):
        temperature_scale([np.inf], [1])
