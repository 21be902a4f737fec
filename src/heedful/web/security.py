"""What holds for every request and every answer: our host, our origin, a strict content policy, nothing kept by caches."""

from __future__ import annotations

import hashlib
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heedful.web.site import Site

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
API = "/api/"
HEALTH = "/health"
LARGEST_BODY = 2 * 2**20
"""Bytes of a request; uploads have a limit of their own."""
LARGEST_UPLOAD = 64 * 2**20

_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # with no-referrer, browsers say "Origin: null" of our own forms
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), browsing-topics=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_POLICY = (
    "default-src 'none'; script-src 'self' 'nonce-{nonce}'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def csrf_of(cookie: str) -> str:
    """The token that forms send along: it follows from the cookie, which another site's page cannot read, and does not tell it."""
    return hashlib.sha256(f"csrf {cookie}".encode("utf-8", "surrogatepass")).hexdigest()


class Guard:
    """Turns away what comes from elsewhere, and puts the headers on what goes out."""

    def __init__(self, app: ASGIApp, site: Site) -> None:
        self.app, self.site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        nonce = scope.setdefault("state", {})["nonce"] = secrets.token_urlsafe(16)

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._add_headers(MutableHeaders(scope=message), scope["path"], nonce)
            await send(message)

        if fault := self._fault(scope):
            await PlainTextResponse(fault, 403)(scope, receive, guarded)
            return
        await self.app(scope, receive, guarded)

    def _fault(self, scope: Scope) -> str:
        """Why a request is turned away; empty where it is not."""
        headers = Headers(scope=scope)
        if scope["path"] != HEALTH and headers.get("host") not in self.site.hosts:
            return f"This is not the address of this app. It is {self.site.url}\n"
        if scope["method"] in SAFE_METHODS or scope["path"].startswith(API):  # the API takes no cookies, so nobody's browser can be misled
            return ""
        ours = headers.get("origin") in self.site.origins
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") or not ours:
            return "This was sent from another site's page, or by something that does not say where it comes from.\n"
        return ""

    def _add_headers(self, headers: MutableHeaders, path: str, nonce: str) -> None:
        for name, value in _HEADERS.items():
            headers[name] = value
        headers["content-security-policy"] = _POLICY.format(nonce=nonce)
        headers["cache-control"] = "no-cache" if path.startswith("/static/") else "no-store"
        if self.site.secure:
            headers["strict-transport-security"] = "max-age=31536000"
