"""Taking away what was said."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, Response, StreamingResponse

from heedful.errors import HeedfulError
from heedful.store import Store
from heedful.web import exporting
from heedful.web.access import Admitted, Door, Refusal
from heedful.web.rendering import page, sentence

router = APIRouter(prefix="/projects/{project}/exports", route_class=Door)


@router.get("")
def exports(request: Request, visitor: Admitted) -> Response:
    """What there is to take."""
    return page(request, visitor, "manage/exports.html")


@router.get("/{name}")
def export(request: Request, visitor: Admitted, name: str) -> Response:
    """One file, to be kept and not to be shown."""
    store: Store = request.app.state.store
    if name == "judgements.jsonl":
        lines = exporting.judgement_lines(store, visitor.asked.name)
        return StreamingResponse(
            lines, media_type="application/x-ndjson", headers={"content-disposition": f'attachment; filename="{name}"'}
        )
    if name not in exporting.WRITERS:
        raise Refusal(404, "not_found", "There is no such file.")
    try:
        path, state = exporting.ready(store, request.app.state.worker, visitor.asked.name, name, state_asked(request))
    except HeedfulError as problem:
        return page(request, visitor, "manage/exports.html", status=422, problem=sentence(problem))
    if path is None:
        return page(request, visitor, "manage/exports.html", status=202, making={"name": name, "state": state})
    return FileResponse(path, media_type="text/csv" if name.endswith(".csv") else "application/x-ndjson", filename=name)


def state_asked(request: Request) -> str:
    """The state that an address names, as a page told it before; empty where it names none."""
    state = request.query_params.get("as", "")
    return state if re.fullmatch("[0-9a-f]{24}", state) else ""
