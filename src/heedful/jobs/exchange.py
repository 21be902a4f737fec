"""Judgements out of a store as rows, and from elsewhere into it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.jobs.judgements import add_unknown
from heedful.jobs.said import only_criterion
from heedful.records import Labeler

if TYPE_CHECKING:
    import sqlalchemy as sa

    from heedful.feedback.blindness import Blindness
    from heedful.feedback.criteria import Criterion
    from heedful.pairs.convert import Choices
    from heedful.pairs.formats.judgements import Gathered, Item
    from heedful.store import Store
    from heedful.store.grouping import Named


def export_said(
    store: Store, project: str, path: Path, as_of: int | None = None, strata: bool = False, everybody: bool = False
) -> dict[str, int]:
    """Write what was asked and said in a project as JSON lines, one prompt in memory at a time; returns counts by kind.

    A row says whether it is a ruling, but not whether its labeler's work is in quarantine: what is in quarantine is left
    out, so that the file teaches what the store does. ``everybody``: that, too, and whoever reads it has to decide again.
    ``strata``: also which groups of the population labelers stand for, which is personal.
    """
    from heedful.pairs.formats import rankings
    from heedful.store import labelers

    counts: Counter[str] = Counter()
    quarantined = {} if everybody else store.read(lambda c: labelers.quarantined(c, project))

    def items() -> Iterator[Item]:
        for item in _items(store, project, as_of, strata, quarantined):
            counts[type(item).__name__.lower()] += 1
            yield item

    rankings.write(path, items())
    return dict(counts)


def import_said(
    where: str, path: Path, project: str, criterion: Criterion | None, choices: Choices, *, from_name: str, texts: Mapping[str, Path | None]
) -> dict[str, int]:
    """Put the judgements of a file into a store, with prompts, completions and labelers that are not there yet; all or nothing.

    Where there is no such store or project they are made; what a new project asks for is what the file
    holds: rankings, thumbs, or corrections alone. What is there already, just so, is left as it is.
    ``texts``: files of ``prompts`` and ``completions`` that the file itself does not hold. Completions
    that say who wrote them come in as well, and are warned of. Returns how many of each are new, how
    many ``judgements`` were ``there_before``, and how many completions are ``naming_their_model``.

    Raises DataProblem, naming the row, where one does not fit; the store is then as before.
    """
    from heedful.feedback.blindness import blindness
    from heedful.jobs.dataset import gather_judgements
    from heedful.store import Store
    from heedful.store.database import sqlite_file

    found = gather_judgements(path, choices, from_name, texts.get("prompts"), texts.get("completions"))
    file = sqlite_file(where)
    new = file is not None and not file.exists()
    rows = _together(found, f"{'row' if from_name == 'rankings' else 'record'} {{}} of {path.name}")
    try:
        with Store.open(where, create=True, actor="heed feedback", warn=choices.say) as store:
            counts = store.write(lambda c: _put(c, store, project, criterion, found, rows, path))
    except BaseException:
        if new and file:
            _remove(file)
        raise
    told = blindness(found.prompts.values(), found.completions.values())
    if told.sentence:
        choices.say(told.sentence)
    return {**counts, "naming_their_model": told.naming}


def check_blindness(source: str, project: str = "", prompts: Path | None = None, completions: Path | None = None) -> Blindness:
    """Whether the completions in a store's project, or in a file of judgements or completions, say who wrote them.

    ``prompts`` and ``completions``: further files, for a file that does not hold them.

    Raises what reading raises.
    """
    from heedful.feedback.blindness import blindness
    from heedful.jobs.dataset import read_completions, read_prompts
    from heedful.jobs.said import project_of, rows_file
    from heedful.pairs.formats import rankings
    from heedful.pairs.formats.judgements import gather
    from heedful.store import Store

    file = rows_file(source)
    if file is None:
        with Store.open(source, actor="heed feedback") as store:
            name = project_of(store, project)
            return blindness(store.prompts(name), store.completions(name))
    found = gather(rankings.read(file, default="completion"))
    gather(read_completions(completions) if completions else [], found)
    gather(read_prompts(prompts) if prompts else [], found)
    return blindness(found.prompts.values(), found.completions.values())


def _items(store: Store, project: str, as_of: int | None, strata: bool, quarantined: Collection[str]) -> Iterator[Item]:
    """Everything but the judgements of those whose work is ``quarantined``."""
    for labeler in store.labelers():
        yield labeler if strata else Labeler(labeler.name, labeler.kind)
    for prompt, completions, judgements in store.everything(project, as_of):
        yield prompt
        yield from completions
        yield from (row for row in judgements if row.labeler not in quarantined)


def _together(found: Gathered, where: str) -> list[Named]:
    """Judgements with where they stand, those of one prompt together."""
    by_prompt: dict[str, list[Named]] = {}
    for number, row in zip(found.numbers, found.judgements, strict=True):
        by_prompt.setdefault(row.prompt_id, []).append((where.format(number), row))
    return [named for rows in by_prompt.values() for named in rows]


def _put(
    connection: sa.Connection, store: Store, project: str, criterion: Criterion | None, found: Gathered, rows: list[Named], path: Path
) -> dict[str, int]:
    """Everything that was gathered, in one transaction."""
    from heedful.store import Project, labelers, projects
    from heedful.store.grouping import task_of
    from heedful.store.importing import add_judgements

    actor, now = store.actor, store.clock()
    if project not in projects.names(connection):
        judged = criterion or only_criterion(path, {row.criterion for row in found.judgements})
        asked = Project(project, judged.name, judged.question, judged.higher_is, task=task_of(found.judgements))
        projects.create(connection, asked, actor, now)
    known = labelers.ids(connection, found.labelers)
    people = [one for name, one in found.labelers.items() if name not in known]
    labelers.add(connection, people, actor, now)
    added = add_unknown(connection, project, found.prompts.values(), found.completions.values(), actor, now)
    said = add_judgements(connection, project, rows, path.name, actor, now)
    new_labelers = len(people) + said.new_labelers
    return {"prompts": added, "labelers": new_labelers, "judgements": said.stored, "there_before": said.there_before}


def _remove(file: Path) -> None:
    """A store that was made for nothing."""
    for ending in ("", "-wal", "-shm", ".lock", ".open"):
        file.with_name(file.name + ending).unlink(missing_ok=True)
