"""Invitations: links that make an account once, with a role, for a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from heedful.errors import AnswerProblem, SettingProblem
from heedful.store import accounts, labelers
from heedful.store.accounts import Account
from heedful.store.audit import record
from heedful.store.columns import add_row
from heedful.store.keys import hashed, new_secret
from heedful.store.names import refuse_bad_strata
from heedful.store.schema_access import ROLES, invitation

LASTS = timedelta(days=7)
Which = str | int
"""An invitation by its secret; or by its number, for somebody who has shown the secret before."""
_I = invitation.c


@dataclass(frozen=True, slots=True)
class Invitation:
    """An invitation as the one who made it sees it. ``state`` is open, used, revoked or expired."""

    id: int
    role: str
    project_id: int | None
    strata: Mapping[str, str]
    made_at: datetime
    expires_at: datetime
    state: str
    used_by: int | None


def make(
    connection: sa.Connection,
    role: str,
    project_id: int | None,
    strata: Mapping[str, str],
    by: Account | None,
    now: datetime,
    lasts: timedelta = LASTS,
) -> str:
    """A new invitation; returns its secret, which stands nowhere else. An owner is invited to no project but to all."""
    if role not in ("owner", *ROLES) or (role == "owner") != (project_id is None):
        raise SettingProblem(f"nobody can be invited as {role!r}", f"Choose one of {', '.join(ROLES)} in a project.")
    refuse_bad_strata(strata)
    secret = new_secret()
    values = {"sha256": hashed(secret), "role": role, "project_id": project_id, "strata": dict(strata), "made_by": by.id if by else None}
    number = add_row(connection, invitation, **values, made_at=now, expires_at=now + lasts)
    record(connection, "invitation.made", by.actor if by else "heed label", now, invitation=number, role=role, project=project_id)
    return secret


def make_first(connection: sa.Connection, now: datetime) -> str | None:
    """The secret with which the first owner sets everything up; ``None`` where there is an owner. Older ones no longer work."""
    if accounts.any_owner(connection):
        return None
    waiting = (_I.role == "owner", _I.made_by.is_(None), _I.used_at.is_(None), _I.revoked_at.is_(None))
    connection.execute(sa.update(invitation).where(*waiting).values(revoked_at=now))
    return make(connection, "owner", None, {}, None, now, timedelta(days=1))


def look(connection: sa.Connection, which: Which, now: datetime, lock: bool = False) -> Any:
    """The open invitation, as a row. Raises AnswerProblem for one that is unknown, used, revoked or too old: all alike."""
    found = sa.select(invitation).where(_I.id == which if isinstance(which, int) else _I.sha256 == hashed(which))
    row = connection.execute(found.with_for_update() if lock else found).first()
    if row is None or _state(row, now) != "open":
        raise AnswerProblem("this invitation is not valid, or no longer", "Ask whoever invited you for a new link.")
    return row


def accept(connection: sa.Connection, which: Which, name: str, password: str | None, now: datetime) -> Account:
    """Make the account that an invitation is for; ``password`` as in :func:`accounts.create`."""
    row = look(connection, which, now, lock=True)
    actor = f"invitation {row.id}"
    who = accounts.create(connection, name, password, row.role == "owner", row.strata, actor, now)
    _use(connection, row, who, actor, now)
    return who


def join(connection: sa.Connection, which: Which, who: Account, now: datetime) -> None:
    """Somebody who has an account takes up an invitation to one more project."""
    row = look(connection, which, now, lock=True)
    if row.project_id is None:
        raise AnswerProblem("this invitation is for somebody new", "Sign out first.")
    if row.strata:
        known = labelers.strata_named(connection, who.labeler_id)
        labelers.set_strata(connection, who.labeler, {**known, **row.strata}, who.actor, now)
    _use(connection, row, who, who.actor, now)


def of_project(connection: sa.Connection, project_id: int, now: datetime) -> list[Invitation]:
    """The invitations to a project, newest first."""
    rows = connection.execute(sa.select(invitation).where(_I.project_id == project_id).order_by(_I.id.desc()))
    return [_invitation(row, now) for row in rows]


def revoke(connection: sa.Connection, number: int, project_id: int, actor: str, now: datetime) -> None:
    """Let an invitation to a project no longer work."""
    mine = (_I.id == number, _I.project_id == project_id, _I.used_at.is_(None), _I.revoked_at.is_(None))
    if connection.execute(sa.update(invitation).where(*mine).values(revoked_at=now)).rowcount:
        record(connection, "invitation.revoked", actor, now, invitation=number)


def _use(connection: sa.Connection, row: Any, who: Account, actor: str, now: datetime) -> None:
    if row.project_id is not None:
        accounts.set_role(connection, who.id, row.project_id, row.role, actor, now)
    connection.execute(sa.update(invitation).where(_I.id == row.id).values(used_at=now, used_by=who.id))
    record(connection, "invitation.used", actor, now, invitation=row.id, account=who.id)


def _state(row: Any, now: datetime) -> str:
    if row.used_at is not None:
        return "used"
    if row.revoked_at is not None:
        return "revoked"
    return "open" if now < row.expires_at else "expired"


def _invitation(row: Any, now: datetime) -> Invitation:
    return Invitation(row.id, row.role, row.project_id, row.strata, row.made_at, row.expires_at, _state(row, now), row.used_by)
