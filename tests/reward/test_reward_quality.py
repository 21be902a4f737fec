"""The figures of a reward model against numbers worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from statsmodels.stats.proportion import proportion_confint

from heedful.records import Pair
from heedful.reward.quality import accuracy_by_margin, both_sides, calibrate, calibration_figures, reward_quality

CHOSEN = np.array([2.0, 1.0, 0.0, 1.0])
REJECTED = np.array([0.0, 2.0, 0.0, 0.5])
PAIRS = [Pair("p", "a b c", "a"), Pair("p", "a b", "a b c"), Pair("p", "a b", "c d"), Pair("p", "a b", "c")]


def test_accuracy_and_lengths_by_hand():
    """Right, wrong, tie, right: 2.5 of 4. Longer wins: yes, no, tie, yes."""
    found = reward_quality(PAIRS, CHOSEN, REJECTED)
    low, high = proportion_confint(2.5, 4, method="wilson")
    for name in ("accuracy", "longer_wins"):
        assert found[name] == pytest.approx({"estimate": 0.625, "low": low, "high": high})
    assert found["shorter_wins"]["estimate"] == 0.375
    assert found["pairs"] == 4
    assert not found["beats_longer_wins"]
    assert not found["beats_length"]


def test_beating_length_is_seen_whichever_way_length_points():
    n = 200
    right, wrong = np.ones(n), np.zeros(n)
    equal = [Pair("p", "a", "b") for _ in range(n)]
    shorter = [Pair("p", "a", "b c") for _ in range(n)]
    assert reward_quality(equal, right, wrong)["beats_length"]
    found = reward_quality(shorter, right, wrong)
    assert (found["longer_wins"]["estimate"], found["shorter_wins"]["estimate"]) == (0.0, 1.0)
    assert found["beats_longer_wins"]
    assert not found["beats_length"], "always the shorter one is a rule of length too"


def test_a_rule_of_length_is_beaten_by_the_paired_difference_and_not_by_intervals_apart():
    """Of 100 pairs the longer one is chosen in 60. Right in those and in 5 more: a gain of 0.05 that no pair speaks against, though the
    two shares' own intervals overlap. Right in 60 others than the rule for the most part: the same share, and no gain at all."""
    longer = [Pair("p", "a b", "c")] * 60 + [Pair("p", "a", "b c")] * 40
    right = np.r_[np.ones(65), np.zeros(35)]
    found = reward_quality(longer, right, 1 - right)
    assert found["accuracy"]["low"] < found["longer_wins"]["high"]
    assert found["above_longer_wins"]["estimate"] == pytest.approx(0.05)
    assert found["above_shorter_wins"]["estimate"] == pytest.approx(0.25)  # 65 against 40
    assert 0 < found["above_longer_wins"]["low"] < 0.05 < found["above_longer_wins"]["high"] < 0.12
    assert found["beats_longer_wins"]
    assert found["beats_length"]
    others = reward_quality(longer, right[::-1], 1 - right[::-1])
    assert others["above_longer_wins"]["low"] < 0 < others["above_longer_wins"]["high"]
    assert not others["beats_longer_wins"]
    assert not others["beats_length"]


def test_calibration_by_hand_from_both_sides():
    gap = np.array([2.0, -1.0])
    found = calibration_figures(gap, 2.0)
    p = [1 / (1 + math.exp(-1)), 1 / (1 + math.exp(0.5))]
    assert found["nll"] == pytest.approx(-(math.log(p[0]) + math.log(p[1])) / 2)
    assert found["brier"] == pytest.approx(((1 - p[0]) ** 2 + (1 - p[1]) ** 2) / 2)
    sides, outcome = both_sides(gap / 2)
    assert sides == pytest.approx([*p, 1 - p[0], 1 - p[1]])
    assert outcome.tolist() == [1, 1, 0, 0]


def test_the_temperature_is_the_most_likely_one():
    random = np.random.default_rng(0)
    gap = random.normal(0, 3, 2000)
    flip = random.random(2000) > 1 / (1 + np.exp(-gap / 2.5))  # the truth is softer than the scores say
    gap = np.where(flip, -gap, gap)
    found = calibrate(gap, np.zeros_like(gap))
    best = minimize_scalar(lambda t: np.logaddexp(0, -gap / t).mean(), bounds=(0.1, 20), method="bounded").x
    assert found == pytest.approx(best, rel=1e-2)
    assert found == pytest.approx(2.5, rel=0.15)
    assert calibration_figures(gap, found)["nll"] < calibration_figures(gap, 1.0)["nll"]
    figures = reward_quality([Pair("p", "a", "b", prompt_id=str(i)) for i in range(2000)], gap, np.zeros_like(gap))
    assert figures["calibrated"]["temperature"] == found
    assert figures["calibrated"]["ece"] < figures["calibration"]["ece"]


def test_accuracy_by_margin_holds_every_pair_once_the_surest_last():
    gap = np.array([-0.1, 3.0, 0.2, -0.3, 5.0, 0.0, 1.0])
    right = np.array([0, 1, 1, 0, 1, 0.5, 1])
    longer = np.array([0, 1, 1, 0, 1, 0.5, 0])
    found = accuracy_by_margin(gap, right, longer, 3)
    assert [row["pairs"] for row in found] == [3, 2, 2]
    assert [row["accuracy"] for row in found] == pytest.approx([0.5, 0.5, 1.0])
    assert [row["margin"] for row in found] == [[0.0, 0.2], [0.3, 1.0], [3.0, 5.0]]
    assert [row["longer_wins"] for row in found] == pytest.approx([0.5, 0.0, 1.0])
    assert len(accuracy_by_margin(gap[:2], right[:2], longer[:2], 4)) == 2


def test_reliability_is_symmetric_and_holds_both_sides():
    gap = np.linspace(-2, 3, 40)
    found = reward_quality([Pair("p", "a", "b")] * 40, gap, np.zeros_like(gap))["reliability"]
    assert sum(row["n"] for row in found) == 80
    assert [row["predicted"] for row in found] == pytest.approx([1 - row["predicted"] for row in reversed(found)])
