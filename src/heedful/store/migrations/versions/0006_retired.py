"""Judgements may be retired: made under older instructions, kept, and no longer counted, while their places are open again."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")

STATES = "state IN ('open', 'leased', 'judged', 'skipped', 'lapsed', 'retired')"
INDEXES: dict[str, tuple[list[str], str, bool]] = {
    "uq_slot_voice": (["prompt_id", "labeler_id"], "purpose <> 'repeat' AND state <> 'lapsed' AND state <> 'retired'", True),
    "uq_slot_repeat": (["prompt_id", "labeler_id"], "purpose = 'repeat' AND state <> 'retired'", True),
    "ix_slot_judged": (["project_id", "id"], "state IN ('judged', 'retired')", False),
}


def upgrade() -> None:
    """One more state of a slot, the event that put it there, and indexes that know of it."""
    with op.batch_alter_table("slot", copy_from=SLOT) as table:
        table.add_column(sa.Column("retired_in", ID))
        table.create_foreign_key(op.f("fk_slot_retired_in"), "event", ["retired_in"], ["number"], ondelete="RESTRICT")
        table.drop_constraint(op.f("ck_slot_state"), type_="check")
        table.create_check_constraint(op.f("ck_slot_state"), sa.text(STATES))
        table.create_check_constraint(op.f("ck_slot_retired"), sa.text("(state = 'retired') = (retired_in IS NOT NULL)"))
        for name, (columns, where, unique) in INDEXES.items():
            table.drop_index(name)
            of_these: dict[str, Any] = {f"{database}_where": sa.text(where) for database in ("sqlite", "postgresql")}
            table.create_index(name, columns, unique=unique, **of_these)


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
    words("purpose", "overlap", "calibration", "repeat", "extra", "ruling"),
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
