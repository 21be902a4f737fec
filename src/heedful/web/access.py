"""Who may do what: one table of roles, one of routes, and the one place where both are looked up.

A route that stands in no table answers nobody, and a test fails. Whether a project that somebody
has no part in exists, is not told.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Depends, Path, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from heedful.store import Store, accounts, api_tokens, projects, sessions, throttle
from heedful.store.accounts import Account
from heedful.store.projects import Project
from heedful.store.schema import project as project_table
from heedful.web.routes import ACCESS, PACE, PACE_OF_WORK
from heedful.web.security import API, SAFE_METHODS, csrf_of
from heedful.web.throttling import FREE_LINKS, address_of, refuse_guessing, spend

MAY: dict[str, frozenset[str]] = {
    "viewer": frozenset({"view"}),
    "labeler": frozenset({"label"}),
    "adjudicator": frozenset({"view", "label", "adjudicate"}),
    "manager": frozenset({"view", "label", "adjudicate", "manage"}),
    "owner": frozenset({"view", "label", "adjudicate", "manage", "own"}),
}
"""What a role may do in a project. An owner may do everything everywhere."""

SCOPE = {
    "view": "read",
    "account": "read",
    "label": "label",
    "finish label": "label",
    "adjudicate": "manage",
    "manage": "manage",
    "own": "manage",
}
"""The scope that a token needs for what a route does."""

LARGEST_FIELD = 1_000_000


@dataclass(frozen=True, slots=True)
class Visitor:
    """Whoever a request comes from, as far as it has been found out; ``cookie`` is theirs, or one made just now (``fresh``)."""

    cookie: str
    fresh: bool
    account: Account | None = None
    role: str | None = None
    project_id: int = 0
    project: Project | None = None

    @property
    def csrf(self) -> str:
        """What forms of this visitor carry."""
        return csrf_of(self.cookie)

    @property
    def user(self) -> Account:
        """The account, where a route is for those who are signed in."""
        assert self.account is not None
        return self.account

    @property
    def asked(self) -> Project:
        """The project, where a route is about one."""
        assert self.project is not None
        return self.project

    @property
    def label(self) -> str:
        """The address of the labelling page of the project."""
        return f"/label/{self.project_id}"

    @property
    def manage(self) -> str:
        """The address of the project's own pages."""
        return f"/projects/{self.project_id}"

    def may(self, what: str) -> bool:
        """Whether their role here allows it."""
        return what in MAY.get(self.role or "", frozenset())


class Refusal(HTTPException):
    """Why somebody may not; ``error`` is one word for programs."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(status, message)
        self.error = error


class BadToken(Refusal):
    """A token that is nobody's. ``key``: under which the failure counts."""

    def __init__(self, key: str) -> None:
        super().__init__(401, "bad_token", "This token is not valid, or no longer.")
        self.key = key


@dataclass(frozen=True, slots=True)
class Sent:
    """The form of a request, empty where there is none, and the token that came with it."""

    form: FormData = field(default_factory=FormData)
    csrf: str = ""


def known(request: Request) -> Visitor:
    """The visitor, if the tables let them in. Nothing of what they send has been read yet: it may be large, and from anybody.

    Raises Refusal where they do not, TooManyTries where it is too often.
    """
    route = f"{request.method} {request.scope['route'].path}"
    need = ACCESS.get(route)
    if need is None:
        raise Refusal(403, "forbidden", "This page is for nobody.")
    store: Store = request.app.state.store
    by = _ByToken(request) if request.url.path.startswith(API) else _ByCookie(request)
    now = store.clock()
    try:  # All in one transaction: every request does this.
        visitor = store.read(lambda c: _with_role(c, by.visitor(c, need, now), need, request.path_params.get("project")))
    except BadToken as problem:
        store.write(lambda c, key=problem.key: throttle.failed(c, [key], now))  # type: ignore[misc]
        raise
    if by.due:
        store.write(lambda c: by.touch(c, now))
    key = f"{route} {visitor.account.id if visitor.account else address_of(request)}"
    if route in PACE:
        spend(store, key, *PACE[route])
    if route in PACE_OF_WORK:
        request.app.state.paces.spend(key, *PACE_OF_WORK[route], now)
    return visitor


class Door(APIRoute):
    """A route that looks at whoever comes before it reads what they send.

    FastAPI reads JSON before it asks any dependency: without this, whoever cannot come in would still be read to the end.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """What FastAPI makes of the route, behind the question who comes."""
        inside = super().get_route_handler()

        async def enter(request: Request) -> Response:
            request.state.visitor = await run_in_threadpool(known, request)
            return await inside(request)

        return enter


async def let_in(request: Request) -> Visitor:
    """Whom the door of this route let in. Raises Refusal where the route has none: it answers nobody."""
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    if visitor is None:
        raise Refusal(403, "forbidden", "This page is for nobody.")
    return visitor


Known = Annotated[Visitor, Depends(let_in)]


async def sent(request: Request, visitor: Known) -> Sent:
    """Read the form of somebody who was let in, once."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = kind in ("application/x-www-form-urlencoded", "multipart/form-data") and not request.url.path.startswith(API)
    form = await request.form(max_files=1, max_fields=500, max_part_size=LARGEST_FIELD) if is_form else FormData()
    return Sent(form, request.headers.get("x-csrf-token") or str(form.get("csrf", "")))


async def admitted(request: Request, visitor: Known, came: Annotated[Sent, Depends(sent)]) -> Visitor:
    """The visitor, if what they send comes from a page of theirs. Raises Refusal for a form that no page of theirs holds."""
    by_cookie = not request.url.path.startswith(API)  # the API takes no cookies, so nobody's browser can be misled
    if by_cookie and request.method not in SAFE_METHODS and not hmac.compare_digest(came.csrf.encode(), visitor.csrf.encode()):
        raise Refusal(403, "csrf", "This page is too old: it was opened before you signed in or out. Go back, reload it and try again.")
    return visitor


class _ByCookie:
    """Whoever a browser's cookie stands for."""

    def __init__(self, request: Request) -> None:
        self.cookie, self.due = request.cookies.get(request.app.state.site.cookie, ""), False

    def visitor(self, connection: sa.Connection, need: str, now: datetime) -> Visitor:
        """The visitor, whom nobody may know."""
        visitor = Visitor(self.cookie or secrets.token_urlsafe(32), fresh=not self.cookie)
        found = sessions.find(connection, self.cookie, now) if self.cookie else None
        if found is None:
            return visitor
        self.due = found[1]
        return replace(visitor, account=found[0])

    def touch(self, connection: sa.Connection, now: datetime) -> None:
        """A sign of life."""
        sessions.touch(connection, self.cookie, now)


class _ByToken:
    """Whoever a program acts for. It shows a token, and nothing else: a cookie that comes along is not looked at."""

    def __init__(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        self.token = token.strip() if scheme.lower() == "bearer" else ""
        self.key = f"token {address_of(request)}"
        self.due = False

    def visitor(self, connection: sa.Connection, need: str, now: datetime) -> Visitor:
        """The visitor; raises Refusal where the token is not valid, or lacks a scope."""
        if need == "anyone":
            return Visitor("", False)
        if not self.token:
            raise Refusal(401, "no_token", "Send a token: Authorization: Bearer heed_...")
        refuse_guessing(connection, [self.key], now, FREE_LINKS)
        found = api_tokens.find(connection, self.token, now)
        if found is None:
            raise BadToken(self.key)
        who, scopes, self.due = found
        if SCOPE[need] not in scopes:
            raise Refusal(403, "scope", f"This token lacks the scope {SCOPE[need]!r}.")
        return Visitor("", False, who)

    def touch(self, connection: sa.Connection, now: datetime) -> None:
        """Note that it was used."""
        api_tokens.touch(connection, self.token, now)


def _with_role(connection: sa.Connection, visitor: Visitor, need: str, named: str | None) -> Visitor:
    """The visitor in the project that the address names, or in none where a route is about the whole store."""
    if need == "anyone":
        return visitor
    if visitor.account is None:
        raise Refusal(401, "signed_out", "Sign in first.")
    if need == "account":
        return visitor
    if named is None:
        if not visitor.account.owner:
            raise Refusal(403, "forbidden", "This is for owners.")
        return replace(visitor, role="owner")
    return _in_project(connection, visitor, need, named)


def _in_project(connection: sa.Connection, visitor: Visitor, need: str, named: str) -> Visitor:
    if not (named.isascii() and named.isdigit() and len(named) < 16):
        raise _not_here()
    number = int(named)
    there = connection.execute(sa.select(project_table.c.id).where(project_table.c.id == number)).first()
    part = accounts.part_in(connection, visitor.user, number) if there else None
    if part is None:
        raise _not_here()
    role, paused = part
    if need.removeprefix("finish ") not in MAY[role]:
        raise Refusal(403, "forbidden", f"As {role} you may not do this. Ask whoever leads the project.")
    if paused and need in ("label", "adjudicate"):
        raise Refusal(403, "paused", "You are asked nothing new in this project just now. Whoever leads it will tell you why.")
    return replace(visitor, role=role, project_id=number, project=projects.get(connection, number))


def _not_here() -> Refusal:
    return Refusal(404, "not_found", "There is no such page, or it is not for you.")


Admitted = Annotated[Visitor, Depends(admitted)]
Form = Annotated[Sent, Depends(sent)]
Number = Annotated[int, Path(ge=1, lt=2**63)]
"""What a row of the store is called in an address; databases know no larger ones."""


def text(form: Any, name: str, default: str = "") -> str:
    """A field of a form as text without the spaces around it. Raises Refusal for a NUL, which not every database takes."""
    value = form.get(name, default)
    if not isinstance(value, str):
        return default
    if "\x00" in value:
        raise Refusal(422, "refused", f"The field {name} holds a character that no keyboard has. Remove it.")
    return value.strip()
