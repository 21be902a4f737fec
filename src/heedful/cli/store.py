"""Looking after a store of judgements: how full, how safe, how whole."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heedful.cli.common import AsJson, show, table, warn

if TYPE_CHECKING:
    from heedful.store import Store

store = typer.Typer(name="store", help="Look after a store of judgements: status, backup, restore, check, migrate.", no_args_is_help=True)
Where = Annotated[
    str, typer.Argument(metavar="[STORE]", envvar="HEEDFUL_STORE", show_envvar=True, help="Its file, or a postgresql:// URL.")
]
HERE = "heedful.db"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(store)


@store.command("status")
def status(where: Where = HERE, as_json: AsJson = False) -> None:
    """How far every project has come, and when the store was last backed up."""
    with _open(where) as opened:
        last = opened.last_backup()
        facts: dict[str, Any] = {
            "store": opened.database.where,
            "schema": opened.schema,
            "last_backup": last.isoformat(timespec="seconds") if last else "never" if opened.database.file else "see pg_dump",
        }
        projects = [found.to_dict() for found in opened.status()]
    if as_json:
        show({**facts, "projects": projects}, as_json=True)
        return
    show(facts, as_json=False)
    for project in projects:
        typer.echo()
        show({name: value for name, value in project.items() if value not in ({}, 0)}, as_json=False)


@store.command("backup")
def backup(
    where: Where = HERE,
    keep: Annotated[int | None, typer.Option(min=1, help="How many backups are kept; 10 unless given.")] = None,
    as_json: AsJson = False,
) -> None:
    """Copy the store beside itself while work goes on, and check the copy."""
    from heedful.store.backup import KEEP

    with _open(where) as opened:
        made = opened.back_up(keep or KEEP)
    show({"backup": str(made), "mib": made.stat().st_size / 2**20}, as_json)


@store.command("backups")
def backups(where: Where = HERE, as_json: AsJson = False) -> None:
    """The backups that there are, oldest first."""
    from heedful.store.backup import backups, made_at
    from heedful.store.database import sqlite_file

    file = sqlite_file(where)
    rows = [{"made": made_at(path).isoformat(timespec="seconds"), "backup": str(path)} for path in (backups(file) if file else [])]
    table("Backups", rows, as_json)


@store.command("restore")
def restore(
    chosen: Annotated[Path, typer.Argument(metavar="BACKUP", help="The backup to go back to.")],
    where: Where = HERE,
    as_json: AsJson = False,
) -> None:
    """Put a backup in the store's place; the store as it was is set aside, never deleted."""
    from heedful.errors import StoreProblem
    from heedful.store.backup import restore
    from heedful.store.database import sqlite_file

    if (file := sqlite_file(where)) is None:
        raise StoreProblem("a PostgreSQL store is not restored by heed", "Use pg_restore or psql.")
    aside = restore(file, chosen)
    show({"store": str(file), "restored_from": str(chosen), "set_aside": str(aside) if aside else None}, as_json)


@store.command("check")
def check(where: Where = HERE, as_json: AsJson = False) -> None:
    """Is everything there, and as it was when it was stored? Names the first thing that is not."""
    from heedful.errors import StoreProblem

    with _open(where) as opened:
        found = opened.check().to_dict()
    if problem := found.pop("problem"):
        raise StoreProblem(f"{opened.database.where}: {problem}", "Look into it, and restore a backup (heed store backups).")
    show({"store": opened.database.where, "whole": True, **found}, as_json)


@store.command("migrate")
def migrate(where: Where = HERE, as_json: AsJson = False) -> None:
    """Bring a store to the schema of this heedful. A file is backed up first; a PostgreSQL database is for you to back up."""
    from heedful.store.database import Database
    from heedful.store.migrate import bring_up_to_date, version_or_refuse

    database = Database.existing(where)
    try:
        before = version_or_refuse(database)
        copy = bring_up_to_date(database, before, unattended=False)
        after = version_or_refuse(database)
    finally:
        database.close()
    show({"store": database.where, "schema_before": before, "schema": after, "backup": str(copy) if copy else None}, as_json)


def _open(where: str) -> Store:
    from heedful.store import Store

    return Store.open(where, actor="heed store", warn=warn)
