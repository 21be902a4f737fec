"""Identities: what a provider of sign-ins (an OpenID Connect issuer) calls somebody who has an account here.

Issuer and subject together name a person; nothing else does. An e-mail address names whoever holds
it today, and some providers let people write in what they like: it links nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from heedful.errors import DataProblem, SettingProblem
from heedful.store import accounts
from heedful.store.accounts import Account
from heedful.store.audit import record
from heedful.store.columns import add_row
from heedful.store.schema_access import identity

_I = identity.c


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity as its owner sees it."""

    id: int
    issuer: str
    linked_at: datetime


def find(connection: sa.Connection, issuer: str, subject: str) -> Account | None:
    """Whose identity it is, whatever their state; ``None`` where nobody has linked it."""
    number = connection.execute(sa.select(_I.account_id).where(_I.issuer == issuer, _I.subject == subject)).scalar()
    return None if number is None else accounts.get(connection, number)


def link(connection: sa.Connection, who: Account, issuer: str, subject: str, now: datetime) -> None:
    """Let somebody sign in by an identity. Raises DataProblem where it is another's."""
    known = find(connection, issuer, subject)
    if known is not None:
        if known.id != who.id:
            raise DataProblem("this identity belongs to another account here", "Sign in with it, or remove it there first.")
        return
    number = add_row(connection, identity, account_id=who.id, issuer=issuer, subject=subject, linked_at=now)
    record(connection, "identity.linked", who.actor, now, account=who.id, identity=number)


def of_account(connection: sa.Connection, account_id: int) -> list[Identity]:
    """By which identities somebody may sign in, oldest first."""
    rows = connection.execute(sa.select(identity).where(_I.account_id == account_id).order_by(_I.id))
    return [Identity(row.id, row.issuer, row.linked_at) for row in rows]


def unlink(connection: sa.Connection, who: Account, number: int, now: datetime) -> None:
    """Let one of somebody's own identities no longer work. Raises SettingProblem where they could not sign in any more."""
    accounts.hold(connection, who.id)
    mine = [one.id for one in of_account(connection, who.id)]
    if number not in mine:
        return
    if len(mine) == 1 and not accounts.has_password(connection, who.id):
        raise SettingProblem("this is the only way you can sign in", "Connect another first, or ask an owner for a password.")
    connection.execute(sa.delete(identity).where(_I.id == number))
    record(connection, "identity.unlinked", who.actor, now, account=who.id, identity=number)
