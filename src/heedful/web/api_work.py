"""The REST API for whoever labels, people and AI judges alike: to read, to answer questions on what was read, tasks, answers."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from fastapi.responses import Response
from pydantic import Field, StrictInt, StrictStr

from heedful.store import Store, comprehension
from heedful.web import labelling
from heedful.web.access import Admitted, Visitor
from heedful.web.api import project_router, store_of
from heedful.web.bodies import Body, OfTask, Skipped, Submitted
from heedful.web.rendering import as_json

router = project_router()


class Acknowledged(Body):
    """The version that was read."""

    version: StrictStr = Field(max_length=100)


class Chosen(Body):
    """The position of the choice at each question, 0 for the first."""

    answers: list[StrictInt] = Field(max_length=50)


@router.get("/instructions")
def read_instructions(request: Request, visitor: Admitted) -> dict[str, Any]:
    """The instructions as the token's owner stands to them."""
    read = store_of(request).read(lambda c: labelling.reading(c, visitor.asked, visitor.user))
    return {"version": read.version, "text": read.text, "acknowledged": read.acknowledged}


@router.post("/acknowledge")
def acknowledge(request: Request, visitor: Admitted, body: Acknowledged) -> dict[str, bool]:
    """The instructions were read."""
    labelling.acknowledge(store_of(request), visitor.asked, visitor.user, body.version)
    return {"acknowledged": True}


@router.get("/check")
def read_check(request: Request, visitor: Admitted) -> dict[str, Any]:
    """The questions on the instructions. ``state``: ``none``, ``open``, ``passed``, or ``waiting`` for a person to decide."""
    return _check(store_of(request), visitor)


@router.post("/check")
def answer_check(request: Request, visitor: Admitted, body: Chosen) -> dict[str, Any]:
    """Answer them. ``wrong``: those that were answered wrongly, each with why; none, where it is passed."""
    store, who = store_of(request), visitor.user.labeler_id
    questions = store.read(lambda c: comprehension.current(c, visitor.project_id))
    wrong = store.write(lambda c: comprehension.attempt(c, visitor.project_id, who, body.answers, store.clock()))
    return {"wrong": [{"question": number, "why": questions[number].why} for number in wrong], **_check(store, visitor)}


def _check(store: Store, visitor: Visitor) -> dict[str, Any]:
    standing = store.read(lambda c: comprehension.standing(c, visitor.project_id, visitor.user.labeler_id))
    questions = [{"question": q.question, "choices": q.choices} for q in standing.questions]
    return {"state": standing.state, "tries_left": standing.tries_left, "questions": questions}


@router.post("/next")
def next_task(request: Request, visitor: Admitted) -> Response:
    """The next task, or none."""
    store = store_of(request)
    task = labelling.next_task(store, visitor.asked, visitor.project_id, visitor.user)
    return as_json({"task": labelling.task_json(task, store.clock()) if task else None})


@router.post("/heartbeat")
def heartbeat(request: Request, visitor: Admitted, body: OfTask) -> dict[str, Any]:
    """A sign of life; ``lease_seconds`` is null where the task is no longer reserved."""
    return {"lease_seconds": labelling.renew(store_of(request), visitor.user, visitor.project_id, body.token)}


@router.post("/submit")
def submit(request: Request, visitor: Admitted, body: Submitted) -> dict[str, Any]:
    """Store an answer; the same key again stores it once."""
    return labelling.receipt_json(labelling.submit(store_of(request), visitor.user, visitor.project_id, body))


@router.post("/skip")
def skip(request: Request, visitor: Admitted, body: Skipped) -> dict[str, bool]:
    """The task goes to somebody else."""
    labelling.skip(store_of(request), visitor.user, visitor.project_id, body)
    return {"skipped": True}


@router.post("/reopen")
def reopen(request: Request, visitor: Admitted, body: OfTask) -> Response:
    """A task that was judged, with the answer (``previous``); to submit it again, under another key, is to revise it."""
    store = store_of(request)
    found = labelling.reopen(store, visitor.user, visitor.project_id, body.token)
    return as_json({"task": labelling.task_json(found.task, store.clock(), found.answer)})
