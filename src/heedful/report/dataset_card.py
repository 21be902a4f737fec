"""A data set's card: the README.md that travels with pairs, with the front matter that data hubs read.

Figures are handed in; nothing is computed but how many people of a stratum may be told.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.maths.disclosure import SMALLEST, shown_cells
from heedful.maths.statistics import Interval
from heedful.records import Labeler, write_atomically
from heedful.report.card import escape

COLUMNS = {
    "prompt": "a text, or chat messages with role and content",
    "chosen": "the preferred completion",
    "rejected": "the other one",
    "p": "probability that chosen is preferred",
    "margin": "what a trainer takes off the difference of the two scores; 0 unless asked for",
    "n_for, n_against, n_tie": "labelers who prefer chosen, who prefer rejected, who prefer neither",
    "prompt_id, chosen_id, rejected_id": "where the texts come from; splits are by prompt",
    "criterion, instructions_version": "what was judged, and after reading which instructions",
    "source": "rank; flag: rejected was called nonsensical, confusing or irrelevant instead of being ranked; thumb: chosen got a thumb up "
    "and rejected one down; correction: a labeler wrote chosen in place of rejected",
    "tie": "true: neither is preferred",
}


@dataclass(frozen=True)
class DatasetFacts:
    """What a card tells.

    ``splits``: pairs and prompts by split; files are ``<split>.jsonl``. ``made``: algorithm, version,
    parameters and parents, as in ``snapshot.json``. ``counts``: other numbers by name. ``agreement``:
    figures by name, intervals where there are any. ``labelers``: people only are counted by stratum.
    ``instructions``: the text of each version; versions without one are named in ``versions``, with
    the number of judgements made after reading them.
    """

    title: str
    sha256: str
    splits: Mapping[str, Mapping[str, int]]
    made: Mapping[str, Any] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    agreement: Mapping[str, Interval | float | int | None] = field(default_factory=dict)
    labelers: Sequence[Labeler] = ()
    instructions: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, int] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    languages: Sequence[str] = ()


def write_dataset_card(facts: DatasetFacts, path: Path) -> str:
    """Write the card to ``path``, all or nothing, and return its sha256."""
    return write_atomically(path, render_dataset_card(facts).encode("utf-8", "replace"))


def render_dataset_card(facts: DatasetFacts) -> str:
    """The card as Markdown. No prompt and no completion is quoted in it, and no labeler is named."""
    splits = [[name, str(row["pairs"]), str(row["prompts"])] for name, row in facts.splits.items()]
    columns = [[f"`{name}`", words] for name, words in COLUMNS.items()]
    parts = [
        _front_matter(facts),
        f"# {escape(facts.title)}",
        "Pairs of completions to the same prompt, the preferred one first.",
        _table(["split", "pairs", "prompts"], splits),
        _table(["column", ""], columns, raw=True),
        "## How the pairs were made\n\n" + _made(facts),
        "## Who judged\n\n" + _people(facts),
        "## What they had read\n\n" + _instructions(facts),
    ]
    if facts.warnings:
        parts.append("## What to look at\n\n" + "\n".join(f"- {escape(warning)}" for warning in facts.warnings))
    parts.append("## Limits\n\nThe pairs say what these labelers preferred by this criterion, and nothing of anybody else.")
    return "\n\n".join(parts) + "\n"


def _front_matter(facts: DatasetFacts) -> str:
    files = [{"split": name, "path": f"{name}.jsonl"} for name in facts.splits]
    values: dict[str, Any] = {
        "pretty_name": facts.title,
        "task_categories": ["text-generation", "reinforcement-learning"],
        "tags": ["heedful", "preference", "rlhf", "dpo", "trl", "human-feedback"],
        "size_categories": [_size(sum(row["pairs"] for row in facts.splits.values()))],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    if facts.languages:
        values["language"] = list(facts.languages)
    # A JSON value is a YAML value, so quoting needs no library.
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "# license: yours to choose, e.g. cc-by-4.0", "---"])


def _size(pairs: int) -> str:
    """The hub's word for a number of rows."""
    names = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"]
    return names[min(max(0, int(math.log10(max(1, pairs))) - 2), len(names) - 1)]


def _made(facts: DatasetFacts) -> str:
    made = facts.made
    rows: list[tuple[str, Any]] = [("algorithm", f"{made.get('algorithm', 'unknown')}, version {made.get('version', 'unknown')}")]
    rows += [(str(name), value) for name, value in dict(made.get("parameters") or {}).items()]
    rows += [(f"sha256 of {name}", value) for name, value in dict(made.get("parents") or {}).items()]
    rows += [(name, number) for name, number in facts.counts.items()]
    listed = "\n".join(f"- {escape(name)}: {escape(value)}" for name, value in rows)
    return f"Snapshot `{facts.sha256}`; the hash is over all pairs and over how they were made.\n\n{listed}"


def _people(facts: DatasetFacts) -> str:
    figures = [[name, _figure(value)] for name, value in facts.agreement.items()]
    agreement = _table(["agreement", ""], figures) if figures else "Agreement was not measured."
    people = [labeler for labeler in facts.labelers if labeler.kind == "person"]
    kinds = Counter(labeler.kind for labeler in facts.labelers)
    told = {"person": "people", "ai": "AI judges", "simulated": "simulated labelers"}
    counted = ", ".join(f"{number} {told[kind]}" for kind, number in kinds.items()) or "It is not recorded who."
    strata = "\n\n".join(_stratum(name, people) for name in sorted({name for person in people for name in person.strata}))
    return "\n\n".join(part for part in (agreement, counted.rstrip(".") + ".", strata) if part)


def _stratum(name: str, people: Sequence[Labeler]) -> str:
    """One table; groups of fewer than five people are hidden, so that nobody is found in it."""
    cells = shown_cells(Counter(person.strata.get(name, "not stated") for person in people))
    rows = [[group, str(number)] for group, number in cells.shown.items()]
    if cells.hidden_groups:
        some = f"fewer than {SMALLEST}" if cells.hidden is None else str(cells.hidden)
        rows.append([f"{cells.hidden_groups} smaller group(s) together", some])
    return _table([name, "people"], rows)


def _instructions(facts: DatasetFacts) -> str:
    parts = []
    for version in sorted({*facts.instructions, *facts.versions}):
        number = facts.versions.get(version)
        judged = "" if number is None else f", read before {number} judgements"
        text = facts.instructions.get(version)
        # Indented, so that nothing in the text is Markdown.
        body = "\n".join(f"    {line}" for line in text.splitlines()) if text is not None else "The text is not recorded."
        parts.append(f"Version `{escape(version)}`{judged}:\n\n{body}")
    return "\n\n".join(parts) or "The instructions are not recorded."


def _figure(value: Interval | float | int | None) -> str:
    if isinstance(value, Interval):
        return f"{value.estimate:.3g} [{value.low:.3g}, {value.high:.3g}]" if value.bounded else f"{value.estimate:.3g}"
    return "unknown" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], raw: bool = False) -> str:
    cells = [header, ["---"] * len(header), *(row if raw else [escape(cell) for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)
