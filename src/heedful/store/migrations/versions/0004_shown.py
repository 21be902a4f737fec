"""How many completions a project's tasks show at most; nine, as many as there could be, where nobody had a say."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """One more column of a project."""
    op.add_column("project", sa.Column("max_shown", sa.Integer, nullable=False, server_default="9"))
