"""The real app on a real port over a real store, and people who are signed in to it. For browser tests and screenshots."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import uvicorn
from argon2 import PasswordHasher

from heedful.records import Completion, Prompt, Ranking
from heedful.store import Store, accounts, projects, sessions
from heedful.web.app import create_app
from heedful.web.auth import Passwords
from heedful.web.oidc.providers import Provider
from stores import project

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ELSEWHERE = "labels.test"
"""A name for this machine that browsers take for another one: what comes from there unencrypted, they trust less."""
PASSWORD = "seven quiet owls by the sea"
QUICK = Passwords(PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
INSTRUCTIONS = """\
# What to do

Put the completions in order by **how much they help**.

* Completions that are truly equal may share a rank. Do so sparingly.
* A nonsensical, confusing or irrelevant completion gets an F.
"""


@dataclass
class Served:
    """A running app: its address, and the same store by a door of our own."""

    url: str
    store: Store
    server: uvicorn.Server

    def project_id(self, name: str = "helpful") -> int:
        """A project's number, as it stands in addresses."""
        return self.store.read(lambda c: projects.find(c, name))[0]

    def person(self, name: str, role: str = "labeler", ready: bool = True, project: str = "helpful") -> str:
        """An account with a role in a project; ``ready``: has read its instructions. Returns a session's cookie."""
        hashed, number = QUICK.hash(name, PASSWORD), None if role == "owner" else self.project_id(project)
        now = self.store.clock()

        def work(c: sa.Connection) -> str:
            who = accounts.create(c, name, hashed, role == "owner", {}, "test", now)
            if number is not None:
                accounts.set_role(c, who.id, number, role, "test", now)
            return sessions.begin(c, who.id, "test", now)

        cookie = self.store.write(work)
        if ready and number is not None:
            self.store.acknowledge(project, name, self.store.publish(project, INSTRUCTIONS))
        return cookie

    def rows(self, labeler: str) -> dict[str, Any]:
        """The rankings stored of a labeler: ``{prompt text: {completion text: rank}}``; one per prompt."""
        texts = {c.id: c.text for c in self.store.completions("helpful")}
        asked = {p.id: p.prompt for p in self.store.prompts("helpful")}
        found = [row for row in self.store.judgements("helpful") if isinstance(row, Ranking) and row.labeler == labeler]
        return {asked[row.prompt_id]: {texts[c]: rank for c, rank in zip(row.completion_ids, row.ranks, strict=True)} for row in found}


@contextmanager
def serve(store_path: Path, providers: Iterable[Provider] = (), host: str = "127.0.0.1") -> Iterator[Served]:
    """Run the app over a store in a thread of this process."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        url = f"http://{host}:{listening.getsockname()[1]}"
        app = create_app(store_path, url, passwords=QUICK, providers=providers)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            until = time.monotonic() + 20
            while not server.started:
                assert thread.is_alive(), "the server did not start"
                assert time.monotonic() < until, "the server did not start in time"
                time.sleep(0.01)
            with Store.open(store_path) as store:
                yield Served(url, store, server)
        finally:
            server.should_exit = True
            thread.join(10)


def add_project(store: Store, prompts: int = 3, completions: int = 4, **settings: Any) -> None:
    """The project ``helpful``: prompts "question 0", ... with completions "answer a to question 0", ..."""
    store.create_project(replace(project(), **settings))
    store.publish("helpful", INSTRUCTIONS)
    letters = "abcdefghi"[:completions]
    store.add_prompts(
        "helpful",
        [
            (
                Prompt(f"p{i}", f"question {i}"),
                [Completion(f"p{i}:{x}", f"p{i}", f"answer {x} to question {i}", [1], "stop", 1, f"model-{x}", {}) for x in letters],
            )
            for i in range(prompts)
        ],
    )
