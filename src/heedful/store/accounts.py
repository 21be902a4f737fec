"""Accounts: who signs in, as which labeler, with which role in which project.

An account is never deleted. Whoever leaves is deactivated: their sessions and tokens end, and what
they said stays. What is a good password, and how it is hashed, is for the web app to know.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from heedful.errors import DataProblem, SettingProblem, nearest
from heedful.records import Labeler, LabelerKind
from heedful.store import labelers
from heedful.store.audit import record
from heedful.store.columns import add_row
from heedful.store.schema import labeler, project
from heedful.store.schema_access import ROLES, account, api_token, identity, membership, session

_A = account.c


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may sign in. ``labeler``: under which name what they say is kept; ``kind``: ``person`` or ``ai``.

    ``actor``: how the log calls them.
    """

    id: int
    name: str
    owner: bool
    state: str
    labeler_id: int
    labeler: str
    kind: str

    @property
    def actor(self) -> str:
        """The number, not the name: the log cannot forget."""
        return f"account {self.id}"


@dataclass(frozen=True, slots=True)
class Member:
    """An account's part in a project."""

    account: Account
    role: str
    paused: bool


def create(
    connection: sa.Connection,
    name: str,
    password: str | None,
    owner: bool,
    strata: Mapping[str, str],
    actor: str,
    now: datetime,
    kind: LabelerKind = "person",
) -> Account:
    """A new account, and the labeler that it judges as; ``password`` is a hash, or ``None`` for who signs in by an identity, or never.

    Raises DataProblem where the name is taken.
    """
    refuse_taken(connection, name)
    labeler_id = labelers.insert(connection, Labeler(name, kind, dict(strata)), now)
    values = {"name": name, "password": password, "labeler_id": labeler_id, "owner": owner, "state": "active", "made_at": now}
    number = add_row(connection, account, **values)
    record(connection, "account.made", actor, now, account=number, labeler=labeler_id, owner=owner)
    return get(connection, number)


def refuse_taken(connection: sa.Connection, name: str) -> None:
    """Raise DataProblem for the name of somebody who is there."""
    if connection.execute(sa.select(_A.id).where(_A.name == name)).first():
        raise DataProblem(f"there is somebody called {name!r} already", "Choose another name.")


def get(connection: sa.Connection, number: int) -> Account:
    """An account by its number. Raises DataProblem where there is none."""
    row = connection.execute(_rows().where(_A.id == number)).first()
    if row is None:
        raise DataProblem(f"there is no account {number}", "Check the number.")
    return _account(row)


def credentials(connection: sa.Connection, name: str) -> tuple[Account, str | None] | None:
    """The account of that name and its password's hash (``None``: it has no password); ``None`` where there is no account."""
    row = connection.execute(_rows().where(_A.name == name)).first()
    return (_account(row), row.password) if row else None


def has_password(connection: sa.Connection, number: int) -> bool:
    """Whether somebody can sign in by a password."""
    return connection.execute(sa.select(_A.password).where(_A.id == number)).scalar() is not None


def everybody(connection: sa.Connection) -> list[Account]:
    """All accounts."""
    return [_account(row) for row in connection.execute(_rows().order_by(_A.id))]


def any_owner(connection: sa.Connection) -> bool:
    """Whether somebody can set things up."""
    return connection.execute(_owners().limit(1)).first() is not None


def hold(connection: sa.Connection, number: int) -> None:
    """Whatever else is done to this account waits until this transaction ends."""
    connection.execute(sa.select(_A.id).where(_A.id == number).with_for_update(key_share=True))


def part_in(connection: sa.Connection, who: Account, project_id: int) -> tuple[str, bool] | None:
    """What somebody is in a project (an owner everywhere), and whether they are paused; ``None`` where they have no part in it."""
    if who.owner:
        return "owner", False
    mine = (membership.c.account_id == who.id, membership.c.project_id == project_id)
    row = connection.execute(sa.select(membership.c.role, membership.c.paused).where(*mine)).first()
    return (row.role, row.paused) if row else None


def projects_of(connection: sa.Connection, who: Account) -> list[tuple[int, str, str]]:
    """Number, name and role of every project that somebody has a part in."""
    p, m = project.c, membership.c
    if who.owner:
        return [(row.id, row.name, "owner") for row in connection.execute(sa.select(p.id, p.name).order_by(p.id))]
    found = sa.select(p.id, p.name, m.role).join(membership, m.project_id == p.id).where(m.account_id == who.id)
    return [(row.id, row.name, row.role) for row in connection.execute(found.order_by(p.id))]


def project_name(connection: sa.Connection, project_id: int) -> str:
    """A project's name by its number."""
    return str(connection.execute(sa.select(project.c.name).where(project.c.id == project_id)).scalar_one())


def members(connection: sa.Connection, project_id: int) -> list[Member]:
    """Who has a part in a project."""
    m = membership.c
    found = _rows(m.role, m.paused).join(membership, m.account_id == _A.id).where(m.project_id == project_id)
    return [Member(_account(row), row.role, row.paused) for row in connection.execute(found.order_by(_A.id))]


def by_token_alone(connection: sa.Connection, project_id: int) -> set[int]:
    """The numbers of the programs in a project as which nobody can sign in: all that they do, they do by a token."""
    mine = (membership.c.project_id == project_id, labeler.c.kind == "ai", _A.state == "active", ~_A.owner)
    unseen = (_A.password.is_(None), ~sa.exists().where(identity.c.account_id == _A.id))
    return {row.id for row in connection.execute(_rows().join(membership, membership.c.account_id == _A.id).where(*mine, *unseen))}


def set_role(connection: sa.Connection, number: int, project_id: int, role: str | None, actor: str, now: datetime) -> None:
    """Give somebody a role in a project, or take it away with ``None``. They are signed out, so that no old page stays open.

    Whoever is paused stays paused.
    """
    if role is not None and role not in ROLES:
        raise SettingProblem(f"there is no role {role!r}.{nearest(role, ROLES)}", f"Choose one of {', '.join(ROLES)}.")
    mine = (membership.c.account_id == number, membership.c.project_id == project_id)
    if role is None:
        connection.execute(sa.delete(membership).where(*mine))
    elif not connection.execute(sa.update(membership).where(*mine).values(role=role)).rowcount:
        connection.execute(sa.insert(membership).values(account_id=number, project_id=project_id, role=role, paused=False))
    connection.execute(sa.delete(session).where(session.c.account_id == number))
    record(connection, "account.role", actor, now, account=number, project=project_id, role=role)


def set_paused(connection: sa.Connection, number: int, project_id: int, paused: bool, actor: str, now: datetime) -> None:
    """Ask somebody nothing new in a project, or let them go on; what they hold becomes free for others, what they send in is kept."""
    mine = (membership.c.account_id == number, membership.c.project_id == project_id)
    if not connection.execute(sa.update(membership).where(*mine).values(paused=paused)).rowcount:
        raise DataProblem("they have no part in this project", "Invite them first.")
    if paused:
        labelers.let_go(connection, get(connection, number).labeler_id, now, project_id)
    record(connection, "account.paused" if paused else "account.goes_on", actor, now, account=number, project=project_id)


def set_password(connection: sa.Connection, number: int, password: str, actor: str, now: datetime) -> None:
    """Another password, by its hash."""
    connection.execute(sa.update(account).where(_A.id == number).values(password=password))
    record(connection, "account.password", actor, now, account=number)


def set_state(connection: sa.Connection, number: int, state: str, actor: str, now: datetime) -> None:
    """Deactivate somebody, or let them in again. Their sessions end, their tokens are revoked, their tasks become free."""
    who = get(connection, number)
    if state not in ("active", "deactivated"):
        raise SettingProblem(f"an account cannot be {state!r}", "Choose active or deactivated.")
    # All owners are held: two who deactivate each other at once would else leave none.
    if state != "active" and who.owner and not set(connection.execute(_owners().with_for_update(key_share=True)).scalars()) - {number}:
        raise SettingProblem("this is the only owner", "Make somebody else an owner first.")
    connection.execute(sa.update(account).where(_A.id == number).values(state=state))
    if state == "deactivated":
        connection.execute(sa.delete(session).where(session.c.account_id == number))
        live = (api_token.c.account_id == number, api_token.c.revoked_at.is_(None))
        connection.execute(sa.update(api_token).where(*live).values(revoked_at=now))
    labelers.set_state(connection, who.labeler, "active" if state == "active" else "deactivated", actor, now)
    record(connection, f"account.{state}", actor, now, account=number)


def _owners() -> sa.Select[tuple[int]]:
    return sa.select(_A.id).where(_A.owner, _A.state == "active").order_by(_A.id)


def _rows(*more: Any) -> sa.Select[Any]:
    columns = (_A.id, _A.name, _A.owner, _A.state, _A.labeler_id, _A.password, labeler.c.name.label("labeler"), labeler.c.kind)
    found: sa.Select[Any] = sa.select(*columns, *more).select_from(account)
    return found.join(labeler, labeler.c.id == _A.labeler_id)


def _account(row: Any) -> Account:
    return Account(row.id, row.name, row.owner, row.state, row.labeler_id, row.labeler, row.kind)
