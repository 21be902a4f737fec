"""The labeler's pages, and the JSON that the labelling page talks."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.errors import AnswerProblem, InstructionsChanged
from heedful.store import Store, comprehension, tasks
from heedful.web import labelling
from heedful.web.access import Admitted, Door, Form, Visitor, text
from heedful.web.bodies import OfTask, Skipped, Submitted
from heedful.web.rendering import as_json, go, page, sentence
from heedful.web.texts import difference, markdown

router = APIRouter(prefix="/label/{project}", route_class=Door)


@router.get("")
def labelling_page(request: Request, visitor: Admitted) -> Response:
    """The labelling page, or what comes before it."""
    store: Store = request.app.state.store
    if visitor.asked.state != "active":
        return _pause(request, visitor, f"This project is {visitor.asked.state}: nothing is asked just now. Look again later.")
    try:
        step, read, _ = store.read(lambda c: labelling.step(c, visitor.asked, visitor.project_id, visitor.user))
    except AnswerProblem as problem:
        return _pause(request, visitor, sentence(problem))
    if step != "task":
        return go(f"{visitor.label}/{'instructions' if step == 'instructions' else 'check'}")
    return page(request, visitor, "labeler/task.html", version=read.version, instructions=markdown(read.text))


@router.get("/instructions")
def instructions_page(request: Request, visitor: Admitted) -> Response:
    """The instructions, with what changed since somebody read them last."""
    store: Store = request.app.state.store
    try:
        read = store.read(lambda c: labelling.reading(c, visitor.asked, visitor.user))
    except AnswerProblem as problem:
        return _pause(request, visitor, sentence(problem))
    changes = difference(read.before, read.text) if read.before is not None and not read.acknowledged else None
    shown: dict[str, Any] = {"version": read.version, "instructions": markdown(read.text), "difference": changes}
    return page(request, visitor, "labeler/instructions.html", **shown, acknowledged=read.acknowledged)


@router.post("/instructions")
def acknowledge(request: Request, visitor: Admitted, came: Form) -> Response:
    """Somebody has read the instructions; if there is a newer version by now, they see it."""
    try:
        labelling.acknowledge(request.app.state.store, visitor.asked, visitor.user, text(came.form, "version"))
    except InstructionsChanged:
        return go(f"{visitor.label}/instructions")
    return go(visitor.label)


@router.get("/check")
def check_page(request: Request, visitor: Admitted) -> Response:
    """The questions on the instructions."""
    store: Store = request.app.state.store
    step, read, standing = store.read(lambda c: labelling.step(c, visitor.asked, visitor.project_id, visitor.user))
    if step in ("instructions", "task"):
        return go(visitor.label)
    return page(request, visitor, "labeler/check.html", standing=standing, wrong=[], instructions=markdown(read.text))


@router.post("/check")
def answer_check(request: Request, visitor: Admitted, came: Form) -> Response:
    """Answer them: fields ``q0``, ``q1``, ... hold the number of the choice."""
    store: Store = request.app.state.store
    count = len(store.read(lambda c: comprehension.current(c, visitor.project_id)))
    chosen = [text(came.form, f"q{number}") for number in range(count)]
    answers = [int(choice) for choice in chosen if choice.isascii() and choice.isdigit() and len(choice) < 4]
    wrong = store.write(lambda c: comprehension.attempt(c, visitor.project_id, visitor.user.labeler_id, answers, store.clock()))
    if not wrong:
        return go(visitor.label)
    _, read, standing = store.read(lambda c: labelling.step(c, visitor.asked, visitor.project_id, visitor.user))
    shown: dict[str, Any] = {"standing": standing, "wrong": wrong, "answers": answers, "instructions": markdown(read.text)}
    return page(request, visitor, "labeler/check.html", **shown)


@router.get("/mine")
def mine(request: Request, visitor: Admitted) -> Response:
    """One's own progress, and the last answers, to look at again."""
    store: Store = request.app.state.store
    progress = store.read(lambda c: labelling.progress(c, visitor.project_id, visitor.user, store.clock()))
    try:
        answered = store.read(lambda c: tasks.recent(c, visitor.asked.name, visitor.user.labeler, 20))
    except AnswerProblem as problem:
        return _pause(request, visitor, sentence(problem))
    return page(request, visitor, "labeler/mine.html", progress=progress, answered=answered)


def _pause(request: Request, visitor: Visitor, reason: str) -> Response:
    """Why there is nothing to do now."""
    return page(request, visitor, "labeler/done.html", reason=reason)


@router.post("/next")
def next_task(request: Request, visitor: Admitted) -> Response:
    """The next task, or none."""
    store: Store = request.app.state.store
    task = labelling.next_task(store, visitor.asked, visitor.project_id, visitor.user)
    progress = store.read(lambda c: labelling.progress(c, visitor.project_id, visitor.user, store.clock()))
    return as_json({"task": labelling.task_json(task, store.clock()) if task else None, "progress": progress})


@router.post("/heartbeat")
def heartbeat(request: Request, visitor: Admitted, body: OfTask) -> dict[str, Any]:
    """A sign of life; ``lease_seconds`` is null where the task is no longer reserved."""
    return {"lease_seconds": labelling.renew(request.app.state.store, visitor.user, visitor.project_id, body.token)}


@router.post("/submit")
def submit(request: Request, visitor: Admitted, body: Submitted) -> dict[str, Any]:
    """Store an answer."""
    return labelling.receipt_json(labelling.submit(request.app.state.store, visitor.user, visitor.project_id, body))


@router.post("/skip")
def skip(request: Request, visitor: Admitted, body: Skipped) -> dict[str, Any]:
    """Somebody would rather not judge this one."""
    labelling.skip(request.app.state.store, visitor.user, visitor.project_id, body)
    return {"skipped": True}


@router.post("/reopen")
def reopen(request: Request, visitor: Admitted, body: OfTask) -> Response:
    """A task of one's own that was judged, with the answer, to change it."""
    store: Store = request.app.state.store
    found = labelling.reopen(store, visitor.user, visitor.project_id, body.token)
    progress = store.read(lambda c: labelling.progress(c, visitor.project_id, visitor.user, store.clock()))
    return as_json({"task": labelling.task_json(found.task, store.clock(), found.answer), "progress": progress})
