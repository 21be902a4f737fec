"""The REST API, /api/v1: the same doors for programs, with tokens instead of cookies.

Its description is OpenAPI, at /api/v1/openapi.json; ``client.py`` speaks it. Here are projects; people are in
``api_people``, and what a labeler does in ``api_work``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.security import HTTPBearer
from pydantic import Field, StrictBool, StrictInt, StrictStr

from heedful.feedback.criteria import refuse_turned
from heedful.store import Project, Store, accounts, comprehension, instructions, projects, prompts, status
from heedful.store.comprehension import Question
from heedful.web import analysis, exporting, uploads
from heedful.web.access import MAY, Admitted, Door, Visitor
from heedful.web.bodies import Body

LARGEST_PROMPTS = 16 * 2**20
"""Bytes of prompts in one request; more come in several."""


class Problem(Body):
    """What went wrong: a word for programs, a sentence for people."""

    error: str
    message: str


class NewProject(Body):
    """A project; see heedful.store.Project for what each means."""

    name: StrictStr = Field(min_length=1, max_length=200)
    criterion: StrictStr = Field(min_length=1, max_length=200)
    question: StrictStr = Field(min_length=1, max_length=2000)
    higher_is: Literal["better", "worse"] = "better"
    task: Literal["ranking", "thumbs", "correction"] = "ranking"
    tie_policy: Literal["none", "sparing", "free"] = "sparing"
    overlap: StrictInt = Field(3, ge=1, le=100)
    max_overlap: StrictInt = Field(5, ge=1, le=100)
    max_shown: StrictInt = Field(prompts.MOST, ge=1, le=prompts.MOST)
    coverage: dict[str, dict[str, StrictInt]] = Field({}, max_length=20)
    seed: StrictInt = Field(0, ge=0, le=2**62)


class Changes(Body):
    """What may change while people are at work; what is not named stays."""

    tie_policy: Literal["none", "sparing", "free"] | None = None
    max_overlap: StrictInt | None = Field(None, ge=1, le=100)
    max_shown: StrictInt | None = Field(None, ge=1, le=prompts.MOST)
    decided: float | None = Field(None, ge=0.5, le=1)
    random_share: float | None = Field(None, ge=0.2, le=1)
    calibration_share: float | None = Field(None, ge=0, le=0.8)
    repeat_share: float | None = Field(None, ge=0, le=0.8)
    repeat_after: StrictInt | None = Field(None, ge=0, le=315_360_000)
    lease: StrictInt | None = Field(None, ge=1, le=604_800)
    state: Literal["active", "paused", "archived"] | None = None
    content_warning: StrictStr | None = Field(None, max_length=2000)


class QuestionBody(Body):
    """A comprehension question; ``right`` is the position of the right choice."""

    question: StrictStr = Field(min_length=1, max_length=2000)
    choices: list[StrictStr] = Field(min_length=2, max_length=20)
    right: StrictInt = Field(ge=0, le=19)
    why: StrictStr = Field("", max_length=2000)


class Publication(Body):
    """Instructions in markdown; ``questions`` that are null stay as they are."""

    text: StrictStr = Field(min_length=1, max_length=50_000)
    questions: list[QuestionBody] | None = Field(None, max_length=50)


class Retiring(Body):
    """Which prompts are judged again, by their ids; null, which has to be said: all."""

    prompt_ids: list[StrictStr] | None = Field(max_length=10_000)


class NewPrompts(Body):
    """Rows as in an uploaded file, see heedful.web.uploads; ``max_shown`` that is null is the project's."""

    items: list[dict[str, Any]] = Field(min_length=1, max_length=10_000)
    max_shown: StrictInt | None = Field(None, ge=1, le=prompts.MOST)
    calibration: StrictBool = False


def project_number(project: Annotated[int, Path(ge=1, description="A project's number, see GET /projects.")]) -> int:
    """The number in the address; whether it is for this token is decided in ``access``."""
    return project


_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": told}
    for code, told in {
        400: "The request cannot be read.",
        401: "There is no token, or it is not valid.",
        403: "The token's role or scopes do not allow it.",
        404: "There is no such thing, or it is not for this token.",
        409: "The instructions come first.",
        413: "The body is too large.",
        422: "What was sent does not fit; nothing was stored.",
        429: "Too often; the header Retry-After says for how many seconds to wait. Nothing was done.",
        503: "The store is busy; the same request may be sent again.",
    }.items()
}
_BEARER = Depends(HTTPBearer(auto_error=False))  # for the description: who is let in is decided in ``access``


def project_router() -> APIRouter:
    """For routes of one project."""
    dependencies = [_BEARER, Depends(project_number)]
    return APIRouter(prefix="/api/v1/projects/{project}", responses=_PROBLEMS, dependencies=dependencies, route_class=Door)


router = APIRouter(prefix="/api/v1", responses=_PROBLEMS, dependencies=[_BEARER], route_class=Door)
one = project_router()


@router.get("/openapi.json", include_in_schema=False)
def description(request: Request) -> dict[str, Any]:
    """What this API can do."""
    found: dict[str, Any] = request.app.openapi()
    return found


@router.get("/me")
def me(visitor: Admitted) -> dict[str, Any]:
    """Whose token this is."""
    who = visitor.user
    return {"account": who.id, "name": who.name, "labeler": who.labeler, "owner": who.owner}


@router.get("/projects")
def list_projects(request: Request, visitor: Admitted) -> list[dict[str, Any]]:
    """The projects that the token's owner has a part in."""
    found = store_of(request).read(lambda c: accounts.projects_of(c, visitor.user))
    return [{"id": number, "name": name, "role": role, "may": sorted(MAY[role])} for number, name, role in found]


@router.post("/projects", status_code=201)
def new_project(request: Request, visitor: Admitted, body: NewProject) -> dict[str, Any]:
    """Make a project."""
    store = store_of(request)
    refuse_turned(body.criterion, body.higher_is)
    asked = Project(**body.model_dump())
    number = store.write(lambda c: projects.create(c, asked, visitor.user.actor, store.clock()))
    return {"id": number, "name": asked.name}


@one.get("")
def show_project(request: Request, visitor: Admitted) -> dict[str, Any]:
    """A project's settings and how far it is."""
    counted = store_of(request).read(lambda c: status.of_project(c, visitor.asked.name))
    return {"id": visitor.project_id, "settings": _settings(visitor.asked), "status": counted.to_dict()}


@one.patch("")
def change_project(request: Request, visitor: Admitted, body: Changes) -> dict[str, Any]:
    """Change a project."""
    store, changes = store_of(request), body.model_dump(exclude_unset=True)
    changes = {name: value for name, value in changes.items() if value is not None or name == "content_warning"}
    asked = store.write(lambda c: projects.change(c, visitor.asked.name, visitor.user.actor, store.clock(), **changes))
    return {"id": visitor.project_id, "settings": _settings(asked)}


@one.post("/instructions", status_code=201)
def publish(request: Request, visitor: Admitted, body: Publication) -> dict[str, str]:
    """Publish instructions: everybody reads them before their next task."""
    store, by, name = store_of(request), visitor.user.actor, visitor.asked.name
    questions = None if body.questions is None else [Question(**q.model_dump()) for q in body.questions]

    def work(c: sa.Connection) -> str:
        if questions is not None:
            comprehension.publish(c, name, questions, by, store.clock())
        return instructions.publish(c, name, body.text, by, store.clock())

    return {"version": store.write(work)}


@one.post("/retire")
def retire(request: Request, visitor: Admitted, body: Retiring) -> dict[str, int]:
    """Have prompts judged again, as far as they were judged under other instructions than today's; those judgements no longer count.

    Says of how many prompts how many judgements that were. The same again changes nothing more.
    """
    found = store_of(request).retire(visitor.asked.name, body.prompt_ids, visitor.user.actor)
    return {"prompts": found.prompts, "judgements": found.judgements}


@one.post("/prompts", status_code=201, max_body_size=LARGEST_PROMPTS)
def add_prompts(request: Request, visitor: Admitted, body: NewPrompts) -> dict[str, int]:
    """Add prompts with their completions: all of them, or none; those that are ``there_before``, just so, are left as they are.

    ``naming_their_model``: completions that say who wrote them.
    """
    shown = visitor.asked if body.max_shown is None else replace(visitor.asked, max_shown=body.max_shown)
    items = uploads.items_of(((f"item {n}", row) for n, row in enumerate(body.items, 1)), shown)
    found = uploads.add(store_of(request), shown, items, body.calibration, visitor.user.actor)
    return {"added": found.new, "there_before": found.there_before, "naming_their_model": found.naming_their_model}


@one.get("/judgements", response_class=StreamingResponse, responses={200: {"content": {"application/x-ndjson": {}}}})
def read_judgements(request: Request, visitor: Admitted) -> StreamingResponse:
    """What was said by those who are not in quarantine, a line of JSON each."""
    return StreamingResponse(exporting.judgement_lines(store_of(request), visitor.asked.name), media_type="application/x-ndjson")


class Making(Body):
    """It is being worked out; ask again, ``as`` it stood when it was begun."""

    ready: Literal[False] = False
    as_: StrictStr = Field(alias="as")


_ROWS: dict[int | str, dict[str, Any]] = {200: {"content": {"application/x-ndjson": {}}}, 202: {"model": Making}}
State = Annotated[str, Query(alias="as", pattern="^([0-9a-f]{24})?$")]


@one.get("/pairs", response_class=FileResponse, responses=_ROWS)
def read_pairs(request: Request, visitor: Admitted, as_: State = "") -> Response:
    """Preferences by consensus, preferred first, a line of JSON each; 202 while they are being worked out."""
    return _file(request, visitor, "pairs.jsonl", as_)


@one.get("/unpaired", response_class=FileResponse, responses=_ROWS)
def read_unpaired(request: Request, visitor: Admitted, as_: State = "") -> Response:
    """Completions that are wanted or not, from thumbs and Fs, a line of JSON each; 202 while they are being worked out."""
    return _file(request, visitor, "unpaired.jsonl", as_)


@one.get("/demonstrations", response_class=FileResponse, responses=_ROWS)
def read_demonstrations(request: Request, visitor: Admitted, as_: State = "") -> Response:
    """Prompts with what should have been answered, from corrections, a line of JSON each; 202 while they are being worked out."""
    return _file(request, visitor, "demonstrations.jsonl", as_)


def _file(request: Request, visitor: Visitor, name: str, state: str) -> Response:
    path, state = exporting.ready(store_of(request), request.app.state.worker, visitor.asked.name, name, state)
    if path is None:
        return JSONResponse({"ready": False, "as": state}, 202, {"retry-after": "2"})
    return FileResponse(path, media_type="application/x-ndjson")


@one.get("/findings")
def read_findings(request: Request, visitor: Admitted) -> dict[str, Any]:
    """What was worked out last: agreement, and what there is to say of each labeler (to those who manage the project)."""
    found = analysis.newest(store_of(request), visitor.asked.name)
    if found is None:
        return {"run": None}
    summary = {name: value for name, value in found.summary.items() if name not in ("figures", "quarantined")}
    shown: dict[str, Any] = {"run": found.run.id, "made_at": found.run.made_at.isoformat(), "as_of": found.run.as_of, **summary}
    if visitor.may("manage"):
        shown["labelers"] = [{"labeler": one.labeler, "verdict": one.verdict, **one.details} for one in found.labelers]
    return shown


@one.post("/findings", status_code=202)
def work_out(request: Request, visitor: Admitted) -> dict[str, bool]:
    """Work the figures out anew; they are there when it is done."""
    store, name = store_of(request), visitor.asked.name
    request.app.state.worker.start(name, lambda: analysis.work_out(store, name))
    return {"started": True}


def store_of(request: Request) -> Store:
    """The store."""
    store: Store = request.app.state.store
    return store


def _settings(asked: Project) -> dict[str, Any]:
    return {name: getattr(asked, name) for name in Project.__dataclass_fields__}
