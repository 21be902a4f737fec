"""The page: hostile text, self-containment, absence, determinism."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_sample import HOSTILE_NAME, SCRIPT, sample

from heedful.errors import FileProblem
from heedful.maths.statistics import Interval, wilson
from heedful.records import Verdict
from heedful.report.build import build_report, interval, named, number, render_report, reward_name, sentence, verdict_level
from heedful.report.data import MeasureRow, ReportData

VOID = {"meta", "br", "img", "link"}
SECTIONS = ["verdict", "numbers", "labelers", "reward", "curves", "kl", "toxicity", "hacking", "side-by-side", "settings", "provenance"]


class Page(HTMLParser):
    """Tags, attributes, ids and text of a page; fails on a tag that is not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def values(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(sample())


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_hostile_text_is_shown_and_never_markup(page: Page, html: str) -> None:
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    text = "".join(page.text)
    assert text.count(SCRIPT) >= 4, "verdict, phrase, completion and settings show it as text"
    assert HOSTILE_NAME in text
    assert "{{ 7 * 7 }}" in text, "a completion is not a template"


def test_the_page_needs_nothing_from_elsewhere(page: Page, html: str) -> None:
    assert html.startswith("<!doctype html>")
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    references = page.values("src") + page.values("href") + page.values("xlink:href") + re.findall(r"url\(([^)]*)\)", html)
    assert references, "figures refer to their own markers"
    assert all(reference.startswith("#") for reference in references)
    assert "default-src 'none'" in html
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_every_section_is_there_once_and_in_order(page: Page) -> None:
    ids = page.values("id")
    assert [i for i in ids if i in SECTIONS] == SECTIONS
    assert len(ids) == len(set(ids)), "ids of the figures do not clash"
    assert page.tags.count("svg") == 6
    targets = {reference[1:] for reference in page.values("xlink:href")}
    assert targets <= set(ids), "markers are found after renaming"


def test_an_empty_report_says_in_a_sentence_what_is_absent() -> None:
    html = render_report(ReportData("Nothing yet", Verdict("Nothing was run.", [])))
    page = Page(html)
    assert [i for i in page.values("id") if i in SECTIONS] == SECTIONS
    sentences = re.findall(r'class="absent">([^<]+)<', html)
    assert len(sentences) == len(SECTIONS) - 1
    assert all(sentence.endswith(".") for sentence in sentences)
    assert "svg" not in page.tags


@pytest.mark.parametrize("part", ["labelers", "reward", "history", "hacking", "side_by_side", "comparison", "toxicity"])
def test_each_part_may_be_absent_alone(part: str) -> None:
    values = sample().to_dict()
    del values[part]
    page = Page(render_report(ReportData.from_dict(values)))
    assert [i for i in page.values("id") if i in SECTIONS] == SECTIONS


def test_sparse_rows_are_shown_rather_than_refused() -> None:
    rows: dict[str, Any] = {"labelers": [{}], "reward": {"ece": None}, "history": [{}], "hacking": {"level": "fine"}, "side_by_side": [{}]}
    data = ReportData("Sparse", Verdict("x", []), **rows)
    page = Page(render_report(data))
    assert [i for i in page.values("id") if i in SECTIONS] == SECTIONS


def test_the_same_data_gives_the_same_page(html: str) -> None:
    assert render_report(sample()) == html
    assert render_report(ReportData.from_dict(sample().to_dict())) == html


def test_a_reward_model_no_better_than_length_is_cautioned(html: str) -> None:
    assert "not clearly better" not in html
    weak = sample().to_dict() | {"reward": {"accuracy": wilson(52, 100).to_dict(), "beats_longer_wins": False}}
    assert "not clearly better" in render_report(ReportData.from_dict(weak))


def test_numbers_are_written_for_people() -> None:
    shown = [0, 1234567, 0.0336, -0.002, 3.14159, 412.5, 99999.5, 1e-9, float("nan"), True]
    assert [number(value) for value in shown] == ["0", "1,234,567", "0.0336", "−0.00200", "3.14", "412", "100,000", "1.00e−09", "–", "True"]
    assert interval(Interval(0.034, 0.031, 0.037)) == "0.0340 [0.0310, 0.0370]"
    assert interval(Interval(-0.17, -0.25, -0.09), relative=True) == "−17.0 % [−25.0 %, −9.0 %]"


def test_a_percentage_is_never_written_without_its_interval() -> None:
    assert interval(Interval(-0.17), relative=True) == "–"
    assert interval(None, relative=True) == "–"


def test_outcome_follows_the_direction_and_the_interval() -> None:
    zero, fell = Interval(0, 0, 0), Interval(-1, -2, -0.5)
    assert MeasureRow("x", zero, zero, fell, higher_is="worse").outcome == "better"
    assert MeasureRow("x", zero, zero, fell, higher_is="better").outcome == "worse"
    assert MeasureRow("x", zero, zero, Interval(-1, -2, 0), higher_is="worse").outcome == "unclear"
    assert MeasureRow("x", zero, zero, fell, higher_is="neither").outcome == "unclear"


def test_it_is_written_whole_and_a_bad_path_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "report.html"
    digest = build_report(sample(), path)
    assert len(digest) == 64
    assert "? half a surrogate" in path.read_text(encoding="utf-8")
    with pytest.raises(FileProblem, match="deep"):
        build_report(sample(), tmp_path / "deep")


def test_reports_and_evaluation_load_without_torch() -> None:
    modules = [
        "report.build",
        "report.card",
        *(f"evaluation.{m}" for m in ("compare", "diversity", "judge", "overlap", "overoptimisation", "toxicity")),
    ]
    imports = "; ".join(f"import heedful.{module}" for module in modules)
    check = "bad = [m for m in ('torch', 'rouge_score', 'matplotlib.pyplot') if m in sys.modules]; assert not bad, bad"
    subprocess.run([sys.executable, "-c", f"import sys; {imports}; {check}"], check=True)


def test_the_verdict_is_green_only_where_something_improved_and_the_reward_is_more_than_length() -> None:
    better, worse = (MeasureRow("score", Interval(0.0), Interval(d), Interval(d, d - 0.1, d + 0.1)) for d in (1.0, -1.0))
    fine = {"level": "fine", "sentence": "", "evidence": []}
    told = Verdict("", [])
    assert verdict_level(ReportData("t", told, comparison=[better], hacking=fine)) == "fine"
    assert verdict_level(ReportData("t", told, comparison=[worse], hacking=fine)) == "warn"
    assert verdict_level(ReportData("t", told, comparison=[better], hacking=fine, reward={"beats_longer_wins": False})) == "warn"
    assert verdict_level(ReportData("t", told, comparison=[better], hacking={**fine, "level": "hacking"})) == "hacking"


def test_headings_are_words() -> None:
    assert named("toxicity_difference_ci") == "Change of the mean toxicity"
    assert reward_name("nll after temperature scaling") == "Negative log-likelihood (nats) after temperature scaling"
    assert sentence("the score rose") == "The score rose"
