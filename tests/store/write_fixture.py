"""Write down a store of today's schema, for ever: later heedfuls must still open it.

    python tests/store/write_fixture.py

Run once when a schema is released, never again for the same one; commit what it writes into ``fixtures``.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import sqlalchemy as sa

import postgres
import stores
from heedful.feedback.asking import ask, ask_about
from heedful.records import Labeler, Ranking
from heedful.store import (
    Answer,
    Store,
    api_tokens,
    comprehension,
    departures,
    derived,
    identities,
    invitations,
    labelers,
    projects,
    sessions,
    slots,
    throttle,
)
from heedful.store.comprehension import Question
from heedful.store.departures import Departure
from heedful.store.derived import DerivedLabeler, DerivedPair
from stores import Clock, answer, items, join, next_task, project, ready, work

FIXTURES = Path(__file__).with_name("fixtures")


def main() -> None:
    hashes = set()
    with tempfile.TemporaryDirectory() as folder, postgres.server() as url:
        for database, where in (("sqlite", str(Path(folder) / "labels.db")), ("postgresql", url.format("postgres"))):
            stores._keys = count()  # the same keys in both
            with Store.open(where, create=True, clock=Clock()) as store:
                a_bit_of_everything(store)
                assert store.check().problem == ""
                name = f"schema_{store.schema}"
                hashes.add(store.snapshot("helpful").sha256)
            write(FIXTURES / f"{name}.{database}.sql", dump(where))
    [sha256] = hashes
    write(FIXTURES / f"{name}.sha256", sha256)


def dump(where: str) -> str:
    """The database as SQL."""
    if "://" not in where:
        with closing(sqlite3.connect(where)) as connection:
            return "\n".join(connection.iterdump())
    command = ["pg_dump", "--inserts", "--no-owner", "--no-privileges", where]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return "\n".join(line for line in lines if line and not line.startswith(("--", "\\")))


def write(path: Path, text: str) -> None:
    if path.exists():
        sys.exit(f"{path} is there already, and what was released does not change")
    path.write_text(text + "\n")


def a_bit_of_everything(store: Store) -> None:
    """A row or more in every table."""
    clock = store.clock
    version = ready(store, prompts=3, labelers=2, overlap=2, repeat_share=0.8, random_share=0.2, repeat_after=60)
    store.add_prompts("helpful", items(1, first=50), calibration=True)
    first = work(store, "l0", 3)[0]
    work(store, "l1", 3, how=lambda _: Answer(ranks=[1, 1, None], reasons={2: "says nothing \x00"}, active_ms=5))
    answer(store, first, "l0", Answer(ranks=[3, 2, 1], corrections={0: "say it so"}))
    clock.turn(hours=2)  # type: ignore[attr-defined]
    work(store, "l0", 4)
    join(store, "l2", version, language="native")
    held = ask_about(store, "helpful", "l2", "p1")
    store.write(lambda c: slots.raise_concern(c, slots.mine(c, held.token, 3), "names a person", clock()))
    store.skip(held.token, "l2", "upsetting")
    store.write(lambda c: labelers.decide(c, "helpful", "l1", True, "manager 1", "ties too often", clock()))
    store.write(lambda c: labelers.set_state(c, "l1", "paused", "manager 1", clock()))
    pairs, reports = [DerivedPair("p0", "p0:a", "p0:b", 0.6, {"votes": 1})], [DerivedLabeler("l1", "unsure", {"ties": 0.5})]
    made_from = store.snapshot("helpful")
    store.write(lambda c: derived.save(c, "helpful", made_from, "majority", "1", {"smoothing": 0.5}, pairs, reports, clock()))
    store.import_judgements("helpful", [Ranking("p2", "elsewhere", ["p2:b", "p2:a"], [1, 2], "helpfulness", "v0")])
    store.create_project(project("polite", task="thumbs", coverage={"language": {"native": 1}}))
    store.publish("polite", "Up or down?")
    store.add_prompts("polite", items(2, completions=1))
    store.add_labelers(Labeler("judge", "ai"))
    store.acknowledge("polite", "l2", store.publish("polite", "Up or down?"))
    task = ask(store, "polite", "l2")
    assert task
    answer(store, task, "l2", Answer(thumbs=[True]))
    next_task(store, "l2")
    join(store, "l3", version)
    answer(store, ask_about(store, "helpful", "l3", "p0"), "l3")  # a ruling
    store.import_judgements("helpful", [Ranking("p1", "elsewhere", ["p1:b", "p1:a"], [1, 2], "helpfulness", "v0", purpose="extra")])
    store.retire("helpful", ["p1"])
    who_may_come_in(store)


def who_may_come_in(store: Store) -> None:
    """A row or more in every table of ``schema_access``."""
    now, by = store.clock(), "account 1"

    def work(c: sa.Connection) -> None:
        owner = invitations.accept(c, invitations.make_first(c, now) or "", "olga", "a hash", now)
        lena = invitations.accept(c, invitations.make(c, "labeler", 1, {"age": "60+"}, owner, now), "lena", None, now)
        sessions.begin(c, owner.id, "a browser", now)
        api_tokens.make(c, owner, "nightly", ["read"], 30, now)
        throttle.failed(c, ["name lena"], now)
        identities.link(c, lena, "https://login.example.org", "248289761001", now)
        departures.leave(c, Departure("sign_in", "/label/1"), "university", "a state", "a cookie", now)
        comprehension.publish(c, "helpful", [Question("What is F?", ["Nonsense", "Fine"], 0)], by, now)
        comprehension.attempt(c, 1, lena.labeler_id, [1], now)
        comprehension.decide(c, 1, lena.labeler_id, "passed", by, "we talked", now)
        projects.change(c, "polite", by, now, content_warning="Rude words")

    store.write(work)


if __name__ == "__main__":
    main()
