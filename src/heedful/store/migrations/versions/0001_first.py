"""The first schema.

Tables are written out here once more, as they were when this step was released; what they mean is
told in ``heedful.store.schema``.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")

FACTS = ("event", "judgement_revision", "instructions", "acknowledgement", "concern", "quarantine")
"""Tables whose rows are never changed or removed."""

JUDGEMENT = """
CREATE VIEW judgement AS
SELECT * FROM judgement_revision AS r
WHERE number = (SELECT max(number) FROM judgement_revision AS newest WHERE newest.slot_id = r.slot_id)
"""

REFUSE = """
CREATE FUNCTION heedful_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'rows of % are never changed or removed', TG_TABLE_NAME; END $$
"""


def upgrade() -> None:
    """Build everything in an empty database."""
    metadata.create_all(op.get_bind())
    op.execute(JUDGEMENT)
    op.execute(f"INSERT INTO chain (id, number, sha256) VALUES (1, 0, '{'0' * 64}')")
    for statement in _triggers(op.get_bind().dialect.name):
        op.execute(statement)


def _triggers(dialect: str) -> list[str]:
    if dialect == "sqlite":
        refuse = "BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed or removed'); END"
        return [
            f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb} ON {table} {refuse.format(table=table)}"
            for table in FACTS
            for verb in ("update", "delete")
        ]
    rows = "CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} FOR EACH ROW EXECUTE FUNCTION heedful_refuse()"
    whole = "CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT EXECUTE FUNCTION heedful_refuse()"
    return [REFUSE, *(trigger.format(table=table) for table in FACTS for trigger in (rows, whole))]


def words(name: str, *allowed: str) -> sa.CheckConstraint:
    """A check that a column holds one of these words."""
    return sa.CheckConstraint(f"{name} IN ({', '.join(repr(word) for word in allowed)})", name=name)


def reference(column: str, **options: Any) -> sa.ForeignKey:
    """A foreign key under which nothing can vanish."""
    return sa.ForeignKey(column, ondelete="RESTRICT", **options)


def partial(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    """An index of the rows for which ``where`` holds."""
    return sa.Index(name, *columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))


def flagged(name: str, *columns: str, flag: str) -> sa.Index:
    """An index of the rows in which a yes or no is a yes."""
    return sa.Index(name, *columns, sqlite_where=sa.text(f"{flag} = 1"), postgresql_where=sa.text(flag))


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

sa.Table(
    "criterion",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("question", sa.Text, nullable=False),
    sa.Column("higher_is", sa.String(6), nullable=False),
    words("higher_is", "better", "worse"),
    sa.UniqueConstraint("name", "question", "higher_is"),
)

sa.Table(
    "project",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("criterion_id", ID, reference("criterion.id"), nullable=False),
    sa.Column("task", sa.String(10), nullable=False),
    sa.Column("tie_policy", sa.String(7), nullable=False),
    sa.Column("overlap", sa.Integer, nullable=False),
    sa.Column("max_overlap", sa.Integer, nullable=False),
    sa.Column("decided", sa.Float, nullable=False),
    sa.Column("random_share", sa.Float, nullable=False),
    sa.Column("calibration_share", sa.Float, nullable=False),
    sa.Column("repeat_share", sa.Float, nullable=False),
    sa.Column("repeat_after", sa.Integer, nullable=False),
    sa.Column("lease", sa.Integer, nullable=False),
    sa.Column("coverage", sa.Text, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    words("state", "active", "paused", "archived"),
    words("task", "ranking", "thumbs", "correction"),
    words("tie_policy", "none", "sparing", "free"),
    sa.CheckConstraint("1 <= overlap AND overlap <= max_overlap", name="overlap"),
)

sa.Table(
    "instructions",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", ID, reference("project.id"), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("text", sa.Text),
    sa.Column("published_at", MOMENT),
    sa.Index(None, "project_id", "version"),
)

sa.Table(
    "labeler",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("kind", sa.String(9), nullable=False),
    sa.Column("state", sa.String(11), nullable=False),
    sa.Column("added_at", MOMENT, nullable=False),
    words("kind", "person", "ai", "simulated"),
    words("state", "active", "paused", "deactivated"),
)

sa.Table(
    "stratum",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("dimension", sa.String(200), nullable=False),
    sa.Column("value", sa.String(200), nullable=False),
    sa.UniqueConstraint("dimension", "value"),
)

sa.Table(
    "labeler_stratum",
    metadata,
    sa.Column("labeler_id", ID, reference("labeler.id"), primary_key=True),
    sa.Column("stratum_id", ID, reference("stratum.id"), primary_key=True),
    sa.Index(None, "stratum_id"),
)

sa.Table(
    "acknowledgement",
    metadata,
    sa.Column("labeler_id", ID, reference("labeler.id"), primary_key=True),
    sa.Column("instructions_id", ID, reference("instructions.id"), primary_key=True),
    sa.Column("at", MOMENT, nullable=False),
    sa.Index(None, "instructions_id"),
)

sa.Table(
    "prompt",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=False),
    sa.Column("project_id", ID, reference("project.id"), nullable=False),
    sa.Column("external_id", sa.String(500), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("reference", sa.Text),
    sa.Column("columns", sa.Text, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("event", ID, reference("event.number", deferrable=True, initially="DEFERRED"), nullable=False),
    sa.Column("calibration", sa.Boolean, nullable=False),
    sa.Column("withdrawn", sa.Boolean, nullable=False),
    sa.Column("overlap", sa.Integer, nullable=False),
    sa.UniqueConstraint("project_id", "external_id"),
    sa.UniqueConstraint("project_id", "number"),
    sa.UniqueConstraint("id", "project_id"),
    sa.Index("ix_prompt_event", "event", "id"),
    flagged("ix_prompt_calibration", "project_id", "number", flag="calibration"),
    flagged("ix_prompt_withdrawn", "project_id", flag="withdrawn"),
)
sa.Table(
    "completion",
    metadata,
    sa.Column("id", ID, primary_key=True, autoincrement=False),
    sa.Column("prompt_id", ID, reference("prompt.id"), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Index(None, "prompt_id"),
)

sa.Table(
    "completion_origin",
    metadata,
    sa.Column("completion_id", ID, reference("completion.id"), primary_key=True, autoincrement=False),
    sa.Column("project_id", ID, reference("project.id"), nullable=False),
    sa.Column("external_id", sa.String(500), nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("seed", sa.Text, nullable=False),
    sa.Column("sampling", sa.Text, nullable=False),
    sa.Column("token_ids", sa.Text, nullable=False),
    sa.Column("finish_reason", sa.String(6), nullable=False),
    sa.UniqueConstraint("project_id", "external_id"),
)

sa.Table(
    "slot",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", ID, nullable=False),
    sa.Column("prompt_id", ID, nullable=False),
    sa.Column("k", sa.Integer),
    sa.Column("purpose", sa.String(11), nullable=False),
    sa.Column("state", sa.String(7), nullable=False),
    sa.Column("stratum_id", ID, reference("stratum.id")),
    sa.Column("labeler_id", ID, reference("labeler.id")),
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

sa.Table(
    "judgement_revision",
    metadata,
    sa.Column("slot_id", ID, reference("slot.id"), primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", sa.String(200), nullable=False, unique=True),
    sa.Column("instructions_id", ID, reference("instructions.id"), nullable=False),
    sa.Column("answer", sa.Text, nullable=False),
    sa.Column("active_ms", sa.BigInteger),
    sa.Column("judged_at", MOMENT),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("event", ID, reference("event.number", deferrable=True, initially="DEFERRED"), nullable=False),
    sa.Index("ix_judgement_revision_event", "event", "slot_id", "number"),
)

sa.Table(
    "concern",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("slot_id", ID, reference("slot.id"), nullable=False),
    sa.Column("skipped", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("at", MOMENT, nullable=False),
    sa.Index(None, "slot_id"),
)

sa.Table(
    "event",
    metadata,
    sa.Column("number", ID, primary_key=True, autoincrement=False),
    sa.Column("at", MOMENT, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(50), nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
)

sa.Table(
    "chain",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", ID, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.CheckConstraint("id = 1", name="one"),
)

sa.Table(
    "derived_run",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", ID, reference("project.id"), nullable=False),
    sa.Column("algorithm", sa.String(200), nullable=False),
    sa.Column("version", sa.String(50), nullable=False),
    sa.Column("parameters", sa.Text, nullable=False),
    sa.Column("as_of", ID, reference("event.number"), nullable=False),
    sa.Column("input_sha256", sa.String(64), nullable=False),
    sa.Column("made_at", MOMENT, nullable=False),
    sa.Index(None, "project_id", "id"),
)

sa.Table(
    "derived_pair",
    metadata,
    sa.Column("run_id", ID, reference("derived_run.id"), primary_key=True),
    sa.Column("chosen_id", ID, reference("completion.id"), primary_key=True),
    sa.Column("rejected_id", ID, reference("completion.id"), primary_key=True),
    sa.Column("prompt_id", ID, reference("prompt.id"), nullable=False),
    sa.Column("p", sa.Float, nullable=False),
    sa.Column("details", sa.Text, nullable=False),
    sa.CheckConstraint("0 <= p AND p <= 1", name="p"),
    sa.CheckConstraint("chosen_id <> rejected_id", name="two"),
    sa.Index(None, "run_id", "prompt_id", "p"),
)

sa.Table(
    "derived_labeler",
    metadata,
    sa.Column("run_id", ID, reference("derived_run.id"), primary_key=True),
    sa.Column("labeler_id", ID, reference("labeler.id"), primary_key=True),
    sa.Column("finding", sa.String(50), nullable=False),
    sa.Column("details", sa.Text, nullable=False),
)

sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", ID, reference("project.id"), nullable=False),
    sa.Column("labeler_id", ID, reference("labeler.id"), nullable=False),
    sa.Column("quarantined", sa.Boolean, nullable=False),
    sa.Column("decided_by", sa.String(200), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("at", MOMENT, nullable=False),
    sa.Index(None, "project_id", "labeler_id", "id"),
)
