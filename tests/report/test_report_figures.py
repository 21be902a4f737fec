"""Figures: valid, deterministic, themed, and absent without data."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import matplotlib
import pytest
from report_sample import HOSTILE_NAME, sample

from heedful.maths.statistics import Interval
from heedful.report import figures
from heedful.report.data import MeasureRow

DATA = sample()
DRAWN: dict[str, Callable[[], str]] = {
    "labelers": lambda: figures.labeler_agreement(DATA.labelers),
    "margin": lambda: figures.accuracy_by_margin(DATA.reward["by_margin"]),
    "reliability": lambda: figures.reliability(DATA.reward["reliability"]),
    "curves": lambda: figures.learning_curves(DATA.history),
    "kl": lambda: figures.score_against_kl(DATA.history),
    "toxicity": lambda: figures.before_and_after(DATA.toxicity),
}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]


@pytest.mark.parametrize("name", DRAWN)
def test_each_is_valid_themed_and_the_same_twice(name: str) -> None:
    svg = DRAWN[name]()
    root = ElementTree.fromstring(svg)
    assert root.tag.endswith("svg")
    assert root.get("aria-label")
    assert root.get("viewBox")
    assert svg == DRAWN[name]()
    assert "currentColor" in svg
    assert figures.INK not in svg
    assert "var(--grid, #" in svg


def test_hostile_names_are_text() -> None:
    svg = DRAWN["labelers"]()
    assert "<img" not in svg
    assert HOSTILE_NAME[:20] in "".join(texts(svg))
    assert "王小明" in texts(svg)
    formula = "$\\frac{$"
    assert formula in texts(figures.labeler_agreement([{"labeler": formula, "agreement": 0.5}]))


def test_the_lowest_labeler_comes_first_and_names_are_cut() -> None:
    rows = [{"labeler": f"labeler {i}", "agreement": 0.5 + i / 100} for i in range(40)] + [{"labeler": "x" * 60, "agreement": 0.1}]
    found = texts(figures.labeler_agreement(rows))
    assert "x" * 25 + "…" in found
    assert "labeler 28" in found
    assert "labeler 29" not in found, "thirty in all"


def test_nothing_to_draw_is_an_empty_string() -> None:
    assert figures.labeler_agreement([{"labeler": "a"}]) == ""
    assert figures.accuracy_by_margin([]) == ""
    assert figures.reliability([{"predicted": 0.5}]) == ""
    assert figures.learning_curves([{"step": 1, "score": 2.0, "kl": 0.1}]) == ""
    assert figures.score_against_kl([{"kl": 1.0}, {"kl": 2.0, "score": float("nan")}]) == ""
    assert figures.before_and_after([MeasureRow("max", Interval(0.9), Interval(0.8))]) == ""


def test_curves_are_drawn_from_what_is_there() -> None:
    assert "score" not in texts(figures.learning_curves([{"step": i, "kl": i} for i in range(3)]))
    assert "KL (nats)" not in texts(figures.learning_curves([{"step": i, "score": i} for i in range(3)]))
    assert {"score", "KL (nats)", "held-out reward model"} <= set(texts(DRAWN["curves"]()))


def test_drawing_leaves_the_settings_of_matplotlib_alone() -> None:
    before = dict(matplotlib.rcParams)
    DRAWN["kl"]()
    assert dict(matplotlib.rcParams) == before
