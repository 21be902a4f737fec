"""Tampering of every kind is found, and the first bad row is named."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from heedful.store import Answer, Store, audit, check, comprehension, labelers, slots
from heedful.store.check import CheckReport
from heedful.store.columns import canonical
from heedful.store.comprehension import Question
from heedful.store.schema import judgement_revision
from stores import Clock, answer, next_task, ready, work

Spoil = Callable[[sqlite3.Connection], object]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """A file with six judgements in it, one of them revised; to be copied."""
    path = tmp_path_factory.mktemp("sound") / "labels.db"
    shutil.copy(sqlite_template, path)
    with Store.open(path, clock=Clock()) as store:
        ready(store, prompts=3, labelers=2, overlap=2)
        first, *_ = work(store, "l0")
        work(store, "l1")
        answer(store, first, "l0", Answer(ranks=[3, 2, 1], active_ms=5))
    return path


@pytest.fixture
def path(tmp_path: Path, sound: Path) -> Path:
    """A sound file that one may spoil."""
    return Path(shutil.copy(sound, tmp_path / "labels.db"))


def checked(path: Path) -> CheckReport:
    with Store.open(path) as store:
        return store.check()


def spoiled(path: Path, *statements: str) -> str:
    """What the check says after somebody with access to the file ran these, past every trigger and key."""
    with closing(sqlite3.connect(path)) as connection:
        triggers = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]
        for name in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount, statement
        connection.commit()
    return checked(path).problem


def test_a_sound_store(path: Path) -> None:
    found = checked(path)
    assert (found.problem, found.prompts, found.judgements) == ("", 3, 7)
    with Store.open(path) as store:
        assert store.read(audit.chain_end) == audit.ChainEnd(found.last_event, found.last_sha256)


REVISION_CHANGED = [
    ("UPDATE judgement_revision SET answer = replace(answer, '3', '2') WHERE number = 2", 2, 1),
    ("UPDATE judgement_revision SET judged_at = NULL WHERE slot_id = 3", 1, 3),
    ("UPDATE judgement_revision SET active_ms = 1 WHERE slot_id = 3", 1, 3),
    ("UPDATE judgement_revision SET key = 'mine' WHERE slot_id = 3", 1, 3),
    ("UPDATE judgement_revision SET sha256 = substr(sha256, 2) || '0' WHERE slot_id = 3", 1, 3),
    ("UPDATE slot SET prompt_id = 3, k = 9, labeler_id = 3 WHERE id = 1", 1, 1),
    ("UPDATE slot SET labeler_id = 3 WHERE id = 1", 1, 1),
    ("UPDATE slot SET shown = '[3,2,1]' WHERE id = 1", 1, 1),
    ("UPDATE slot SET k = NULL, purpose = 'extra', state = 'skipped' WHERE id = 2", 1, 2),
]


@pytest.mark.parametrize(("statement", "number", "slot"), REVISION_CHANGED)
def test_a_judgement_that_was_changed_is_named(path: Path, statement: str, number: int, slot: int) -> None:
    third = "INSERT INTO labeler VALUES (3, 'l2', 'person', 'active', '2026-01-05T08:00:00.000000+00:00')"
    assert f"judgement_revision {number} of slot {slot} was changed" in spoiled(path, third, statement)


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE completion SET text = '\"nicer\"' WHERE id = 5", "prompt 2 ('p1') was changed"),
        ("UPDATE prompt SET content = '\"other\"' WHERE id = 3", "prompt 3 ('p2') was changed"),
        ("UPDATE completion_origin SET model = '\"mine\"' WHERE completion_id = 1", "prompt 1 ('p0') was changed"),
        ("UPDATE event SET at = '2020' || substr(at, 5) WHERE number = 4", "event 4 (labeler.added) was changed"),
        ("UPDATE event SET details = replace(details, '1', '2') WHERE number = 4", "event 4 (labeler.added) was changed"),
        ("UPDATE event SET previous = sha256 WHERE number = 4", "event 4 does not follow from event 3"),
        ("DELETE FROM event WHERE number = 4", "event 4 is missing"),
        ("DELETE FROM judgement_revision WHERE slot_id = 5", "stored 1 judgements; 0 are there"),
        ("DELETE FROM judgement_revision WHERE number = 2", "event 14 (judgement.revised) stored 1 judgements; 0 are there"),
        ("UPDATE chain SET number = number + 1", "event 15 is missing: there were 15"),
        ("UPDATE chain SET sha256 = substr(sha256, 2) || '0'", "the log ends with event 14, and should end with event 14"),
        ("UPDATE instructions SET text = '\"Rank by length.\"'", "instructions 1 do not say what version"),
        ("UPDATE prompt SET overlap = 3 WHERE id = 2", "prompt 2 has 2 places for an overlap of 3"),
        ("DELETE FROM slot WHERE id = 6", "of judgement_revision refers to a row of slot that is not there"),
    ],
)
def test_the_first_bad_row_is_named(path: Path, statement: str, problem: str) -> None:
    assert problem in spoiled(path, statement)


def test_the_end_of_the_log_cannot_be_cut_off(path: Path) -> None:
    cut = "DELETE FROM event WHERE number = 14", "DELETE FROM judgement_revision WHERE number = 2"
    assert spoiled(path, *cut) == "event 14 is missing: there were 14"


def test_a_judgement_cannot_be_slipped_in(path: Path) -> None:
    columns = "instructions_id, answer, active_ms, judged_at, sha256, event"
    row = f"INSERT INTO judgement_revision SELECT slot_id, 3, 'mine', {columns} FROM judgement_revision WHERE number = 2"
    assert "judgement_revision 3 of slot 1 was changed" in spoiled(path, row)


def test_a_judgement_that_was_changed_with_its_hash_is_found_by_the_log(path: Path) -> None:
    """Whoever knows how a row is hashed still has the event against them."""
    with Store.open(path) as store:
        row = store.read(lambda c: c.execute(check.judgements_sealed().where(judgement_revision.c.slot_id == 3)).one())
        forged = dict(row._mapping) | {"answer": {"ranks": {"4": 3, "5": 2, "6": 1}}}
        sha256 = audit.judgement_sha256(forged)
    change = f"UPDATE judgement_revision SET answer = '{canonical(forged['answer'])}', sha256 = '{sha256}' WHERE slot_id = 3"
    assert "stored 1 judgements; 1 are there, or they are others" in spoiled(path, change)


def test_a_page_that_was_overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[40960:45056] = b"\x5a" * 4096
    path.write_bytes(content)
    assert "damaged" in checked(path).problem


def test_a_lost_slot_or_revision_breaks_a_law(path: Path) -> None:
    """Even where the log has been made to agree, rows that contradict each other are found."""
    with Store.open(path) as store:
        for table in ("event", "judgement_revision"):
            for verb in ("update", "delete"):
                store.write(lambda c, name=f"{table}_no_{verb}": c.exec_driver_sql(f"DROP TRIGGER {name}"))  # type: ignore[misc]
        store.write(lambda c: c.exec_driver_sql("DELETE FROM judgement_revision WHERE slot_id = 4"))
        assert list(store.read(lambda c: list(check._broken_laws(c)))) == ["slot 4 is judged, and no judgement of it is there"]
        store.write(lambda c: c.exec_driver_sql("DELETE FROM judgement_revision WHERE slot_id = 1 AND number = 1"))
        assert "a judgement_revision of slot 1 is missing" in store.read(lambda c: list(check._broken_laws(c)))


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Path:
    """A file with a row of every fact that an event of its own tells of; to be copied."""
    path = tmp_path_factory.mktemp("decided") / "labels.db"
    shutil.copy(sqlite_template, path)
    with Store.open(path, clock=Clock()) as store:
        ready(store, prompts=2, labelers=2)
        now = store.clock()
        store.write(lambda c: labelers.decide(c, "helpful", "l1", True, "manager 1", "ties too often", now))
        held = next_task(store, "l0")
        store.write(lambda c: slots.raise_concern(c, slots.mine(c, held.token, 1), "names a person", now))
        store.skip(held.token, "l0", "upsetting")
        store.write(lambda c: comprehension.publish(c, "helpful", [Question("What is F?", ["Nonsense", "Fine"], 0)], "account 1", now))
        store.write(lambda c: comprehension.attempt(c, 1, 1, [1], now))
        store.write(lambda c: comprehension.decide(c, 1, 1, "passed", "account 1", "we talked", now))
        assert store.check().problem == ""
    return path


GONE = "the row of {} that event"
OTHER = "the log does not tell of row 1 of {} as it is now"


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM quarantine", GONE.format("quarantine")),
        ("UPDATE quarantine SET quarantined = 0", OTHER.format("quarantine")),
        ("UPDATE quarantine SET why = '\"no reason\"'", OTHER.format("quarantine")),
        ("UPDATE quarantine SET labeler_id = 1", OTHER.format("quarantine")),
        ("DELETE FROM acknowledgement WHERE labeler_id = 2", GONE.format("acknowledgement")),
        ("UPDATE acknowledgement SET at = '2020-01-05T08:00:00.000000+00:00'", "the log does not tell of the acknowledgement of labeler 1"),
        ("DELETE FROM concern WHERE id = 2", GONE.format("concern")),
        ("UPDATE concern SET reason = '\"nothing\"' WHERE id = 1", OTHER.format("concern")),
        ("DELETE FROM comprehension_attempt", GONE.format("comprehension_attempt")),
        ("UPDATE comprehension_attempt SET answers = '[0]'", OTHER.format("comprehension_attempt")),
        ("DELETE FROM comprehension_decision", GONE.format("comprehension_decision")),
        ("UPDATE comprehension_decision SET why = '\"\"'", OTHER.format("comprehension_decision")),
        ("UPDATE comprehension SET questions = '[]'", OTHER.format("comprehension")),
        (
            "INSERT INTO quarantine SELECT 2, project_id, labeler_id, 0, decided_by, why, at FROM quarantine",
            "the log does not tell of row 2 of quarantine",
        ),
    ],
)
def test_a_decision_that_was_changed_or_slipped_in_is_named(tmp_path: Path, decided: Path, statement: str, problem: str) -> None:
    assert problem in spoiled(Path(shutil.copy(decided, tmp_path / "labels.db")), statement)


def test_the_same_work_gives_the_same_log_in_both_databases(store: Store) -> None:
    ready(store, prompts=1, labelers=1)
    answer(store, next_task(store, "l0"), "l0", Answer(ranks=[2, 1, None], reasons={2: "says nothing \x00 \ud800"}), key="a")
    kinds = store.read(lambda c: c.exec_driver_sql("SELECT kind FROM event ORDER BY number").scalars().all())
    set_up = ["project.created", "instructions.published", "prompts.added", "labeler.added", "instructions.acknowledged"]
    assert kinds == [*set_up, "judgement.stored"]
    # As both databases gave it, when max_shown came into what is logged of a project: it must not depend on where it is made.
    assert store.read(audit.chain_end).sha256[:12] == "a5a343c1b43d"
    assert store.snapshot("helpful").sha256[:12] == "9bd68fc2ee8e"
