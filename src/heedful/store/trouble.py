"""What a database complains of, in words; and which complaints pass when one tries again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from heedful.errors import HeedfulError, StoreBusy, StoreProblem

SERIALISATION, DEADLOCK, UNIQUE, LOCKED = "40001", "40P01", "23505", "55P03"
"""PostgreSQL's codes for what happens to transactions that get in each other's way."""
_FULL = ("database or disk is full", "no space left", "disk I/O error", "File too large")
_DAMAGED = ("malformed", "not a database", "disk image", "checksum", "could not read block")
_NO_ENTRY = ("unable to open", "readonly database", "read-only", "permission denied")


@contextmanager
def in_words(where: str) -> Iterator[None]:
    """Turn what the database raises into StoreProblem or StoreBusy; what it says of a mistake of ours passes through."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if (problem := explain(error, where)) is None:
            raise
        raise problem from error
    except sa.exc.TimeoutError as error:
        raise StoreBusy(f"all connections to {where} are in use", "Try again.") from error


def explain(error: sa.exc.DBAPIError, where: str) -> HeedfulError | None:
    """The sentence for an error of the driver; ``None`` where it is heedful's own mistake."""
    text = str(error.orig)
    if _code(error) in (SERIALISATION, DEADLOCK, LOCKED) or _says(text, "is locked"):
        return StoreBusy(f"{where} is busy: others have been writing for a while", "Nothing was stored. Try again.")
    if _says(text, *_DAMAGED):
        return StoreProblem(
            f"{where} is damaged or no database ({text})",
            "Put the last backup in its place: heed store backups, then heed store restore. The damaged file is set aside, not deleted.",
        )
    if _says(text, *_FULL):
        return StoreProblem(
            f"{where} cannot be written: {text}",
            "Free some disk space and try again. What was stored before is safe; of this, nothing was stored.",
        )
    if _says(text, *_NO_ENTRY):
        return StoreProblem(f"{where} cannot be used: {text}", "Check the path and its permissions.")
    if error.connection_invalidated or (_code(error) is None and _says(text, "connection")):
        return StoreBusy(
            f"{where} cannot be reached: {text.strip()}",
            "Check that the database is running, then try again; an answer sent again under its key is stored once.",
        )
    return None


def lost_a_race(error: BaseException | None) -> bool:
    """Whether the same work, done again, may well succeed; or finds what somebody else has just stored, and says so."""
    return isinstance(error, sa.exc.DBAPIError) and _code(error) in (SERIALISATION, DEADLOCK, UNIQUE)


def _code(error: sa.exc.DBAPIError) -> str | None:
    """PostgreSQL's SQLSTATE, where there is one."""
    return getattr(error.orig, "sqlstate", None)


def _says(text: str, *pieces: str) -> bool:
    return any(piece.lower() in text.lower() for piece in pieces)
