"""How an answer is taken: once, whole, by whoever was asked, under the instructions that they have read."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa

from heedful.errors import AnswerProblem, DataProblem, InstructionsChanged
from heedful.feedback.asking import ask
from heedful.records import Correction, Ranking, Thumb
from heedful.store import Answer, Store, tasks
from heedful.store.schema import event, judgement_revision, slot
from stores import Clock, answer, next_task, ready, work


def revisions(store: Store) -> list[Any]:
    return list(store.read(lambda c: c.execute(sa.select(judgement_revision).order_by(judgement_revision.c.event)).all()))


def test_the_same_key_again_returns_what_was_stored(store: Store, clock: Clock) -> None:
    ready(store, tie_policy="sparing")
    task, said = next_task(store, "l0"), Answer(ranks=[1, 1, 2])
    first = answer(store, task, "l0", said, key="once")
    clock.turn(hours=2)
    for _ in range(3):
        assert answer(store, task, "l0", said, key="once") == first
    assert first.warnings == ["2 completions share a rank: only those that are truly equal should."]
    assert len(revisions(store)) == 1


def test_the_same_key_after_everything_has_moved_on(store: Store, clock: Clock) -> None:
    """The answer was stored, the reply was lost; the labeler comes back a day later, under other instructions."""
    ready(store)
    task = next_task(store, "l0")
    first = answer(store, task, "l0", key="once")
    clock.turn(days=1)
    work(store, "l0")
    store.publish("helpful", "Now rank by honesty.")
    assert answer(store, task, "l0", key="once") == first


def test_no_sender_may_take_a_key_of_an_import(store: Store) -> None:
    """Whoever guessed the next import's keys could make it fail, or be told that their answer is another's."""
    ready(store, prompts=2)
    said = Ranking("p1", "elsewhere", ["p1:a", "p1:b", "p1:c"], [1, 2, 3], "helpfulness", "v")
    number = store.snapshot("helpful").event + 1
    with pytest.raises(AnswerProblem, match=r"begins with 'import '.* Send it under a random one"):
        answer(store, next_task(store, "l0"), "l0", key=f"import {number} 0")
    store.import_judgements("helpful", [said])
    assert [row.key for row in revisions(store)] == [f"import {number} 0"], "what was refused would have been in the way"


def test_a_key_that_was_used_for_another_answer_is_refused(store: Store) -> None:
    """Dropping the second answer would lose it; storing it would break the promise that a key stands for one answer."""
    ready(store, labelers=2, random_share=0.2)
    task = next_task(store, "l0")
    answer(store, task, "l0", Answer(ranks=[1, 2, 3]), key="once")
    other = next_task(store, "l1")
    assert other.prompt == task.prompt
    same = Answer(ranks=[task.completions.index(text) + 1 for text in other.completions])
    with pytest.raises(AnswerProblem, match="used for another answer"):
        answer(store, other, "l1", same, key="once")  # word for word the same, by somebody else
    with pytest.raises(AnswerProblem, match="used for another answer"):
        answer(store, task, "l0", Answer(ranks=[3, 2, 1]), key="once")
    with pytest.raises(AnswerProblem, match="used for another answer"):
        answer(store, next_task(store, "l0"), "l0", key="once")
    with pytest.raises(AnswerProblem, match="used for another answer"):
        answer(store, next_task(store, "l1"), "l1", key="once")
    with pytest.raises(DataProblem, match="the key is called ' '"):
        answer(store, task, "l0", key=" ")
    assert len(revisions(store)) == 1


def test_an_answer_that_is_changed_is_a_revision_and_the_latest_counts(store: Store, clock: Clock) -> None:
    ready(store)
    task = next_task(store, "l0")
    given = [[1, 2, 3], [3, 2, 1], [1, None, 2]]
    for number, ranks in enumerate(given, 1):
        clock.turn(minutes=1)
        assert answer(store, task, "l0", Answer(ranks=ranks, active_ms=10_000)).revision == number
    [only] = store.judgements("helpful")
    assert isinstance(only, Ranking)
    assert (only.ranks, only.active_ms, only.judged_at) == ([1, None, 2], 30_000, clock.now.isoformat())
    shown = store.read(lambda c: c.execute(sa.select(slot.c.shown).where(slot.c.token == task.token)).scalar_one())
    assert [[row.answer["ranks"][str(c)] for c in shown] for row in revisions(store)] == given
    kinds = store.read(lambda c: c.execute(sa.select(event.c.kind).order_by(event.c.number)).scalars().all())
    assert kinds[-3:] == ["judgement.stored", "judgement.revised", "judgement.revised"]


def test_time_spent_is_no_longer_than_time_passed(store: Store, clock: Clock) -> None:
    ready(store)
    task = next_task(store, "l0")
    clock.turn(seconds=90)
    answer(store, task, "l0", Answer(ranks=[1, 2, 3], active_ms=3_600_000))
    [first] = store.judgements("helpful")
    assert first.active_ms == 90_000
    task = next_task(store, "l0")
    clock.turn(hours=-1)  # the clock went back: nobody knows how long it took
    answer(store, task, "l0", Answer(ranks=[1, 2, 3], active_ms=20_000))
    assert sorted(row.active_ms or 0 for row in store.judgements("helpful")) == [20_000, 90_000]
    unknown = next_task(store, "l0")
    answer(store, unknown, "l0", Answer(ranks=[1, 2, 3]))
    assert [row.active_ms for row in store.judgements("helpful")].count(None) == 1


def test_instructions_that_changed_meanwhile_are_read_first_and_the_work_is_kept(store: Store, clock: Clock) -> None:
    ready(store, prompts=1, labelers=2, overlap=1)
    task = next_task(store, "l0")
    newer = store.publish("helpful", "Rank by how much it helps, and say why.")
    clock.turn(minutes=29)
    with pytest.raises(InstructionsChanged, match=f"are now version {newer}") as caught:
        answer(store, task, "l0", key="once")
    assert "your task is still yours" in str(caught.value)
    clock.turn(minutes=29)  # reading takes a while, and nobody else gets the place: the lease began anew
    store.acknowledge("helpful", "l1", newer)
    assert ask(store, "helpful", "l1") is None
    store.acknowledge("helpful", "l0", newer)
    with pytest.raises(InstructionsChanged):
        answer(store, task, "l0", key="once")  # still names the old version
    receipt = store.submit(task.token, "l0", "once", Answer(ranks=[1, 2, 3]), newer)
    assert (receipt.revision, receipt.purpose) == (1, "overlap")
    assert [row.instructions_version for row in store.judgements("helpful")] == [newer]
    with pytest.raises(InstructionsChanged):
        store.acknowledge("helpful", "l1", task.instructions_version)


def test_an_earlier_text_published_again_has_to_be_read_again(store: Store) -> None:
    first = ready(store, labelers=1)
    store.publish("helpful", "other")
    assert store.publish("helpful", "Rank by how much it helps.") == first
    with pytest.raises(InstructionsChanged):
        ask(store, "helpful", "l0")
    store.acknowledge("helpful", "l0", first)
    next_task(store, "l0")


def test_a_task_is_its_labelers_own(store: Store) -> None:
    ready(store, labelers=2)
    task = next_task(store, "l0")
    for act in (
        lambda: answer(store, task, "l1"),
        lambda: store.skip(task.token, "l1"),
        lambda: store.read(lambda c: tasks.show(c, task.token, "l1")),
        lambda: store.submit("guessed", "l0", "k", Answer(ranks=[1, 2, 3]), task.instructions_version),
    ):
        with pytest.raises(AnswerProblem, match="no such task of yours"):
            act()
    assert revisions(store) == []


def test_a_refused_answer_leaves_nothing_behind(store: Store) -> None:
    ready(store, tie_policy="none")
    task = next_task(store, "l0")
    with pytest.raises(AnswerProblem, match="no ties"):
        answer(store, task, "l0", Answer(ranks=[1, 1, 2]), key="once")
    assert revisions(store) == []
    assert answer(store, task, "l0", Answer(ranks=[1, 3, 2]), key="once").revision == 1


def test_skipping_twice_or_after_answering_changes_nothing(store: Store) -> None:
    ready(store, prompts=2)
    task = next_task(store, "l0")
    store.skip(task.token, "l0", "no")
    store.skip(task.token, "l0", "no")
    assert store.status()[0].skipped == 1
    assert answer(store, task, "l0").purpose == "extra"  # changed their mind in another tab
    done = next_task(store, "l0")
    answer(store, done, "l0")
    store.skip(done.token, "l0", "no")
    assert store.status()[0].judgements == {"extra": 1, "overlap": 1}
    assert store.check().problem == ""


def test_thumbs_and_corrections(store: Store) -> None:
    ready(store, task="thumbs", completions=2, prompts=1)
    task = next_task(store, "l0")
    answer(store, task, "l0", Answer(thumbs=[True, False], corrections={1: "say \x00 it \ud800 so"}, active_ms=0))
    rows = list(store.judgements("helpful"))
    shown = [text[7] for text in task.completions]
    assert [type(row) for row in rows] == [Thumb, Thumb, Correction]
    assert [(row.completion_id[-1], row.label) for row in rows if isinstance(row, Thumb)] == [(shown[0], True), (shown[1], False)]
    assert [(row.completion_id[-1], row.text) for row in rows if isinstance(row, Correction)] == [(shown[1], "say \x00 it \ud800 so")]
    assert store.status()[0].judgements == {"overlap": 1}


def test_a_single_completion_can_be_corrected(store: Store) -> None:
    ready(store, task="correction", completions=1, prompts=1)
    answer(store, next_task(store, "l0"), "l0", Answer(corrections={0: "better"}))
    [row] = store.judgements("helpful")
    assert isinstance(row, Correction)
    assert (row.text, row.purpose, row.criterion) == ("better", "overlap", "helpfulness")


def test_the_last_answers_can_be_opened_again(store: Store, clock: Clock) -> None:
    ready(store, prompts=4, labelers=2)
    done = []
    for ranks in ([1, 2, 3], [2, 1, 3], [3, 1, None]):
        clock.turn(minutes=1)
        done += work(store, "l0", 1, how=lambda _, ranks=ranks: Answer(ranks=ranks))  # type: ignore[misc]
    recent = store.read(lambda c: tasks.recent(c, "helpful", "l0", 2))
    assert [one.answer.ranks for one in recent] == [[3, 1, None], [2, 1, 3]]
    assert [one.task.token for one in recent] == [done[2].token, done[1].token]
    assert recent[0].task.completions == done[2].completions
    assert answer(store, recent[1].task, "l0", Answer(ranks=[1, 3, 2])).revision == 2
    assert store.read(lambda c: tasks.recent(c, "helpful", "l1")) == []


def test_every_order_is_stored_as_it_was_given(store: Store) -> None:
    """All ways of ranking three completions, with ties and Fs; none is taken for the order shown."""
    ready(store, prompts=1, labelers=1, tie_policy="free")
    task = next_task(store, "l0")
    shown = [text[7] for text in task.completions]
    for number, ranks in enumerate(product([1, 2, 3, None], repeat=3), 1):
        assert answer(store, task, "l0", Answer(ranks=ranks)).revision == number
        [row] = store.judgements("helpful")
        assert isinstance(row, Ranking)
        assert {c[-1]: rank for c, rank in zip(row.completion_ids, row.ranks, strict=True)} == dict(zip(shown, ranks, strict=True))
    assert len(revisions(store)) == 64


def test_an_order_that_nobody_gave_is_no_answer(store: Store) -> None:
    ready(store, prompts=1, labelers=1)
    with pytest.raises(AnswerProblem, match="3 completions were shown, and 0 have a rank"):
        answer(store, next_task(store, "l0"), "l0", Answer())
    assert revisions(store) == []


def test_two_people_may_say_the_same(store: Store) -> None:
    ready(store, prompts=1, labelers=2, overlap=2)
    for name in ("l0", "l1"):
        task = next_task(store, name)
        answer(store, task, name, Answer(ranks=[sorted(task.completions).index(text) + 1 for text in task.completions]))
    first, second = store.judgements("helpful")
    assert isinstance(first, Ranking)
    assert isinstance(second, Ranking)
    assert [first.rank_of(f"p0:{c}") for c in "abc"] == [second.rank_of(f"p0:{c}") for c in "abc"] == [1, 2, 3]
