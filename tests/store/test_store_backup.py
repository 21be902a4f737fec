"""Copies: complete and checked or not there; and back again."""

from __future__ import annotations

import shutil
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from heedful.errors import FileProblem, StoreProblem
from heedful.store import Store, backup
from stores import Clock, ready, work


@pytest.fixture
def path(tmp_path: Path, sqlite_template: Path) -> Path:
    """A file with a little work in it."""
    path = tmp_path / "labels.db"
    shutil.copy(sqlite_template, path)
    with Store.open(path, clock=Clock()) as store:
        ready(store, prompts=3, labelers=2, overlap=2)
        work(store, "l0")
    return path


def test_a_copy_is_the_store_as_it_was(path: Path) -> None:
    with Store.open(path, clock=Clock()) as store:
        before = store.snapshot("helpful")
        copy = store.back_up()
        work(store, "l1")
        assert store.snapshot("helpful") != before
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with Store.open(copy) as old:
        assert old.snapshot("helpful") == before
        assert old.check().problem == ""


def test_a_copy_is_made_while_others_write(path: Path) -> None:
    with Store.open(path) as store, Store.open(path) as other:
        thread = threading.Thread(target=lambda: work(other, "l1"))
        thread.start()
        copies = [store.back_up() for _ in range(4)]
        thread.join()
    for copy in copies:
        with Store.open(copy) as old:
            assert old.check().problem == ""


def test_the_newest_are_kept(path: Path) -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    made = [backup.back_up(path, keep=3, now=first + timedelta(hours=i)) for i in range(5)]
    assert backup.backups(path) == made[2:]
    assert not made[0].exists()
    with Store.open(path) as store:
        assert store.last_backup() == first + timedelta(hours=4)


def test_what_somebody_put_beside_the_copies_is_left_alone(path: Path) -> None:
    note = backup.folder_of(path) / "note.db"
    backup.back_up(path)
    note.write_text("mine")
    backup.back_up(path, keep=1)
    assert note.exists()
    assert len(backup.backups(path)) == 1


def test_restore_puts_a_copy_in_place_and_the_store_aside(path: Path) -> None:
    copy = backup.back_up(path)
    with Store.open(path) as store:
        before = store.snapshot("helpful")
        work(store, "l1")
        after = store.snapshot("helpful")
        with pytest.raises(StoreProblem, match="is in use"):
            backup.restore(path, copy)
        assert store.snapshot("helpful") == after
    aside = backup.restore(path, copy)
    assert aside
    with Store.open(path) as store, Store.open(aside) as old:
        assert store.snapshot("helpful") == before
        assert old.snapshot("helpful") == after
        assert len(work(store, "l1")) == 3


def test_a_store_that_is_gone_or_damaged_comes_back(path: Path) -> None:
    copy = backup.back_up(path)
    path.write_bytes(b"rubbish" * 1000)
    aside = backup.restore(path, copy)
    assert aside
    assert aside.read_bytes().startswith(b"rubbish")
    path.unlink()
    assert backup.restore(path, copy) is None
    with Store.open(path) as store:
        assert store.check().problem == ""


def test_a_damaged_copy_is_refused_and_changes_nothing(path: Path) -> None:
    copy = backup.back_up(path)
    content = bytearray(copy.read_bytes())
    content[5000:9000] = b"\0" * 4000
    copy.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(StoreProblem, match=r"damaged|cannot be copied"):
        backup.restore(path, copy)
    assert path.read_bytes() == before
    with pytest.raises(FileProblem, match="there is no store"):
        backup.restore(path, path.with_name("nothing.db"))
    assert path.read_bytes() == before
    assert not list(path.parent.glob("*.unfinished"))


def test_a_damaged_store_is_not_copied_over_good_copies(path: Path) -> None:
    good = backup.back_up(path, keep=1)
    content = bytearray(path.read_bytes())
    content[20000:40000] = b"\xff" * 20000
    path.write_bytes(content)
    with pytest.raises(StoreProblem, match=r"damaged|cannot be copied"):
        backup.back_up(path, keep=1)
    assert backup.backups(path) == [good]


def test_postgresql_has_tools_of_its_own(store: Store) -> None:
    if store.database.file is None:
        with pytest.raises(StoreProblem, match="pg_dump"):
            store.back_up()
        assert store.last_backup() is None
    else:
        assert store.back_up().exists()
