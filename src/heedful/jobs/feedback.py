"""What people said, from a store or from a file, for whoever looks at it outside a run; and back in and out of a store."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.errors import SettingProblem, StoreProblem
from heedful.feedback.criteria import Criterion, criterion_named
from heedful.records import Completion, Labeler, Prompt, Ranking, Thumb

if TYPE_CHECKING:
    import sqlalchemy as sa

    from heedful.pairs.convert import Choices
    from heedful.pairs.formats.judgements import Gathered, Item
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
    file = _rows(source)
    return _of_store(source, project, criterion) if file is None else _of_file(file, criterion, labelers)


def project_of(store: Store, name: str) -> str:
    """The project of that name, or the only one. Raises SettingProblem where it is not clear which."""
    from heedful.store import projects

    known = store.read(projects.names)
    if not name and len(known) != 1:
        raise SettingProblem(f"{store.database.where} has {len(known)} projects", f"Name one with --project: {', '.join(known) or 'none'}.")
    return store.read(lambda c: projects.find(c, name or known[0]))[1].name


def export_said(store: Store, project: str, path: Path, as_of: int | None = None, strata: bool = False) -> dict[str, int]:
    """Write everything that was asked and said in a project as JSON lines, one prompt in memory at a time; returns counts by kind.

    ``strata``: also which groups of the population labelers stand for, which is personal.
    """
    from collections import Counter

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
        with Store.open(where, create=True, actor="heed feedback") as store:
            return store.write(lambda c: _put(c, store, project, criterion, found, path.name))
    except BaseException:
        if new and file:
            _remove(file)
        raise


def _rows(source: str) -> Path | None:
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
    judged = criterion or _only_criterion(path, {row.criterion for row in (*found.rankings, *found.thumbs)})
    return Said(
        path.name,
        judged,
        [row for row in found.rankings if row.criterion == judged.name],
        [row for row in found.thumbs if row.criterion in ("", judged.name)],
        list(found.labelers.values()),
        _words(found.completions.values()),
        {},
    )


def _only_criterion(path: Path, names: set[str]) -> Criterion:
    named = sorted(names - {""})
    if len(named) > 1:
        raise SettingProblem(f"{path} holds judgements by {', '.join(named)}", "Choose one with --criterion.")
    return criterion_named(named[0]) if named else criterion_named("helpfulness")


def _words(completions: Iterable[Completion]) -> dict[str, int]:
    return {c.id: len(c.text.split()) for c in completions}


def _items(store: Store, project: str, as_of: int | None, strata: bool) -> Iterator[Item]:
    for labeler in store.labelers():
        yield labeler if strata else Labeler(labeler.name, labeler.kind)
    for prompt, completions, judgements in store.everything(project, as_of):
        yield prompt
        yield from completions
        yield from judgements


def _put(connection: sa.Connection, store: Store, project: str, criterion: Criterion | None, found: Gathered, source: str) -> dict[str, int]:
    """Everything that was gathered, in one transaction."""
    from heedful.store import Project, labelers, projects, prompts
    from heedful.store.importing import add_rankings

    actor, now = store.actor, store.clock()
    if project not in projects.names(connection):
        judged = criterion or _only_criterion(Path(source), {row.criterion for row in found.rankings})
        projects.create(connection, Project(project, judged.name, judged.question, judged.higher_is), actor, now)
    project_id, _ = projects.find(connection, project)
    people = [one for name, one in found.labelers.items() if name not in labelers.ids(connection, [name])]
    labelers.add(connection, people, actor, now)
    items = prompts.unknown(connection, project_id, _together(found))
    added = prompts.add(connection, project, items, False, actor, now)
    named = ((f"ranking {number} of {source}", row) for number, row in enumerate(found.rankings, 1))
    rankings = add_rankings(connection, project, named, source, actor, now)
    return {"prompts": added, "labelers": len(people), "rankings": rankings}


def _together(found: Gathered) -> list[tuple[Prompt, list[Completion]]]:
    """Prompts with their completions; those without any cannot be judged and are left out."""
    by_prompt: dict[str, list[Completion]] = {}
    for completion in found.completions.values():
        by_prompt.setdefault(completion.prompt_id, []).append(completion)
    return [(prompt, by_prompt[name]) for name, prompt in found.prompts.items() if name in by_prompt]


def _remove(file: Path) -> None:
    """A store that was made for nothing."""
    for ending in ("", "-wal", "-shm", ".lock", ".open"):
        file.with_name(file.name + ending).unlink(missing_ok=True)
