"""Figures of feedback: valid, the same twice, true to their rows, and silent about small groups."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import feedback_sample as sample
import pytest
from report_sample import HOSTILE_NAME

from heedful.report import feedback_figures as figures
from heedful.report.drawing import INK, THIRD

RELIABLE = [
    {"labeler": "ada", "reliability": 0.7, "reliability_low": 0.55, "reliability_high": 0.8, "judgements": 90},
    {"labeler": "uma", "reliability": -0.6, "reliability_low": -0.75, "reliability_high": -0.4, "judgements": 40, "flagged": True},
    {"labeler": "new", "reliability": None},
]

DRAWN: dict[str, Callable[[], str]] = {
    "labelers": lambda: figures.labeler_agreement(sample.labelers()),
    "reliability": lambda: figures.labeler_reliability(RELIABLE),
    "coverage": lambda: figures.coverage(sample.strata()),
    "calibration": lambda: figures.consensus_calibration(sample.calibration()),
    "time": lambda: figures.judgements_over_time(sample.days()),
}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", DRAWN)
def test_each_is_valid_themed_and_the_same_twice(name: str) -> None:
    svg = DRAWN[name]()
    root = ElementTree.fromstring(svg)
    assert root.get("aria-label")
    assert svg == DRAWN[name]()
    assert "currentColor" in svg
    assert INK not in svg


def test_hostile_names_are_text() -> None:
    rows = [*sample.labelers(), {"labeler": HOSTILE_NAME, "agreement": 0.5}, {"labeler": "$\\frac{$", "agreement": 0.6}]
    found = texts(figures.labeler_agreement(rows))
    assert HOSTILE_NAME[:20] in "".join(found)
    assert "<img" not in figures.labeler_agreement(rows)
    assert "$\\frac{$" in found
    assert any(text.startswith("王小明 (") for text in found)
    assert HOSTILE_NAME[:10] in "".join(texts(figures.coverage([{"stratum": "s", "group": HOSTILE_NAME, "people": 9}])))


def test_the_lowest_labeler_comes_first_and_names_are_cut() -> None:
    rows = [{"labeler": f"labeler {i}", "agreement": 0.5 + i / 100} for i in range(40)] + [{"labeler": "x" * 60, "agreement": 0.1}]
    found = texts(figures.labeler_agreement(rows))
    assert "x" * 21 + "…" in found
    assert "labeler 28" in found
    assert "labeler 29" not in found, "thirty in all"


def test_the_published_band_and_who_stands_out() -> None:
    svg = DRAWN["labelers"]()
    assert "published labelers, 72 to 77 %" in texts(svg)
    assert "to look at" in texts(svg)
    plain = figures.labeler_agreement([{"labeler": "a", "agreement": 0.7, "note": "agrees with the others", "flagged": False}])
    assert "to look at" not in texts(plain)
    assert THIRD in svg
    assert THIRD not in plain


def test_small_groups_are_not_told() -> None:
    found = texts(DRAWN["coverage"]())
    assert {"language: native", "31", "age: 18-29", "22", "age: 3 groups", "12 together", "region: 2 groups", "44 together"} <= set(found)
    for hidden in ("60+", "Africa", "Europe", "45-59", "41", "8"):
        assert not any(hidden == text or f": {hidden}" in text for text in found)
    few = texts(figures.coverage([{"stratum": "age", "group": "60+", "people": 3}]))
    assert {"age: 1 small group", "fewer than 5"} <= set(few)


def test_the_calibration_is_drawn_from_what_is_there() -> None:
    assert "0.4" in texts(DRAWN["calibration"]()), "from below the lowest interval"
    low = figures.consensus_calibration([{"predicted": 0.05, "observed": 0.1}])
    assert "0.0" in texts(low)
    assert "held-out labelers, 95 %" in texts(low)


def test_days_become_weeks_and_gaps_are_days_without_judgements() -> None:
    assert "a day" in texts(DRAWN["time"]())
    assert "a week" in texts(figures.judgements_over_time(sample.days(200)))
    two = figures.judgements_over_time([{"day": "2025-03-01", "judgements": 3}, {"day": "2025-03-09T10:00:00+00:00", "judgements": 4}])
    assert 'aria-label="7 judgements over 9 days"' in two


def test_nothing_to_draw_is_an_empty_string() -> None:
    assert figures.labeler_agreement([{"labeler": "a"}]) == ""
    assert figures.coverage([]) == figures.coverage([{"stratum": "s", "group": "g", "people": None}]) == ""
    assert figures.coverage([{"stratum": "s", "group": "g", "people": 0}]) == ""
    assert figures.consensus_calibration([{"predicted": 0.5}]) == ""
    assert figures.judgements_over_time([{"day": "2025-03-01", "judgements": 3}, {"day": "soon", "judgements": 3}]) == ""


def test_groups_stand_in_order_and_one_alone_is_not_drawn() -> None:
    share = {"estimate": 0.7, "low": 0.6, "high": 0.8}
    rows = [
        {"kind": "all", "of": "all", "decisions": 120, "agreement": share},
        {"kind": "stratum", "of": "age: <b>", "decisions": 0, "agreement": None},
        {"kind": "again", "of": "the same labeler again", "decisions": 40, "agreement": share},
    ]
    found = texts(figures.group_agreement(rows))
    assert [text for text in found if "(" in text and "shared" not in text] == ["all (120)", "the same labeler again (40)"]
    assert "published labelers, 72 to 77 %" in found
    assert figures.group_agreement(rows[:2]) == ""


def test_reliability_stands_beside_guessing_the_lowest_first() -> None:
    svg = figures.labeler_reliability(RELIABLE)
    found = texts(svg)
    assert [text for text in found if text.endswith(("(40)", "(90)"))] == ["uma (40)", "ada (90)"]
    assert {"guessing", "to look at", "(judgements in brackets)"} <= set(found)
    assert "published labelers, 72 to 77 %" not in found, "that is agreement"
    assert 'aria-label="Reliability of 2 labelers, with intervals"' in svg
    assert figures.labeler_reliability([{"labeler": "new"}]) == ""
    without = [{key: value for key, value in row.items() if "_" not in key} for row in RELIABLE]
    assert svg.count("stroke-linecap: round") == figures.labeler_reliability(without).count("stroke-linecap: round") + 2, "two intervals"
