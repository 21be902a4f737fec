"""The app, put together: middleware, pages, API, and what becomes of problems."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from heedful import __version__
from heedful.errors import AnswerProblem, HeedfulError, InstructionsChanged, NoSuchTask, StoreBusy, StoreProblem
from heedful.store import Store
from heedful.store.store import Clock, utc_now
from heedful.web import api, api_people, api_work
from heedful.web.access import Door, Refusal, admitted
from heedful.web.auth import Passwords
from heedful.web.labelling import CheckNeeded
from heedful.web.oidc.providers import Provider, read
from heedful.web.oidc.relying import RelyingParty
from heedful.web.pages import account, adjudication, entry, exports, label, oidc, people, projects
from heedful.web.rendering import page, sentence
from heedful.web.security import API, LARGEST_BODY, Guard
from heedful.web.site import Site
from heedful.web.throttling import Paces, TooManyTries
from heedful.web.worker import Worker

_log = logging.getLogger("heedful.web")
_PROBLEMS: list[tuple[type[HeedfulError], int, str]] = [
    (InstructionsChanged, 409, "instructions_changed"),
    (CheckNeeded, 409, "check_needed"),
    (NoSuchTask, 404, "no_such_task"),
    (AnswerProblem, 422, "refused"),
    (TooManyTries, 429, "too_many_tries"),
    (StoreBusy, 503, "busy"),
    (StoreProblem, 500, "store"),
    (HeedfulError, 422, "refused"),
]


def create_app(
    store_url: str | Path,
    public_url: str = "http://127.0.0.1:8000",
    *,
    clock: Clock = utc_now,
    passwords: Passwords | None = None,
    providers: Iterable[Provider] = (),
) -> FastAPI:
    """The app over the store at a path or URL; ``public_url`` is where people reach it, ``providers`` where they may sign in elsewhere."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with Store.open(store_url, clock=clock, actor="heed label") as store:
            app.state.store = store
            yield

    app = FastAPI(
        title="heedful",
        version=__version__,
        lifespan=lifespan,
        dependencies=[Depends(admitted)],
        max_body_size=LARGEST_BODY,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.router.route_class = Door
    app.state.site = Site(public_url)
    app.state.passwords = passwords or Passwords()
    app.state.worker = Worker()
    app.state.paces = Paces()
    app.state.parties = {provider.name: RelyingParty(provider, public_url) for provider in providers}
    app.add_middleware(Guard, site=app.state.site)
    app.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), name="static")
    app.add_api_route("/health", health, methods=["GET"], include_in_schema=False)
    for part in (entry, oidc, account, projects, people, adjudication, exports, label):
        app.include_router(part.router, include_in_schema=False)
    app.include_router(api.router)  # side by side: the route of a router inside another does not know its whole address
    for routes in (api.one, api_people.router, api_work.router):
        app.include_router(routes)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    return app


def from_environment() -> FastAPI:
    """The app as a worker of ``heed label`` starts it."""
    file = os.environ.get("HEEDFUL_OIDC")
    found = read(Path(file)).values() if file else ()
    return create_app(os.environ["HEEDFUL_STORE"], os.environ["HEEDFUL_URL"], providers=found)


def health(request: Request) -> PlainTextResponse:
    """Whether the store answers: for whatever watches over the process."""
    store: Store = request.app.state.store
    store.read(lambda c: None)
    return PlainTextResponse("ok\n")


def _on_problem(request: Request, problem: Exception) -> Response:
    """A problem of heedful's, in its own words."""
    assert isinstance(problem, HeedfulError)
    status, error = next((status, error) for kind, status, error in _PROBLEMS if isinstance(problem, kind))
    if status == 500:
        _log.error("%s", problem)
        return _told(request, status, error, "The store cannot be used just now. Whoever runs this server finds the reason in its log.")
    told = _told(request, status, error, sentence(problem))
    if isinstance(problem, TooManyTries):
        told.headers["retry-after"] = str(problem.seconds)
    return told


def _on_refusal(request: Request, problem: Exception) -> Response:
    """What may not be done, or is not there."""
    assert isinstance(problem, HTTPException)
    if problem.status_code == 401 and request.method == "GET" and not _wants_json(request):
        return RedirectResponse(f"/login?next={quote(request.url.path)}", 303)
    error = problem.error if isinstance(problem, Refusal) else "http"
    message = (
        str(problem.detail)
        if isinstance(problem, Refusal)
        else {404: "There is no such page."}.get(problem.status_code, str(problem.detail))
    )
    return _told(request, problem.status_code, error, message)


def _on_malformed(request: Request, problem: Exception) -> Response:
    """What was sent is not what was asked for. What it held is not repeated."""
    assert isinstance(problem, RequestValidationError)
    first = problem.errors()[0]
    where = " / ".join(str(part)[:40] for part in first["loc"][1:])
    return _told(request, 422, "malformed", f"{where or 'The body'}: {first['msg']}.")


def _on_crash(request: Request, problem: Exception) -> Response:
    """A mistake of ours: it goes to the log, not to the page."""
    return _told(request, 500, "crash", "Something went wrong on the server. What you sent was not stored; it may be sent again.")


def _told(request: Request, status: int, error: str, message: str) -> Response:
    if _wants_json(request):
        return JSONResponse({"error": error, "message": message}, status)
    return page(request, None, "error.html", status=status, message=message)


def _wants_json(request: Request) -> bool:
    kinds = (request.headers.get("content-type", ""), request.headers.get("accept", ""))
    return request.url.path.startswith(API) or any(kind.startswith("application/json") for kind in kinds)


_HANDLERS: dict[Any, Callable[[Request, Exception], Response]] = {
    HeedfulError: _on_problem,
    HTTPException: _on_refusal,
    RequestValidationError: _on_malformed,
    Exception: _on_crash,
}
