"""What people said, from a store or from a file, for whoever looks at it outside a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.errors import SettingProblem
from heedful.feedback.criteria import Criterion, criterion_named
from heedful.feedback.said import Said, known_answers, said_in, words_of

if TYPE_CHECKING:
    from heedful.pairs.formats.judgements import Gathered
    from heedful.store import Store

ROWS = (".jsonl", ".json", ".csv", ".parquet", ".gz")
"""Endings of files that are rows, and no store."""
_SQLITE = b"SQLite format 3\0"


def read_said(
    source: str, project: str = "", criterion: Criterion | None = None, labelers: Path | None = None, *, warn: Callable[[str], None]
) -> Said:
    """What people said, by the file or URL of a store, or from a file of judgements as JSON lines.

    ``project`` may be left out where the store has but one, ``criterion`` where the file's
    judgements are all by one that is built in. ``labelers``: rows of who they are, for a file
    without them. ``warn`` hears what opening a store has to say.

    Raises SettingProblem where that is not so, and what reading raises.
    """
    file = rows_file(source)
    return _of_store(source, project, criterion, warn) if file is None else _of_file(file, criterion, labelers)


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


def _of_store(where: str, name: str, criterion: Criterion | None, warn: Callable[[str], None]) -> Said:
    from heedful.store import Store

    with Store.open(where, actor="heed feedback", warn=warn) as store:
        found = said_in(store, project_of(store, name))
    judged = found.criterion
    if criterion and criterion.name != judged.name:
        raise SettingProblem(f"project {found.name!r} is about {judged.name!r}, not {criterion.name!r}", "Leave --criterion out.")
    if criterion and criterion.higher_is != judged.higher_is:
        raise SettingProblem(
            f"in project {found.name!r} more {judged.name} is {judged.higher_is}, not {criterion.higher_is}",
            "Leave --criterion and --higher-is out.",
        )
    return found


def _of_file(path: Path, criterion: Criterion | None, labelers: Path | None) -> Said:
    from heedful.pairs.formats import rankings
    from heedful.pairs.formats.judgements import gather

    found = gather(rankings.read(path))
    if labelers:
        gather(rankings.read(labelers, default="labeler"), found)
    return said_of(found, path.name, criterion or only_criterion(path, {row.criterion for row in found.judgements}))


def said_of(found: Gathered, name: str, criterion: Criterion) -> Said:
    """What was said by one criterion, of everything that was gathered from files."""
    from heedful.pairs.convert import about

    return Said(
        name,
        criterion,
        [row for row in found.rankings if row.criterion == criterion.name],
        about(found.thumbs, criterion.name),
        about(found.corrections, criterion.name),
        list(found.labelers.values()),
        words_of(found.completions.values()),
        known_answers(found.prompts.values(), criterion),
    )


def only_criterion(path: Path, names: set[str]) -> Criterion:
    """The built-in criterion that a file's judgements are by. Raises SettingProblem where they are by several, or by another."""
    named = sorted(names - {""})
    if len(named) > 1:
        raise SettingProblem(f"{path} holds judgements by {', '.join(named)}", "Choose one with --criterion.")
    return criterion_named(named[0]) if named else criterion_named("helpfulness")
