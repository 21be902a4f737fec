"""The REST API for whoever leads a project: who works on it, and whose judgements count."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import Request
from fastapi.responses import Response
from pydantic import Field, StrictBool, StrictInt, StrictStr

from heedful.feedback.asking import ask_about
from heedful.store import accounts, api_tokens, comprehension, labelers
from heedful.store.names import LONGEST_ID, LONGEST_REASON
from heedful.web import analysis, labelling, members
from heedful.web.access import Admitted, Number
from heedful.web.api import project_router, store_of
from heedful.web.bodies import Body, Plain
from heedful.web.rendering import as_json

router = project_router()


class Invited(Body):
    """An invitation that works once; ``strata`` of the population that they stand for, which they see before they accept."""

    role: Literal["viewer", "labeler", "adjudicator", "manager"] = "labeler"
    strata: dict[Annotated[str, Field(max_length=200)], Annotated[StrictStr, Field(max_length=200)]] = Field({}, max_length=20)
    days: StrictInt = Field(7, ge=1, le=members.LONGEST_INVITATION)


class Renewal(Body):
    """A judge's token that works for so many days."""

    days: StrictInt = Field(members.JUDGES_FOR, ge=1, le=api_tokens.LONGEST_DAYS)


class NewJudge(Renewal):
    """A program that judges under a name of its own, with a token."""

    name: Plain = Field(min_length=1, max_length=100)


class Paused(Body):
    """Whether they are asked nothing new."""

    paused: StrictBool


class Kind(Body):
    """Who judges under an account: a person, or a program."""

    kind: Literal["person", "ai"]


class CheckDecision(Body):
    """Whether somebody who used up their tries at the questions is let in, or gets two more, and why."""

    decision: Literal["passed", "try_again"]
    why: StrictStr = Field(min_length=1, max_length=LONGEST_REASON)


class Decision(Body):
    """Whether a labeler's judgements are in quarantine, and why."""

    labeler: Plain = Field(max_length=200)
    quarantined: StrictBool
    why: StrictStr = Field(min_length=1, max_length=LONGEST_REASON)


class Settled(Body):
    """A prompt that others left undecided."""

    prompt_id: Plain = Field(max_length=LONGEST_ID)


@router.get("/people")
def people(request: Request, visitor: Admitted) -> list[dict[str, Any]]:
    """Everybody in the project: ``account`` is their number, ``labeler`` the name of what they say, ``quarantined`` why it does not count.

    ``waiting``: what they last answered to the questions, where somebody is to decide on them.
    """

    def look(c: sa.Connection) -> list[dict[str, Any]]:
        aside = labelers.quarantined(c, visitor.asked.name)
        waiting = {one.labeler_id: one.answers for one in comprehension.waiting(c, visitor.project_id)}
        return [
            {"account": m.account.id, "labeler": m.account.labeler, "kind": m.account.kind, "role": m.role}
            | {"paused": m.paused, "state": m.account.state, "quarantined": aside.get(m.account.labeler)}
            | {"waiting": waiting.get(m.account.labeler_id)}
            for m in accounts.members(c, visitor.project_id)
        ]

    return store_of(request).read(look)


@router.post("/invitations", status_code=201)
def invite(request: Request, visitor: Admitted, body: Invited) -> dict[str, str]:
    """Invite somebody; the link is told now and never again."""
    secret = members.invite(store_of(request), visitor, body.role, body.strata, body.days)
    return {"link": f"{request.app.state.site.url}/join/{secret}"}


@router.post("/judges", status_code=201)
def add_judge(request: Request, visitor: Admitted, body: NewJudge) -> dict[str, str]:
    """Let a program judge; its token is told now and never again."""
    return {"token": members.add_judge(store_of(request), visitor, body.name, body.days)}


@router.post("/people/{number}/token", status_code=201)
def renew_token(request: Request, visitor: Admitted, number: Number, body: Renewal) -> dict[str, str]:
    """Give a program another token, told now and never again; those that it had work no longer."""
    return {"token": members.renew_token(store_of(request), visitor, number, body.days)}


@router.post("/people/{number}/pause")
def pause(request: Request, visitor: Admitted, number: Number, body: Paused) -> dict[str, bool]:
    """Ask somebody nothing new, or let them go on; what they have begun is kept."""
    members.pause(store_of(request), visitor, number, body.paused)
    return {"paused": body.paused}


@router.post("/people/{number}/check")
def decide_check(request: Request, visitor: Admitted, number: Number, body: CheckDecision) -> dict[str, str]:
    """Decide on somebody who has used up their tries at the questions."""
    members.decide_check(store_of(request), visitor, number, body.decision, body.why)
    return {"decision": body.decision}


@router.post("/people/{number}/kind")
def set_kind(request: Request, visitor: Admitted, number: Number, body: Kind) -> dict[str, str]:
    """Say whether a person or a program judges, so that an AI judge is not counted among people."""
    members.set_kind(store_of(request), visitor, number, body.kind)
    return {"kind": body.kind}


@router.get("/undecided")
def undecided(request: Request, visitor: Admitted) -> Response:
    """The prompts that the newest figures left undecided, the least sure (``p``) first; ``met``: the token's owner was asked before."""
    store = store_of(request)
    found = analysis.newest(store, visitor.asked.name)
    return as_json(analysis.to_settle(store, visitor.asked.name, found, visitor.user.labeler_id) if found else [])


@router.post("/undecided")
def settle(request: Request, visitor: Admitted, body: Settled) -> Response:
    """Take one of them to judge it, which settles it; the answer is submitted like any other."""
    store = store_of(request)
    task = ask_about(store, visitor.asked.name, visitor.user.labeler, body.prompt_id)
    return as_json({"task": labelling.task_json(task, store.clock())})


@router.post("/quarantine")
def quarantine(request: Request, visitor: Admitted, body: Decision) -> dict[str, bool]:
    """Quarantine somebody's judgements, or let them count again."""
    members.decide(store_of(request), visitor, body.labeler, body.quarantined, body.why)
    return {"quarantined": body.quarantined}
