"""The log of what happened, as a chain of hashes that can be verified.

Every event holds the sha256 of its own content and of the event before it, so none can be
changed, left out or slipped in without breaking the chain from there on. An event that stored
prompts or judgements holds a digest of them. A judgement's own hash covers what was said, by
whom, of which prompt and completions, shown in which order, under which instructions; a prompt's
covers every text. So the chain covers every word that counts.

Whoever can write to the database could still make a whole new chain. Against that helps what
lies elsewhere: a backup, or a run that names an event's number and hash (``chain_end``).

No labeler's name stands in an event, only their number: the log cannot forget.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from heedful.store.columns import canonical, moment
from heedful.store.schema import chain, event

Row = Mapping[str, Any] | sa.RowMapping
START = "0" * 64
"""What the first event names as the one before it."""

JUDGEMENT_FIELDS = (
    "slot_id",
    "prompt_sha256",
    "labeler_id",
    "purpose",
    "shown",
    "number",
    "key",
    "instructions",
    "answer",
    "active_ms",
    "judged_at",
)
"""What a judgement's hash covers: columns of its revision and slot, the prompt's hash, the version of the instructions."""

PROMPT_FIELDS = ("external_id", "content", "reference", "columns")
COMPLETION_FIELDS = ("id", "text", "external_id", "model")
"""What a prompt's hash covers: its own columns, and these of each of its completions."""


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """The last event: everything up to it can be named by these two."""

    number: int
    sha256: str


class Digest:
    """One hash for the many rows that one event stored, in the order of their ids."""

    def __init__(self) -> None:
        self.count = 0
        self._sha256 = hashlib.sha256()

    def add(self, sha256: str) -> None:
        """One more row, by its own hash."""
        self.count += 1
        self._sha256.update(sha256.encode())

    def details(self) -> dict[str, Any]:
        """As it stands in the event."""
        return {"count": self.count, "sha256": self._sha256.hexdigest()}


def chain_end(connection: sa.Connection) -> ChainEnd:
    """Where the chain ends now."""
    row = connection.execute(sa.select(chain.c.number, chain.c.sha256)).one()
    return ChainEnd(row.number, row.sha256)


def hold_chain(connection: sa.Connection) -> int:
    """The number of the next event, which nobody else can write before this transaction ends.

    Others wait, so it is taken as late as possible.
    """
    return connection.execute(sa.select(chain.c.number).with_for_update(key_share=True)).scalar_one() + 1


def record(connection: sa.Connection, kind: str, actor: str, now: datetime, **details: Any) -> int:
    """Append an event and return its number.

    ``actor`` is ``"labeler 7"``, or whatever the caller is known by; ``details`` are JSON.
    """
    last = connection.execute(sa.select(chain.c.number, chain.c.sha256).with_for_update(key_share=True)).one()
    row = {"number": last.number + 1, "at": now, "actor": actor, "kind": kind, "details": details, "previous": last.sha256}
    row["sha256"] = event_sha256(row)
    connection.execute(sa.insert(event), row)
    connection.execute(sa.update(chain).values(number=row["number"], sha256=row["sha256"]))
    return last.number + 1


def event_sha256(row: Row) -> str:
    """The hash of an event."""
    return _sha256({name: row[name] for name in ("number", "at", "actor", "kind", "details", "previous")})


def judgement_sha256(row: Row) -> str:
    """The hash of one revision of a judgement and of everything that gives it its meaning."""
    return _sha256({name: row[name] for name in JUDGEMENT_FIELDS})


def prompt_sha256(row: Row, completions: Sequence[Row]) -> str:
    """The hash of a prompt and its completions, which stand in the order of their ids."""
    own = {name: row[name] for name in PROMPT_FIELDS}
    return _sha256({**own, "completions": [{name: c[name] for name in COMPLETION_FIELDS} for c in completions]})


ROW_FIELDS = ("reason", "why", "questions", "answers", "decision", "passed", "skipped", "quarantined")
"""What the hash of a decision, a concern or an answer to questions covers, as far as it has these: all that it says.
Who, about whom and when stands in its event."""


def row_sha256(row: Row) -> str:
    """The hash of what a row says of which an event of its own tells."""
    return _sha256({name: row[name] for name in ROW_FIELDS if name in row})


def instructions_sha256(text: str) -> str:
    """The hash of a text of instructions; its first 12 digits are their version."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _sha256(values: Mapping[str, Any]) -> str:
    plain = {name: moment(value) if isinstance(value, datetime) else value for name, value in values.items()}
    return hashlib.sha256(canonical(plain).encode()).hexdigest()
