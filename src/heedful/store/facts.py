"""Decisions, concerns, acknowledgements and answers to questions, held against the log, which tells of each by an event of its own.

An event names the row, its people and its time; since schema 0005 it also holds a hash of all that the row says.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from heedful.store.audit import Row, row_sha256
from heedful.store.schema import acknowledgement, concern, instructions, quarantine
from heedful.store.schema_access import comprehension, comprehension_attempt, comprehension_decision

_AT_ONCE = {"yield_per": 1000}
Key = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A table: the ``events`` that tell of its ``rows``, and what these events (``told``) and rows (``there``) have in common."""

    events: tuple[str, ...]
    told: Callable[[Any], Key]
    there: Callable[[Row], Key]
    rows: sa.Select[Any]


def _labeler(of_event: Any) -> int:
    return int(of_event.actor.removeprefix("labeler "))


_KINDS: dict[str, _Kind] = {
    "quarantine": _Kind(
        ("labeler.quarantined", "labeler.reinstated"),
        lambda e: (e.details["decision"], e.details["project"], e.details["labeler"], e.kind == "labeler.quarantined", e.actor, e.at),
        lambda r: (r["id"], r["project_id"], r["labeler_id"], r["quarantined"], r["decided_by"], r["at"]),
        sa.select(quarantine),
    ),
    "concern": _Kind(
        ("task.skipped", "concern.raised"),
        lambda e: (e.details["slot"], e.kind == "task.skipped", e.at),
        lambda r: (r["slot_id"], r["skipped"], r["at"]),
        sa.select(concern),
    ),
    "instructions": _Kind(
        ("instructions.published",),
        lambda e: (e.details["project"], e.details["version"], e.at),
        lambda r: (r["project_id"], r["version"], r["published_at"]),
        sa.select(instructions).where(instructions.c.published_at.is_not(None)),
    ),
    "acknowledgement": _Kind(
        ("instructions.acknowledged",),
        lambda e: (_labeler(e), e.details["project"], e.details["version"], e.at),
        lambda r: (r["labeler_id"], r["project_id"], r["version"], r["at"]),
        sa.select(acknowledgement, instructions.c.project_id, instructions.c.version).select_from(acknowledgement).join(instructions),
    ),
    "comprehension": _Kind(
        ("comprehension.published",),
        lambda e: (e.details["comprehension"], e.details["project"], e.details["questions"], e.at),
        lambda r: (r["id"], r["project_id"], len(r["questions"]), r["published_at"]),
        sa.select(comprehension),
    ),
    "comprehension_attempt": _Kind(
        ("comprehension.attempted",),
        lambda e: (e.details["attempt"], _labeler(e), e.details["passed"], e.at),
        lambda r: (r["id"], r["labeler_id"], r["passed"], r["at"]),
        sa.select(comprehension_attempt),
    ),
    "comprehension_decision": _Kind(
        ("comprehension.decided",),
        lambda e: (e.details["decision"], e.details["labeler"], e.actor, e.at),
        lambda r: (r["id"], r["labeler_id"], r["decided_by"], r["at"]),
        sa.select(comprehension_decision),
    ),
}
_TABLES = {event: table for table, kind in _KINDS.items() for event in kind.events}


class Facts:
    """What the log tells of these rows; memory grows with their number."""

    def __init__(self) -> None:
        self._told: dict[Key, list[int]] = defaultdict(list)

    def hear(self, of_event: Any) -> None:
        """One more event, of any kind."""
        if table := _TABLES.get(of_event.kind):
            key = (table, *_KINDS[table].told(of_event), of_event.details.get("row_sha256"))
            self._told[key].append(of_event.number)

    def faults(self, connection: sa.Connection) -> Iterator[str]:
        """A row that the log does not tell of so, or an event whose row is not there."""
        for table, kind in _KINDS.items():
            for row in connection.execute(kind.rows, execution_options=_AT_ONCE):
                if not self._take(table, kind, row._mapping):
                    yield f"the log does not tell of {_name(table, row._mapping)} as it is now"
        for (table, *_), numbers in self._told.items():
            if numbers:
                yield f"the row of {table} that event {numbers[0]} tells of is not there, or is another"

    def _take(self, table: str, kind: _Kind, row: Row) -> bool:
        """Cross out the event that tells of a row: by all that it says, or by what events held before they had its hash."""
        for sha256 in (row_sha256(row), None):
            if numbers := self._told.get((table, *kind.there(row), sha256)):
                numbers.pop()
                return True
        return False


def _name(table: str, row: Row) -> str:
    if "id" in row:
        return f"row {row['id']} of {table}"
    return f"the {table} of labeler {row['labeler_id']} of instructions {row['instructions_id']}"
