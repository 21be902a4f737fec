"""How a database is opened, read and written: settings, races, queues, and what it says when it cannot."""

from __future__ import annotations

import stat
import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from heedful.errors import SettingProblem, StoreBusy, StoreProblem
from heedful.store import Store, database, labelers
from heedful.store.database import Database, beside, locked, sqlite_file
from heedful.store.schema import labeler
from postgres import create_database
from stores import ready


def pragma(store: Store, name: str) -> object:
    return store.read(lambda c: c.exec_driver_sql(f"PRAGMA {name}").scalar())


def test_sqlite_is_set_up_so_that_a_commit_is_on_the_disk(sqlite_template: Path) -> None:
    with Store.open(sqlite_template) as store:
        found = {name: pragma(store, name) for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "trusted_schema")}
        assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10000, "trusted_schema": 0}


def test_a_store_is_for_its_owner_only(tmp_path: Path) -> None:
    Store.open(tmp_path / "new.db", create=True).close()
    assert stat.S_IMODE((tmp_path / "new.db").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("where", "file"),
    [("labels.db", Path("labels.db")), ("sqlite:///labels.db", Path("labels.db")), ("postgresql://h/x", None), ("postgres://h/x", None)],
)
def test_a_path_or_a_url(where: str, file: Path | None) -> None:
    assert sqlite_file(where) == file


def test_what_is_no_store(tmp_path: Path, where: str) -> None:
    with pytest.raises(SettingProblem, match="'mysql'"):
        sqlite_file("mysql://h/x")
    with pytest.raises(SettingProblem, match="Did you mean 'postgresql'"):
        sqlite_file("postgress://h/x")
    with pytest.raises(SettingProblem, match="names no file"):
        sqlite_file("sqlite://")
    with pytest.raises(StoreProblem, match="there is no store"):
        Store.open(tmp_path / "typo.db")
    assert not (tmp_path / "typo.db").exists()
    with pytest.raises(StoreProblem, match="cannot be made"):
        Store.open("/proc/new.db", create=True)
    (tmp_path / "text.db").write_text("this is no database, and long enough to be taken for one" * 20)
    with pytest.raises(StoreProblem, match="damaged or no database"):
        Store.open(tmp_path / "text.db")


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    other = Database.made(tmp_path / "other.db")
    other.write(lambda c: c.exec_driver_sql("CREATE TABLE stamps (id)"))
    other.close()
    with pytest.raises(StoreProblem, match="tables of something else \\(stamps\\)"):
        Store.open(tmp_path / "other.db", create=True)


def test_a_server_that_is_not_there(postgres_server: str) -> None:
    with pytest.raises(StoreBusy, match="cannot be reached") as caught:
        Store.open("postgresql://ann:secret@/x?host=/nonexistent")
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreBusy, match="does not exist"):
        Store.open(postgres_server.format("nothing_here"))


def test_all_or_nothing(store: Store) -> None:
    def work(connection: sa.Connection) -> None:
        labelers.add(connection, [], "test", store.clock())
        connection.execute(sa.insert(labeler).values(name="ann", kind="person", state="active", added_at=store.clock()))
        raise KeyError("half-way")

    with pytest.raises(KeyError):
        store.write(work)
    assert store.labelers() == []


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_several_may_make_the_same_store_at_once(database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    where = str(tmp_path / "new.db")
    if database == "postgresql":
        server = request.getfixturevalue("postgres_server")
        create_database(server, "made_at_once")
        where = server.format("made_at_once")
    problems: list[BaseException] = []

    def make() -> None:
        try:
            Store.open(where, create=True).close()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    with Store.open(where) as store:
        assert store.check().problem == ""


def test_a_read_sees_one_moment(store: Store) -> None:
    ready(store, prompts=0, labelers=1)

    def count(connection: sa.Connection) -> tuple[int, int]:
        before = len(labelers.everybody(connection))
        thread = threading.Thread(target=lambda: store.write(lambda c: labelers.rename(c, "l0", "somebody", "test", store.clock())))
        thread.start()
        thread.join()
        return before, sum(one.name == "l0" for one in labelers.everybody(connection))

    assert store.read(count) == (1, 1)
    assert store.labelers()[0].name == "somebody"


def test_threads_write_one_after_the_other(store: Store) -> None:
    ready(store, prompts=0, labelers=0)
    threads = [threading.Thread(target=_add, args=(store, f"t{i}")) for i in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.name for one in store.labelers()) == sorted(f"t{i}" for i in range(12))
    assert store.check().problem == ""


def _add(store: Store, name: str) -> None:
    from heedful.records import Labeler

    store.add_labelers(Labeler(name))


def test_writers_do_not_wait_for_ever(tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "PATIENCE", 0.2)
    with Store.open(sqlite_template) as store, beside(sqlite_template, "lock").open("ab") as queue:
        assert locked(queue, exclusive=True)
        began = time.monotonic()
        with pytest.raises(StoreBusy, match="another process has been writing"):
            _add(store, "ann")
        assert 0.2 <= time.monotonic() - began < 5
        with store.database._turn, pytest.raises(StoreBusy, match="other threads have been writing"):
            _add(store, "ann")


def lock_both(store: Store, names: tuple[str, str], meet: threading.Barrier, done: list[str]) -> None:
    """Lock two labelers, one after the other; the first time, both threads hold one before either goes on."""
    tries = []

    def work(connection: sa.Connection) -> None:
        tries.append(1)
        labelers.hold(connection, names[0])
        if len(tries) == 1:
            meet.wait()
        labelers.hold(connection, names[1])

    store.write(work)
    done.append(f"{names[0]} after {len(tries)}")


def test_a_deadlock_is_undone_and_tried_again(postgres_server: str, postgres_template: str) -> None:
    create_database(postgres_server, "deadlock", postgres_template)
    with Store.open(postgres_server.format("deadlock")) as store:
        ready(store, prompts=0, labelers=2)
        meet, done = threading.Barrier(2), []
        threads = [threading.Thread(target=lock_both, args=(store, names, meet, done)) for names in (("l0", "l1"), ("l1", "l0"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(line[-1] for line in done) == ["1", "2"], done


def test_a_serialisation_failure_is_tried_again(postgres_server: str, postgres_template: str) -> None:
    create_database(postgres_server, "serial", postgres_template)
    with Store.open(postgres_server.format("serial")) as store:
        ready(store, prompts=0, labelers=1)
        tries = []

        def work(connection: sa.Connection) -> None:
            tries.append(1)
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            connection.execute(sa.select(labeler)).all()
            if len(tries) == 1:
                thread = threading.Thread(target=lambda: store.write(lambda c: c.execute(sa.update(labeler).values(state="paused"))))
                thread.start()
                thread.join()
            connection.execute(sa.update(labeler).values(state="active"))

        store.write(work)
        assert len(tries) == 2


def test_the_loser_of_a_race_for_a_name_hears_of_it_in_words(store: Store) -> None:
    from heedful.errors import DataProblem
    from heedful.records import Labeler

    problems: list[BaseException] = []

    def add() -> None:
        try:
            store.add_labelers(Labeler("ann"))
        except DataProblem as problem:
            problems.append(problem)

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(problem) for problem in problems] == ["there is a labeler 'ann' already. Choose another name."] * 3
