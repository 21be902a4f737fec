"""What people left undecided, for somebody who settles it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from heedful.errors import AnswerProblem, DataProblem, InstructionsChanged
from heedful.feedback.asking import ask_about
from heedful.store import Store
from heedful.web import analysis
from heedful.web.access import Admitted, Door, Form, Visitor, text
from heedful.web.rendering import go, page, sentence

router = APIRouter(prefix="/projects/{project}/undecided", route_class=Door)


@router.get("")
def undecided(request: Request, visitor: Admitted) -> Response:
    """The prompts that wait to be settled, the most undecided first."""
    return _undecided(request, visitor)


@router.post("")
def settle(request: Request, visitor: Admitted, came: Form) -> Response:
    """Take one of them to judge it: it comes next on the labelling page."""
    store: Store = request.app.state.store
    try:
        ask_about(store, visitor.asked.name, visitor.user.labeler, text(came.form, "prompt_id"))
    except InstructionsChanged:
        return go(f"{visitor.label}/instructions")
    except (AnswerProblem, DataProblem) as problem:
        return _undecided(request, visitor, sentence(problem))
    return go(visitor.label)


def _undecided(request: Request, visitor: Visitor, problem: str = "") -> Response:
    store: Store = request.app.state.store
    found = analysis.newest(store, visitor.asked.name)
    rows = analysis.to_settle(store, visitor.asked.name, found, visitor.user.labeler_id) if found else []
    return page(
        request, visitor, "manage/undecided.html", status=422 if problem else 200, problem=problem, rows=rows, run=found and found.run
    )
