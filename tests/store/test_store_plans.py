"""How the databases find their rows: nothing that a labeler waits for goes through a whole table."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from heedful.feedback import asking
from heedful.feedback.asking import ask_about
from heedful.feedback.assign import Kind
from heedful.records import Labeler, Ranking
from heedful.store import Store, importing, reading, retiring, tasks
from postgres import create_database
from stores import Clock, answer, items, join, next_task, ready, work

LARGE = {"slot", "prompt", "completion", "completion_origin", "judgement_revision", "event"}


@pytest.fixture
def store(tmp_path: Path, sqlite_template: Path) -> Iterator[Store]:
    """SQLite, which plans without having counted rows, so a small store is planned for as a large one."""
    with Store.open(shutil.copy(sqlite_template, tmp_path / "labels.db"), clock=Clock()) as store:
        settings = {"coverage": {"language": {"native": 1}}, "repeat_after": 0, "repeat_share": 0.3, "calibration_share": 0.3}
        version = ready(store, prompts=6, labelers=2, random_share=0.3, **settings)
        store.add_prompts("helpful", items(2, first=50), calibration=True)
        store.add_labelers(Labeler("n", strata={"language": "native"}))
        store.acknowledge("helpful", "n", version)
        yield store


@contextmanager
def statements(store: Store) -> Iterator[list[tuple[str, Any]]]:
    """What is sent to the database meanwhile."""
    sent: list[tuple[str, Any]] = []

    def listen(_: Any, __: Any, statement: str, parameters: Any, ___: Any, many: bool) -> None:
        if not many and statement.startswith(("SELECT", "UPDATE", "DELETE")):
            sent.append((statement, parameters))

    sa.event.listen(store.database.engine, "before_cursor_execute", listen)
    yield sent
    sa.event.remove(store.database.engine, "before_cursor_execute", listen)


def plans(store: Store, sent: list[tuple[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    for statement, parameters in dict(sent).items():
        steps = store.read(lambda c, s=statement, p=parameters: c.exec_driver_sql(f"EXPLAIN QUERY PLAN {s}", p).all())  # type: ignore[misc]
        yield statement, [row[3] for row in steps]


def whole_tables(steps: list[str]) -> list[str]:
    """Steps that go through all of a large table, or through all of a project's part of it."""
    scans = [step for step in steps if re.match(r"SCAN (\w+)", step) and re.match(r"SCAN (\w+)", step)[1] in LARGE]  # type: ignore[index]
    return scans + [step for step in steps if re.search(r"SEARCH (slot|prompt) .*\(project_id=\?\)$", step)]


def test_asking_and_answering_go_by_index(store: Store) -> None:
    with statements(store) as sent:
        for name in ("l0", "l1", "n"):
            for task in work(store, name):
                store.renew(task.token, name)
        store.add_prompts("helpful", items(1, first=9))
        task = next_task(store, "l0")
        store.skip(task.token, "l0", "no")
        answer(store, task, "l0")
        store.read(lambda c: tasks.recent(c, "helpful", "l0"))
    looked = dict(plans(store, sent))
    assert len(looked) > 40
    allowed = ("max(prompt.number)", "max(prompt.id)", "max(completion.id)", "prompt.calibration = 1")  # the end of an index; a few rows
    found = {s: faults for s, steps in looked.items() if (faults := whole_tables(steps)) and not any(word in s for word in allowed)}
    assert found == {}, "\n".join(f"{s}\n{f}" for s, f in found.items())


def test_retiring_goes_by_index_in_statements_of_a_few_values(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody judges a calibration item: of few prompts there may be more judgements than a statement takes values."""
    for name in ("l0", "l1", "n"):
        work(store, name)
    store.publish("helpful", "Rank by how kind it is.")
    monkeypatch.setattr(retiring, "AT_ONCE", 1)
    with statements(store) as sent:
        assert store.retire("helpful").prompts == 8
    looked = {s: whole_tables(steps) for s, steps in plans(store, sent) if "slot" in s}
    assert {s: faults for s, faults in looked.items() if faults} == {}
    assert {len(parameters) for statement, parameters in sent if statement.startswith("UPDATE slot")} == {4}, "one slot, and three columns"


def test_nothing_that_a_labeler_does_reads_who_wrote_what(store: Store) -> None:
    with statements(store) as sent:
        [task, *_] = work(store, "l0", 8)
        answer(store, task, "l0")
        store.skip(next_task(store, "l0").token, "l0", "no")
        store.read(lambda c: tasks.show(c, task.token, "l0"))
        store.read(lambda c: tasks.recent(c, "helpful", "l0"))
        ask_about(store, "helpful", "n", "p0")
    assert any("FROM completion" in statement for statement, _ in sent)
    assert [statement for statement, _ in sent if "completion_origin" in statement] == []


def test_a_walk_through_a_table_is_found() -> None:
    walks = ["SCAN slot", "SEARCH slot USING INDEX ix_slot_labeler (project_id=?)"]
    assert whole_tables([*walks, "SCAN project", "SEARCH slot USING INDEX ix_slot_places (project_id=? AND stratum_id=?)"]) == walks


def test_status_walks_through_one_index_once(store: Store) -> None:
    with statements(store) as sent:
        store.status()
    walks = [step for _, steps in plans(store, sent) for step in whole_tables(steps)]
    assert sorted(walks) == [
        "SEARCH prompt USING COVERING INDEX sqlite_autoindex_prompt_2 (project_id=?)",
        "SEARCH prompt USING INDEX ix_prompt_calibration (project_id=?)",  # few prompts are
        "SEARCH prompt USING INDEX ix_prompt_withdrawn (project_id=?)",
        "SEARCH slot USING COVERING INDEX ix_slot_labeler (project_id=?)",
    ]


def rows_read(connection: sa.Connection, kind: str, *tables: str) -> int:
    """Rows of some tables that a PostgreSQL server process has read, with those of earlier transactions that it has not reported yet."""
    counter = sa.text(f"SELECT sum({kind}) FROM pg_stat_xact_user_tables WHERE relname = ANY (:tables)")
    return int(connection.execute(counter, {"tables": list(tables)}).scalar_one())


def test_a_large_import_into_postgresql_and_the_reading_of_it_go_by_index(
    postgres_server: str, postgres_template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever refers to a place that is filled is looked for by index, though the tables were empty when PostgreSQL first planned that."""
    monkeypatch.setattr(importing, "_AT_ONCE", 100)
    create_database(postgres_server, "large_import", postgres_template)
    texts = items(700)
    given = [Ranking(p.id, who, [c.id for c in cs], [1, 2, 3], "helpfulness", "v") for p, cs in texts for who in ("ann", "ben", "cleo")]

    def walked(connection: sa.Connection) -> int:
        return rows_read(connection, "seq_tup_read", "judgement_revision")

    def work(connection: sa.Connection) -> int:
        before = walked(connection)
        rows = [(f"record {number}", row) for number, row in enumerate(given)]
        assert importing.add_judgements(connection, "helpful", rows, "a test", "test", store.clock()).stored == 2100
        return walked(connection) - before

    def turn_a_page(connection: sa.Connection) -> int:
        before = walked(connection)
        assert len(reading.hashes_page(connection, 1, 1000, after=4000, limit=100)) == 100
        assert len(reading.page(connection, 1, "helpfulness", 1000, False, False, after=4000, limit=100)) == 100
        return walked(connection) - before

    with Store.open(postgres_server.format("large_import")) as store:
        ready(store, prompts=0, labelers=0, overlap=3)
        store.add_prompts("helpful", texts)
        assert store.write(work) < 200_000, "and 2,100,000 with a walk through all that is there for every place"
        assert store.read(turn_a_page) == 0, "a page of what was said is found by index, however much there is"
        assert store.check().problem == ""


@pytest.mark.parametrize("name", ["dan", "eve"])
@pytest.mark.parametrize("kind", ["random", "calibration", "repeat", "directed"])
def test_what_is_read_for_a_task_in_postgresql_does_not_grow_with_what_others_judged(judged: Store, kind: Kind, name: str) -> None:
    """Nobody waits while the database goes through 1,600 filled places to the few that are open, or to the few that somebody filled."""

    def so_far(connection: sa.Connection) -> int:
        return rows_read(connection, "seq_tup_read + idx_tup_fetch", "slot", "judgement_revision")

    def work(connection: sa.Connection) -> int:
        before = so_far(connection)
        asking._Asking(connection, "helpful", name, judged.clock()).finders[kind]()
        read.append(so_far(connection) - before)
        raise Undo

    read: list[int] = []
    with pytest.raises(Undo):
        judged.write(work)
    assert read[0] < 400


class Undo(Exception):
    """Leaves the store as it was."""


@pytest.fixture(scope="module")
def judged(postgres_server: str, postgres_template: str) -> Iterator[Store]:
    """PostgreSQL: 500 prompts that three have judged, some of them dan and eve, too; twenty that wait; one place each kept for natives."""
    create_database(postgres_server, "judged", postgres_template)
    texts = items(500)
    whose = {"ann": texts, "ben": texts, "cleo": texts, "dan": texts[:5], "eve": texts[:100]}
    given = [Ranking(p.id, who, [c.id for c in cs], [1, 2, 3], "helpfulness", "v") for who, own in whose.items() for p, cs in own]
    rows = [(f"record {number}", row) for number, row in enumerate(sorted(given, key=lambda row: row.prompt_id))]
    with Store.open(postgres_server.format("judged"), clock=Clock()) as store:
        version = ready(store, prompts=0, labelers=0, overlap=3, coverage={"language": {"native": 1}}, repeat_after=0)
        join(store, "dan", version, language="native")
        join(store, "eve", version)
        store.add_prompts("helpful", texts)
        store.write(lambda c: importing.add_judgements(c, "helpful", rows, "a test", "test", store.clock()))
        store.add_prompts("helpful", items(20, first=1000))
        store.add_prompts("helpful", items(5, first=2000), calibration=True)
        yield store
