"""Agreement of a panel: equal to the plain coefficients, honest intervals, strata and versions."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kendalltau

from heedful.errors import DataProblem
from heedful.feedback.agreement import ALERT_BELOW, PUBLISHED, agreement_by_stratum, agreement_by_version, panel_agreement
from heedful.feedback.criteria import CRITERIA
from heedful.maths.agreement import kendall_w, krippendorff_alpha
from heedful.records import Labeler, Ranking

HELPFULNESS = CRITERIA["helpfulness"]


def panel_of(spread: np.ndarray, prompts: int, seed: int, each: int | None = None, size: int = 4) -> list[Ranking]:
    """Rankings by labelers whose errors have these standard deviations; ``each`` of them, or all, on every prompt."""
    random = np.random.default_rng(seed)
    rows = []
    for p in range(prompts):
        quality = random.normal(size=size)
        for who in random.choice(len(spread), each or len(spread), replace=False):
            seen = np.round(quality + spread[who] * random.normal(size=size), 0)
            ranks = (1 + (seen[None, :] > seen[:, None]).sum(axis=1)).tolist()
            rows.append(Ranking(f"p{p}", f"l{who:02}", [f"p{p}c{k}" for k in range(size)], ranks, "helpfulness", "v1"))
    return rows


def test_alpha_and_tau_b_equal_the_plain_coefficients() -> None:
    rows = panel_of(np.array([0.3, 0.8, 1.5]), 40, 0)
    found = panel_agreement(rows, HELPFULNESS, resamples=10)
    by_prompt = [np.array([r.ranks for r in rows[start : start + 3]], dtype=float) for start in range(0, len(rows), 3)]
    middles = [np.array([[(row < x).sum() + ((row == x).sum() + 1) / 2 for x in row] for row in three]) for three in by_prompt]
    assert found.alpha == pytest.approx(krippendorff_alpha(np.hstack(middles), "ordinal"))
    taus = [kendalltau(a, b).statistic for three in by_prompt for a, b in combinations(three, 2)]
    assert found.tau_b == pytest.approx(np.nanmean(taus))
    one = panel_agreement(rows[:3], HELPFULNESS, resamples=1)
    assert one.w == pytest.approx(kendall_w(by_prompt[0]))


def test_intervals_over_prompts_and_labelers_hold_the_truth() -> None:
    """Labelers are drawn, too: an interval over prompts alone would be far too short here."""
    truth = panel_agreement(
        panel_of(np.random.default_rng(99).choice([0.2, 2.5], 150), 1500, 99, each=3), HELPFULNESS, resamples=1
    ).agreement
    inside = 0
    for seed in range(40):
        spread = np.random.default_rng(seed).choice([0.2, 2.5], 12)
        found = panel_agreement(panel_of(spread, 60, seed, each=3), HELPFULNESS, resamples=200)
        inside += found.low <= truth <= found.high
    assert inside >= 34


def test_nobody_read_anything() -> None:
    found = panel_agreement(panel_of(np.full(3, 1e6), 300, 1), HELPFULNESS)
    assert found.low < 0.5 < found.high
    assert found.alpha == pytest.approx(0, abs=0.06)
    assert found.alert
    assert "Below 65%" in found.sentence


def test_an_f_takes_no_part_and_the_published_band_is_told() -> None:
    rows = panel_of(np.array([0.0, 0.0]), 30, 2)
    odd = [replace(r, ranks=[None, *r.ranks[1:]]) if r.labeler == "l01" else r for r in rows]
    found = panel_agreement(odd, HELPFULNESS)
    assert (found.agreement, found.alert) == (1.0, False)
    assert found.pairs < panel_agreement(rows, HELPFULNESS).pairs
    assert f"{PUBLISHED[0]:.0%} to {PUBLISHED[1]:.0%}" in found.sentence


def test_few_prompts_alone_are_no_alarm() -> None:
    """The estimate decides, not the end of an interval that is wide because little has been judged."""
    found = panel_agreement(panel_of(np.full(3, 1.2), 12, 5), HELPFULNESS)
    assert found.low < ALERT_BELOW < found.agreement
    assert not found.alert
    assert "look at the instructions" not in found.sentence


def test_by_version_and_by_stratum() -> None:
    rows = [replace(r, instructions_version="v2") if int(r.prompt_id[1:]) >= 20 else r for r in panel_of(np.array([0.1, 0.1, 9, 9]), 40, 3)]
    versions = agreement_by_version(rows, HELPFULNESS)
    assert [(name, found.prompts) for name, found in versions.items()] == [("v1", 20), ("v2", 20)]
    people = [Labeler(f"l0{n}", "person", {"age": "18-29" if n < 2 else "30-44"}) for n in range(4)]
    strata = agreement_by_stratum(rows, HELPFULNESS, people)
    assert list(strata) == ["age: 18-29", "age: 30-44"]
    assert strata["age: 18-29"].low > strata["age: 30-44"].high


def test_nothing_shared_and_nobody_left() -> None:
    alone = panel_agreement([Ranking("p", "x", ["a", "b"], [1, 2], "helpfulness", "v")], HELPFULNESS)
    assert (alone.pairs, alone.alpha, alone.tau_b, alone.w, alone.alert) == (0, None, None, None, False)
    assert "not known" in alone.sentence
    with pytest.raises(DataProblem, match="no rankings"):
        panel_agreement([Ranking("p", "x", ["a", "b"], [1, 2], "helpfulness", "v")], HELPFULNESS, exclude=["x"])
