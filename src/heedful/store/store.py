"""A store of judgements: the door to everything in this package.

The verbs that a project needs from its first prompt to its last judgement. What is rarer (quarantine,
strata, derived rows, changing a project) are functions of a connection in the modules by subject;
``store.write(lambda c: labelers.decide(c, ...))`` runs several of them in one transaction.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import sqlalchemy as sa

from heedful.errors import InstructionsChanged, StoreProblem
from heedful.records import Completion, Labeler, Prompt
from heedful.store import (
    audit,
    backup,
    instructions,
    judgements,
    labelers,
    migrate,
    place,
    projects,
    prompts,
    reading,
    retiring,
    slots,
    status,
)
from heedful.store.answers import Answer
from heedful.store.check import CheckReport, check
from heedful.store.columns import lots
from heedful.store.database import Database, Work
from heedful.store.importing import Imported, add_judgements, read_judgements
from heedful.store.judgements import Receipt
from heedful.store.projects import Project
from heedful.store.prompts import Item
from heedful.store.reading import Everything, Judgement, Snapshot, SnapshotHash
from heedful.store.retiring import Retired
from heedful.store.status import ProjectStatus

T = TypeVar("T")
Clock = Callable[[], datetime]
PAGE = 2000
"""Rows that are in memory at a time when much is read."""

_log = logging.getLogger("heedful.store")


def utc_now() -> datetime:
    """The time by this machine's clock."""
    return datetime.now(UTC)


class Store:
    """An open store. Threads may share it; every process opens its own. A context manager."""

    def __init__(self, database: Database, clock: Clock = utc_now, actor: str = "heedful") -> None:
        self.database, self.clock, self.actor = database, clock, actor

    @classmethod
    def open(
        cls,
        where: str | Path,
        *,
        create: bool = False,
        clock: Clock = utc_now,
        actor: str = "heedful",
        warn: Callable[[str], None] = _log.warning,
    ) -> Self:
        """Open the store in a file, or at a ``postgresql://`` URL; ``create`` makes one where there is none.

        An SQLite store of an older schema is copied and migrated. ``actor`` is whom the log will
        name for what this caller does; ``warn`` hears of a folder that will not outlive the machine.

        Raises StoreProblem for a store that is not there, damaged, somebody else's, or newer than this code.
        """
        database = Database.made(where) if create else Database.existing(where)
        try:
            if create and migrate.version_of(database) is None:
                migrate.build(database)
            migrate.bring_up_to_date(database, migrate.version_or_refuse(database), unattended=True)
        except BaseException:
            database.close()
            raise
        if database.file and (sentence := place.warning(database.file)):
            warn(sentence)
        return cls(database, clock, actor)

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def read(self, work: Work[T]) -> T:
        """Run functions of the modules by subject, or queries, in one transaction that sees one moment."""
        return self.database.read(work)

    def write(self, work: Work[T]) -> T:
        """Run functions of the modules by subject in one transaction: all of it is stored, or nothing.

        ``work`` may be run again after it lost a race, so it changes nothing but the store.
        """
        return self.database.write(work)

    # Setting up

    def create_project(self, project: Project) -> None:
        """A new project: one criterion, one type of task, and how people are asked."""
        self.write(lambda c: projects.create(c, project, self.actor, self.clock()))

    def publish(self, project: str, text: str) -> str:
        """Make a text the current instructions; returns its version. Everybody reads it before their next task."""
        return self.write(lambda c: instructions.publish(c, project, text, self.actor, self.clock()))

    def add_prompts(self, project: str, items: Iterable[Item], calibration: bool = False) -> int:
        """Prompts, each with the completions that people will see; ``calibration``: to be judged by everybody. Returns their number."""
        kept = list(items)
        return self.write(lambda c: prompts.add(c, project, kept, calibration, self.actor, self.clock()))

    def add_labelers(self, *new: Labeler) -> None:
        """People, AI judges or simulated labelers, with the strata of the population that they stand for."""
        self.write(lambda c: labelers.add(c, new, self.actor, self.clock()))

    # Asking and answering; who is asked what is decided by heedful.feedback.asking

    def acknowledge(self, project: str, labeler: str, version: str) -> None:
        """A labeler has read a version of the instructions."""
        self.write(lambda c: instructions.acknowledge(c, project, labelers.hold(c, labeler), version, self.clock()))

    def submit(self, token: str, labeler: str, key: str, answer: Answer, version: str) -> Receipt:
        """Store an answer to a task; see :func:`heedful.store.judgements.submit`.

        Where the instructions have changed, the task stays the labeler's while they read them.
        """
        try:
            return self.write(lambda c: judgements.submit(c, token, labeler, key, answer, version, self.clock()))
        except InstructionsChanged:
            self.renew(token, labeler)
            raise

    def renew(self, token: str, labeler: str) -> datetime | None:
        """A sign of life from a labeler who is at a task; returns until when it stays theirs, ``None`` where it no longer is."""
        return self.write(lambda c: slots.renew(c, token, labelers.hold(c, labeler), self.clock()))

    def skip(self, token: str, labeler: str, reason: str = "") -> None:
        """A labeler would rather not judge this one; it goes to somebody else."""
        self.write(lambda c: slots.skip(c, token, labelers.hold(c, labeler), reason, self.clock()))

    def retire(self, project: str, prompt_ids: Iterable[str] | None = None, actor: str = "") -> Retired:
        """Have prompts judged again, some or all, as far as they were judged under other instructions than today's.

        Those judgements are kept and no longer count, and their places are open again, also to those who made them. Lot after lot in
        transactions of their own: people go on meanwhile, and what was broken off may be done again. Raises DataProblem for an unknown
        prompt, AnswerProblem where there are no instructions.
        """
        project_id, _ = self._find(project)
        wanted = self.read(lambda c: retiring.candidates(c, project_id, prompt_ids))
        found = Retired()
        for some in lots(wanted, retiring.AT_ONCE):
            found += self.write(lambda c, some=some: retiring.retire(c, project_id, some, actor or self.actor, self.clock()))  # type: ignore[misc]
        return found

    # Reading back

    def judgements(self, project: str, as_of: int | None = None, only_random: bool = False, retired: bool = False) -> Iterator[Judgement]:
        """Rankings, thumbs and corrections, one at a time; the latest revisions, by now or by an event of the log.

        ``only_random``: only tasks that were drawn uniformly, on which figures are unbiased. ``retired``: those that no longer
        count, instead of those that do (:meth:`retire`).
        """
        number = self._event(as_of)
        project_id, asked = self._find(project)
        page = reading.page
        for found in self._pages(lambda c, after: page(c, project_id, asked.criterion, number, only_random, retired, after, PAGE)):
            yield from found

    def snapshot(self, project: str, as_of: int | None = None) -> Snapshot:
        """A name, by number and hash, for the judgements as they stand now or stood after an event."""
        number = self._event(as_of)
        project_id, _ = self._find(project)
        found = SnapshotHash()
        for row in self._pages(lambda c, after: reading.hashes_page(c, project_id, number, after, PAGE)):
            found.add(*row)
        return Snapshot(project, number, found.count, found.hexdigest())

    def prompts(self, project: str) -> Iterator[Prompt]:
        """The project's prompts, one at a time."""
        project_id, _ = self._find(project)
        return self._pages(lambda c, after: prompts.page(c, project_id, after, PAGE), start=-1)

    def completions(self, project: str) -> Iterator[Completion]:
        """The project's completions with their models, one at a time. Not for the eyes of labelers."""
        project_id, _ = self._find(project)
        return self._pages(lambda c, after: prompts.completions_page(c, project_id, after, PAGE))

    def everything(self, project: str, as_of: int | None = None) -> Iterator[Everything]:
        """Each prompt with its completions and what was said of them, now or after an event. Not for the eyes of labelers."""
        number = self._event(as_of)
        project_id, asked = self._find(project)
        page = reading.everything_page
        return self._pages(lambda c, after: page(c, project_id, asked.criterion, number, after, PAGE // 10 or 1), start=-1)

    def labelers(self) -> list[Labeler]:
        """Everybody who ever judged, or could have."""
        return self.read(labelers.everybody)

    def import_judgements(self, project: str, source: Path | Iterable[Judgement]) -> Imported:
        """Judgements from a file of JSON lines, or records, those of one prompt together: all of them or none.

        What the store holds already, just so, is left as it is.
        Raises DataProblem or FileProblem, naming the row, where one does not fit.
        """
        name = source.name if isinstance(source, Path) else "records"
        kept = source if isinstance(source, Path) else [(f"record {number}", row) for number, row in enumerate(source, 1)]

        def work(connection: sa.Connection) -> Imported:
            rows = read_judgements(kept) if isinstance(kept, Path) else kept
            return add_judgements(connection, project, rows, name, self.actor, self.clock())

        return self.write(work)

    # Looking after it

    def status(self) -> list[ProjectStatus]:
        """Every project in figures."""
        return self.read(lambda c: [status.of_project(c, name) for name in projects.names(c)])

    def check(self) -> CheckReport:
        """Go through the whole store: is everything there, and as it was when it was stored?"""
        return check(self.database)

    def back_up(self, keep: int = backup.KEEP) -> Path:
        """A checked copy beside the store. Raises StoreProblem for PostgreSQL, which has tools of its own."""
        if self.database.file is None:
            raise StoreProblem(
                f"{self.database.where} is PostgreSQL", "Back it up with pg_dump, and bring it back with pg_restore or psql."
            )
        return backup.back_up(self.database.file, keep, now=self.clock())

    def last_backup(self) -> datetime | None:
        """When the newest copy was made; ``None`` where there is none, or none that heedful made."""
        copies = backup.backups(self.database.file) if self.database.file else []
        return backup.made_at(copies[-1]) if copies else None

    @property
    def schema(self) -> str:
        """The version of the schema that the store has."""
        return migrate.version_or_refuse(self.database)

    def _find(self, project: str) -> tuple[int, Project]:
        return self.read(lambda c: projects.find(c, project))

    def _event(self, as_of: int | None) -> int:
        """The event up to which one reads: the last one, where none is named."""
        return as_of if as_of is not None else self.read(audit.chain_end).number

    def _pages(self, page: Callable[[sa.Connection, int], list[tuple[int, T]]], start: int = 0) -> Iterator[T]:
        """One page after another, each in a transaction of its own: no reader holds up a writer, however slow it is."""
        after = start
        while rows := self.read(lambda c, after=after: page(c, after)):  # type: ignore[misc]
            yield from (row for _, row in rows)
            after = rows[-1][0]
