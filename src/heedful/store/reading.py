"""Judgements back out of the store, as records, as they were at any event of the log."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from heedful.records import Correction, Ranking, Thumb
from heedful.store.columns import canonical
from heedful.store.prompts import external_ids
from heedful.store.schema import instructions, judgement_revision, labeler, prompt, slot
from heedful.store.slots import word

Judgement = Ranking | Thumb | Correction
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
    connection: sa.Connection, project_id: int, criterion: str, as_of: int, only_random: bool, after: int, limit: int
) -> list[tuple[int, list[Judgement]]]:
    """The next judged slots after a slot, each with what was said there: the latest revision up to an event.

    ``only_random``: only tasks that were drawn uniformly at random.
    """
    columns = (slot.c.id, slot.c.prompt_id, slot.c.shown, slot.c.purpose, _R.answer, _R.active_ms, _R.judged_at)
    found: sa.Select[Any] = sa.select(*columns, prompt.c.external_id, labeler.c.name, instructions.c.version)
    found = _latest(found, project_id, as_of, after, limit)
    found = found.join(prompt, prompt.c.id == slot.c.prompt_id).join(labeler, labeler.c.id == slot.c.labeler_id)
    found = found.join(instructions, instructions.c.id == _R.instructions_id)
    rows = connection.execute(found.where(slot.c.at_random) if only_random else found).all()
    names = external_ids(connection, (row.prompt_id for row in rows))
    return [(row.id, _records(row, names, criterion)) for row in rows]


def hashes_page(connection: sa.Connection, project_id: int, as_of: int, after: int, limit: int) -> list[tuple[int, Hashed]]:
    """The next judged slots after a slot, each with what a snapshot hashes of its latest revision up to an event."""
    found = _latest(sa.select(slot.c.id, _R.number, _R.sha256), project_id, as_of, after, limit)
    return [(row.id, (row.id, row.number, row.sha256)) for row in connection.execute(found)]


def _latest(found: sa.Select[Any], project_id: int, as_of: int, after: int, limit: int) -> sa.Select[Any]:
    newer = sa.alias(judgement_revision)
    superseded = sa.exists().where(newer.c.slot_id == _R.slot_id, newer.c.number > _R.number, newer.c.event <= as_of)
    return (
        found.select_from(slot)
        .join(judgement_revision, _R.slot_id == slot.c.id)
        .where(slot.c.project_id == project_id, slot.c.state == word("judged"), slot.c.id > after, _R.event <= as_of, ~superseded)
        .order_by(slot.c.id)
        .limit(limit)
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
