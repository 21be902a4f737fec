"""One database, SQLite or PostgreSQL: how it is opened, read and written.

* Work is a function of a connection. ``read`` and ``write`` run it in one transaction; a write
  that loses a race (deadlock, serialisation failure, busy file) is rolled back and run again, so
  work must change nothing but the database.
* SQLite: write-ahead log, every commit flushed to the disk, foreign keys on. A writer takes
  the write lock before it looks (BEGIN IMMEDIATE), so what it decides on is still true when it
  writes. Writers queue for it, threads at a lock and processes at a lock file: SQLite's own
  waiting sleeps ever longer, so that under load the unlucky wait for seconds.
* PostgreSQL: READ COMMITTED and explicit row locks.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self, TypeVar

import sqlalchemy as sa

from heedful.errors import SettingProblem, StoreBusy, StoreProblem, nearest
from heedful.store.trouble import in_words, lost_a_race

T = TypeVar("T")
Work = Callable[[sa.Connection], T]

PATIENCE = 10.0
"""Seconds that a writer waits for the others before it gives up."""
ATTEMPTS = 8
"""How often work that lost a race is tried; the pause doubles from 5 ms, with a random part."""

_PRAGMAS = (
    f"PRAGMA busy_timeout = {int(PATIENCE * 1000)}",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA trusted_schema = OFF",
    "PRAGMA recursive_triggers = ON",  # so that REPLACE cannot slip past the triggers that forbid DELETE
)
_IMMEDIATE = "heedful_immediate"


class Database:
    """An open database. Threads may share it; processes each open their own."""

    def __init__(self, where: str | Path) -> None:
        self.file = sqlite_file(where)
        self.where = str(self.file or sa.make_url(str(where)).render_as_string(hide_password=True))
        self.engine = _sqlite_engine(self.file) if self.file else _postgres_engine(str(where))
        self._turn = threading.Lock()
        self._open = mark_open(self.file) if self.file else None

    @classmethod
    def existing(cls, where: str | Path) -> Self:
        """The database at a path or URL; raises StoreProblem where there is no such file."""
        file = sqlite_file(where)
        if file and not file.is_file():
            raise StoreProblem(f"there is no store {file}", "Check the path.")
        return cls(where)

    @classmethod
    def made(cls, where: str | Path) -> Self:
        """The same, and an empty file is made where there is none."""
        file = sqlite_file(where)
        try:
            if file and not file.exists():
                create_private(file)
        except FileExistsError:  # somebody else has just made it
            pass
        except OSError as error:
            raise StoreProblem(f"{file} cannot be made: {error.strerror}", "Choose another folder, or mend its permissions.") from None
        return cls(where)

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()
        if self._open:
            self._open.close()

    def read(self, work: Work[T]) -> T:
        """What ``work`` finds, in one transaction that sees one moment."""
        with in_words(self.where), self.engine.connect() as connection:
            if self.file is None:
                connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            with connection.begin():
                return work(connection)

    def write(self, work: Work[T], foreign_keys: bool = True) -> T:
        """What ``work`` returns once everything that it wrote is on the disk; all or nothing.

        ``foreign_keys=False`` is for migrations of SQLite, which rebuild tables and check the
        keys at the end. Raises StoreBusy where others had the database for too long.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with in_words(self.where):
                    return self._write_once(work, foreign_keys)
            except (StoreBusy, sa.exc.IntegrityError) as problem:
                cause = problem.__cause__ if isinstance(problem, StoreBusy) else problem
                if attempt == ATTEMPTS or not lost_a_race(cause):
                    raise
                time.sleep(0.005 * 2**attempt * random.uniform(0.5, 1.5))
        raise AssertionError("the last attempt returns or raises")

    def _write_once(self, work: Work[T], foreign_keys: bool) -> T:
        if self.file is None:
            with self.engine.begin() as connection:
                return work(connection)
        with self._writer(self.file), self.engine.connect() as connection:
            if not foreign_keys:
                connection.detach()  # SQLite cannot switch inside a transaction; this connection is used once
                connection.connection.execute("PRAGMA foreign_keys = OFF")
            connection = connection.execution_options(**{_IMMEDIATE: True})
            with connection.begin():
                return work(connection)

    @contextmanager
    def _writer(self, file: Path) -> Iterator[None]:
        """One writer at a time, first come first served: among this process's threads, then among processes."""
        if not self._turn.acquire(timeout=PATIENCE):
            raise StoreBusy(f"other threads have been writing to {file} for {PATIENCE:.0f} seconds", "Try again.")
        try:
            with _opened_beside(file, "lock") as queue:
                until = time.monotonic() + PATIENCE
                while not locked(queue, exclusive=True):
                    if time.monotonic() > until:  # a process that was stopped while it held the lock must not stop all
                        raise StoreBusy(f"another process has been writing to {file} for {PATIENCE:.0f} seconds", "Try again.")
                    time.sleep(0.001)
                yield
        finally:
            self._turn.release()


def sqlite_file(where: str | Path) -> Path | None:
    """The file of an SQLite database given by path or URL; ``None`` for PostgreSQL. Raises SettingProblem for anything else."""
    text = str(where)
    if "://" not in text:
        return Path(text)
    scheme = text.partition("://")[0].partition("+")[0]
    if scheme == "sqlite":
        if not (database := sa.make_url(text).database) or database == ":memory:":
            raise SettingProblem(f"{text!r} names no file", "A store has to outlive the process: name a file, e.g. sqlite:///labels.db")
        return Path(database)
    if scheme in ("postgresql", "postgres"):
        return None
    raise SettingProblem(
        f"a store cannot be kept in {scheme!r}.{nearest(scheme, ('sqlite', 'postgresql'))}",
        "Name a file, or a URL that starts with postgresql://",
    )


def beside(file: Path, ending: str) -> Path:
    """A file that belongs to a database file. Two processes meet there; the database itself is not touched."""
    return file.with_name(f"{file.name}.{ending}")


def locked(handle: IO[bytes], exclusive: bool) -> bool:
    """Lock a file, if nobody else has locked it otherwise; the system lets go when it is closed, or its process dies."""
    try:
        import fcntl
    except ImportError:  # not on this system: SQLite's own locks have to do
        return True
    try:
        fcntl.flock(handle, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def mark_open(file: Path, alone: bool = False) -> IO[bytes]:
    """Tell other processes, until the handle is closed, that this one has the store open; ``alone``: that nobody else may."""
    handle = _opened_beside(file, "open")
    if not locked(handle, exclusive=alone):
        handle.close()
        raise StoreProblem(f"{file} is in use", "Stop whatever has it open (heed label, another command), then try again.")
    return handle


def _opened_beside(file: Path, ending: str) -> IO[bytes]:
    path = beside(file, ending)
    try:
        return path.open("ab")
    except OSError as error:
        raise StoreProblem(f"{path} cannot be written: {error.strerror}", "Check the path and its permissions.") from None


def _sqlite_engine(file: Path) -> sa.Engine:
    engine = sa.create_engine(sa.URL.create("sqlite", database=str(file)), connect_args={"timeout": PATIENCE})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: object, _: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]  # the driver must not begin transactions on its own
        for pragma in _PRAGMAS:
            connection.execute(pragma)  # type: ignore[attr-defined]

    @sa.event.listens_for(engine, "begin")
    def _begun(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_IMMEDIATE) else "BEGIN")

    return engine


def _postgres_engine(url: str) -> sa.Engine:
    try:
        return sa.create_engine(
            sa.make_url(url).set(drivername="postgresql+psycopg"),
            pool_pre_ping=True,
            connect_args={"options": f"-c timezone=UTC -c lock_timeout={int(PATIENCE * 1000)}", "application_name": "heedful"},
        )
    except ModuleNotFoundError:
        raise StoreProblem("psycopg, the driver for PostgreSQL, is not installed", "pip install 'heedful[postgres]'") from None


def take_stock(connection: sa.Connection) -> None:
    """After many rows have come in: let PostgreSQL count them, or it would plan for empty tables until it does so by itself.

    The queries are written so that SQLite finds their indexes without having counted.
    """
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("ANALYZE prompt, completion, completion_origin, slot, judgement_revision")


def create_private(file: Path) -> None:
    """An empty file that nobody else may read: it will hold what people said, and who they are."""
    file.parent.mkdir(parents=True, exist_ok=True)
    os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
