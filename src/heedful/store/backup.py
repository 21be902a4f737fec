"""Copies of an SQLite store: complete and checked, or not there at all.

A copy is made with VACUUM INTO, which sees one moment of the store while others go on writing.
It is checked, flushed and only then given its name, so whatever lies in the folder of backups
is whole. PostgreSQL has better tools of its own.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from heedful.errors import FileProblem, StoreProblem
from heedful.store.database import PATIENCE, beside, create_private, mark_open

KEEP = 10
"""How many copies are kept."""
_STAMP = "%Y%m%dT%H%M%S%fZ"
_NAME = re.compile(r".*\.(\d{8}T\d{12}Z)(\.[\w-]+)?\.db")


def folder_of(file: Path) -> Path:
    """Where the copies of a store lie."""
    return beside(file, "backups")


def backups(file: Path) -> list[Path]:
    """The copies of a store, oldest first."""
    found = [path for path in folder_of(file).glob("*.db") if _NAME.fullmatch(path.name)]
    return sorted(found, key=made_at)


def made_at(copy: Path) -> datetime:
    """When a copy was made, by its name."""
    match = _NAME.fullmatch(copy.name)
    if match is None:
        raise FileProblem(f"{copy} is not named like a backup", "Name one from the folder of backups.")
    return datetime.strptime(match[1], _STAMP).replace(tzinfo=UTC)


def back_up(file: Path, keep: int = KEEP, label: str = "", now: datetime | None = None) -> Path:
    """Copy a store beside it, check the copy, and remove the oldest ones beyond ``keep``.

    Raises StoreProblem where the store is damaged, and FileProblem where the copy cannot be written.
    """
    stamp = (now or datetime.now(UTC)).strftime(_STAMP)
    target = folder_of(file) / f"{file.stem}.{stamp}{f'.{label}' if label else ''}.db"
    unfinished = target.with_suffix(".unfinished")
    try:
        create_private(unfinished)
        copy(file, unfinished)
        os.replace(unfinished, target)
        _flush(target.parent)
    except OSError as error:
        raise FileProblem(f"{target} cannot be written: {error.strerror}", "Free some disk space or mend its permissions.") from error
    finally:
        unfinished.unlink(missing_ok=True)
    for old in backups(file)[:-keep]:
        old.unlink()
    return target


def copy(source: Path, target: Path) -> None:
    """A checked copy of the database ``source`` in the empty file ``target``, on the disk when this returns."""
    if not source.is_file():
        raise FileProblem(f"there is no store {source}", "Check the path.")
    try:
        with closing(sqlite3.connect(source, timeout=PATIENCE)) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
        _refuse_damaged(target)
    except sqlite3.Error as error:
        raise StoreProblem(
            f"{source} cannot be copied to {target}: {error}",
            "Nothing was changed. If the disk is full, free some space; if the store is damaged, restore an earlier backup.",
        ) from error
    with target.open("rb") as handle:
        os.fsync(handle.fileno())


def restore(file: Path, chosen: Path) -> Path | None:
    """Put a backup in a store's place; returns where the store as it was now lies, ``None`` where there was none.

    Raises StoreProblem where the backup is damaged or the store is in use; the store is then as before.
    """
    unfinished = beside(file, "unfinished")
    unfinished.unlink(missing_ok=True)
    create_private(unfinished)
    try:
        copy(chosen, unfinished)
        # A process that still had the store open would go on writing into the file that is set aside.
        with mark_open(file, alone=True):
            aside = _set_aside(file) if file.exists() else None
            os.replace(unfinished, file)
            _flush(file.parent)
    finally:
        unfinished.unlink(missing_ok=True)
    return aside


def _refuse_damaged(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        found = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreProblem(f"the copy of the store is damaged: {found}", "The store itself may be; restore an earlier backup.")


def _set_aside(file: Path) -> Path:
    """Move a store with what belongs to it out of the way, under a name that is free."""
    aside = beside(file, f"before-restore-{datetime.now(UTC).strftime(_STAMP)}")
    for ending in ("-wal", "-shm", ""):
        part = file.with_name(file.name + ending)
        if part.exists():
            os.replace(part, aside.with_name(aside.name + ending))
    return aside


def _flush(folder: Path) -> None:
    """Make the folder's names durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
