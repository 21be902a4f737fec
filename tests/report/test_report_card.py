"""The model card: valid front matter, hostile text, nothing quoted."""

from __future__ import annotations

import json
from pathlib import Path

from report_sample import SCRIPT, sample

from heedful.records import Verdict
from heedful.report.card import build_card, escape, render_card
from heedful.report.data import ReportData


def test_front_matter_and_numbers_with_intervals() -> None:
    card = render_card(sample())
    _, front, body = card.split("---\n", 2)
    values = dict(line.split(": ", 1) for line in front.strip().splitlines())
    assert json.loads(values["base_model"]) == "summarizer"
    assert json.loads(values["library_name"]) == "transformers"
    row = next(line for line in body.splitlines() if line.startswith("| Mean toxicity"))
    assert row.count("\\[") == 4
    assert row.endswith("| better |")


def test_hostile_text_is_not_markup_and_completions_stay_out() -> None:
    card = render_card(sample())
    assert "<script" not in card
    assert "summaries &lt;b&gt;" in card
    assert "so stupid" not in card
    assert SCRIPT not in card


def test_every_special_character_is_escaped() -> None:
    assert escape("a|b\n*c* [x](y) <b>") == r"a\|b \*c\* \[x\](y) &lt;b&gt;"


def test_an_empty_card_says_so_and_is_written(tmp_path: Path) -> None:
    data = ReportData("Bare", Verdict("Nothing was run.", []))
    build_card(data, tmp_path / "README.md")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "were not compared" in text
    assert "not looked for" in text
    assert "Nothing was recorded." in text
