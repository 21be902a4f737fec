"""Records come back as they went in; a snapshot names what no later label can change."""

from __future__ import annotations

import pytest

from heedful.records import Completion, Labeler, Prompt, Ranking
from heedful.store import Answer, Store, labelers, reading
from heedful.store import store as facade
from stores import Clock, answer, items, project, ready, work


def test_prompts_completions_and_labelers_come_back(store: Store) -> None:
    chat = Prompt("chat", [{"role": "user", "content": "hi \x00 \ud800 ✓"}], ["a", "b"], {"facts": [1, {"x": None}], "n": 2.5})
    cut = Completion("chat:1", "chat", "text \x00", [], "length", -1, "m", {"temperature": 0.7})
    store.create_project(project())
    given = [(chat, [cut, Completion("chat:2", "chat", "", [5], "stop", 2**62, "m2")]), *items(3)]
    assert store.add_prompts("helpful", given) == 4
    people = [Labeler("ann", "person", {"language": "native", "age": "30-44"}), Labeler("judge", "ai"), Labeler("sim", "simulated")]
    store.add_labelers(*people)
    assert list(store.prompts("helpful")) == [prompt for prompt, _ in given]
    assert list(store.completions("helpful")) == [completion for _, shown in given for completion in shown]
    assert store.labelers() == people
    assert store.check().problem == ""


def test_reading_in_pages_gives_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(store, prompts=7, labelers=3)
    for name in ("l0", "l1", "l2"):
        work(store, name)
    whole = list(store.judgements("helpful")), list(store.prompts("helpful")), list(store.completions("helpful")), store.snapshot("helpful")
    monkeypatch.setattr(facade, "PAGE", 4)
    assert whole == (
        list(store.judgements("helpful")),
        list(store.prompts("helpful")),
        list(store.completions("helpful")),
        store.snapshot("helpful"),
    )
    assert len(whole[0]) == 21


def test_a_late_label_cannot_change_a_snapshot(store: Store, clock: Clock) -> None:
    ready(store, prompts=3, labelers=3)
    tasks = work(store, "l0")
    then, rows = store.snapshot("helpful"), list(store.judgements("helpful"))
    clock.turn(minutes=1)
    answer(store, tasks[0], "l0", Answer(ranks=[3, 2, 1]))
    work(store, "l1")
    store.write(lambda c: labelers.rename(c, "l0", "somebody", "test", clock.now))
    store.write(lambda c: labelers.decide(c, "helpful", "l1", True, "ann", "guesses", clock.now))
    assert store.snapshot("helpful", as_of=then.event) == then
    again = list(store.judgements("helpful", as_of=then.event))
    assert [row.labeler for row in again] == ["somebody"] * 3
    assert [row.ranks for row in again if isinstance(row, Ranking)] == [row.ranks for row in rows if isinstance(row, Ranking)]
    now = store.snapshot("helpful")
    assert (now.judgements, then.judgements) == (6, 3)
    assert now.sha256 != then.sha256
    assert store.snapshot("helpful", as_of=0).judgements == 0


def test_a_snapshot_knows_a_revision_from_the_answer_before(store: Store) -> None:
    ready(store, prompts=1, labelers=1)
    [task] = work(store, "l0")
    before = store.snapshot("helpful")
    answer(store, task, "l0", Answer(ranks=[1, 2, 3]))  # the same ranks: still another revision, with another time
    after = store.snapshot("helpful")
    assert before.judgements == after.judgements == 1
    assert before.sha256 != after.sha256


def test_projects_do_not_mix(store: Store) -> None:
    ready(store, prompts=2, labelers=1)
    work(store, "l0")
    before = store.snapshot("helpful")
    store.create_project(project("honest"))
    store.add_prompts("honest", items(2))  # the same ids
    assert list(store.judgements("honest")) == []
    assert [p.id for p in store.prompts("honest")] == ["p0", "p1"]
    assert store.snapshot("helpful").sha256 == before.sha256
    assert [status.project for status in store.status()] == ["helpful", "honest"]


def test_a_slow_reader_holds_up_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facade, "PAGE", 1)
    ready(store, prompts=4, labelers=2, overlap=2)
    work(store, "l0")
    rows = store.judgements("helpful")
    first = next(rows)
    work(store, "l1")  # while the reader is half-way
    rest = list(rows)
    assert {row.labeler for row in (first, *rest)} == {"l0"}  # what was there when reading began
    assert len(rest) == 3


def test_the_hash_adds_up() -> None:
    found = reading.SnapshotHash()
    assert found.hexdigest() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # of nothing
    found.add(1, 2, "ab")
    # printf '[1,2,"ab"]' | sha256sum
    assert found.hexdigest() == "10a83f716058ea0ef197c9014413ce11be89f293ce00d791b3fdd88938d7c334"
