"""Identities of providers of sign-ins, accounts without a password, and one table for everything that may be tried so often.

Tables are written out here once more, as they were when this step was released. Which sign-ins have
failed in the last day is forgotten.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.String(32).with_variant(sa.String(32, collation="C"), "postgresql")


def upgrade() -> None:
    """Build the new tables; let a password be missing."""
    op.drop_table("failed_sign_in")
    with op.batch_alter_table("account") as table:
        table.alter_column("password", existing_type=sa.String(500), nullable=True)
    metadata.create_all(op.get_bind(), tables=NEW)


def reference(column: str) -> sa.ForeignKey:
    """A foreign key under which nothing can vanish."""
    return sa.ForeignKey(column, ondelete="RESTRICT")


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
sa.Table("account", metadata, sa.Column("id", ID, primary_key=True))
sa.Table("invitation", metadata, sa.Column("id", ID, primary_key=True))

sa.Table(
    "identity",
    metadata,
    sa.Column("id", ID, primary_key=True),
    sa.Column("account_id", ID, reference("account.id"), nullable=False),
    sa.Column("issuer", sa.String(500), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("linked_at", MOMENT, nullable=False),
    sa.UniqueConstraint("issuer", "subject"),
    sa.Index(None, "account_id"),
)

sa.Table(
    "departure",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("cookie_sha256", sa.String(64), nullable=False),
    sa.Column("provider", sa.String(40), nullable=False),
    sa.Column("errand", sa.String(7), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("invitation_id", ID, reference("invitation.id")),
    sa.Column("name", sa.String(200)),
    sa.Column("account_id", ID, reference("account.id")),
    sa.Column("left_at", MOMENT, nullable=False),
    sa.CheckConstraint("errand IN ('sign_in', 'join', 'link')", name="errand"),
    sa.CheckConstraint("(errand = 'join') = (invitation_id IS NOT NULL)", name="invitation"),
    sa.CheckConstraint("(errand = 'join') = (name IS NOT NULL)", name="name"),
    sa.CheckConstraint("(errand = 'link') = (account_id IS NOT NULL)", name="account"),
    sa.Index(None, "left_at"),
)

sa.Table(
    "tries",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Column("at", MOMENT, nullable=False),
    sa.Index(None, "at"),
)

NEW = [table for name, table in metadata.tables.items() if name not in ("account", "invitation")]
