"""Who works on a project: invitations, roles, the questions on the instructions, pauses, and whose judgements count."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.errors import HeedfulError
from heedful.feedback.labelers import FLAGGED
from heedful.store import Store, accounts, comprehension, invitations, labelers
from heedful.store.schema_access import ROLES
from heedful.web import analysis, forms, members
from heedful.web.access import Admitted, Door, Form, Number, Visitor, text
from heedful.web.drawings import inline
from heedful.web.rendering import go, page, sentence

router = APIRouter(prefix="/projects/{project}", route_class=Door)
TELLING = (*FLAGGED, "minority")
"""Verdicts whose evidence stands above the table, for a person to decide on."""


@router.get("/people")
def people(request: Request, visitor: Admitted) -> Response:
    """Everybody in the project, what is known of their work, and open invitations."""
    return _people(request, visitor)


@router.post("/invitations")
def invite(request: Request, visitor: Admitted, came: Form) -> Response:
    """Make an invitation; its link is shown now and never again."""
    store: Store = request.app.state.store
    try:
        strata = forms.strata_of(text(came.form, "strata"))
        days = forms.numbers(came.form, ("days",)).get("days", 7)
        secret = members.invite(store, visitor, text(came.form, "role"), strata, days)
    except HeedfulError as problem:
        return _people(request, visitor, status=422, problem=sentence(problem))
    return _people(request, visitor, link=f"{request.app.state.site.url}/join/{secret}")


@router.post("/judges")
def add_judge(request: Request, visitor: Admitted, came: Form) -> Response:
    """Let a program judge; its token is shown now and never again."""
    store: Store = request.app.state.store
    try:
        days = forms.numbers(came.form, ("days",)).get("days", members.JUDGES_FOR)
        token = members.add_judge(store, visitor, text(came.form, "name"), days)
    except HeedfulError as problem:
        return _people(request, visitor, status=422, problem=sentence(problem))
    return _people(request, visitor, token=token)


@router.post("/invitations/{number}/revoke")
def revoke(request: Request, visitor: Admitted, number: Number) -> Response:
    """Let an invitation no longer work."""
    store: Store = request.app.state.store
    store.write(lambda c: invitations.revoke(c, number, visitor.project_id, visitor.user.actor, store.clock()))
    return go(f"{visitor.manage}/people", "saved")


@router.post("/people/{number}/role")
def change_role(request: Request, visitor: Admitted, number: Number, came: Form) -> Response:
    """Give somebody another role here, or none."""
    store: Store = request.app.state.store
    member = members.member(store, visitor.project_id, number)
    if member.account.id == visitor.user.id:
        return _people(request, visitor, status=422, problem="Your own role is for somebody else to change.")
    role = text(came.form, "role")
    try:
        store.write(lambda c: accounts.set_role(c, number, visitor.project_id, role or None, visitor.user.actor, store.clock()))
    except HeedfulError as problem:
        return _people(request, visitor, status=422, problem=sentence(problem))
    return go(f"{visitor.manage}/people", "saved")


@router.post("/people/{number}/pause")
def pause(request: Request, visitor: Admitted, number: Number, came: Form) -> Response:
    """Ask somebody nothing new here, or let them go on."""
    store: Store = request.app.state.store
    members.pause(store, visitor, number, text(came.form, "paused") == "yes")
    return go(f"{visitor.manage}/people", "saved")


@router.post("/people/{number}/kind")
def set_kind(request: Request, visitor: Admitted, number: Number, came: Form) -> Response:
    """Say whether a person or a program judges under an account."""
    store: Store = request.app.state.store
    try:
        members.set_kind(store, visitor, number, text(came.form, "kind"))
    except HeedfulError as problem:
        return _people(request, visitor, status=422, problem=sentence(problem))
    return go(f"{visitor.manage}/people", "saved")


@router.post("/people/{number}/token")
def renew_token(request: Request, visitor: Admitted, number: Number) -> Response:
    """Give a program another token, shown now and never again."""
    store: Store = request.app.state.store
    try:
        token = members.renew_token(store, visitor, number, members.JUDGES_FOR)
    except HeedfulError as problem:
        return _people(request, visitor, status=422, problem=sentence(problem))
    return _people(request, visitor, token=token)


@router.post("/quarantine")
def quarantine(request: Request, visitor: Admitted, came: Form) -> Response:
    """Quarantine somebody's judgements, or let them count again; with a reason."""
    store: Store = request.app.state.store
    name, aside, why = text(came.form, "labeler"), text(came.form, "quarantined") == "yes", text(came.form, "why")
    try:
        members.decide(store, visitor, name, aside, why)
    except HeedfulError as problem:
        return _people(request, visitor, status=422, problem=sentence(problem))
    return go(f"{visitor.manage}/people", "decided")


@router.post("/people/{number}/check")
def decide_check(request: Request, visitor: Admitted, number: Number, came: Form) -> Response:
    """Decide on somebody who has used up their tries at the questions."""
    store: Store = request.app.state.store
    try:
        members.decide_check(store, visitor, number, text(came.form, "decision"), text(came.form, "why"))
    except HeedfulError as problem:
        return _people(request, visitor, status=422, problem=sentence(problem))
    return go(f"{visitor.manage}/people", "decided")


def _people(request: Request, visitor: Visitor, **more: Any) -> Response:
    store: Store = request.app.state.store
    now, found = store.clock(), analysis.newest(store, visitor.asked.name)

    def look(c: sa.Connection) -> dict[str, Any]:
        waiting = {one.labeler_id: one for one in comprehension.waiting(c, visitor.project_id)}
        return {
            "members": accounts.members(c, visitor.project_id),
            "by_token_alone": accounts.by_token_alone(c, visitor.project_id),
            "invited": invitations.of_project(c, visitor.project_id, now),
            "waiting": waiting,
            "questions": comprehension.current(c, visitor.project_id),
            "aside": labelers.quarantined(c, visitor.asked.name),
        }

    shown = store.read(look)
    reports = {one.labeler: one for one in (found.labelers if found else [])}
    outside = [one for name, one in reports.items() if name not in {m.account.labeler for m in shown["members"]}]
    drawn = found.summary.get("figures", {}) if found else {}
    shown |= {"figures": {name: inline(svg) for name, svg in drawn.items() if svg}}
    shown |= {"reports": reports, "outside": outside, "look_at": [one for one in reports.values() if one.verdict in TELLING]}
    return page(request, visitor, "manage/people.html", **shown, roles=ROLES, judges_for=members.JUDGES_FOR, **more)
