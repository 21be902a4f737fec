"""Signing in elsewhere: leaving for a provider, and coming back to sign in, to take an invitation up, or to connect an account."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.errors import AnswerProblem, DataProblem, HeedfulError, SettingProblem
from heedful.store import Store, accounts, departures, identities, invitations, throttle
from heedful.store.accounts import Account
from heedful.store.departures import Departure
from heedful.store.keys import new_secret
from heedful.store.names import refuse_bad_name
from heedful.web.access import Admitted, Door, Form, Number, Refusal, Visitor, text
from heedful.web.auth import begin_session, confirm
from heedful.web.oidc.relying import ProviderProblem, RelyingParty
from heedful.web.pages import account, entry
from heedful.web.rendering import go, keep_cookie, page, sentence
from heedful.web.texts import local_path
from heedful.web.throttling import FREE_LINKS, address_of, refuse_guessing

router = APIRouter(route_class=Door)
LONGEST_ANSWER = 4000
"""Characters of a code or a state; whatever is longer is nobody's."""


@router.post("/oidc/{provider}")
def sign_in(request: Request, visitor: Admitted, provider: str, came: Form) -> Response:
    """Leave in order to sign in."""
    path = local_path(text(came.form, "next", "/"))
    try:
        return _leave(request, visitor, _party(request, provider), Departure("sign_in", path))
    except ProviderProblem as problem:
        return page(request, visitor, "login.html", status=_status(problem), problem=sentence(problem), next=path)


@router.post("/join/{secret}/oidc/{provider}")
def join(request: Request, visitor: Admitted, secret: str, provider: str, came: Form) -> Response:
    """Leave in order to take an invitation up."""
    store: Store = request.app.state.store
    invited, name = entry.looked_up(request, secret), text(came.form, "name")
    try:
        refuse_bad_name("account", name, 100)
        store.read(lambda c: accounts.refuse_taken(c, name))
        return _leave(request, visitor, _party(request, provider), Departure("join", invitation_id=invited.id, name=name))
    except HeedfulError as problem:
        return entry.invited_page(request, visitor, invited, secret, status=_status(problem), problem=sentence(problem), name=name)


@router.post("/account/identities/{provider}")
def link(request: Request, visitor: Admitted, provider: str, came: Form) -> Response:
    """Leave in order to connect one's account; whoever has a password shows that it is them, as this outlasts a session."""
    store, who = request.app.state.store, visitor.user
    try:
        if store.read(lambda c: accounts.has_password(c, who.id)):
            confirm(store, request.app.state.passwords, who, str(came.form.get("password", "")))
        return _leave(request, visitor, _party(request, provider), Departure("link", account_id=who.id))
    except (SettingProblem, ProviderProblem) as problem:
        return account.account_page(request, visitor, status=_status(problem), problem=sentence(problem))


@router.post("/account/identities/{number}/remove")
def unlink(request: Request, visitor: Admitted, number: Number) -> Response:
    """No longer sign in that way."""
    store: Store = request.app.state.store
    try:
        store.write(lambda c: identities.unlink(c, visitor.user, number, store.clock()))
    except SettingProblem as problem:
        return account.account_page(request, visitor, status=_status(problem), problem=sentence(problem))
    return go("/account", "saved")


@router.get("/oidc/{provider}/callback")
def come_back(request: Request, visitor: Admitted, provider: str) -> Response:
    """Somebody comes back: once, in the browser that left, and with something that the provider signed."""
    party = _party(request, provider)
    try:
        what_for, subject = _told(request, visitor, party)
        return _let_in(request, visitor, party, what_for, subject)
    except (AnswerProblem, DataProblem, ProviderProblem) as problem:
        shown: dict[str, Any] = {"status": _status(problem), "problem": sentence(problem)}
        return account.account_page(request, visitor, **shown) if visitor.account else page(request, visitor, "login.html", **shown)


def _status(problem: HeedfulError) -> int:
    kinds = {ProviderProblem: 503, AnswerProblem: 403}
    return next((status for kind, status in kinds.items() if isinstance(problem, kind)), 422)


def _party(request: Request, name: str) -> RelyingParty:
    found: RelyingParty | None = request.app.state.parties.get(name)
    if found is None:
        raise Refusal(404, "not_found", "Nobody signs in here by a provider of that name.")
    return found


def _leave(request: Request, visitor: Visitor, party: RelyingParty, what_for: Departure) -> Response:
    """A page that leads there. It is no redirect: the content policy lets forms lead nowhere but here."""
    store, state = request.app.state.store, new_secret()
    address = party.leave_for(state, visitor.cookie)
    store.write(lambda c: departures.leave(c, what_for, party.provider.name, state, visitor.cookie, store.clock()))
    return page(request, visitor, "leaving.html", address=address, title=party.provider.title)


def _told(request: Request, visitor: Visitor, party: RelyingParty) -> tuple[Departure, str]:
    """What somebody left for, and who the provider says they are."""
    store, given = request.app.state.store, request.query_params
    state, code = given.get("state", "")[:LONGEST_ANSWER], given.get("code", "")[:LONGEST_ANSWER]
    key = f"oidc {address_of(request)}"
    store.read(lambda c: refuse_guessing(c, [key], store.clock(), FREE_LINKS))
    try:
        what_for = store.write(lambda c: departures.come_back(c, party.provider.name, state, visitor.cookie, store.clock()))
    except AnswerProblem:
        store.write(lambda c: throttle.failed(c, [key], store.clock()))
        raise
    if not code:
        raise AnswerProblem(f"{party.provider.title} did not say who you are", "Begin again, or sign in with a password.")
    return what_for, party.subject(code, given.get("iss"), state, visitor.cookie, store.clock())


def _let_in(request: Request, visitor: Visitor, party: RelyingParty, what_for: Departure, subject: str) -> Response:
    store: Store = request.app.state.store
    if what_for.errand == "link":
        store.write(lambda c: _link(c, visitor, what_for, party, subject, store))
        return go("/account", "connected")
    who = store.write(lambda c: _who(c, what_for, party, subject, store))
    path = what_for.path if what_for.errand == "sign_in" else store.read(lambda c: entry.first_page(c, who))
    response = go(path)
    keep_cookie(request, response, begin_session(store, who, request.headers.get("user-agent", ""), visitor.cookie))
    return response


def _link(c: sa.Connection, visitor: Visitor, what_for: Departure, party: RelyingParty, subject: str, store: Store) -> None:
    if visitor.account is None or visitor.account.id != what_for.account_id:
        raise AnswerProblem("you are no longer signed in as who you were", "Sign in, then connect the account again.")
    identities.link(c, visitor.account, party.provider.issuer, subject, store.clock())


def _who(c: sa.Connection, what_for: Departure, party: RelyingParty, subject: str, store: Store) -> Account:
    """The account of an identity, taking the invitation up where that is what for. Whether there is one that has left is not told."""
    issuer, now = party.provider.issuer, store.clock()
    who = identities.find(c, issuer, subject)
    if who is not None and who.state == "active":
        if what_for.invitation_id is not None:
            invitations.join(c, what_for.invitation_id, who, now)
        return who
    if who is None and what_for.invitation_id is not None and what_for.name is not None:
        who = invitations.accept(c, what_for.invitation_id, what_for.name, None, now)
        identities.link(c, who, issuer, subject, now)
        return who
    raise AnswerProblem(
        f"{party.provider.title} knows you, but nobody here has connected that account",
        'Use the link of an invitation; or sign in with your password, and connect it under "Your account".',
    )
