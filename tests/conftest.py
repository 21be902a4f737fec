"""What many tests share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

import postgres

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:  # tests side by side: one core each, for this process and for those it starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long a draw takes says more about what else the machine does than about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the repository."""
    return REPOSITORY


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers and real data that lies beside the repository on development machines."""
    folder = Path(os.environ.get("HEEDFUL_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"needs the development data folder {folder} (set HEEDFUL_SHARED)")
    return folder


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a running PostgreSQL, up to the name of a database; ``HEEDFUL_POSTGRES=required``: without one tests fail."""
    if reason := postgres.missing():
        (pytest.fail if os.environ.get("HEEDFUL_POSTGRES") == "required" else pytest.skip)(reason)
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite store with nothing in it, to be copied."""
    from heedful.store import Store

    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    Store.open(path, create=True).close()
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    """A PostgreSQL store with nothing in it, to be copied."""
    from heedful.store import Store

    postgres.create_database(postgres_server, "heedful_template")
    Store.open(postgres_server.format("heedful_template"), create=True).close()
    return "heedful_template"


_numbers = count()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Where an empty store is: a file, and then once more a PostgreSQL database."""
    if request.param == "sqlite":
        path = tmp_path / "labels.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield str(path)
        return
    url: str = request.getfixturevalue("postgres_server")
    name = f"heedful_{next(_numbers)}"
    postgres.create_database(url, name, request.getfixturevalue("postgres_template"))
    yield url.format(name)
    postgres.administer(url, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def clock() -> Any:
    """A clock that stands still until it is turned."""
    from stores import Clock

    return Clock()


@pytest.fixture
def store(where: str, clock: Any) -> Iterator[Any]:
    """An empty store, in either database, by a clock that one can turn."""
    from heedful.store import Store

    with Store.open(where, clock=clock) as opened:
        yield opened
