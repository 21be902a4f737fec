"""Schemas: every released one still opens, nothing is migrated without a copy, and newer ones are left alone."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
import sqlalchemy as sa

from heedful.errors import DataProblem, StoreProblem
from heedful.records import Ranking
from heedful.store import Store, backup, migrate, projects, schema, schema_access
from heedful.store.database import Database
from heedful.store.importing import Imported
from heedful.store.reading import Snapshot
from postgres import create_database
from stores import answer, next_task, ready, work

FIXTURES = Path(__file__).with_name("fixtures")
RELEASED = ("0001", "0002", "0003", "0004", "0005", "0006")
ADDED = """
import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

def upgrade():
    op.add_column("project", sa.Column("colour", sa.String(20)))
    with op.batch_alter_table("stratum") as table:
        table.alter_column("value", type_=sa.String(300), existing_type=sa.String(200))
"""


@pytest.fixture
def next_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tomorrow's heedful: one migration more; returns the file of that migration."""
    scripts = tmp_path / "migrations"
    shutil.copytree(migrate.SCRIPTS, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    added = scripts / "versions" / "0007_added.py"
    added.write_text(ADDED)
    monkeypatch.setattr(migrate, "SCRIPTS", scripts)
    monkeypatch.setattr(schema, "VERSION", "0007")
    return added


def dump(where: str) -> dict[str, list[object]]:
    """Every row of every table."""
    database = Database(where)
    names = set(schema.metadata.tables)

    def rows(connection: sa.Connection) -> dict[str, list[object]]:
        return {name: sorted(map(tuple, connection.execute(sa.text(f"SELECT * FROM {name}"))), key=repr) for name in names}

    try:
        return database.read(rows)
    finally:
        database.close()


def test_the_code_knows_the_newest_migration() -> None:
    assert max(migrate._known()) == schema.VERSION
    assert set(RELEASED) <= migrate._known()


@pytest.mark.parametrize("version", RELEASED)
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_every_released_schema_still_opens(version: str, database: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """The fixtures are dumps of stores as they were written when that schema was released; see ``write_fixture.py``."""
    where = old_store(f"schema_{version}", version, database, tmp_path, request)
    with Store.open(where) as store:
        assert store.check().problem == ""
        assert store.snapshot("helpful").sha256 == (FIXTURES / f"schema_{version}.sha256").read_text().strip()
        rows = [row for row in store.judgements("helpful") if isinstance(row, Ranking) and row.purpose != "ruling"]
        said = [(row.prompt_id, row.labeler, row.completion_ids, row.ranks, row.purpose) for row in rows]
        assert len(said) == 11
        assert said[0] == ("p0", "l0", ["p0:a", "p0:c", "p0:b"], [3, 2, 1], "overlap")
        assert said[1] == ("p0", "l1", ["p0:c", "p0:a", "p0:b"], [1, 1, None], "overlap")
        assert said[-1] == ("p2", "elsewhere", ["p2:b", "p2:a"], [1, 2], "overlap")
        assert store.read(lambda c: projects.find(c, "helpful"))[1].max_shown == 9, "as many as there could be"
        assert [one.kind for one in store.labelers()][:5] == ["person", "person", "person", "person", "ai"]
        assert answer(store, next_task(store, "l2"), "l2", key="new").purpose == "calibration"  # and people go on


def test_everything_in_a_store_of_0006_is_there(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    rows = dump(old_store("schema_0006", "0006", "sqlite", tmp_path, request))
    assert [name for name in schema_access.metadata.tables if not rows[name]] == []


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_what_was_a_ruling_is_one_by_its_name_and_the_log_still_holds(
    database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """``settled_0004``: extras on p0 by an adjudicator (ada), a manager, an owner and a labeler (lena), and one that ada was asked for
    on p1, as heedful of schema 0004 wrote them, where a ruling was an extra by whoever may settle things; and its snapshot."""
    where = old_store("settled_0004", "0004", database, tmp_path, request)
    snapshot = Snapshot("helpful", **json.loads((FIXTURES / "settled_0004.json").read_text()))
    with Store.open(where) as store:
        now = {(row.labeler, row.prompt_id): row.purpose for row in store.judgements("helpful")}
        assert {who for (who, prompt), purpose in now.items() if (prompt, purpose) == ("p0", "ruling")} == {"ada", "mia", "olga"}
        assert now["lena", "p0"] == "extra"
        assert now["l0", "p0"] == now["l0", "p1"] == "overlap"
        report = store.check()
        assert report.problem == ""
        assert store.snapshot("helpful", as_of=snapshot.event) == snapshot, "what runs have named is still there"
        [told] = store.read(lambda c: c.execute(sa.select(schema.event).where(schema.event.c.kind == "rulings.named")).all())
        assert report.last_event == told.number == snapshot.event + 1
        mine = sa.select(schema.slot.c.token, schema.slot.c.state).where(
            schema.slot.c.purpose == "ruling", schema.slot.c.token.is_not(None)
        )
        assert [row.state for row in store.read(lambda c: c.execute(mine).all())] == ["leased"], "who was asked to settle something rules"
    with_forged_purpose(where, "extra")
    with Store.open(where) as store:
        assert "was changed after event" in store.check().problem


def old_store(name: str, version: str, database: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A store from a dump of a schema of then; returns where it is. PostgreSQL is brought up to date, as a file is when it is opened."""
    script = (FIXTURES / f"{name}.{database}.sql").read_text()
    if database == "sqlite":
        where = str(tmp_path / "old.db")
        with closing(sqlite3.connect(where)) as connection:
            connection.executescript(script)
    else:
        server = request.getfixturevalue("postgres_server")
        create_database(server, f"old_{name}")
        where = str(server.format(f"old_{name}"))
        with psycopg.connect(where) as connection:
            connection.execute(script)
        migrate_by_hand(where, version)
    return where


def test_an_export_from_before_rulings_had_a_name_comes_back(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """``rulings_0004``: a store with an adjudicator's and a manager's ruling, and its export, as heedful of schema 0004 wrote both."""
    where, export = old_store("rulings_0004", "0004", "sqlite", tmp_path, request), FIXTURES / "rulings_0004.jsonl"
    with Store.open(where) as store:
        assert {row.labeler for row in store.judgements("helpful") if row.purpose == "ruling"} == {"adam", "mona"}
        before = store.check()
        assert store.import_judgements("helpful", export) == Imported(stored=0, there_before=6, new_labelers=0)
        assert store.check() == before, "the same again leaves no trace"
        said = [row for row in store.judgements("helpful") if isinstance(row, Ranking)]
        turned = [replace(row, purpose="extra", ranks=row.ranks[::-1]) for row in said if row.labeler == "adam"]
        with pytest.raises(DataProblem, match="labeler 'adam' has judged prompt 'p0' already"):
            store.import_judgements("helpful", turned)
        late = [replace(row, purpose="ruling") for row in said if row.labeler == "l0"]
        with pytest.raises(DataProblem, match="labeler 'l0' has judged prompt 'p0' already"):
            store.import_judgements("helpful", late)


def with_forged_purpose(where: str, purpose: str) -> None:
    database = Database.existing(where)
    database.write(lambda c: c.execute(sa.text(f"UPDATE slot SET purpose = '{purpose}' WHERE purpose = 'ruling' AND state = 'judged'")))
    database.close()


def migrate_by_hand(where: str, version: str) -> None:
    database = Database.existing(where)
    migrate.bring_up_to_date(database, version, unattended=False)
    database.close()


def test_an_old_file_is_copied_and_migrated_when_it_is_opened(tmp_path: Path, sqlite_template: Path, next_schema: Path) -> None:
    path = tmp_path / "labels.db"
    shutil.copy(sqlite_template, path)
    before = dump(str(path))
    with Store.open(path) as store:
        assert store.schema == "0007"
        assert store.read(lambda c: c.execute(sa.text("SELECT count(colour) FROM project")).scalar()) == 0
        [copy] = backup.backups(path)
        assert "schema-0006" in copy.name
        assert store.read(lambda c: c.exec_driver_sql("PRAGMA foreign_keys").scalar()) == 1
    assert dump(str(copy)) == before


def test_who_looked_before_another_migrated_migrates_nothing(where: str, next_schema: Path) -> None:
    first, second = Database(where), Database(where)
    copy = migrate.bring_up_to_date(first, "0006", unattended=False)
    assert (copy is not None) == (first.file is not None), "heedful copies files, and no servers"
    after = dump(where)
    migrate.bring_up_to_date(second, "0006", unattended=False)
    assert migrate.version_of(second) == "0007"
    assert dump(where) == after
    first.close()
    second.close()


def test_postgresql_is_migrated_only_when_told_to(postgres_server: str, postgres_template: str, next_schema: Path) -> None:
    create_database(postgres_server, "old", postgres_template)
    where = postgres_server.format("old")
    with pytest.raises(StoreProblem, match="Back it up \\(pg_dump\\), then run: heed store migrate"):
        Store.open(where)
    database = Database.existing(where)
    assert migrate.bring_up_to_date(database, "0006", unattended=False) is None
    database.close()
    Store.open(where).close()


def test_a_migration_that_fails_changes_nothing(where: str, next_schema: Path) -> None:
    next_schema.write_text(ADDED + "    op.execute('SELECT no_such_function()')\n")
    before = dump(where)
    database = Database.existing(where)
    with pytest.raises(sa.exc.DBAPIError, match="no_such_function"):
        migrate.bring_up_to_date(database, "0006", unattended=False)
    assert migrate.version_of(database) == "0006"
    columns = database.read(lambda c: {column["name"] for column in sa.inspect(c).get_columns("project")})
    assert "colour" not in columns
    database.close()
    assert dump(where) == before


def test_a_migration_may_not_leave_rows_without_their_parent(tmp_path: Path, sqlite_template: Path, next_schema: Path) -> None:
    path = tmp_path / "labels.db"
    shutil.copy(sqlite_template, path)
    next_schema.write_text(ADDED.partition("    op.add")[0] + "    op.execute('DELETE FROM labeler')\n")
    with pytest.MonkeyPatch.context() as today:
        today.setattr(schema, "VERSION", "0006")
        with Store.open(path) as store:
            ready(store, prompts=2, labelers=1)
            work(store, "l0")
    before = dump(str(path))
    with pytest.raises(StoreProblem, match="without its parent"):
        Store.open(path)
    assert dump(str(path)) == before
    assert len(backup.backups(path)) == 1


def test_a_newer_store_is_left_alone(where: str) -> None:
    database = Database.existing(where)
    database.write(lambda c: c.execute(sa.text("UPDATE alembic_version SET version_num = '0999'")))
    database.close()
    with pytest.raises(StoreProblem, match="has schema 0999, and this heedful knows schemas up to"):
        Store.open(where)


def test_an_empty_database_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    with pytest.raises(StoreProblem, match="empty database"):
        Store.open(tmp_path / "empty.db")
    Store.open(tmp_path / "empty.db", create=True).close()
    Store.open(tmp_path / "empty.db").close()


def test_the_wheel_carries_the_migrations(tmp_path: Path, repository: Path) -> None:
    """What setuptools would pack: every file of the migrations is a module of a package that it finds."""
    code = "from setuptools import find_packages; print(*find_packages('src'))"
    found = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True).stdout.split()
    assert {"heedful.store", "heedful.store.migrations", "heedful.store.migrations.versions"} <= set(found)
    files = [path for path in migrate.SCRIPTS.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {path.suffix for path in files} == {".py"}
    assert len(files) >= 4
