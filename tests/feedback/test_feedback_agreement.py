"""Agreement of a panel: equal to the plain coefficients, honest intervals, strata and versions."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from scipy.stats import kendalltau

from heedful.errors import DataProblem
from heedful.feedback.agreement import (
    ALERT_BELOW,
    PUBLISHED,
    agreement_by_stratum,
    agreement_by_version,
    panel_agreement,
    self_agreement,
)
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


def twice(who: str, prompt: str, first: list[int | None], again: list[int | None]) -> list[Ranking]:
    ids = [f"{prompt}{c}" for c in "abcd"[: len(first)]]
    one = Ranking(prompt, who, ids, first, "helpfulness", "v1")
    return [one, replace(one, ranks=again, completion_ids=ids, purpose="repeat")]


def test_agreement_with_oneself_by_hand() -> None:
    """x exchanges two of three; y ties two again, which decides nothing, and gives an F, which takes no part; z judged once."""
    rows = [
        *twice("x", "p", [1, 2, 3], [1, 3, 2]),
        *twice("y", "p", [1, 2, 3], [1, 1, 2]),
        *twice("y", "q", [1, 2, 3, 4], [1, 2, 3, None]),
        *twice("z", "p", [3, 2, 1], [3, 2, 1])[:1],
    ]
    found = self_agreement(rows, HELPFULNESS, resamples=10)
    assert found
    assert (found.labelers, found.prompts, found.pairs) == (2, 2, 3 + 2 + 3)
    assert found.agreement == pytest.approx((2 + 2 + 3) / 8)
    assert found.tau_b == pytest.approx((1 / 3 + kendalltau([1, 2, 3], [1, 1, 2]).statistic + 1) / 3)
    assert self_agreement([row for row in rows if row.purpose != "repeat"], HELPFULNESS) is None
    alone = [row for row in rows if row.purpose == "repeat"]
    assert self_agreement(alone, HELPFULNESS) is None, "whose first judgement is gone is compared with nobody"


def test_a_labeler_who_meets_themselves_is_drawn_once() -> None:
    """x keeps two decisions of three, y all: with two exponential weights the share of x is uniform, and the agreement 1 - share / 3."""
    rows = [*twice("x", "p", [1, 2, 3], [1, 3, 2]), *twice("y", "p", [1, 2, 3], [1, 2, 3])]
    found = self_agreement(rows, HELPFULNESS, resamples=4000)
    assert found
    assert (found.low, found.high) == (pytest.approx(1 - 0.975 / 3, abs=0.004), pytest.approx(1 - 0.025 / 3, abs=0.004))
