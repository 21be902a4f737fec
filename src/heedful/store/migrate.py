"""Bringing a store to the schema of this heedful: never without a copy, and never half.

An SQLite store is copied, checked and migrated when it is opened. A PostgreSQL store is refused
until somebody who has made a backup says ``heed store migrate``. A store that is newer than the
code is left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from heedful.errors import StoreProblem
from heedful.store import schema
from heedful.store.backup import back_up
from heedful.store.database import Database

if TYPE_CHECKING:
    from alembic.config import Config

SCRIPTS = Path(__file__).with_name("migrations")
_LOCK = 4_337_001
"""An arbitrary number under which PostgreSQL keeps one migration at a time."""


def version_of(database: Database) -> str | None:
    """The store's schema version; ``None`` for an empty database. Raises StoreProblem for somebody else's."""

    def look(connection: sa.Connection) -> str | None:
        tables = set(sa.inspect(connection).get_table_names())
        if "alembic_version" not in tables:
            if tables:
                raise StoreProblem(
                    f"{database.where} holds tables of something else ({min(tables)})", "Name a store of heedful's, or an empty database."
                )
            return None
        return connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()

    return database.read(look)


def version_or_refuse(database: Database) -> str:
    """The same; raises StoreProblem for an empty database too."""
    version = version_of(database)
    if version is None:
        raise StoreProblem(f"{database.where} is an empty database, not a store", "Check the path or URL.")
    return version


def build(database: Database) -> None:
    """The tables of today in an empty database."""
    _upgrade(database)


def bring_up_to_date(database: Database, version: str, unattended: bool) -> Path | None:
    """Migrate a store from ``version``, if it has to be; returns the copy that was made before.

    Raises StoreProblem where it is newer than this heedful; and where it is ``unattended`` and
    of a database that heedful does not back up.
    """
    if version == schema.VERSION:
        return None
    if version not in _known():
        raise StoreProblem(
            f"{database.where} has schema {version}, and this heedful knows schemas up to {schema.VERSION}",
            "It was written by a newer heedful: install that one. Nothing was changed.",
        )
    if database.file is None and unattended:
        raise StoreProblem(
            f"{database.where} has schema {version}, and this heedful needs {schema.VERSION}",
            "Back it up (pg_dump), then run: heed store migrate",
        )
    copy = back_up(database.file, label=f"schema-{version}") if database.file else None
    _upgrade(database)
    return copy


def _upgrade(database: Database) -> None:
    from alembic import command

    def work(connection: sa.Connection) -> None:
        if database.file is None:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        command.upgrade(_config(connection), "head")
        if database.file and (orphan := connection.exec_driver_sql("PRAGMA foreign_key_check").first()):
            raise StoreProblem(
                f"the migration would leave row {orphan[1]} of {orphan[0]} without its parent", "Report this; nothing was changed."
            )

    # SQLite changes a table by building it anew, which foreign keys would forbid; they are checked at the end instead.
    database.write(work, foreign_keys=False)


def _known() -> set[str]:
    """Every version that there has been."""
    from alembic.script import ScriptDirectory

    return {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def _config(connection: sa.Connection | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
