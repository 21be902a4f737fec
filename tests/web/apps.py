"""A running app over a small store, and people in it, for tests: everything real but the network."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argon2 import PasswordHasher
from starlette.testclient import TestClient

from heedful.store import Store, invitations, sessions
from heedful.store.accounts import Account
from heedful.web.app import create_app
from heedful.web.auth import Passwords
from heedful.web.oidc.providers import Provider

URL = "http://testserver"
PASSWORD = "a sentence that nobody else would write"
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
"""Argon2 as in earnest, at a cost that tests can bear."""


class Browser(TestClient):
    """A browser: keeps cookies, says where a form comes from, and reads the token off a page."""

    def __init__(self, app: Any, url: str = URL) -> None:
        super().__init__(app, base_url=url, headers={"origin": url}, follow_redirects=False, raise_server_exceptions=False)

    def csrf(self, path: str = "/login") -> str:
        """The token that a page carries."""
        return csrf_in(self.get(path).text)

    def fill(self, path: str, **fields: Any) -> Any:
        """Post a form as a page of ours would."""
        return self.post(path, data={"csrf": self.csrf(), **fields})

    def fetch(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Post JSON as the labelling page does."""
        return self.post(path, json=body or {}, headers={"x-csrf-token": self.csrf(), "accept": "application/json"})

    def sign_in(self, store: Store, who: Account) -> Browser:
        """Be somebody, without the cost of a password."""
        self.cookies.set("heedful", store.write(lambda c: sessions.begin(c, who.id, "a test", store.clock())), domain="testserver.local")
        return self


def csrf_in(page: str) -> str:
    """The token in a page."""
    found = re.search(r'<meta name="csrf" content="(\w+)">', page)
    assert found, page[:500]
    return found[1]


@contextmanager
def serving(where: str | Path, clock: Callable[[], Any], url: str = URL, providers: Iterable[Provider] = ()) -> Iterator[Any]:
    """The app, started."""
    app = create_app(where, url, clock=clock, passwords=Passwords(QUICK), providers=providers)
    with TestClient(app, base_url=url):
        yield app


def person(store: Store, name: str, role: str, project_id: int | None = 1, **strata: str) -> Account:
    """Somebody who took up an invitation."""

    def work(c: Any) -> Account:
        secret = invitations.make(c, role, None if role == "owner" else project_id, strata, None, store.clock())
        return invitations.accept(c, secret, name, QUICK.hash(PASSWORD), store.clock())

    return store.write(work)
