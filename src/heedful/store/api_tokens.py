"""Tokens of programs that act for somebody: never more than their owner may do, and only within their scopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from heedful.errors import SettingProblem, nearest
from heedful.store import accounts
from heedful.store.accounts import Account
from heedful.store.audit import record
from heedful.store.columns import add_row
from heedful.store.keys import hashed, new_secret
from heedful.store.names import refuse_bad_name
from heedful.store.schema_access import api_token

SCOPES = ("read", "manage", "label")
PREFIX = "heed_"
"""So that a token is known for one where it should not be: in a log, a commit, a chat."""
LONGEST_DAYS = 366
_TOUCH = timedelta(minutes=5)
_T = api_token.c


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token as its owner sees it, without the token."""

    id: int
    name: str
    scopes: list[str]
    made_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


def make(connection: sa.Connection, who: Account, name: str, scopes: Sequence[str], days: int, now: datetime, by: str = "") -> str:
    """A new token; it is returned once and stands nowhere else. ``by``: who made it, where that is not whose it is."""
    refuse_bad_name("token", name)
    for scope in scopes:
        if scope not in SCOPES:
            raise SettingProblem(f"there is no scope {scope!r}.{nearest(scope, SCOPES)}", f"Choose from {', '.join(SCOPES)}.")
    if not scopes:
        raise SettingProblem("the token was given no scope", f"Choose from {', '.join(SCOPES)}.")
    if not 1 <= days <= LONGEST_DAYS:
        raise SettingProblem(f"the token should last {days} days", f"Choose 1 to {LONGEST_DAYS}.")
    secret = PREFIX + new_secret()
    values = {"sha256": hashed(secret), "account_id": who.id, "name": name, "scopes": sorted(set(scopes))}
    number = add_row(connection, api_token, **values, made_at=now, expires_at=now + timedelta(days=days))
    record(connection, "token.made", by or who.actor, now, token=number, scopes=sorted(set(scopes)))
    return secret


def find(connection: sa.Connection, secret: str, now: datetime) -> tuple[Account, list[str], bool] | None:
    """Whose token it is, its scopes, and whether :func:`touch` is due; ``None`` for one that is unknown, revoked or too old."""
    live = (_T.sha256 == hashed(secret), _T.revoked_at.is_(None), _T.expires_at > now)
    row = connection.execute(sa.select(api_token).where(*live)).first()
    if row is None:
        return None
    who = accounts.get(connection, row.account_id)
    due = row.used_at is None or now - row.used_at > _TOUCH
    return (who, row.scopes, due) if who.state == "active" else None


def touch(connection: sa.Connection, secret: str, now: datetime) -> None:
    """Note that a token was used."""
    connection.execute(sa.update(api_token).where(_T.sha256 == hashed(secret)).values(used_at=now))


def of_account(connection: sa.Connection, account_id: int) -> list[ApiToken]:
    """Somebody's tokens, newest first."""
    rows = connection.execute(sa.select(api_token).where(_T.account_id == account_id).order_by(_T.id.desc()))
    return [ApiToken(r.id, r.name, r.scopes, r.made_at, r.expires_at, r.used_at, r.revoked_at) for r in rows]


def revoke(connection: sa.Connection, who: Account, number: int, now: datetime, by: str = "") -> None:
    """Let one of somebody's own tokens no longer work. ``by``: who wants it so, where that is not whose it is."""
    mine = (_T.id == number, _T.account_id == who.id, _T.revoked_at.is_(None))
    if connection.execute(sa.update(api_token).where(*mine).values(revoked_at=now)).rowcount:
        record(connection, "token.revoked", by or who.actor, now, token=number)


def revoke_all(connection: sa.Connection, who: Account, by: str, now: datetime) -> None:
    """Let none of somebody's tokens work any more."""
    live = sa.select(_T.id).where(_T.account_id == who.id, _T.revoked_at.is_(None)).order_by(_T.id).with_for_update()
    for number in connection.execute(live).scalars().all():
        revoke(connection, who, number, now, by)
