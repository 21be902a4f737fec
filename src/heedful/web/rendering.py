"""Pages out of templates: what every page knows of its visitor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from heedful.errors import HeedfulError
from heedful.web.access import Visitor
from heedful.web.texts import visible

TEMPLATES = Path(__file__).with_name("templates")
SAID = {
    "saved": "Saved.",
    "published": "Published. Everybody reads it before their next task.",
    "signed-out": "You are signed out.",
    "added": "Added.",
    "working": "The figures are being worked out anew. Reload in a moment.",
    "decided": "Decided.",
    "connected": "Connected: you may sign in that way from now on.",
}
"""What a page may say after something was done; by a word in the address, so that nobody can make a page say something else."""
COOKIE_LASTS = 14 * 24 * 3600


def _url_for(name: str, path: str = "") -> str:
    """Addresses of static files: below this host, whatever it is called."""
    assert name == "static"
    return f"/static/{path}"


def when(moment: datetime | None) -> str:
    """A moment for people."""
    return "never" if moment is None else moment.strftime("%Y-%m-%d %H:%M UTC")


def percent(share: float | None) -> str:
    """A share for people."""
    return "–" if share is None else f"{100 * share:.0f} %"


def interval(found: Mapping[str, float] | None, as_: str = "") -> str:
    """A figure and its interval, with two digits or ``as_="percent"``; a dash where it is undefined."""
    if not found:
        return "–"
    if as_ == "percent":
        return f"{percent(found['estimate'])} ({100 * found['low']:.0f}–{percent(found['high'])})"
    return f"{found['estimate']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.Undefined, trim_blocks=True, lstrip_blocks=True
)
environment.globals["url_for"] = _url_for
environment.filters["visible"] = visible
environment.filters["when"] = when
environment.filters["percent"] = percent
environment.filters["interval"] = interval


def page(
    request: Request, visitor: Visitor | None, template: str, /, *, status: int = 200, problem: str = "", **context: Any
) -> HTMLResponse:
    """A page for a visitor; ``problem`` is a sentence on what went wrong with what they sent."""
    flashes = [("good", SAID[word])] if (word := request.query_params.get("said", "")) in SAID else []
    flashes += [("bad", problem)] if problem else []
    user = visitor.account if visitor else None
    common = {
        "nonce": request.state.nonce,
        "csrf": visitor.csrf if visitor else "",
        "visitor": visitor,
        "flashes": flashes,
        "user": {"name": user.name, "role": (visitor.role if visitor else None) or ("owner" if user.owner else "")} if user else None,
        "path": request.url.path,
        "providers": [party.provider for party in request.app.state.parties.values()],
    }
    if visitor and visitor.project:
        common |= {"project": visitor.project, "project_id": visitor.project_id}
    response = HTMLResponse(environment.get_template(template).render(**common | context).encode("utf-8", "replace"), status)
    if visitor and visitor.fresh:
        keep_cookie(request, response, visitor.cookie)
    return response


def as_json(content: Any) -> Response:
    """JSON in ASCII: models write half characters, which nothing else could send."""
    return Response(json.dumps(content, allow_nan=False), media_type="application/json")


def sentence(problem: HeedfulError) -> str:
    """A problem as a sentence that begins like one."""
    told = str(problem)
    return told[:1].upper() + told[1:]


def go(path: str, said: str = "") -> RedirectResponse:
    """Show another page, after something was done."""
    return RedirectResponse(f"{path}?said={said}" if said else path, 303)


def keep_cookie(request: Request, response: HTMLResponse | RedirectResponse, secret: str) -> None:
    """Give a browser its cookie: a session's secret, or one that stands for nobody yet."""
    site = request.app.state.site
    response.set_cookie(site.cookie, secret, max_age=COOKIE_LASTS, path="/", secure=site.secure, httponly=True, samesite="lax")
