"""Accounts, invitations, sessions and tokens; comprehension checks; a content warning; a summary of what was derived.

Tables are written out here once more, as they were when this step was released.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")

FACTS = ("comprehension", "comprehension_attempt", "comprehension_decision")
"""Tables whose rows are never changed or removed."""


def upgrade() -> None:
    """Build the new tables, and let the database refuse to change what is a fact."""
    metadata.create_all(op.get_bind(), tables=NEW)
    op.add_column("derived_run", sa.Column("summary", sa.Text))
    op.add_column("project", sa.Column("content_warning", sa.Text))
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
    return [trigger.format(table=table) for table in FACTS for trigger in (rows, whole)]


def words(name: str, *allowed: str) -> sa.CheckConstraint:
    """A check that a column holds one of these words."""
    return sa.CheckConstraint(f"{name} IN ({', '.join(repr(word) for word in allowed)})", name=name)


def reference(column: str, **options: Any) -> sa.ForeignKey:
    """A foreign key under which nothing can vanish."""
    return sa.ForeignKey(column, ondelete="RESTRICT", **options)


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# What is there already, as far as the new tables refer to it.
sa.Table("project", metadata, sa.Column("id", ID, primary_key=True))
sa.Table("labeler", metadata, sa.Column("id", ID, primary_key=True))

sa.Table(
    "account",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("password", sa.String(500), nullable=False),
    sa.Column("labeler_id", ID, reference("labeler.id"), nullable=False, unique=True),
    sa.Column("owner", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(11), nullable=False),
    sa.Column("made_at", MOMENT, nullable=False),
    words("state", "active", "deactivated"),
)

sa.Table(
    "membership",
    metadata,
    sa.Column("account_id", ID, reference("account.id"), primary_key=True, autoincrement=False),
    sa.Column("project_id", ID, reference("project.id"), primary_key=True, autoincrement=False),
    sa.Column("role", sa.String(11), nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),  # is asked nothing new in this project
    words("role", "manager", "adjudicator", "labeler", "viewer"),
    sa.Index(None, "project_id"),
)

sa.Table(
    "invitation",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("role", sa.String(11), nullable=False),
    sa.Column("project_id", ID, reference("project.id")),
    sa.Column("strata", sa.Text, nullable=False),
    sa.Column("made_by", ID, reference("account.id")),  # null: the program itself, for the first owner
    sa.Column("made_at", MOMENT, nullable=False),
    sa.Column("expires_at", MOMENT, nullable=False),
    sa.Column("used_at", MOMENT),
    sa.Column("used_by", ID, reference("account.id")),
    sa.Column("revoked_at", MOMENT),
    words("role", "owner", "manager", "adjudicator", "labeler", "viewer"),
    sa.CheckConstraint("(role = 'owner') = (project_id IS NULL)", name="project"),
    sa.CheckConstraint("(used_at IS NULL) = (used_by IS NULL)", name="used"),
    sa.Index(None, "project_id"),
)

sa.Table(
    "session",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("account_id", ID, reference("account.id"), nullable=False),
    sa.Column("began_at", MOMENT, nullable=False),
    sa.Column("seen_at", MOMENT, nullable=False),
    sa.Column("agent", sa.Text, nullable=False),  # what the browser calls itself, so that somebody can tell theirs apart
    sa.Index(None, "account_id"),
)

sa.Table(
    "api_token",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("account_id", ID, reference("account.id"), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("made_at", MOMENT, nullable=False),
    sa.Column("expires_at", MOMENT, nullable=False),
    sa.Column("used_at", MOMENT),
    sa.Column("revoked_at", MOMENT),
    sa.Index(None, "account_id"),
)

sa.Table(
    "failed_sign_in",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Column("last_at", MOMENT, nullable=False),
    sa.Index(None, "last_at"),
)

sa.Table(
    "comprehension",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("project_id", ID, reference("project.id"), nullable=False),
    sa.Column("questions", sa.Text, nullable=False),
    sa.Column("published_at", MOMENT, nullable=False),
    sa.Index(None, "project_id", "id"),
)

sa.Table(
    "comprehension_attempt",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("comprehension_id", ID, reference("comprehension.id"), nullable=False),
    sa.Column("labeler_id", ID, reference("labeler.id"), nullable=False),
    sa.Column("answers", sa.Text, nullable=False),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("at", MOMENT, nullable=False),
    sa.Index(None, "comprehension_id", "labeler_id"),
)

sa.Table(
    "comprehension_decision",  # a person's, on somebody who has used up their tries; the latest holds
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("comprehension_id", ID, reference("comprehension.id"), nullable=False),
    sa.Column("labeler_id", ID, reference("labeler.id"), nullable=False),
    sa.Column("decision", sa.String(9), nullable=False),
    sa.Column("decided_by", sa.String(200), nullable=False),
    sa.Column("why", sa.Text, nullable=False),
    sa.Column("at", MOMENT, nullable=False),
    words("decision", "passed", "try_again"),
    sa.Index(None, "comprehension_id", "labeler_id"),
)

NEW = [table for name, table in metadata.tables.items() if name not in ("project", "labeler")]
