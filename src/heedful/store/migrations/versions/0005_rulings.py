"""A purpose of its own for what settles a prompt, which until now looked like an answer that came too late.

What was a ruling by the rule of until now (an extra by somebody who may settle things) becomes one. The hash of
such a judgement was made of the word of then, so an event of the log names the slots that are called otherwise from here on.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")

ASKED_TO_SETTLE = "purpose = 'extra' AND state IN ('leased', 'skipped')"
"""Nobody else holds an extra before it is judged."""

SETTLED = """
purpose = 'extra' AND state = 'judged' AND labeler_id IN (
    SELECT account.labeler_id FROM account LEFT JOIN membership ON membership.account_id = account.id
    WHERE account.owner OR (membership.project_id = slot.project_id AND membership.role IN ('manager', 'adjudicator'))
)
"""


def upgrade() -> None:
    """One more word for a slot's purpose, and those whose it is."""
    purposes = sa.text("purpose IN ('overlap', 'calibration', 'repeat', 'extra', 'ruling')")
    with op.batch_alter_table("slot", copy_from=SLOT) as table:
        table.drop_constraint(op.f("ck_slot_purpose"), type_="check")
        table.create_check_constraint(op.f("ck_slot_purpose"), purposes)
    connection = op.get_bind()
    connection.execute(sa.text(f"UPDATE slot SET purpose = 'ruling' WHERE {ASKED_TO_SETTLE}"))
    settled = [int(i) for i in connection.execute(sa.text(f"SELECT id FROM slot WHERE {SETTLED} ORDER BY id")).scalars()]
    if settled:
        connection.execute(sa.text(f"UPDATE slot SET purpose = 'ruling' WHERE {SETTLED}"))
        _log(connection, {"slots": settled, "was": "extra"})


def _log(connection: sa.Connection, details: dict[str, Any]) -> None:
    """One more event at the end of the chain, as events were written when this step was released."""
    last = connection.execute(sa.text("SELECT number, sha256 FROM chain")).one()
    at = datetime.now(UTC).isoformat(timespec="microseconds")
    row = {"number": last.number + 1, "at": at, "actor": "heed store migrate", "kind": "rulings.named"}
    row |= {"details": details, "previous": last.sha256}
    row["sha256"] = hashlib.sha256(_canonical(row).encode()).hexdigest()
    columns = "number, at, actor, kind, details, previous, sha256"
    values = ", ".join(f":{name}" for name in columns.split(", "))
    connection.execute(sa.text(f"INSERT INTO event ({columns}) VALUES ({values})"), row | {"details": _canonical(details)})
    connection.execute(sa.text("UPDATE chain SET number = :number, sha256 = :sha256"), row)


def _canonical(value: Any) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))


def words(name: str, *allowed: str) -> sa.CheckConstraint:
    """A check that a column holds one of these words."""
    return sa.CheckConstraint(f"{name} IN ({', '.join(repr(word) for word in allowed)})", name=name)


def partial(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    """An index of the rows for which ``where`` holds."""
    return sa.Index(name, *columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# SQLite builds a table anew to change it, so it is written out once more, as it was before this step.
SLOT = sa.Table(
    "slot",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", ID, nullable=False),
    sa.Column("prompt_id", ID, nullable=False),
    sa.Column("k", sa.Integer),
    sa.Column("purpose", sa.String(11), nullable=False),
    sa.Column("state", sa.String(7), nullable=False),
    sa.Column("stratum_id", ID, sa.ForeignKey("stratum.id", ondelete="RESTRICT")),
    sa.Column("labeler_id", ID, sa.ForeignKey("labeler.id", ondelete="RESTRICT")),
    sa.Column("at_random", sa.Boolean, nullable=False),
    sa.Column("token", sa.String(64), unique=True),
    sa.Column("asked_at", MOMENT),
    sa.Column("lease_until", MOMENT),
    sa.Column("shown", sa.Text),
    sa.ForeignKeyConstraint(["prompt_id", "project_id"], ["prompt.id", "prompt.project_id"], ondelete="RESTRICT"),
    words("purpose", "overlap", "calibration", "repeat", "extra"),
    words("state", "open", "leased", "judged", "skipped", "lapsed"),
    sa.CheckConstraint("(state = 'open') = (labeler_id IS NULL)", name="labeler"),
    sa.CheckConstraint("(state = 'open') = (shown IS NULL)", name="shown"),
    sa.CheckConstraint("(state = 'leased') = (lease_until IS NOT NULL)", name="lease"),
    sa.CheckConstraint("(k IS NOT NULL) = (purpose = 'overlap' AND state IN ('open', 'leased', 'judged'))", name="k"),
    sa.UniqueConstraint("prompt_id", "k"),
    partial("uq_slot_voice", "prompt_id", "labeler_id", where="purpose <> 'repeat' AND state <> 'lapsed'", unique=True),
    partial("uq_slot_repeat", "prompt_id", "labeler_id", where="purpose = 'repeat'", unique=True),
    partial("uq_slot_lease", "project_id", "labeler_id", where="state = 'leased'", unique=True),
    partial("ix_slot_places", "project_id", "stratum_id", "prompt_id", "k", where="state IN ('open', 'leased')"),
    partial("ix_slot_judged", "project_id", "id", where="state = 'judged'"),
    sa.Index("ix_slot_labeler", "project_id", "labeler_id", "state", "purpose"),
)
