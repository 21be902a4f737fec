"""Is the store whole? The database's own checks, the chain of the log, and the laws that its rows obey."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, zip_longest
from typing import Any

import sqlalchemy as sa

from heedful.errors import StoreProblem
from heedful.records import Record
from heedful.store.audit import START, ChainEnd, Digest, chain_end, event_sha256, instructions_sha256, judgement_sha256, prompt_sha256
from heedful.store.database import Database
from heedful.store.facts import Facts
from heedful.store.schema import completion, completion_origin, event, instructions, judgement_revision, prompt, slot

_AT_ONCE = {"yield_per": 1000}


@dataclass(frozen=True, slots=True)
class CheckReport(Record):
    """What was gone through, and the first thing that is wrong; ``problem`` is empty where nothing is.

    ``last_event`` and ``last_sha256`` name the whole history: whoever keeps them elsewhere can
    tell later whether it was rewritten.
    """

    events: int = 0
    prompts: int = 0
    judgements: int = 0
    last_event: int = 0
    last_sha256: str = START
    problem: str = ""


def check(database: Database) -> CheckReport:
    """Go through the whole store up to the first thing that is wrong, in memory that does not grow with prompts and judgements."""
    try:
        return database.read(_check)
    except StoreProblem as problem:
        return CheckReport(problem=problem.what)


def _check(connection: sa.Connection) -> CheckReport:
    if connection.dialect.name == "sqlite" and (problem := _sqlite_fault(connection)):
        return CheckReport(problem=problem)
    found = _Chain(connection).check()
    return found if found.problem else CheckReport(**(found.to_dict() | {"problem": next(_broken_laws(connection), "")}))


def _sqlite_fault(connection: sa.Connection) -> str:
    """PostgreSQL holds its own pages and keys together; a file may have been copied badly, or written by something else."""
    found = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
    if found != "ok":
        return f"the database file is damaged: {found}"
    orphan = connection.exec_driver_sql("PRAGMA foreign_key_check").first()
    return f"row {orphan[1]} of {orphan[0]} refers to a row of {orphan[2]} that is not there" if orphan else ""


class _Chain:
    """Every event in its order, with the prompts and judgements that it stored; and the facts that events tell of one by one."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.prompts = _Sealed(_prompt_rows(connection))
        self.judgements = _Sealed(_judgement_rows(connection))
        self.facts = Facts()
        self.count, self.last = 0, ChainEnd(0, START)

    def check(self) -> CheckReport:
        for row in self.connection.execute(sa.select(event).order_by(event.c.number), execution_options=_AT_ONCE):
            if problem := self._fault(row):
                return self._report(problem)
            self.facts.hear(row)
            self.count, self.last = self.count + 1, ChainEnd(row.number, row.sha256)
        return self._report(self._fault_of_end() or self.prompts.left_over() or self.judgements.left_over() or self._fault_of_facts())

    def _report(self, problem: str) -> CheckReport:
        return CheckReport(self.count, self.prompts.count, self.judgements.count, self.last.number, self.last.sha256, problem)

    def _fault(self, row: Any) -> str:
        if row.number != self.last.number + 1:
            return f"event {self.last.number + 1} is missing"
        if row.previous != self.last.sha256:
            return f"event {row.number} does not follow from event {self.last.number}"
        if row.sha256 != event_sha256(row._mapping):
            return f"event {row.number} ({row.kind}) was changed after it was written"
        return self.prompts.fault(row, "prompts") or self.judgements.fault(row, "judgements")

    def _fault_of_facts(self) -> str:
        return next(self.facts.faults(self.connection), "")

    def _fault_of_end(self) -> str:
        told = chain_end(self.connection)
        if told.number > self.last.number:
            return f"event {self.last.number + 1} is missing: there were {told.number}"
        return "" if told == self.last else f"the log ends with event {self.last.number}, and should end with event {told.number}"


@dataclass(frozen=True, slots=True)
class _SealedRow:
    """A row of a prompt or a judgement: its name, its event, the hash that it carries and the hash that it has."""

    name: str
    event: int
    sha256: str
    true_sha256: str


class _Sealed:
    """Rows in the order of their events, read once."""

    def __init__(self, rows: Iterator[_SealedRow]) -> None:
        self.count = 0
        self._rows = rows
        self._next = next(rows, None)

    def fault(self, of_event: Any, what: str) -> str:
        """What is wrong with the first bad row of an event; empty where all are as they were stored."""
        digest = Digest()
        while self._next is not None and self._next.event <= of_event.number:
            row, self._next = self._next, next(self._rows, None)
            if row.sha256 != row.true_sha256:
                return f"{row.name} was changed after event {of_event.number} stored it"
            digest.add(row.sha256)
        self.count += digest.count
        told = of_event.details.get(f"stored_{what}", Digest().details())
        if told == digest.details():
            return ""
        return f"event {of_event.number} ({of_event.kind}) stored {told['count']} {what}; {digest.count} are there, or they are others"

    def left_over(self) -> str:
        """A row of an event that is not there."""
        return "" if self._next is None else f"{self._next.name} belongs to event {self._next.event}, which is not there"


def _prompt_rows(connection: sa.Connection) -> Iterator[_SealedRow]:
    o = completion_origin.c
    columns = (completion.c.id, completion.c.text, o.external_id, o.model)
    found = (
        sa.select(*prompt.columns, *(c.label(f"completion_{c.name}") for c in columns))
        .join(completion, completion.c.prompt_id == prompt.c.id, isouter=True)
        .join(completion_origin, o.completion_id == completion.c.id, isouter=True)
        .order_by(prompt.c.event, prompt.c.id, completion.c.id)
    )
    for _, rows in groupby(connection.execute(found, execution_options=_AT_ONCE), lambda row: row.id):
        group = [row._mapping for row in rows]
        completions = [{c.name: row[f"completion_{c.name}"] for c in columns} for row in group]
        first = group[0]
        yield _SealedRow(
            f"prompt {first['id']} ({first['external_id']!r})", first["event"], first["sha256"], prompt_sha256(first, completions)
        )


def _judgement_rows(connection: sa.Connection) -> Iterator[_SealedRow]:
    r, renamed = judgement_revision.c, _renamed(connection)
    for row in connection.execute(judgements_sealed().order_by(r.event, r.slot_id, r.number), execution_options=_AT_ONCE):
        name = f"judgement_revision {row.number} of slot {row.slot_id}"
        since, was = renamed.get(row.slot_id, (0, ""))
        # The purpose that the hash was made of; none that ever was, where the slot does not say what it should by now.
        purpose = row.purpose if row.event > since else was if row.purpose == "ruling" else None
        sealed = {**row._mapping, "purpose": purpose}
        yield _SealedRow(name, row.event, row.sha256, judgement_sha256(sealed))


def _renamed(connection: sa.Connection) -> dict[int, tuple[int, str]]:
    """Slots whose purpose is a ruling since an event (schema 0005), with that event and the word that was sealed before."""
    found = connection.execute(sa.select(event.c.number, event.c.details).where(event.c.kind == "rulings.named"))
    return {slot_id: (row.number, row.details["was"]) for row in found for slot_id in row.details["slots"]}


def judgements_sealed() -> sa.Select[Any]:
    """Every revision with all that its hash covers."""
    prompt_sha256, version = prompt.c.sha256.label("prompt_sha256"), instructions.c.version.label("instructions")
    return (
        sa.select(*judgement_revision.columns, slot.c.labeler_id, slot.c.purpose, slot.c.shown, prompt_sha256, version)
        .join(slot, slot.c.id == judgement_revision.c.slot_id)
        .join(prompt, prompt.c.id == slot.c.prompt_id)
        .join(instructions, instructions.c.id == judgement_revision.c.instructions_id)
    )


def _broken_laws(connection: sa.Connection) -> Iterator[str]:
    """Sentences about rows that contradict each other, which no single constraint can forbid."""
    for law in (_slots_and_judgements, _places, _gaps, _versions, _retired):
        yield from law(connection)


def _slots_and_judgements(connection: sa.Connection) -> Iterator[str]:
    said = sa.exists().where(judgement_revision.c.slot_id == slot.c.id)
    judged = slot.c.state.in_(["judged", "retired"])
    for row in connection.execute(sa.select(slot.c.id, judged.label("judged"), slot.c.state).where(judged != said).limit(1)):
        yield f"slot {row.id} is {row.state}, and {'no judgement of it is there' if row.judged else 'yet has a judgement'}"


def _places(connection: sa.Connection) -> Iterator[str]:
    """The places of a prompt are 1, 2, ... up to its overlap; that none is there twice is a constraint."""
    own = (slot.c.prompt_id == prompt.c.id, slot.c.k.is_not(None))
    count = sa.select(sa.func.count()).where(*own).scalar_subquery()
    highest = sa.select(sa.func.coalesce(sa.func.max(slot.c.k), 0)).where(*own).scalar_subquery()
    wrong = sa.or_(count != prompt.c.overlap, highest != prompt.c.overlap)
    for row in connection.execute(sa.select(prompt.c.id, prompt.c.overlap, count.label("places")).where(wrong).limit(1)):
        yield f"prompt {row.id} has {row.places} places for an overlap of {row.overlap}"


def _gaps(connection: sa.Connection) -> Iterator[str]:
    r = judgement_revision.c
    gap = sa.select(r.slot_id).group_by(r.slot_id).having(sa.func.max(r.number) != sa.func.count()).limit(1)
    for row in connection.execute(gap):
        yield f"a judgement_revision of slot {row.slot_id} is missing"


def _versions(connection: sa.Connection) -> Iterator[str]:
    for row in connection.execute(sa.select(instructions).where(instructions.c.text.is_not(None))):
        if instructions_sha256(row.text)[:12] != row.version:
            yield f"instructions {row.id} do not say what version {row.version} said"


def _retired(connection: sa.Connection) -> Iterator[str]:
    """Retired are those slots that the log says, since the events that say so; both in order, one event in memory at a time."""
    retired_in, kind = slot.c.retired_in, event.c.kind
    events = sa.select(event.c.number, event.c.details).where(kind == "judgements.retired").order_by(event.c.number)
    slots = sa.select(retired_in, slot.c.id).where(retired_in.is_not(None)).order_by(retired_in, slot.c.id)
    told = ((row.number, sorted(row.details["slots"])) for row in connection.execute(events, execution_options=_AT_ONCE))
    rows = connection.execute(slots, execution_options=_AT_ONCE)
    there = ((number, [row.id for row in group]) for number, group in groupby(rows, lambda row: row.retired_in))
    nothing: tuple[float, list[int]] = (math.inf, [])
    for said, found in zip_longest(told, there, fillvalue=nothing):
        if said != found:
            number = min(said[0], found[0])
            n, m = (len(ids) if of == number else 0 for of, ids in (said, found))
            yield f"event {number} retired {n} judgements; {m} are, or they are others"
