"""``heed store``: what it prints, and what it says when something is wrong."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from heedful.cli.main import main
from heedful.store import Store
from stores import ready, work

Heed = Callable[..., Any]


@pytest.fixture
def heed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Heed:
    """Run a command; returns its JSON, or what it said on stderr with its exit code."""

    def run(*words: object) -> Any:
        monkeypatch.setattr(sys, "argv", ["heed", "store", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        if ended.value.code:
            return ended.value.code, said.err
        return json.loads(said.out) if "--json" in words else said.out

    return run


@pytest.fixture
def filled(where: str) -> str:
    with Store.open(where) as store:
        ready(store, prompts=2, labelers=2, overlap=2)
        work(store, "l0")
    return where


def test_status(filled: str, heed: Heed) -> None:
    found = heed("status", filled, "--json")
    assert (found["schema"], found["last_backup"]) == ("0006", "see pg_dump" if "://" in filled else "never")
    [project] = found["projects"]
    assert (project["places"], project["places_open"], project["judgements"], project["labelers"]) == (4, 2, {"overlap": 2}, {"l0": 2})
    shown = heed("status", filled)
    assert "judgements overlap 2" in " ".join(shown.split())
    assert "skipped" not in shown


def test_check(filled: str, heed: Heed) -> None:
    found = heed("check", filled, "--json")
    assert (found["whole"], found["judgements"], found["prompts"]) == (True, 2, 2)
    with Store.open(filled) as store, store.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE completion SET text = '\"nicer\"' WHERE id = 1")
    code, said = heed("check", filled)
    assert code == 2
    assert "prompt 1 ('p0') was changed after event 3 stored it" in said


def test_backup_and_restore(tmp_path: Path, sqlite_template: Path, heed: Heed) -> None:
    path = Path(shutil.copy(sqlite_template, tmp_path / "labels.db"))
    with Store.open(path) as store:
        ready(store, prompts=2, labelers=2, overlap=2)
    copy = heed("backup", path, "--json")["backup"]
    assert heed("status", path, "--json")["last_backup"].startswith("20")
    with Store.open(path) as store:
        work(store, "l0")
        code, said = heed("restore", copy, path)
        assert (code, "is in use" in said) == (2, True)
    assert copy in heed("backups", path, "--json")["backup"]
    found = heed("restore", copy, path, "--json")
    assert Path(found["set_aside"]).exists()
    assert heed("status", path, "--json")["projects"][0]["judgements"] == {}
    assert heed("backup", path, "--keep", 1, "--json")["backup"] != copy
    assert not Path(copy).exists()


def test_mistakes_are_told_in_a_sentence(tmp_path: Path, heed: Heed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert heed("status")[1] == "heed: there is no store heedful.db. Check the path.\n"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "notes.txt").write_text("x" * 5000)
    for command in ("status", "check", "migrate"):
        code, said = heed(command, tmp_path / "notes.txt")
        assert code == 2
        assert "is damaged or no database" in said
    with closing(sqlite3.connect(tmp_path / "other.db")) as connection:
        connection.execute("CREATE TABLE stamps (id)")
    assert "tables of something else" in heed("status", tmp_path / "other.db")[1]
    assert "PostgreSQL store is not restored by heed" in heed("restore", "x", "postgresql://h/x")[1]
    assert heed("restore", "nothing.db", tmp_path / "new.db")[0] == 2
    assert not (tmp_path / "new.db").exists()


def test_the_store_may_be_named_by_the_environment(filled: str, heed: Heed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEEDFUL_STORE", filled)
    assert heed("check", "--json")["whole"] is True


def test_migrate_where_nothing_is_to_be_done(filled: str, heed: Heed) -> None:
    found = heed("migrate", filled, "--json")
    assert (found["schema_before"], found["schema"], found["backup"]) == ("0006", "0006", None)
