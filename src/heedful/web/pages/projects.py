"""A project's own pages: how far it is, what it asks, its instructions, its prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.datastructures import UploadFile

from heedful.errors import AnswerProblem, DataProblem, HeedfulError, SettingProblem
from heedful.feedback.criteria import CRITERIA, criterion_in, usual_questions
from heedful.feedback.instructions import instructions_for
from heedful.records import plain_text
from heedful.store import Project, Store, comprehension, instructions, projects, prompts, slots, status
from heedful.web import analysis, forms, uploads
from heedful.web.access import Admitted, Door, Form, Visitor, text
from heedful.web.drawings import inline
from heedful.web.rendering import go, page, sentence
from heedful.web.security import LARGEST_UPLOAD
from heedful.web.texts import markdown
from heedful.web.worker import Worker

router = APIRouter(prefix="/projects", route_class=Door)
LONGEST_INSTRUCTIONS = 50_000
USUALLY_SHOWN = "4"
USUAL = {name: usual_questions(name) for name in CRITERIA}


@router.get("/new")
def new_form(request: Request, visitor: Admitted) -> Response:
    """The form of a new project."""
    fields = forms.as_fields(Project("a project", "helpfulness", CRITERIA["helpfulness"].question)) | {
        "name": "",
        "question": "",
        "max_shown": USUALLY_SHOWN,
    }
    return page(request, visitor, "manage/new.html", fields=fields, usual=USUAL)


@router.post("/new")
def new(request: Request, visitor: Admitted, came: Form) -> Response:
    """Make a project, with instructions to begin with where its criterion is a well-known one."""
    store: Store = request.app.state.store
    try:
        asked = forms.project_of(came.form)

        def work(c: sa.Connection) -> int:
            number = projects.create(c, asked, visitor.user.actor, store.clock())
            if asked.criterion in CRITERIA and asked.task == "ranking":
                begin = instructions_for(criterion_in(asked), asked.tie_policy).text
                instructions.publish(c, asked.name, begin, visitor.user.actor, store.clock())
            return number

        number = store.write(work)
    except HeedfulError as problem:
        return page(request, visitor, "manage/new.html", status=422, problem=sentence(problem), fields=dict(came.form), usual=USUAL)
    return go(f"/projects/{number}/instructions", "added")


@router.get("/{project}")
def overview(request: Request, visitor: Admitted) -> Response:
    """How far the project is, and how well people agree."""
    store: Store = request.app.state.store
    found = analysis.newest(store, visitor.asked.name)
    counted = store.read(lambda c: status.of_project(c, visitor.asked.name))
    last = store.last_backup()
    shown: dict[str, Any] = {"counted": counted, "last_backup": last, "keeps_backups": store.database.file is not None}
    if found:
        figures = {name: inline(drawn) for name, drawn in found.summary.get("figures", {}).items() if drawn}
        gone = counted.retired - found.summary.get("retired", 0)
        news = sum(counted.judgements.values()) + gone - found.summary.get("judgements", 0)
        shown |= {"run": found.run, "summary": found.summary, "figures": figures, "news": news, "gone": gone}
    problem = _trouble(request, visitor) if visitor.may("manage") else ""
    return page(request, visitor, "manage/overview.html", problem=problem, **shown)


def _trouble(request: Request, visitor: Visitor) -> str:
    """Why the figures that somebody asked for are not there; told once."""
    worker: Worker = request.app.state.worker
    try:
        worker.join(visitor.asked.name, 0)
    except HeedfulError as problem:
        return f"The figures could not be worked out: {problem}"
    return ""


@router.get("/{project}/settings")
def settings_form(request: Request, visitor: Admitted) -> Response:
    """What may change while people are at work."""
    return page(request, visitor, "manage/settings.html", fields=forms.as_fields(visitor.asked))


@router.post("/{project}/settings")
def settings(request: Request, visitor: Admitted, came: Form) -> Response:
    """Change it."""
    store: Store = request.app.state.store
    try:
        changes = forms.changes_of(came.form, visitor.asked)
        if changes:
            store.write(lambda c: projects.change(c, visitor.asked.name, visitor.user.actor, store.clock(), **changes))
    except HeedfulError as problem:
        fields = forms.as_fields(visitor.asked) | {name: text(came.form, name) for name in came.form}
        return page(request, visitor, "manage/settings.html", status=422, problem=sentence(problem), fields=fields)
    return go(f"{visitor.manage}/settings", "saved")


@router.get("/{project}/instructions")
def instructions_form(request: Request, visitor: Admitted) -> Response:
    """The instructions as they are, and the questions on them."""
    return _instructions(request, visitor, *_current(request.app.state.store, visitor))


@router.post("/{project}/instructions")
def publish(request: Request, visitor: Admitted, came: Form) -> Response:
    """Look at them first (``preview``), or publish them."""
    store: Store = request.app.state.store
    words, typed = _lines(came.form.get("text", "")), _lines(came.form.get("questions", ""))
    try:
        questions = forms.questions_of(typed)
        if not words.strip() or len(words) > LONGEST_INSTRUCTIONS:
            raise SettingProblem(f"the instructions have {len(words)} characters", f"Write 1 to {LONGEST_INSTRUCTIONS}.")
        if came.form.get("preview"):
            return _instructions(request, visitor, "", words, typed)

        def work(c: sa.Connection) -> None:
            instructions.publish(c, visitor.asked.name, words, visitor.user.actor, store.clock())
            comprehension.publish(c, visitor.asked.name, questions, visitor.user.actor, store.clock())

        store.write(work)
    except HeedfulError as problem:
        return _instructions(request, visitor, "", words, typed, status=422, problem=sentence(problem))
    return go(f"{visitor.manage}/instructions", "published")


@router.post("/{project}/retire")
def retire(request: Request, visitor: Admitted, came: Form) -> Response:
    """Have prompts judged again that were judged under older instructions: all of them, or those that the figures leave undecided."""
    store: Store = request.app.state.store
    try:
        if (which := text(came.form, "which")) not in ("undecided", "all"):  # it cannot be undone, so nothing is taken for granted
            raise DataProblem("nobody said which prompts are to be judged again", "Choose some.")
        found = analysis.newest(store, visitor.asked.name)
        some = None if which == "all" else found.undecided if found else ()
        retired = store.retire(visitor.asked.name, some, visitor.user.actor)
    except HeedfulError as problem:
        return _instructions(request, visitor, *_current(store, visitor), status=422, problem=sentence(problem))
    return _instructions(request, visitor, *_current(store, visitor), retired=retired)


def _current(store: Store, visitor: Visitor) -> tuple[str, str, str]:
    """The version that is in force, its text, and the questions as they are typed."""
    questions = store.read(lambda c: comprehension.current(c, visitor.project_id))
    try:
        version, words = store.read(lambda c: instructions.current(c, visitor.asked.name))
    except AnswerProblem:
        version, words = "", ""
    return version, words, forms.questions_typed(questions)


def _instructions(request: Request, visitor: Visitor, version: str, words: str, typed: str, **more: Any) -> Response:
    store: Store = request.app.state.store
    found = analysis.newest(store, visitor.asked.name)
    versions = store.read(lambda c: instructions.versions(c, visitor.project_id))
    counts = found.summary.get("versions", {}) if found else {}
    shown: dict[str, Any] = {"version": version, "text": words, "questions": typed, "preview": markdown(words)}
    shown |= {"versions": versions, "counts": counts, "run": found and found.run, "undecided": len(found.undecided) if found else 0}
    shown["most_undecided"] = analysis.MOST_UNDECIDED
    return page(request, visitor, "manage/instructions.html", **shown | more)


def _lines(value: object) -> str:
    """A text area's text: browsers send the line ends of DOS."""
    return value.replace("\r\n", "\n") if isinstance(value, str) else ""


@router.get("/{project}/prompts")
def prompts_form(request: Request, visitor: Admitted) -> Response:
    """How many prompts there are, and where more are uploaded."""
    store: Store = request.app.state.store
    counted = store.read(lambda c: status.of_project(c, visitor.asked.name))
    return page(request, visitor, "manage/prompts.html", counted=counted, example=uploads.EXAMPLE)


@router.post("/{project}/prompts", max_body_size=LARGEST_UPLOAD)
def add_prompts(request: Request, visitor: Admitted, came: Form) -> Response:
    """Add the prompts of a file: all of them, or none and a sentence on the first that is wrong.

    What was there already, just so, is left as it is, and told of; so are completions that say who wrote them.
    """
    store: Store = request.app.state.store
    try:
        file = came.form.get("file")
        if not isinstance(file, UploadFile) or not file.size:
            raise SettingProblem("no file was chosen", "Choose one with a row of JSON on each line.")
        asked = replace(visitor.asked, **forms.numbers(came.form, ("max_shown",)))
        items = uploads.items_of(uploads.rows_of(file.file), asked)
        found = uploads.add(store, asked, items, text(came.form, "calibration") == "yes", visitor.user.actor)
    except HeedfulError as problem:
        counted = store.read(lambda c: status.of_project(c, visitor.asked.name))
        shown: dict[str, Any] = {"counted": counted, "example": uploads.EXAMPLE}
        return page(request, visitor, "manage/prompts.html", status=422, problem=sentence(problem), **shown)
    if found.naming_their_model or found.there_before:
        counted = store.read(lambda c: status.of_project(c, visitor.asked.name))
        return page(request, visitor, "manage/prompts.html", counted=counted, example=uploads.EXAMPLE, found=found)
    return go(f"{visitor.manage}/prompts", "added")


@router.get("/{project}/notes")
def notes(request: Request, visitor: Admitted) -> Response:
    """What labelers had to say about tasks, and why they skipped some."""
    store: Store = request.app.state.store
    rows = store.read(lambda c: slots.concerns(c, visitor.project_id))
    rows = [{**row, "text": plain_text(row["content"])} for row in rows]
    return page(request, visitor, "manage/notes.html", rows=rows)


@router.post("/{project}/notes")
def withdraw(request: Request, visitor: Admitted, came: Form) -> Response:
    """Ask nobody about a prompt any more, or ask about it again."""
    store: Store = request.app.state.store
    ids, withdrawn = [text(came.form, "prompt_id")], text(came.form, "withdrawn") == "yes"
    store.write(lambda c: prompts.set_withdrawn(c, visitor.asked.name, ids, withdrawn, visitor.user.actor, store.clock()))
    return go(f"{visitor.manage}/notes", "saved")


@router.post("/{project}/findings")
def work_out(request: Request, visitor: Admitted) -> Response:
    """Work out the figures anew, after the answer: of a large project it takes minutes."""
    store: Store = request.app.state.store
    request.app.state.worker.start(visitor.asked.name, lambda: analysis.work_out(store, visitor.asked.name))
    return go(visitor.manage, "working")
