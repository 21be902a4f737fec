"""Whoever may not come in is told so before what they send has come, over a real socket; whoever may is read to the end."""

from __future__ import annotations

import json
import re
import socket
from typing import Any

import pytest
from apps import person

from heedful.store import Store, api_tokens, sessions
from heedful.web.routes import ACCESS
from stores import project

Listening = tuple[str, Store, Any]
SENDING = sorted(key for key, need in ACCESS.items() if need != "anyone" and not key.startswith("GET "))
LARGE = 1_000_000
"""Bytes that a request says it has: less than any route's limit."""


class Call:
    """A request of which the body comes piece by piece."""

    def __init__(self, url: str, key: str, length: int = LARGE, **headers: str) -> None:
        method, path = key.split(" ")
        host, port = url.removeprefix("http://").split(":")
        fields = {"host": f"{host}:{port}", "origin": url, "content-type": "application/json", "content-length": str(length), **headers}
        self._line = socket.create_connection((host, int(port)), timeout=10)
        lines = [f"{method} {re.sub('{[a-z]+}', '1', path)} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def send(self, piece: bytes) -> None:
        self._line.sendall(piece)

    def status(self) -> int:
        """The status that is answered. Raises TimeoutError where the server waits for more."""
        with self._line:
            return int(self._line.recv(100).split()[1])


def test_who_shows_nothing_is_not_read(listening: Listening) -> None:
    url, store, _ = listening
    store.create_project(project())
    answers = {}
    for key in SENDING:
        call = Call(url, key)
        call.send(b'{"name": "')
        answers[key] = call.status()
    assert answers == dict.fromkeys(SENDING, 401)


@pytest.mark.parametrize("key", ["POST /api/v1/projects/{project}/prompts", "POST /api/v1/projects/{project}/submit"])
def test_a_wrong_token_or_one_that_may_not_is_not_read(listening: Listening, key: str) -> None:
    url, store, _ = listening
    store.create_project(project())
    viewer = person(store, "vera", "viewer")
    every = ["read", "manage", "label"]
    token, ended = (store.write(lambda c, n=n: api_tokens.make(c, viewer, n, every, 1, store.clock())) for n in "ab")  # type: ignore[misc]
    store.write(lambda c: api_tokens.revoke(c, viewer, 2, store.clock()))
    answers = [Call(url, key, authorization=f"Bearer {shown}").status() for shown in ("heed_forged", ended, token)]
    assert answers == [401, 401, 403]


def test_the_labelling_page_of_a_project_that_one_is_not_in_is_not_read(listening: Listening) -> None:
    url, store, _ = listening
    for name in ("helpful", "other"):
        store.create_project(project(name))
    stranger = person(store, "stranger", "labeler", 2)
    cookie = store.write(lambda c: sessions.begin(c, stranger.id, "a test", store.clock()))
    assert Call(url, "POST /label/{project}/submit", cookie=f"heedful={cookie}").status() == 404


def test_who_may_come_in_is_read_to_the_end(listening: Listening) -> None:
    url, store, _ = listening
    owner = person(store, "olga", "owner", None)
    token = store.write(lambda c: api_tokens.make(c, owner, "x", ["manage"], 1, store.clock()))
    body = json.dumps({"name": "support", "criterion": "helpfulness", "question": "Which helps most?"}).encode()
    call = Call(url, "POST /api/v1/projects", len(body), authorization=f"Bearer {token}")
    for piece in (body[:7], body[7:]):
        call.send(piece)
    assert call.status() == 201
