"""Judgements out of a store as rows, and rankings from elsewhere into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.errors import SettingProblem
from heedful.jobs.judgements import add_unknown
from heedful.jobs.said import only_criterion
from heedful.records import Labeler

if TYPE_CHECKING:
    import sqlalchemy as sa

    from heedful.feedback.criteria import Criterion
    from heedful.pairs.convert import Choices
    from heedful.pairs.formats.judgements import Gathered, Item
    from heedful.store import Store


def export_said(store: Store, project: str, path: Path, as_of: int | None = None, strata: bool = False) -> dict[str, int]:
    """Write everything that was asked and said in a project as JSON lines, one prompt in memory at a time; returns counts by kind.

    ``strata``: also which groups of the population labelers stand for, which is personal.
    """
    from heedful.pairs.formats import rankings

    counts: Counter[str] = Counter()

    def items() -> Iterator[Item]:
        for item in _items(store, project, as_of, strata):
            counts[type(item).__name__.lower()] += 1
            yield item

    rankings.write(path, items())
    return dict(counts)


def import_said(
    where: str, path: Path, project: str, criterion: Criterion | None, choices: Choices, *, from_name: str, texts: Mapping[str, Path | None]
) -> dict[str, int]:
    """Put the rankings of a file into a store, with prompts, completions and labelers that are not there yet; all or nothing.

    Where there is no such store or project they are made. ``texts``: files of ``prompts`` and
    ``completions`` that the file itself does not hold. Returns how many of each are new.

    Raises DataProblem, naming the row, where one does not fit; the store is then as before.
    """
    from heedful.jobs.dataset import gather_judgements
    from heedful.store import Store
    from heedful.store.database import sqlite_file

    found = gather_judgements(path, choices, from_name, texts.get("prompts"), texts.get("completions"))
    if others := len(found.thumbs) + len(found.corrections):
        raise SettingProblem(f"{path} holds {others} thumbs and corrections, and only rankings can be put into a store", "Leave them out.")
    file = sqlite_file(where)
    new = file is not None and not file.exists()
    try:
        with Store.open(where, create=True, actor="heed feedback", warn=choices.say) as store:
            return store.write(lambda c: _put(c, store, project, criterion, found, path.name))
    except BaseException:
        if new and file:
            _remove(file)
        raise


def _items(store: Store, project: str, as_of: int | None, strata: bool) -> Iterator[Item]:
    for labeler in store.labelers():
        yield labeler if strata else Labeler(labeler.name, labeler.kind)
    for prompt, completions, judgements in store.everything(project, as_of):
        yield prompt
        yield from completions
        yield from judgements


def _put(
    connection: sa.Connection, store: Store, project: str, criterion: Criterion | None, found: Gathered, source: str
) -> dict[str, int]:
    """Everything that was gathered, in one transaction."""
    from heedful.store import Project, labelers, projects
    from heedful.store.importing import add_rankings

    actor, now = store.actor, store.clock()
    if project not in projects.names(connection):
        judged = criterion or only_criterion(Path(source), {row.criterion for row in found.rankings})
        projects.create(connection, Project(project, judged.name, judged.question, judged.higher_is), actor, now)
    known = labelers.ids(connection, found.labelers)
    people = [one for name, one in found.labelers.items() if name not in known]
    labelers.add(connection, people, actor, now)
    added = add_unknown(connection, project, found.prompts.values(), found.completions.values(), actor, now)
    named = ((f"ranking {number} of {source}", row) for number, row in enumerate(found.rankings, 1))
    rankings = add_rankings(connection, project, named, source, actor, now)
    return {"prompts": added, "labelers": len(people), "rankings": rankings}


def _remove(file: Path) -> None:
    """A store that was made for nothing."""
    for ending in ("", "-wal", "-shm", ".lock", ".open"):
        file.with_name(file.name + ending).unlink(missing_ok=True)
