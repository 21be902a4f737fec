"""One's own account: password, where one is signed in, tokens; and, for owners, everybody's."""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.errors import HeedfulError, SettingProblem
from heedful.store import Store, accounts, api_tokens, identities, invitations, labelers, sessions
from heedful.store.keys import hashed as key_of
from heedful.web import forms
from heedful.web.access import Admitted, Door, Form, Number, Visitor, text
from heedful.web.auth import begin_session, confirm
from heedful.web.rendering import go, keep_cookie, page, sentence

router = APIRouter(route_class=Door)


@router.get("/account")
def account(request: Request, visitor: Admitted) -> Response:
    """One's own account."""
    return account_page(request, visitor)


@router.post("/account/password")
def change_password(request: Request, visitor: Admitted, came: Form) -> Response:
    """Another password; everywhere else one is signed out."""
    store: Store = request.app.state.store
    passwords, who = request.app.state.passwords, visitor.user
    try:
        confirm(store, passwords, who, str(came.form.get("old", "")))
        new = passwords.hash(who.name, forms.new_password(came.form))
    except SettingProblem as problem:
        return account_page(request, visitor, status=422, problem=sentence(problem))

    def work(c: sa.Connection) -> None:
        accounts.set_password(c, who.id, new, who.actor, store.clock())
        sessions.end_others(c, who.id)

    store.write(work)
    response = go("/account", "saved")
    keep_cookie(request, response, begin_session(store, who, request.headers.get("user-agent", "")))
    return response


@router.post("/account/sessions/end")
def end_sessions(request: Request, visitor: Admitted) -> Response:
    """Sign out everywhere but here."""
    store: Store = request.app.state.store
    store.write(lambda c: sessions.end_others(c, visitor.user.id, visitor.cookie))
    return go("/account", "saved")


@router.post("/account/tokens")
def make_token(request: Request, visitor: Admitted, came: Form) -> Response:
    """A token for a program; it is shown now and never again."""
    store: Store = request.app.state.store
    try:
        scopes = [str(scope) for scope in came.form.getlist("scope")]
        days = forms.numbers(came.form, ("days",)).get("days", 30)
        secret = store.write(lambda c: api_tokens.make(c, visitor.user, text(came.form, "name"), scopes, days, store.clock()))
    except HeedfulError as problem:
        return account_page(request, visitor, status=422, problem=sentence(problem))
    return account_page(request, visitor, token=secret)


@router.post("/account/tokens/{number}/revoke")
def revoke_token(request: Request, visitor: Admitted, number: Number) -> Response:
    """Let a token no longer work."""
    store: Store = request.app.state.store
    store.write(lambda c: api_tokens.revoke(c, visitor.user, number, store.clock()))
    return go("/account", "saved")


@router.get("/accounts")
def everybody(request: Request, visitor: Admitted) -> Response:
    """Everybody who may sign in."""
    return _everybody(request, visitor)


@router.post("/accounts/invite")
def invite_owner(request: Request, visitor: Admitted) -> Response:
    """Invite another owner; the link is shown now and never again."""
    store: Store = request.app.state.store
    by = visitor.user
    secret = store.write(lambda c: invitations.make(c, "owner", None, {}, by, store.clock(), timedelta(days=2)))
    return _everybody(request, visitor, link=f"{request.app.state.site.url}/join/{secret}")


@router.post("/accounts/{number}/state")
def change_state(request: Request, visitor: Admitted, number: Number, came: Form) -> Response:
    """Deactivate somebody, or let them in again."""
    store: Store = request.app.state.store
    try:
        store.write(lambda c: accounts.set_state(c, number, text(came.form, "state"), visitor.user.actor, store.clock()))
    except HeedfulError as problem:
        return _everybody(request, visitor, status=422, problem=sentence(problem))
    return go("/accounts", "saved")


@router.post("/accounts/{number}/password")
def give_password(request: Request, visitor: Admitted, number: Number) -> Response:
    """A new password for somebody who has lost theirs; it is shown now and never again, and they should change it."""
    store: Store = request.app.state.store
    new = secrets.token_urlsafe(15)

    try:
        name = store.read(lambda c: accounts.get(c, number)).name
        hashed = request.app.state.passwords.hash(name, new)  # it takes a while, in which others write

        def work(c: sa.Connection) -> None:
            accounts.set_password(c, number, hashed, visitor.user.actor, store.clock())
            sessions.end_others(c, number)

        store.write(work)
    except HeedfulError as problem:
        return _everybody(request, visitor, status=422, problem=sentence(problem))
    return _everybody(request, visitor, given={"name": name, "password": new})


@router.post("/accounts/{number}/pseudonym")
def give_pseudonym(request: Request, visitor: Admitted, number: Number, came: Form) -> Response:
    """Let what somebody said stand under another name."""
    store: Store = request.app.state.store

    def work(c: sa.Connection) -> None:
        labelers.rename(c, accounts.get(c, number).labeler, text(came.form, "name"), visitor.user.actor, store.clock())

    try:
        store.write(work)
    except HeedfulError as problem:
        return _everybody(request, visitor, status=422, problem=sentence(problem))
    return go("/accounts", "saved")


def account_page(request: Request, visitor: Visitor, **more: Any) -> Response:
    """One's own account, and what came of what was done to it."""
    store, number = request.app.state.store, visitor.user.id

    def look(c: sa.Connection) -> dict[str, Any]:
        return {
            "tokens": api_tokens.of_account(c, number),
            "sessions": sessions.of_account(c, number),
            "identities": identities.of_account(c, number),
            "has_password": accounts.has_password(c, number),
        }

    shown = {**store.read(look), "here": key_of(visitor.cookie), "scopes": api_tokens.SCOPES, "now": store.clock()}
    shown["titles"] = {party.provider.issuer: party.provider.title for party in request.app.state.parties.values()}
    return page(request, visitor, "manage/account.html", **shown, **more)


def _everybody(request: Request, visitor: Visitor, **more: Any) -> Response:
    store: Store = request.app.state.store
    return page(request, visitor, "manage/accounts.html", people=store.read(accounts.everybody), **more)
