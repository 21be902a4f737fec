"""Sessions: browsers that are signed in. They live here and nowhere else, so each can be ended at any moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from heedful.store import accounts
from heedful.store.accounts import Account
from heedful.store.keys import hashed, new_secret
from heedful.store.schema_access import session

IDLE = timedelta(hours=12)
LONGEST = timedelta(days=14)
"""A session ends after so long without a sign of life, and after so long in any case."""
_TOUCH = timedelta(minutes=5)
_S = session.c


@dataclass(frozen=True, slots=True)
class Session:
    """One browser, as its owner sees it."""

    id: int
    began_at: datetime
    seen_at: datetime
    agent: str
    sha256: str


def begin(connection: sa.Connection, account_id: int, agent: str, now: datetime) -> str:
    """A new session; returns its secret. Sessions that have run out are cleared away."""
    secret = new_secret()
    connection.execute(sa.delete(session).where(sa.or_(_S.seen_at < now - IDLE, _S.began_at < now - LONGEST)))
    values = {"sha256": hashed(secret), "account_id": account_id, "began_at": now, "seen_at": now, "agent": agent[:200]}
    connection.execute(sa.insert(session).values(values))
    return secret


def find(connection: sa.Connection, secret: str, now: datetime) -> tuple[Account, bool] | None:
    """Whose session it is, and whether :func:`touch` is due; ``None`` where there is none, it ran out, or they have left."""
    live = (_S.sha256 == hashed(secret), _S.seen_at >= now - IDLE, _S.began_at >= now - LONGEST)
    row = connection.execute(sa.select(_S.account_id, _S.seen_at).where(*live)).first()
    if row is None:
        return None
    who = accounts.get(connection, row.account_id)
    return (who, now - row.seen_at > _TOUCH) if who.state == "active" else None


def touch(connection: sa.Connection, secret: str, now: datetime) -> None:
    """A sign of life. Not kept more often than every few minutes, or reading a page would write."""
    connection.execute(sa.update(session).where(_S.sha256 == hashed(secret)).values(seen_at=now))


def of_account(connection: sa.Connection, account_id: int) -> list[Session]:
    """Where somebody is signed in, newest first."""
    rows = connection.execute(sa.select(session).where(_S.account_id == account_id).order_by(_S.id.desc()))
    return [Session(row.id, row.began_at, row.seen_at, row.agent, row.sha256) for row in rows]


def end(connection: sa.Connection, secret: str) -> None:
    """Sign a browser out."""
    connection.execute(sa.delete(session).where(_S.sha256 == hashed(secret)))


def end_others(connection: sa.Connection, account_id: int, but: str = "") -> None:
    """Sign somebody out everywhere, ``but`` where a secret is known."""
    connection.execute(sa.delete(session).where(_S.account_id == account_id, _S.sha256 != hashed(but)))
