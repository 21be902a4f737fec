"""The only requests that the app makes: to a provider, bounded in time, in size and in number, following nobody elsewhere."""

from __future__ import annotations

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

PATIENCE = 5.0
"""Seconds for each step: to connect, for each piece of the answer; and for all pieces together."""
LARGEST = 2**18
"""Bytes of an answer."""
AT_ONCE = 8
"""Requests on their way: a provider that hangs may hold up so many threads and no more, or labelling would stop with it."""
_places = threading.BoundedSemaphore(AT_ONCE)


class Unreachable(Exception):
    """There is no usable answer; why, for the log. It holds nothing that was sent."""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is meant for one address is sent to no other."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


def fetch(url: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The JSON object at an address; with a ``form``, what comes of posting it. Raises Unreachable."""
    if not _places.acquire(timeout=PATIENCE / 5):
        raise Unreachable("too many requests are on their way")
    try:
        return _object(_answer(url, urlencode(form).encode() if form is not None else None, headers or {}))
    finally:
        _places.release()


def _answer(url: str, data: bytes | None, headers: Mapping[str, str]) -> bytes:
    request = urllib.request.Request(url, data, {"accept": "application/json", **headers})
    try:
        with _opener.open(request, timeout=PATIENCE) as answer:
            return _bounded(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise Unreachable(f"it answered {error.code}{_told(error)}") from None
    except urllib.error.URLError as error:
        raise Unreachable(f"it does not answer: {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"it does not answer: {error or type(error).__name__}") from None


def _bounded(answer: Any) -> bytes:
    until, found = time.monotonic() + PATIENCE, b""
    while piece := answer.read1(LARGEST):
        found += piece
        if len(found) > LARGEST:
            raise Unreachable(f"its answer is longer than {LARGEST} bytes")
        if time.monotonic() > until:
            raise Unreachable(f"its answer takes longer than {PATIENCE:g} seconds")
    return found


def _told(error: urllib.error.HTTPError) -> str:
    """The word by which a provider says what it did not like, if it is one."""
    try:
        word = _object(_bounded(error)).get("error")
    except (Unreachable, OSError, http.client.HTTPException):
        return ""
    return f" {word}" if isinstance(word, str) and word.replace("_", "").isalnum() and len(word) < 60 else ""


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreachable("its answer is not JSON") from None
    if not isinstance(found, dict):
        raise Unreachable("its answer is no object")
    return found
