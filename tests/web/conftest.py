"""A store with nothing in it, and the app over it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apps import serving

from heedful.store import Store
from heedful.web import exporting
from stores import Clock


@pytest.fixture
def store(tmp_path: Path, sqlite_template: Path, clock: Clock) -> Iterator[Store]:
    """In SQLite alone: the other database is put to the test below the app."""
    path = tmp_path / "labels.db"
    path.write_bytes(sqlite_template.read_bytes())
    with Store.open(path, clock=clock) as opened:
        yield opened


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine, a small export is waited for."""
    monkeypatch.setattr(exporting, "PATIENCE", 60.0)


@pytest.fixture
def app(store: Store, clock: Clock) -> Iterator[Any]:
    """Started, over the store."""
    with serving(store.database.where, clock) as running:
        yield running
