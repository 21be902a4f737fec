"""Intervals against hand-worked numbers, statsmodels and their own coverage."""

from __future__ import annotations

import time

import numpy as np
import pytest

from heedful.maths.statistics import (
    Interval,
    bootstrap,
    cluster_means,
    mcnemar_exact,
    minimum_detectable_difference,
    paired_bootstrap,
    paired_change,
    ratio_interval,
    share_interval,
    wilson,
)


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 10), (10, 10), (62, 100), (1999, 2000)])
def test_wilson_equals_statsmodels(successes: int, n: int) -> None:
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    low, high = proportion.proportion_confint(successes, n, method="wilson")
    interval = wilson(successes, n)
    assert interval.low == pytest.approx(low, abs=1e-12)
    assert interval.high == pytest.approx(high, abs=1e-12)
    assert interval.low <= interval.estimate <= interval.high


def test_wilson_by_hand() -> None:
    # Nothing of ten: the upper end is z^2 / (n + z^2) = 3.841459 / 13.841459.
    assert wilson(0, 10).high == pytest.approx(3.841458821 / 13.841458821, abs=1e-9)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (3, 2), (-1, 4)])
def test_wilson_refuses_what_is_no_proportion(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="no proportion"):
        wilson(successes, n)


def test_bca_follows_efrons_formula() -> None:
    """The same resamples through an independent writing of Efron 1987, with the jackknife in closed form for a mean."""
    from scipy.stats import norm

    x = np.random.default_rng(5).exponential(size=60)
    means = np.concatenate([x[np.random.default_rng(seed).integers(0, 60, (2000, 60))].mean(1) for seed in range(20)])
    bias = norm.ppf(np.mean(means < x.mean()))
    pulls = x.mean() - x
    acceleration = -np.sum(pulls**3) / (6 * np.sum(pulls**2) ** 1.5)
    z = norm.ppf([0.025, 0.975])
    levels = norm.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
    interval = paired_bootstrap(x)
    # Two sets of some ten thousand resamples agree to a few per cent of the width.
    assert [interval.low, interval.high] == pytest.approx(np.quantile(means, levels), abs=0.03 * (interval.high - interval.low))
    assert paired_bootstrap(x, method="percentile").high < interval.high, "BCa moves towards the long tail"


def test_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = sum(paired_bootstrap(rng.exponential(size=80), resamples=999).contains(1.0) for _ in range(300))
    assert 0.90 <= hits / 300 <= 0.98


def test_bootstrap_is_seeded_and_fast() -> None:
    x = np.random.default_rng(1).normal(size=2000)
    paired_bootstrap(x[:10])
    start = time.process_time()
    first = paired_bootstrap(x)
    assert time.process_time() - start < 1
    assert first == paired_bootstrap(x)
    assert first != paired_bootstrap(x, seed=1)


def test_bootstrap_of_equal_one_and_no_values() -> None:
    assert paired_bootstrap([0.3, 0.3, 0.3]) == Interval(0.3, 0.3, 0.3)
    one = paired_bootstrap([0.3])
    assert not one.bounded
    assert one.contains(1e9)
    for bad in ([], [1.0, float("nan")], [[1.0, 2.0]]):
        with pytest.raises(ValueError):
            paired_bootstrap(bad)
    with pytest.raises(ValueError, match="one length"):
        bootstrap([[1.0, 2.0], [1.0]], np.mean)


def test_ratio_by_hand_and_suppressed_when_the_baseline_touches_zero() -> None:
    before = np.linspace(1, 3, 50)
    halved = ratio_interval(before, before / 2)
    assert halved is not None
    assert [halved.estimate, halved.low, halved.high] == pytest.approx([-0.5, -0.5, -0.5])
    assert ratio_interval(before - 2, before) is None
    assert ratio_interval([1.0], [2.0]) is None
    # A negative baseline: the sign is that of the change, not of the quotient.
    risen = ratio_interval(-before, -before / 2)
    assert risen is not None
    assert risen.estimate == pytest.approx(0.5)


def test_pairing_narrows_the_difference() -> None:
    rng = np.random.default_rng(2)
    prompts = rng.normal(5, 2, 200)
    change = paired_change(prompts, prompts - 0.1 + rng.normal(0, 0.05, 200))
    assert change.difference.high < 0, "found although each mean is unsure by far more"
    assert change.after.contains(change.before.estimate)
    assert change.difference.estimate == pytest.approx(change.after.estimate - change.before.estimate)
    assert change.prompts == 200


def test_cluster_means_are_in_order_of_appearance() -> None:
    assert cluster_means([1.0, 5.0, 3.0, 7.0], ["b", "a", "b", "b"]).tolist() == pytest.approx([11 / 3, 5.0])
    with pytest.raises(ValueError, match="clusters"):
        cluster_means([1.0], ["a", "b"])


def test_mcnemar_by_hand() -> None:
    # Five prompts lost, one won: 2 * (C(6,0) + C(6,1)) / 2^6 = 14 / 64; those that did not change do not count.
    before = [True] * 5 + [False] + [True] * 4
    after = [False] * 5 + [True] + [True] * 4
    assert mcnemar_exact(before, after) == pytest.approx(14 / 64)
    assert mcnemar_exact([True, False], [True, False]) == 1.0


def test_detectable_difference_gives_the_numbers_of_the_toxicity_study() -> None:
    # Per-prompt sd 0.040: a drop of 0.0062 needs about 330 prompts, one of 0.0036 about 970.
    assert minimum_detectable_difference(0.040, 327) == pytest.approx(0.0062, rel=0.01)
    assert minimum_detectable_difference(0.040, 970) == pytest.approx(0.0036, rel=0.01)


def test_a_share_without_spread_is_not_certain() -> None:
    assert share_interval([0.0] * 20) == wilson(0, 20)
    assert share_interval([0.0, 1.0] * 10) == paired_bootstrap([0.0, 1.0] * 10)
    with pytest.raises(ValueError, match="0 to 1"):
        share_interval([1.2, 0.1])


def test_intervals_survive_json() -> None:
    for interval in (Interval(1.0, 0.5, 1.5), Interval(2.0)):
        assert Interval.from_dict(interval.to_dict()) == interval
    assert Interval(2.0).to_dict() == {"estimate": 2.0, "low": None, "high": None}
