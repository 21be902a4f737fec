"""A store with nothing in it, and the app over it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from apps import serving
from panels import fill

from heedful.store import Store
from heedful.web import analysis, exporting
from heedful.web.app import create_app
from stores import Clock


@pytest.fixture
def store(tmp_path: Path, sqlite_template: Path, clock: Clock) -> Iterator[Store]:
    """In SQLite alone: the other database is put to the test below the app."""
    path = tmp_path / "labels.db"
    path.write_bytes(sqlite_template.read_bytes())
    with Store.open(path, clock=clock) as opened:
        yield opened


@pytest.fixture(scope="session")
def judged_template(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """A store in which the panel has judged and the figures have been worked out, to be copied."""
    path = tmp_path_factory.mktemp("judged") / "template.db"
    path.write_bytes(sqlite_template.read_bytes())
    with Store.open(path, clock=Clock()) as store:
        fill(store)
        analysis.work_out(store, "helpful")
    return path


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, a small export is waited for."""
    monkeypatch.setattr(exporting, "PATIENCE", 60.0)


@pytest.fixture
def app(store: Store, clock: Clock) -> Iterator[Any]:
    """Started, over the store."""
    with serving(store.database.where, clock) as running:
        yield running


@pytest.fixture
def listening(tmp_path: Path, sqlite_template: Path) -> Iterator[tuple[str, Store, Any]]:
    """A server on a free port, over an empty store: its address, the store, the app."""
    path = tmp_path / "labels.db"
    path.write_bytes(sqlite_template.read_bytes())
    with socket.socket() as bound, Store.open(path) as store:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        app = create_app(path, url)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        until = time.monotonic() + 30
        while not server.started and time.monotonic() < until:
            time.sleep(0.02)
        yield url, store, app
        server.should_exit = True
        thread.join()
