"""What people said, from a store or from a file, for whoever looks at it outside a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.errors import SettingProblem
from heedful.feedback.criteria import Criterion, criterion_named
from heedful.records import Completion, Labeler, Ranking, Thumb

if TYPE_CHECKING:
    from heedful.store import Snapshot, Store

ROWS = (".jsonl", ".json", ".csv", ".parquet", ".gz")
"""Endings of files that are rows, and no store."""
_SQLITE = b"SQLite format 3\0"


@dataclass(frozen=True)
class Said:
    """What was said by one criterion, in a store's project or in a file.

    ``set_aside``: whose judgements do not count by a person's decision, and why. ``words``: how many
    each completion has whose text is known. ``snapshot`` names what was taken from a store.
    """

    name: str
    criterion: Criterion
    rankings: list[Ranking]
    thumbs: list[Thumb]
    labelers: list[Labeler]
    words: dict[str, int]
    set_aside: Mapping[str, str]
    snapshot: Snapshot | None = None

    @property
    def counted(self) -> list[Ranking]:
        """The rankings of those who are not set aside."""
        return [row for row in self.rankings if row.labeler not in self.set_aside]


def read_said(source: str, project: str = "", criterion: Criterion | None = None, labelers: Path | None = None) -> Said:
    """What people said, by the file or URL of a store, or from a file of judgements as JSON lines.

    ``project`` may be left out where the store has but one, ``criterion`` where the file's
    judgements are all by one that is built in. ``labelers``: rows of who they are, for a file
    without them.

    Raises SettingProblem where that is not so, and what reading raises.
    """
    file = rows_file(source)
    return _of_store(source, project, criterion) if file is None else _of_file(file, criterion, labelers)


def project_of(store: Store, name: str) -> str:
    """The project of that name, or the only one. Raises SettingProblem where it is not clear which."""
    from heedful.store import projects

    known = store.read(projects.names)
    if not name and len(known) != 1:
        raise SettingProblem(f"{store.database.where} has {len(known)} projects", f"Name one with --project: {', '.join(known) or 'none'}.")
    return store.read(lambda c: projects.find(c, name or known[0]))[1].name


def rows_file(source: str) -> Path | None:
    """The file of judgements; ``None`` where the source is a store."""
    from heedful.store.database import sqlite_file

    file = sqlite_file(source)
    if file is None or not file.exists():
        return file if file and file.suffix in ROWS else None
    if file.is_dir():
        return file
    with file.open("rb") as handle:
        return None if handle.read(len(_SQLITE)) == _SQLITE else file


def _of_store(where: str, name: str, criterion: Criterion | None) -> Said:
    from heedful.store import Store, labelers, projects

    with Store.open(where, actor="heed feedback") as store:
        project = project_of(store, name)
        _, asked = store.read(lambda c: projects.find(c, project))
        judged = Criterion(asked.criterion, asked.question, asked.higher_is)
        if criterion and (criterion.name, criterion.higher_is) != (judged.name, judged.higher_is):
            raise SettingProblem(f"project {project!r} is about {judged.name!r}, not {criterion.name!r}", "Leave --criterion out.")
        snapshot = store.snapshot(project)
        rows = list(store.judgements(project, snapshot.event))
        return Said(
            project,
            judged,
            [row for row in rows if isinstance(row, Ranking)],
            [row for row in rows if isinstance(row, Thumb)],
            store.labelers(),
            _words(store.completions(project)),
            store.read(lambda c: labelers.quarantined(c, project)),
            snapshot,
        )


def _of_file(path: Path, criterion: Criterion | None, labelers: Path | None) -> Said:
    from heedful.pairs.formats import rankings
    from heedful.pairs.formats.judgements import gather

    found = gather(rankings.read(path))
    if labelers:
        gather(rankings.read(labelers, default="labeler"), found)
    judged = criterion or only_criterion(path, {r.criterion for r in found.rankings} | {t.criterion for t in found.thumbs})
    return Said(
        path.name,
        judged,
        [row for row in found.rankings if row.criterion == judged.name],
        [row for row in found.thumbs if row.criterion in ("", judged.name)],
        list(found.labelers.values()),
        _words(found.completions.values()),
        {},
    )


def only_criterion(path: Path, names: set[str]) -> Criterion:
    """The built-in criterion that a file's judgements are by. Raises SettingProblem where they are by several, or by another."""
    named = sorted(names - {""})
    if len(named) > 1:
        raise SettingProblem(f"{path} holds judgements by {', '.join(named)}", "Choose one with --criterion.")
    return criterion_named(named[0]) if named else criterion_named("helpfulness")


def _words(completions: Iterable[Completion]) -> dict[str, int]:
    return {c.id: len(c.text.split()) for c in completions}
