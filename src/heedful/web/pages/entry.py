"""Coming in and going out: the first page, signing in, and invitations, of which the first sets everything up."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.errors import AnswerProblem, HeedfulError
from heedful.store import Store, accounts, invitations, projects, sessions
from heedful.store.accounts import Account
from heedful.store.names import refuse_bad_name
from heedful.web.access import MAY, Admitted, Form, Visitor, text
from heedful.web.auth import TooManyTries, begin_session, sign_in
from heedful.web.forms import new_password
from heedful.web.rendering import go, keep_cookie, page, sentence
from heedful.web.texts import local_path

router = APIRouter()


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
    address = request.client.host if request.client else ""
    try:
        secret = sign_in(
            request.app.state.store, request.app.state.passwords, name, str(came.form.get("password", "")), address, _agent(request)
        )
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
    store: Store = request.app.state.store
    invited = store.read(lambda c: invitations.look(c, secret, store.clock()))
    return _invited(request, visitor, invited)


@router.post("/join/{secret}")
def join(request: Request, visitor: Admitted, secret: str, came: Form) -> Response:
    """Take an invitation up: with a new account, or with the one that somebody is signed in with."""
    store: Store = request.app.state.store
    invited = store.read(lambda c: invitations.look(c, secret, store.clock()))
    try:
        who = _accepted(request, visitor.account, secret, came)
    except HeedfulError as problem:
        return _invited(request, visitor, invited, status=422, problem=sentence(problem), name=text(came.form, "name"))
    response = go("/")
    keep_cookie(request, response, begin_session(store, who, _agent(request)))
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


def _invited(request: Request, visitor: Visitor, invited: Any, **more: Any) -> Response:
    """What somebody is invited to; the very first one, by the program itself, is to set everything up."""
    store: Store = request.app.state.store
    name = store.read(lambda c: accounts.project_name(c, invited.project_id)) if invited.project_id else ""
    about = {"role": invited.role, "project": name, "strata": invited.strata, "first": invited.made_by is None}
    return page(request, visitor, "join.html", invited=about, **more)


def _agent(request: Request) -> str:
    return request.headers.get("user-agent", "")
