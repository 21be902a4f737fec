"""The tables as built by the migrations: the same as the code thinks, and what they forbid."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from heedful.records import Labeler
from heedful.store import Store, labelers, schema, slots
from heedful.store.schema import concern, prompt, slot
from stores import answer, next_task, ready, work

FACTS = ("event", "judgement_revision", "instructions", "acknowledgement", "concern", "quarantine")


def test_migrations_build_what_the_code_describes(store: Store) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    def differences(connection: sa.Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return list(compare_metadata(context, schema.metadata))

    assert store.read(differences) == []


def test_the_database_forbids_what_the_code_describes(store: Store) -> None:
    """Alembic does not compare checks and conditions of indexes, so their words are."""

    def found(connection: sa.Connection) -> tuple[set[str], set[str]]:
        inspector = sa.inspect(connection)
        tables = schema.metadata.tables
        checks = {str(check["name"]) for table in tables for check in inspector.get_check_constraints(table)}
        partial = {str(i["name"]) for t in tables for i in inspector.get_indexes(t) if f"{dialect}_where" in i.get("dialect_options", {})}
        return checks, partial

    dialect = store.database.engine.dialect.name
    checks, partial = store.read(found)
    described = [c for table in schema.metadata.tables.values() for c in table.constraints if isinstance(c, sa.CheckConstraint)]
    assert checks == {str(c.name) for c in described}
    indexes = [i for table in schema.metadata.tables.values() for i in table.indexes]
    assert partial == {str(i.name) for i in indexes if i.dialect_options[dialect]["where"] is not None}


@pytest.fixture
def busy(store: Store) -> Store:
    """A store with a row of every fact in it."""
    ready(store, prompts=2, labelers=2)
    work(store, "l0", 1)
    store.skip(next_task(store, "l0").token, "l0", "no")
    store.write(lambda c: labelers.decide(c, "helpful", "l0", True, "ann", "guesses", store.clock()))
    return store


@pytest.mark.parametrize("table", FACTS)
def test_facts_are_never_changed_or_removed(busy: Store, table: str) -> None:
    key = schema.metadata.tables[table].primary_key.columns.values()[0].name
    count = sa.text(f"SELECT count(*) FROM {table}")
    before = busy.read(lambda c: c.execute(count).scalar_one())
    assert before > 0
    statements = [f"UPDATE {table} SET {key} = {key}", f"DELETE FROM {table}"]
    statements += [f"TRUNCATE {table} CASCADE"] if busy.database.file is None else [f"REPLACE INTO {table} SELECT * FROM {table}"]
    for statement in statements:
        with pytest.raises(sa.exc.DBAPIError, match=f"rows of {table} are never changed or removed"):
            busy.write(lambda c, statement=statement: c.exec_driver_sql(statement))  # type: ignore[misc]
    assert busy.read(lambda c: c.execute(count).scalar_one()) == before


@pytest.mark.parametrize("table", ["labeler", "prompt", "completion", "project", "criterion", "slot"])
def test_nothing_vanishes_with_what_it_belongs_to(busy: Store, table: str) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        busy.write(lambda c: c.exec_driver_sql(f"DELETE FROM {table}"))


def refuses(store: Store, statement: sa.Executable) -> None:
    with pytest.raises(sa.exc.IntegrityError), store.database.engine.begin() as connection:
        connection.execute(statement)


def test_places_and_voices_are_held_by_the_database(busy: Store) -> None:
    def row(**changes: Any) -> sa.Insert:
        given = {"project_id": 1, "prompt_id": 1, "k": None, "purpose": "extra", "state": "skipped", "labeler_id": 2, "shown": [1]}
        return sa.insert(slot).values({**given, "at_random": False, **changes})

    refuses(busy, row(k=1, purpose="overlap", state="judged"))  # the place is taken
    refuses(busy, row(labeler_id=1))  # l0 has a voice at p0
    refuses(busy, row(k=9))  # only the overlap has places
    refuses(busy, row(state="open"))  # nobody's slot has a labeler
    refuses(busy, row(state="leased"))  # a lease has an end
    refuses(busy, row(purpose="whim"))
    refuses(busy, row(project_id=2))
    busy.write(lambda c: c.execute(row()))
    busy.write(lambda c: c.execute(row(purpose="repeat")))
    refuses(busy, row(purpose="repeat"))  # once is enough
    refuses(busy, sa.update(prompt).values(project_id=2))


def test_one_lease_at_a_time(busy: Store) -> None:
    next_task(busy, "l1")
    lease = {"state": "leased", "labeler_id": 2, "shown": [1], "lease_until": busy.clock()}
    refuses(busy, sa.update(slot).where(slot.c.id == 6).values(lease))


def test_the_view_shows_the_latest_revision_of_every_judgement(store: Store) -> None:
    ready(store, prompts=2, labelers=1)
    first, _ = work(store, "l0", 2)
    from heedful.store import Answer

    answer(store, first, "l0", Answer(ranks=[3, 2, 1]))
    rows = store.read(lambda c: c.execute(sa.text("SELECT slot_id, number FROM judgement ORDER BY number")).all())
    assert [row.number for row in rows] == [1, 2]
    assert len({row.slot_id for row in rows}) == 2


def test_a_concern_about_a_task_is_kept(store: Store) -> None:
    ready(store, prompts=1, labelers=1)
    task = next_task(store, "l0")
    store.write(lambda c: slots.raise_concern(c, slots.mine(c, task.token, 1), "names a person", store.clock()))
    [row] = store.read(lambda c: c.execute(sa.select(concern.c.reason, concern.c.skipped)).all())
    assert tuple(row) == ("names a person", False)
    assert store.status()[0].concerns == 1
    assert store.check().problem == ""


def test_names_stay_out_of_the_log(store: Store) -> None:
    store.add_labelers(Labeler("ann.secret@example.org", strata={"language": "native"}))
    ready(store, prompts=1, labelers=0)
    store.acknowledge("helpful", "ann.secret@example.org", store.publish("helpful", "x"))
    work(store, "ann.secret@example.org")
    store.write(lambda c: labelers.rename(c, "ann.secret@example.org", "labeler 1", "test", store.clock()))
    log = store.read(lambda c: c.execute(sa.select(schema.event)).all())
    assert len(log) > 5
    assert not [row for row in log if "secret" in repr(row) or "native" in repr(row)]
    assert [row.labeler for row in store.judgements("helpful")] == ["labeler 1"]
    assert store.check().problem == ""
