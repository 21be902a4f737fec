"""How often somebody may guess: failures are counted by name and by address, in the store, so that all workers know."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa

from heedful.store.keys import hashed
from heedful.store.schema_access import failed_sign_in

FREE = 5
"""Failures before one has to wait; then the wait doubles from a second."""
LONGEST_WAIT = timedelta(minutes=15)
FORGOTTEN = timedelta(days=1)
_F = failed_sign_in.c


def wait(connection: sa.Connection, key: str, now: datetime) -> timedelta:
    """How much longer nobody may try again under this key; zero where they may now."""
    row = connection.execute(sa.select(failed_sign_in).where(_F.key == hashed(key))).first()
    if row is None or row.times < FREE:
        return timedelta(0)
    pause = min(timedelta(seconds=2.0 ** min(row.times - FREE, 20)), LONGEST_WAIT)
    return max(row.last_at + pause - now, timedelta(0))


def failed(connection: sa.Connection, keys: Iterable[str], now: datetime) -> None:
    """One more failure under each key. What is old is forgotten."""
    connection.execute(sa.delete(failed_sign_in).where(_F.last_at < now - FORGOTTEN))
    for key in sorted(map(hashed, keys)):
        mine = sa.update(failed_sign_in).where(_F.key == key)
        if not connection.execute(mine.values(times=_F.times + 1, last_at=now)).rowcount:
            connection.execute(sa.insert(failed_sign_in).values(key=key, times=1, last_at=now))


def succeeded(connection: sa.Connection, keys: Iterable[str]) -> None:
    """Forget the failures under some keys."""
    connection.execute(sa.delete(failed_sign_in).where(_F.key.in_([hashed(key) for key in keys])))
