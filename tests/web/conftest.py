"""A store with nothing in it, and the app over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import serving
from panels import fill

from heedful.store import Store
from heedful.web import analysis, exporting
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
