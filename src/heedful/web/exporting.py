"""What may be taken away from a project, as files: written beside, sent, and gone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from heedful.errors import DataProblem
from heedful.feedback import findings
from heedful.feedback.agreed import DECIDED
from heedful.feedback.labels import share_up
from heedful.feedback.said import said_in
from heedful.pairs.build import (
    from_consensus,
    from_corrections,
    from_flags,
    from_thumbs,
    pairs_from_corrections,
    pairs_from_thumbs,
    versions_read,
)
from heedful.pairs.formats import trl
from heedful.pairs.formats.files import write_rows
from heedful.store import Store, labelers
from heedful.web import analysis

Writer = Callable[[Store, str, Path], object]
SENTENCES = ("evidence", "recommendation")
NUMBERS = (
    *("judgements", "tasks", "pairs", "agreement", "low", "high", "reliability"),
    *("tie_share", "f_share", "earlier_share", "consistency", "gold", "active_s"),
)
"""Columns of the table of labelers."""


def judgement_lines(store: Store, project: str) -> Iterator[bytes]:
    """What was said by those who are not set aside, a line of JSON each, in constant memory."""
    aside = store.read(lambda c: labelers.quarantined(c, project))
    for row in (row for row in store.judgements(project) if row.labeler not in aside):
        yield json.dumps({"record": type(row).__name__.lower(), **row.to_dict()}).encode() + b"\n"


def write_pairs(store: Store, project: str, path: Path) -> object:
    """Preferences by consensus of rankings or thumbs, and corrections before what they correct, as TRL and others read them."""
    said, texts = said_in(store, project), (list(store.prompts(project)), list(store.completions(project)))
    name = said.criterion.name
    mended = pairs_from_corrections(said.counting(said.corrections), *texts, name)
    if said.on_thumbs:
        thumbs, up = said.counting(said.thumbs), share_up(findings.agree_on_thumbs(said))
        pairs = pairs_from_thumbs(thumbs, *texts, name, up, least=DECIDED)
    else:
        pairs = from_consensus(findings.agree(said), *texts, name, versions_read(said.counted)) if said.counted or not mended else []
    return trl.write_pairs(path, [*pairs, *mended])


def write_unpaired(store: Store, project: str, path: Path) -> object:
    """Completions that are wanted or not: from thumbs, or from Fs."""
    said, texts = said_in(store, project), (store.prompts(project), store.completions(project))
    if said.on_thumbs:
        return trl.write_unpaired(path, from_thumbs(said.counting(said.thumbs), *texts))
    return trl.write_unpaired(path, from_flags(said.counted, *texts, said.criterion))


def write_demonstrations(store: Store, project: str, path: Path) -> object:
    """Prompts with what should have been answered, from corrections."""
    said = said_in(store, project)
    corrections = said.counting(said.corrections)
    return trl.write_demonstrations(path, from_corrections(corrections, store.prompts(project), store.completions(project)))


def write_labelers(store: Store, project: str, path: Path) -> object:
    """What was found of each labeler, as a table that a spreadsheet opens without harm."""
    found = analysis.newest(store, project)
    if found is None:
        raise DataProblem("nothing was worked out yet", "Work the figures out first.")
    columns = ("labeler", "verdict", *SENTENCES, *NUMBERS)
    rows = [
        {"labeler": one.labeler, "verdict": one.verdict} | {name: one.details.get(name) for name in columns[2:]} for one in found.labelers
    ]
    return write_rows(path, rows, dict.fromkeys(columns, "text"))


WRITERS: dict[str, Writer] = {
    "pairs.jsonl": write_pairs,
    "unpaired.jsonl": write_unpaired,
    "demonstrations.jsonl": write_demonstrations,
    "labelers.csv": write_labelers,
}
"""Files by name; ``judgements.jsonl`` is sent as it is read."""


def written(store: Store, project: str, name: str) -> Path:
    """One of these files in a place of its own, for whoever asked to remove."""
    folder = Path(tempfile.mkdtemp(prefix="heedful-"))
    path = folder / name
    try:
        WRITERS[name](store, project, path)
    except BaseException:
        remove(path)
        raise
    return path


def remove(path: Path) -> None:
    """A file that was sent, and its folder."""
    path.unlink(missing_ok=True)
    path.parent.rmdir()
