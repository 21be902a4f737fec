"""Judgements back out of the store, as records, as they were at any event of the log."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from heedful.records import Completion, Correction, Prompt, Ranking, Thumb
from heedful.store.columns import canonical
from heedful.store.prompts import external_ids, items_page
from heedful.store.schema import instructions, judgement_revision, labeler, prompt, slot
from heedful.store.slots import JUDGED

Judgement = Ranking | Thumb | Correction
Everything = tuple[Prompt, Sequence[Completion], list[Judgement]]
"""A prompt, its completions, and what was said of them."""
Hashed = tuple[int, int, str]
"""A slot, and number and hash of a revision of its judgement."""

_R = judgement_revision.c


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A project's judgements as they stood after an event: what a run names, so that a late label cannot change it.

    ``sha256`` depends on the latest revision by then of every judgement, and on nothing that came after.
    """

    project: str
    event: int
    judgements: int
    sha256: str


class SnapshotHash:
    """Adds up what :func:`hashes_page` gives."""

    def __init__(self) -> None:
        self.count = 0
        self._sha256 = hashlib.sha256()

    def add(self, slot_id: int, number: int, sha256: str) -> None:
        """One more judgement, in the order of slots."""
        self.count += 1
        self._sha256.update(canonical([slot_id, number, sha256]).encode())

    def hexdigest(self) -> str:
        """The hash of all."""
        return self._sha256.hexdigest()


def page(
    connection: sa.Connection, project_id: int, criterion: str, as_of: int, only_random: bool, retired: bool, after: int, limit: int
) -> list[tuple[int, list[Judgement]]]:
    """The next judged slots after a slot, each with what was said there: the latest revision up to an event.

    ``only_random``: only tasks that were drawn uniformly at random. ``retired``: those that had been retired by then,
    instead of those that counted.
    """
    found = _said(project_id, as_of, retired).where(*_beyond(after)).limit(limit)
    rows = connection.execute(found.where(slot.c.at_random) if only_random else found).all()
    names = external_ids(connection, (row.prompt_id for row in rows))
    return [(row.id, _records(row, names, criterion)) for row in rows]


def everything_page(
    connection: sa.Connection, project_id: int, criterion: str, as_of: int, after: int, limit: int
) -> list[tuple[int, Everything]]:
    """The next prompts after a number, each with its completions and what was said of them up to an event."""
    found = items_page(connection, project_id, as_of, after, limit)
    said: dict[int, list[Judgement]] = {prompt_id: [] for _, (prompt_id, _) in found}
    rows = connection.execute(_said(project_id, as_of).where(slot.c.prompt_id.in_(said))).all()
    names = external_ids(connection, said)
    for row in rows:
        said[row.prompt_id] += _records(row, names, criterion)
    return [(number, (*item, said[prompt_id])) for number, (prompt_id, item) in found]


def hashes_page(connection: sa.Connection, project_id: int, as_of: int, after: int, limit: int) -> list[tuple[int, Hashed]]:
    """The next judged slots after a slot, each with what a snapshot hashes of its latest revision up to an event."""
    found = _latest(sa.select(slot.c.id, _R.number, _R.sha256), project_id, as_of).where(*_beyond(after)).limit(limit)
    return [(row.id, (row.id, row.number, row.sha256)) for row in connection.execute(found)]


def _said(project_id: int, as_of: int, retired: bool = False) -> sa.Select[Any]:
    """Latest revisions up to an event with all that a record of them holds, in the order of slots."""
    columns = (slot.c.id, slot.c.prompt_id, slot.c.shown, slot.c.purpose, _R.answer, _R.active_ms, _R.judged_at)
    found = _latest(sa.select(*columns, prompt.c.external_id, labeler.c.name, instructions.c.version), project_id, as_of, retired)
    found = found.join(prompt, prompt.c.id == slot.c.prompt_id).join(labeler, labeler.c.id == slot.c.labeler_id)
    return found.join(instructions, instructions.c.id == _R.instructions_id)


def _beyond(after: int) -> tuple[sa.ColumnElement[bool], ...]:
    """Slots after one. Said of both tables: PostgreSQL does not infer it of the second, and would go through all of that for every page."""
    return slot.c.id > after, _R.slot_id > after


def _latest(found: sa.Select[Any], project_id: int, as_of: int, retired: bool = False) -> sa.Select[Any]:
    gone = slot.c.retired_in.is_not(None) & (slot.c.retired_in <= as_of)
    newer = sa.alias(judgement_revision)
    superseded = sa.exists().where(newer.c.slot_id == _R.slot_id, newer.c.number > _R.number, newer.c.event <= as_of)
    return (
        found.select_from(slot)
        .join(judgement_revision, _R.slot_id == slot.c.id)
        .where(slot.c.project_id == project_id, JUDGED, gone if retired else ~gone, _R.event <= as_of, ~superseded)
        .order_by(slot.c.id)
    )


def _records(row: Any, names: dict[int, str], criterion: str) -> list[Judgement]:
    """A ranking, or thumbs; and corrections, in the order in which the completions were shown."""
    said: dict[str, dict[str, Any]] = row.answer
    ids = {str(c): names[c] for c in row.shown}
    judged_at = row.judged_at.isoformat() if row.judged_at else ""
    common = {"criterion": criterion, "instructions_version": row.version, "active_ms": row.active_ms}
    common |= {"judged_at": judged_at, "purpose": row.purpose}
    who = (row.external_id, row.name)
    found: list[Judgement] = []
    if "ranks" in said:
        reasons = {ids[c]: text for c, text in said.get("reasons", {}).items()}
        found.append(Ranking(*who, list(ids.values()), [said["ranks"][c] for c in ids], reasons=reasons, **common))
    found += [Thumb(*who, ids[c], said["thumbs"][c], **common) for c in ids if c in said.get("thumbs", {})]
    found += [Correction(*who, ids[c], said["corrections"][c], **common) for c in ids if c in said.get("corrections", {})]
    return found
