"""Figures: valid, deterministic, themed, and absent without data."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import matplotlib
import pytest
from report_sample import sample

from heedful.maths.statistics import Interval
from heedful.report import figures
from heedful.report.data import MeasureRow
from heedful.report.drawing import INK

DATA = sample()
DRAWN: dict[str, Callable[[], str]] = {
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
    assert INK not in svg
    assert "var(--grid, #" in svg


def test_nothing_to_draw_is_an_empty_string() -> None:
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
