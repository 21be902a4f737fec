"""Bradley-Terry: golden numbers, finite differences, recovery of known strengths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from heedful.maths.rankings import bradley_terry_strengths, derivatives, log_posterior


def test_golden(shared: Path) -> None:
    for case in json.loads((shared / "golden" / "bradley_terry.json").read_text())["cases"]:
        assert bradley_terry_strengths(**case["inputs"]) == pytest.approx(case["expected"], abs=1e-6)


def test_two_items_by_hand() -> None:
    # Three wins to one: strengths differ by log 3.
    assert bradley_terry_strengths(2, [(0, 1), (0, 1), (0, 1), (1, 0)], 0.0) == pytest.approx([np.log(3) / 2, -np.log(3) / 2])


def test_derivatives_against_finite_differences() -> None:
    generator = np.random.default_rng(0)
    table, strengths = generator.integers(0, 5, (4, 4)).astype(float), generator.normal(size=4)
    np.fill_diagonal(table, 0)
    slope, curvature = derivatives(strengths, table, 0.3)
    assert slope == pytest.approx(approx_fprime(strengths, lambda s: log_posterior(s, table, 0.3), 1e-7), abs=1e-4)
    assert curvature == pytest.approx(approx_fprime(strengths, lambda s: derivatives(s, table, 0.3)[0], 1e-7), abs=1e-4)


def test_known_strengths_are_recovered() -> None:
    generator = np.random.default_rng(1)
    truth = np.array([1.5, 0.5, 0.0, -0.5, -1.5])
    meetings = [tuple(generator.choice(5, 2, replace=False)) for _ in range(8000)]
    wins = [(a, b) if generator.random() < 1 / (1 + np.exp(truth[b] - truth[a])) else (b, a) for a, b in meetings]
    assert bradley_terry_strengths(5, wins, 0.0) == pytest.approx(truth, abs=0.15)


def test_the_unbeaten_need_a_prior() -> None:
    with pytest.raises(ValueError, match="alpha"):
        bradley_terry_strengths(3, [(0, 1), (1, 2)], 0.0)
    strengths = bradley_terry_strengths(3, [(0, 1), (1, 2)], 0.1)
    assert np.isfinite(strengths).all()
    assert list(np.argsort(-strengths)) == [0, 1, 2]
    assert bradley_terry_strengths(3, [], 0.1) == pytest.approx([0, 0, 0])


def test_long_winning_streaks_converge() -> None:
    strengths = bradley_terry_strengths(4, [(0, 1)] * 5000 + [(1, 2)] * 5000 + [(2, 3)] * 5000, 1e-4)
    assert np.isfinite(strengths).all()
    table = np.zeros((4, 4))
    table[0, 1] = table[1, 2] = table[2, 3] = 5000
    # Mean 0 is a shift of the maximum; undone, the slope there is 0 (strengths sum to n by the prior).
    shift = np.log(4 / np.exp(strengths).sum())
    assert derivatives(strengths + shift, table, 1e-4)[0] == pytest.approx([0] * 4, abs=1e-6)


def test_wins_that_are_none() -> None:
    for win in [(0, 0), (0, 2), (-1, 0)]:
        with pytest.raises(ValueError, match="two different items"):
            bradley_terry_strengths(2, [win], 0.1)
