"""What is worked out from judgements: stamped, thrown away and made again."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from heedful.errors import DataProblem
from heedful.store import Store, derived
from heedful.store.derived import DerivedLabeler, DerivedPair
from heedful.store.reading import Snapshot
from heedful.store.schema import event
from stores import ready, work

PAIRS = [
    DerivedPair("p0", "p0:a", "p0:b", 0.9, {"votes_for": 3}),
    DerivedPair("p0", "p0:c", "p0:b", 0.5),
    DerivedPair("p1", "p1:b", "p1:a", 0.75),
]
REPORTS = [DerivedLabeler("l0", "fine", {"agreement": 0.8}), DerivedLabeler("l1", "upside_down")]


def save(store: Store, pairs: list[DerivedPair] = PAIRS, made_from: Snapshot | None = None) -> int:
    made_from = made_from or store.snapshot("helpful")
    return store.write(lambda c: derived.save(c, "helpful", made_from, "majority", "1", {"smoothing": 0.5}, pairs, REPORTS, store.clock()))


def test_a_run_says_what_it_was_made_from_and_comes_back(store: Store) -> None:
    ready(store, prompts=2, labelers=2)
    work(store, "l0")
    made_from = store.snapshot("helpful")
    run_id = save(store)
    run = store.read(lambda c: derived.latest(c, "helpful"))
    assert run
    assert (run.id, run.algorithm, run.version, run.parameters) == (run_id, "majority", "1", {"smoothing": 0.5})
    assert (run.as_of, run.input_sha256, run.made_at) == (made_from.event, made_from.sha256, store.clock())
    first = store.read(lambda c: derived.pairs_page(c, run_id, 0, 1))
    assert first == [(1, PAIRS[:2])]
    assert store.read(lambda c: derived.pairs_page(c, run_id, 1, 9)) == [(2, PAIRS[2:])]
    assert store.read(lambda c: derived.reports(c, run_id)) == REPORTS
    assert store.read(lambda c: derived.latest(c, "helpful", "other")) is None
    assert store.check().problem == ""


def test_a_run_can_be_thrown_away_and_made_again(store: Store) -> None:
    ready(store, prompts=2, labelers=2)
    work(store, "l0")
    first = save(store)
    store.write(lambda c: derived.discard(c, first, "ann", store.clock()))
    assert store.read(lambda c: derived.latest(c, "helpful")) is None
    logged = store.read(
        lambda c: c.execute(sa.select(event.c.kind, event.c.actor, event.c.details).order_by(event.c.number.desc())).first()
    )
    assert logged == ("derived.discarded", "ann", {"run": first}), "what is thrown away stands in the log"
    second = save(store)
    assert [pair for _, found in store.read(lambda c: derived.pairs_page(c, second, 0, 9)) for pair in found] == PAIRS
    assert len(list(store.judgements("helpful"))) == 2
    assert store.check().problem == ""


def test_the_newest_run_with_a_summary_is_found_behind_one_without(store: Store) -> None:
    ready(store, prompts=2, labelers=2)
    work(store, "l0")
    save(store)
    assert store.read(lambda c: derived.latest(c, "helpful", summarised=True)) is None
    made_from, summary = store.snapshot("helpful"), {"tasks": 2}
    told = store.write(lambda c: derived.save(c, "helpful", made_from, "majority", "1", {}, PAIRS, REPORTS, store.clock(), summary))
    newest = save(store)
    found = store.read(lambda c: [derived.latest(c, "helpful", summarised=yes) for yes in (True, False)])
    assert [run.id for run in found if run] == [told, newest]


@pytest.mark.parametrize("strange", [DerivedPair("p9", "p0:a", "p0:b", 0.9), DerivedPair("p0", "p0:a", "p0:z", 0.9)])
def test_a_run_about_something_else_is_refused(store: Store, strange: DerivedPair) -> None:
    ready(store, prompts=2, labelers=2)
    with pytest.raises(DataProblem, match=r"'p9'|'p0:z'"):
        save(store, [strange])
    assert store.read(lambda c: derived.latest(c, "helpful")) is None


def test_the_most_undecided_prompts_come_first(store: Store) -> None:
    ready(store, prompts=3, labelers=2, overlap=1)
    work(store, "l0")
    p = {"p0": 0.7, "p1": 0.55, "p2": 0.8}
    save(store, [DerivedPair(name, f"{name}:a", f"{name}:b", value) for name, value in p.items()])
    assert store.read(lambda c: derived.undecided(c, "helpful")) == [2, 1]
