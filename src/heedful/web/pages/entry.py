"""Coming in and going out: the first page, signing in, and invitations, of which the first sets everything up."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.errors import AnswerProblem, HeedfulError
from heedful.store import Store, accounts, invitations, projects, sessions, throttle
from heedful.store.accounts import Account
from heedful.store.names import refuse_bad_name
from heedful.web.access import MAY, Admitted, Door, Form, Visitor, text
from heedful.web.auth import begin_session, sign_in
from heedful.web.forms import new_password
from heedful.web.rendering import go, keep_cookie, page, sentence
from heedful.web.texts import local_path
from heedful.web.throttling import FREE_LINKS, TooManyTries, address_of, refuse_guessing

router = APIRouter(route_class=Door)


@router.get("/")
def home(request: Request, visitor: Admitted) -> Response:
    """The projects that somebody has a part in, and what they may do there."""
    store: Store = request.app.state.store

    def look(c: sa.Connection) -> list[dict[str, Any]]:
        found = accounts.projects_of(c, visitor.user)
        return [
            {"id": number, "name": name, "role": role, "may": MAY[role], "question": projects.get(c, number).question}
            for number, name, role in found
        ]

    return page(request, visitor, "home.html", projects=store.read(look))


@router.get("/login")
def login_form(request: Request, visitor: Admitted) -> Response:
    """Where somebody signs in."""
    return page(request, visitor, "login.html", next=local_path(request.query_params.get("next", "/")))


@router.post("/login")
def login(request: Request, visitor: Admitted, came: Form) -> Response:
    """Sign in, under a cookie that nobody knew before."""
    name, path = text(came.form, "name"), local_path(text(came.form, "next", "/"))
    store, passwords = request.app.state.store, request.app.state.passwords
    try:
        secret = sign_in(store, passwords, name, str(came.form.get("password", "")), address_of(request), _agent(request), visitor.cookie)
    except (AnswerProblem, TooManyTries) as problem:
        status = 429 if isinstance(problem, TooManyTries) else 401
        return page(request, visitor, "login.html", status=status, problem=sentence(problem), next=path, name=name)
    response = go(path)
    keep_cookie(request, response, secret)
    return response


@router.post("/logout")
def logout(request: Request, visitor: Admitted) -> Response:
    """Sign out."""
    store: Store = request.app.state.store
    store.write(lambda c: sessions.end(c, visitor.cookie))
    response = go("/login", "signed-out")
    response.delete_cookie(request.app.state.site.cookie, secure=request.app.state.site.secure, httponly=True, samesite="lax")
    return response


@router.get("/join/{secret}")
def invitation(request: Request, visitor: Admitted, secret: str) -> Response:
    """What an invitation is for. Looking at it, as mail programs do, uses nothing up."""
    return invited_page(request, visitor, looked_up(request, secret), secret)


@router.post("/join/{secret}")
def join(request: Request, visitor: Admitted, secret: str, came: Form) -> Response:
    """Take an invitation up: with a new account, or with the one that somebody is signed in with."""
    store: Store = request.app.state.store
    invited = looked_up(request, secret)
    try:
        who = _accepted(request, visitor.account, secret, came)
    except HeedfulError as problem:
        return invited_page(request, visitor, invited, secret, status=422, problem=sentence(problem), name=text(came.form, "name"))
    response = go(store.read(lambda c: first_page(c, who)))
    keep_cookie(request, response, begin_session(store, who, _agent(request), visitor.cookie))
    return response


def _accepted(request: Request, who: Account | None, secret: str, came: Any) -> Account:
    store: Store = request.app.state.store
    if who is not None:
        store.write(lambda c: invitations.join(c, secret, who, store.clock()))
        return who
    name = text(came.form, "name")
    refuse_bad_name("account", name, 100)
    hashed = request.app.state.passwords.hash(name, new_password(came.form))

    def work(c: sa.Connection) -> Account:
        return invitations.accept(c, secret, name, hashed, store.clock())

    return store.write(work)


def looked_up(request: Request, secret: str) -> Any:
    """The open invitation of a secret. Raises AnswerProblem, and where an address has shown too many that are none, TooManyTries."""
    store, key = request.app.state.store, f"invitation {address_of(request)}"

    def look(c: sa.Connection) -> Any:
        refuse_guessing(c, [key], store.clock(), FREE_LINKS)
        return invitations.look(c, secret, store.clock())

    try:
        return store.read(look)
    except AnswerProblem:
        store.write(lambda c: throttle.failed(c, [key], store.clock()))
        raise


def first_page(connection: sa.Connection, who: Account) -> str:
    """Where somebody begins who has just come: at their work, where it is all that they are here for."""
    mine = accounts.projects_of(connection, who)
    only_labels = len(mine) == 1 and MAY[mine[0][2]] == MAY["labeler"]
    return f"/label/{mine[0][0]}" if only_labels else "/"


def invited_page(request: Request, visitor: Visitor, invited: Any, secret: str, **more: Any) -> Response:
    """What somebody is invited to; the very first one, by the program itself, is to set everything up."""
    store: Store = request.app.state.store
    name = store.read(lambda c: accounts.project_name(c, invited.project_id)) if invited.project_id else ""
    about = {"role": invited.role, "project": name, "strata": invited.strata, "first": invited.made_by is None}
    return page(request, visitor, "join.html", invited=about, link=f"/join/{secret}", **more)


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")
