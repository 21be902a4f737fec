"""Fitted orders and cliffs."""

from __future__ import annotations

import json

import pytest

from benchmarks import curves
from benchmarks.curves import AXES, MEASURES, judge
from benchmarks.orders import cliffs, exponent

DOUBLING = [1, 2, 4, 8, 16, 32]


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0])
def test_a_power_is_found(order):
    assert exponent(DOUBLING, [3 * x**order for x in DOUBLING]) == pytest.approx(order)


def test_a_fixed_cost_does_not_hide_a_square():
    """With the fixed cost, all points together would say 0.9."""
    assert exponent(DOUBLING, [50 + x**2 for x in DOUBLING]) > 1.3


@pytest.mark.parametrize("curve", [lambda x: 2 + 3 * x, lambda x: 100 + x, lambda x: x + x**1.3 / 10, lambda x: 5.0])
def test_a_smooth_curve_has_no_cliff(curve):
    assert cliffs(DOUBLING, [curve(x) for x in DOUBLING]) == []


@pytest.mark.parametrize("at", [2, 3, 5])
def test_a_step_is_named(at):
    """From some size on everything costs twice as much."""
    assert cliffs(DOUBLING, [(1 + x) * (2 if i >= at else 1) for i, x in enumerate(DOUBLING)]) == [at]


@pytest.mark.parametrize("at", [1, 2, 3, 5])
def test_a_point_that_stands_out_is_named(at):
    assert cliffs(DOUBLING, [(1 + x) * (2 if i == at else 1) for i, x in enumerate(DOUBLING)]) == [at]


def test_noise_is_no_cliff():
    assert cliffs(DOUBLING, [1.2, 1.8, 4.4, 7.5, 18, 28]) == []


def test_a_verdict_names_the_curve_that_grows_too_fast(capsys):
    points = [{"x": x, "sampling": 1 + x, "learning": x**2, "memory": 1.0} for x in DOUBLING]
    found = judge(AXES[0], points)
    assert {name: found[name]["as_expected"] for name in MEASURES} == {"sampling": True, "learning": False, "memory": True}
    assert "learning grows as x^2.00, expected at most x^1: MORE" in capsys.readouterr().out


def test_axes_of_earlier_runs_stay_and_are_drawn(tmp_path, monkeypatch):
    points = [{"x": x, "sampling": x, "learning": 2 * x, "memory": 1.0} for x in DOUBLING]
    monkeypatch.setattr(curves, "walk", lambda axis, quick, deadline: points)
    for axis in ("vocabulary", "prompts"):
        curves.main(["--axes", axis, "--output", str(tmp_path)])
    assert set(json.loads((tmp_path / "curves.json").read_text())) == {"vocabulary", "prompts"}
    drawn = (tmp_path / "curves.svg").read_text()
    assert all(f"<!-- {label} -->" in drawn for label in ("words in the vocabulary", "completions in the batch", "seconds"))
    assert "parameters" not in drawn
