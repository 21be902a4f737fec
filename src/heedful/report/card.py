"""A short model card: the README.md that travels with an aligned model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from heedful.records import write_atomically
from heedful.report.build import flatten, interval, outcome, shown
from heedful.report.data import MeasureRow, ReportData

SPECIAL = re.compile(r"([\\`*_\[\]<>|#~!$])")


def build_card(data: ReportData, path: Path) -> str:
    """Write the card to ``path``, all or nothing, and return its sha256."""
    return write_atomically(path, render_card(data).encode("utf-8", "replace"))


def render_card(data: ReportData) -> str:
    """The card as Markdown, with the front matter that model hubs read. No completion is quoted in it."""
    parts = [
        _front_matter(data),
        f"# {escape(data.title)}",
        _verdict(data),
        "## What changed\n\n" + _table([*data.comparison, *data.toxicity]),
        "## Reward hacking\n\n" + escape(data.hacking.get("sentence") or "It was not looked for."),
        "## How it was made\n\n" + _list([*flatten(data.to_dict()["summary"]), *flatten(data.to_dict()["provenance"])]),
        "## Limits\n\nThe numbers hold for the held-out prompts of this run, its labelers and its criterion. "
        "A reward model stands in for people and can be wrong where it was not trained.",
    ]
    return "\n\n".join(parts) + "\n"


def escape(text: Any) -> str:
    """Text on one line in which no character is Markdown or HTML."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split())).replace("\\<", "&lt;").replace("\\>", "&gt;")


def _front_matter(data: ReportData) -> str:
    values: dict[str, Any] = {"library_name": "transformers", "tags": ["heedful", "alignment"]}
    if base := data.provenance.get("base_model"):
        values["base_model"] = str(base)
    # A JSON value is a YAML value, so quoting needs no library.
    return "\n".join(["---", *(f"{key}: {json.dumps(value)}" for key, value in values.items()), "---"])


def _verdict(data: ReportData) -> str:
    return "\n".join([f"**{escape(data.verdict.sentence)}**", "", *(f"- {escape(line)}" for line in data.verdict.evidence)]).strip()


def _table(rows: list[MeasureRow]) -> str:
    if not rows:
        return "The models before and after were not compared."
    lines = ["| measure | before | after | difference | relative | |", "| --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        cells = [
            row.name,
            interval(row.before),
            interval(row.after),
            interval(row.difference),
            interval(row.relative, relative=True),
            outcome(row),
        ]
        lines.append("| " + " | ".join(escape(cell) for cell in cells) + " |")
    return "\n".join([*lines, "", "Brackets are 95 % intervals over prompts; differences are paired by prompt."])


def _list(rows: list[tuple[str, Any]]) -> str:
    return "\n".join(f"- {escape(name)}: {escape(shown(value))}" for name, value in rows) or "Nothing was recorded."
