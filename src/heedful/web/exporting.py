"""What may be taken away from a project, as files: written beside, sent, and gone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from heedful.errors import DataProblem
from heedful.feedback.agreed import DECIDED
from heedful.feedback.consensus import consensus
from heedful.feedback.criteria import Criterion
from heedful.feedback.labels import share_up, thumb_consensus
from heedful.pairs.build import from_consensus, from_corrections, from_flags, from_thumbs, pairs_from_corrections, pairs_from_thumbs
from heedful.pairs.formats import trl
from heedful.pairs.formats.files import write_rows
from heedful.records import Correction, Ranking, Thumb
from heedful.store import Store, labelers, projects
from heedful.store.reading import Judgement
from heedful.web import analysis

Writer = Callable[[Store, str, frozenset[str], Path], object]


def judgement_lines(store: Store, project: str) -> Iterator[bytes]:
    """Everything that was said, a line of JSON each, in constant memory."""
    for row in store.judgements(project):
        yield json.dumps({"record": type(row).__name__.lower(), **row.to_dict()}).encode() + b"\n"


def write_pairs(store: Store, project: str, judges: frozenset[str], path: Path) -> object:
    """Preferences by consensus of rankings or thumbs, and corrections before what they correct, as TRL and others read them."""
    criterion, rows = _criterion(store, project), _counting(store, project)
    texts = list(store.prompts(project)), list(store.completions(project))
    thumbs, corrections = [r for r in rows if isinstance(r, Thumb)], [r for r in rows if isinstance(r, Correction)]
    mended = pairs_from_corrections(corrections, *texts, criterion.name)
    if thumbs:
        up = share_up(thumb_consensus(thumbs))
        return trl.write_pairs(path, [*pairs_from_thumbs(thumbs, *texts, criterion.name, up, least=DECIDED), *mended])
    ranked = analysis.settled(_rankings(rows), judges)
    agreed = from_consensus(consensus(ranked, criterion), *texts, criterion.name) if ranked or not mended else []
    return trl.write_pairs(path, [*agreed, *mended])


def write_unpaired(store: Store, project: str, judges: frozenset[str], path: Path) -> object:
    """Completions that are wanted or not: from thumbs, or from Fs."""
    rows = _counting(store, project)
    thumbs = [row for row in rows if isinstance(row, Thumb)]
    texts = (store.prompts(project), store.completions(project))
    if thumbs:
        return trl.write_unpaired(path, from_thumbs(thumbs, *texts))
    return trl.write_unpaired(path, from_flags(analysis.settled(_rankings(rows), judges), *texts, _criterion(store, project)))


def write_demonstrations(store: Store, project: str, judges: frozenset[str], path: Path) -> object:
    """Prompts with what should have been answered, from corrections."""
    corrections = [row for row in _counting(store, project) if isinstance(row, Correction)]
    return trl.write_demonstrations(path, from_corrections(corrections, store.prompts(project), store.completions(project)))


def write_labelers(store: Store, project: str, judges: frozenset[str], path: Path) -> object:
    """What was found of each labeler, as a table that a spreadsheet opens without harm."""
    found = analysis.newest(store, project)
    if found is None:
        raise DataProblem("nothing was worked out yet", "Work the figures out first.")
    numbers = ("tasks", "pairs", "agreement", "low", "high", "reliability", "tie_share", "f_share", "earlier_share", "active_s")
    rows = [
        {"labeler": one.labeler, "finding": one.finding, "evidence": one.details.get("evidence", "")}
        | {name: one.details.get(name) for name in numbers}
        for one in found.labelers
    ]
    return write_rows(path, rows, dict.fromkeys(("labeler", "finding", "evidence", *numbers), "text"))


WRITERS: dict[str, Writer] = {
    "pairs.jsonl": write_pairs,
    "unpaired.jsonl": write_unpaired,
    "demonstrations.jsonl": write_demonstrations,
    "labelers.csv": write_labelers,
}
"""Files by name; ``judgements.jsonl`` is sent as it is read."""


def written(store: Store, project: str, judges: frozenset[str], name: str) -> Path:
    """One of these files in a place of its own, for whoever asked to remove."""
    folder = Path(tempfile.mkdtemp(prefix="heedful-"))
    path = folder / name
    try:
        WRITERS[name](store, project, judges, path)
    except BaseException:
        remove(path)
        raise
    return path


def remove(path: Path) -> None:
    """A file that was sent, and its folder."""
    path.unlink(missing_ok=True)
    path.parent.rmdir()


def _counting(store: Store, project: str) -> list[Judgement]:
    aside = store.read(lambda c: labelers.quarantined(c, project))
    return [row for row in store.judgements(project) if row.labeler not in aside and row.purpose != "repeat"]


def _rankings(rows: Iterable[Judgement]) -> list[Ranking]:
    return [row for row in rows if isinstance(row, Ranking)]


def _criterion(store: Store, project: str) -> Criterion:
    _, asked = store.read(lambda c: projects.find(c, project))
    return Criterion(asked.criterion, asked.question, asked.higher_is)
