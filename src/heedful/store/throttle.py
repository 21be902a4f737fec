"""How often somebody may try: guesses that failed, and work that costs much. Counted in the store, so that all workers know."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import sqlalchemy as sa

from heedful.store.keys import hashed
from heedful.store.schema_access import tries

FREE = 5
"""Failures before one has to wait; then the wait doubles from a second."""
LONGEST_WAIT = timedelta(minutes=15)
FORGOTTEN = timedelta(days=1)
_T = tries.c


def wait(connection: sa.Connection, key: str, now: datetime, free: int = FREE) -> timedelta:
    """How much longer nobody may guess again under this key; zero where they may now."""
    row = connection.execute(sa.select(tries).where(_T.key == hashed(key))).first()
    if row is None or row.times < free:
        return timedelta(0)
    pause = min(timedelta(seconds=2.0 ** min(row.times - free, 20)), LONGEST_WAIT)
    return max(row.at + pause - now, timedelta(0))


def failed(connection: sa.Connection, keys: Iterable[str], now: datetime) -> None:
    """One more failure under each key. What is old is forgotten."""
    connection.execute(sa.delete(tries).where(_T.at < now - FORGOTTEN))
    for key in sorted(map(hashed, keys)):
        mine = sa.update(tries).where(_T.key == key)
        if not connection.execute(mine.values(times=_T.times + 1, at=now)).rowcount:
            connection.execute(sa.insert(tries).values(key=key, times=1, at=now))


def hold(connection: sa.Connection, keys: Iterable[str], now: datetime) -> None:
    """Let whoever else would try under one of the keys wait until this transaction has ended."""
    for key in sorted(map(hashed, keys)):
        if connection.execute(sa.select(_T.key).where(_T.key == key).with_for_update()).first() is None:
            connection.execute(sa.insert(tries).values(key=key, times=0, at=now))


def counted(connection: sa.Connection, keys: Iterable[str], now: datetime) -> dict[str, datetime | None]:
    """As :func:`failed`, and tells when the failure before was: for :func:`no_failure`."""
    kept = list(keys)
    rows = connection.execute(sa.select(_T.key, _T.at).where(_T.key.in_([hashed(key) for key in kept]), _T.times > 0))
    before = {row.key: row.at for row in rows}
    failed(connection, kept, now)
    return {key: before.get(hashed(key)) for key in kept}


def no_failure(connection: sa.Connection, key: str, counted_at: datetime, before: datetime | None) -> None:
    """Take back what was counted beforehand; failures before and since stay, and one waits no longer than after the last of them."""
    mine = _T.key == hashed(key)
    connection.execute(sa.update(tries).where(mine, _T.at == counted_at).values(at=before or counted_at))
    connection.execute(sa.update(tries).where(mine).values(times=_T.times - 1))
    connection.execute(sa.delete(tries).where(mine, _T.times < 1))


def succeeded(connection: sa.Connection, keys: Iterable[str]) -> None:
    """Forget the failures under some keys."""
    connection.execute(sa.delete(tries).where(_T.key.in_([hashed(key) for key in keys])))


def spend(connection: sa.Connection, key: str, most: int, window: timedelta, now: datetime) -> timedelta:
    """Do once more what may be done ``most`` times within a window; zero, or how long until the next window (nothing is counted then)."""
    mine = _T.key == hashed(key)
    row = connection.execute(sa.select(tries).where(mine).with_for_update()).first()
    if row is not None and row.at <= now < row.at + window:
        if row.times >= most:
            return row.at + window - now
        connection.execute(sa.update(tries).where(mine).values(times=_T.times + 1))
        return timedelta(0)
    connection.execute(sa.delete(tries).where(mine | (_T.at < now - FORGOTTEN)))
    connection.execute(sa.insert(tries).values(key=hashed(key), times=1, at=now))
    return timedelta(0)
