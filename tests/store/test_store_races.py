"""Two who do at the same moment what only one of them may: each here is refused, or waits, in either database."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from heedful.errors import AnswerProblem, HeedfulError, SettingProblem
from heedful.feedback import asking
from heedful.feedback.asking import ask, ask_more
from heedful.store import Store, accounts, comprehension, derived, identities, invitations, judgements, projects, schema, slots
from heedful.store.accounts import Account
from heedful.store.comprehension import Question
from heedful.store.derived import DerivedPair
from heedful.store.retiring import Retired
from stores import INSTRUCTIONS, Clock, answer, join, next_task, project, ready, work

LONG_ENOUGH = 1.0
"""Seconds in which the second would be done, if nothing held it up."""


def meanwhile(store: Store, first: Callable[[sa.Connection], object], second: Callable[[], object]) -> list[HeedfulError]:
    """Do the second while what the first has done is not yet stored; returns what the second heard."""
    heard: list[HeedfulError] = []

    def other() -> None:
        try:
            second()
        except HeedfulError as problem:
            heard.append(problem)

    thread = threading.Thread(target=other)

    def begin(connection: sa.Connection) -> None:
        first(connection)
        thread.start()
        thread.join(LONG_ENOUGH)

    store.write(begin)
    thread.join(20)
    assert not thread.is_alive()
    return heard


def test_who_asks_while_another_is_given_a_place_gets_the_next_one_and_in_postgresql_waits_for_nobody(store: Store) -> None:
    ready(store, prompts=2, labelers=2, overlap=1, random_share=0.2)
    given: dict[str, Any] = {}
    in_between: list[str] = []

    def first(connection: sa.Connection) -> None:
        given["l0"] = asking._ask(connection, "helpful", "l0", store.clock())
        thread.start()
        thread.join(LONG_ENOUGH)
        in_between.extend(given)

    thread = threading.Thread(target=lambda: given.update(l1=ask(store, "helpful", "l1")))
    store.write(first)
    thread.join(20)
    assert {task.prompt for task in given.values()} == {"question 0", "question 1"}
    assert in_between == (["l0", "l1"] if store.database.file is None else ["l0"])


def owner(store: Store, name: str) -> Account:
    return store.write(lambda c: accounts.create(c, name, "a hash", True, {}, "test", store.clock()))


def test_two_owners_who_deactivate_each_other_leave_one(store: Store) -> None:
    ann, ben = owner(store, "ann"), owner(store, "ben")

    def off(c: sa.Connection, who: Account) -> None:
        accounts.set_state(c, who.id, "deactivated", "test", store.clock())

    [problem] = meanwhile(store, lambda c: off(c, ann), lambda: store.write(lambda c: off(c, ben)))
    assert isinstance(problem, SettingProblem)
    assert "only owner" in str(problem)
    assert [who.name for who in store.read(accounts.everybody) if who.state == "active"] == ["ben"]


def test_two_who_unlink_at_once_leave_a_way_in(store: Store) -> None:
    ann = store.write(lambda c: accounts.create(c, "ann", None, False, {}, "test", store.clock()))
    for subject in ("1", "2"):
        store.write(lambda c, s=subject: identities.link(c, ann, "https://login.example.org", s, store.clock()))  # type: ignore[misc]
    one, two = store.read(lambda c: identities.of_account(c, ann.id))
    [problem] = meanwhile(
        store,
        lambda c: identities.unlink(c, ann, one.id, store.clock()),
        lambda: store.write(lambda c: identities.unlink(c, ann, two.id, store.clock())),
    )
    assert "only way you can sign in" in str(problem)
    assert store.read(lambda c: identities.of_account(c, ann.id)) == [two]


def test_tries_that_are_sent_at_once_are_counted(store: Store) -> None:
    ready(store, prompts=0, labelers=1)
    asked = [Question("What is F?", ["Nonsense", "Fine"], 0)]
    store.write(lambda c: comprehension.publish(c, "helpful", asked, "test", store.clock()))

    def attempt(c: sa.Connection, answer: int) -> list[int]:
        return comprehension.attempt(c, 1, 1, [answer], store.clock())

    def two_wrong(c: sa.Connection) -> None:
        assert attempt(c, 1) == attempt(c, 1) == [0]

    [problem] = meanwhile(store, two_wrong, lambda: store.write(lambda c: attempt(c, 0)))
    assert isinstance(problem, AnswerProblem)
    assert store.read(lambda c: comprehension.standing(c, 1, 1)).state == "waiting"


def unsure(store: Store) -> None:
    """A consensus that is sure of nothing about a prompt that is judged to the full."""
    ready(store, prompts=1, labelers=1, overlap=1, max_overlap=2)
    work(store, "l0")
    pairs = [DerivedPair("p0", "p0:a", "p0:b", 0.5)]
    store.write(lambda c: derived.save(c, "helpful", store.snapshot("helpful"), "test", "1", {}, pairs, [], store.clock()))


def test_two_who_ask_for_more_at_once_open_one_place(store: Store) -> None:
    unsure(store)
    raised: list[list[int]] = []

    def found_before_and_opened_after(c: Any) -> None:
        found = derived.undecided(c, "helpful")
        assert found == [1]
        other = threading.Thread(target=lambda: ask_more(store, "helpful"))
        other.start()
        other.join(LONG_ENOUGH)  # in PostgreSQL it is done by now; in SQLite it waits for this one
        raised.append(slots.add_places(c, 1, found, "test", store.clock()))
        raised.append(slots.add_places(c, 1, found, "test", store.clock()))
        threads.append(other)

    threads: list[threading.Thread] = []
    store.write(found_before_and_opened_after)
    threads[0].join(20)
    assert raised in ([[], []], [[1], []])
    assert store.status()[0].places == 2
    assert store.check().problem == ""


def test_no_place_is_added_beyond_the_most_that_a_project_wants(store: Store) -> None:
    unsure(store)
    version = store.publish("helpful", INSTRUCTIONS)

    def add() -> list[int]:
        return store.write(lambda c: slots.add_places(c, 1, [1], "test", store.clock()))

    assert store.write(lambda c: slots.add_places(c, 1, range(2, 70_002), "test", store.clock())) == [], "more than one statement may name"
    assert add() == [1]
    store.write(lambda c: projects.change(c, "helpful", "test", store.clock(), max_overlap=3))
    assert add() == [], "one still waits to be filled"
    join(store, "l1", version)
    work(store, "l1")
    assert add() == [1]
    join(store, "l2", version)
    work(store, "l2")
    assert add() == [], "three are the most"
    assert store.status()[0].places == 3


@pytest.mark.parametrize("again", ["a role", "an invitation"])
def test_who_is_paused_stays_paused(store: Store, again: str) -> None:
    store.create_project(project())
    ann = store.write(lambda c: accounts.create(c, "ann", None, False, {}, "test", store.clock()))
    store.write(lambda c: accounts.set_role(c, ann.id, 1, "labeler", "test", store.clock()))
    store.write(lambda c: accounts.set_paused(c, ann.id, 1, True, "test", store.clock()))
    if again == "a role":
        store.write(lambda c: accounts.set_role(c, ann.id, 1, "adjudicator", "test", store.clock()))
    else:
        secret = store.write(lambda c: invitations.make(c, "labeler", 1, {}, None, store.clock()))
        store.write(lambda c: invitations.join(c, secret, ann, store.clock()))
    assert store.read(lambda c: accounts.part_in(c, ann, 1)) == ("adjudicator" if again == "a role" else "labeler", True)
    store.write(lambda c: accounts.set_role(c, ann.id, 1, None, "test", store.clock()))
    assert store.read(lambda c: accounts.part_in(c, ann, 1)) is None


def test_an_import_and_a_retiring_wait_for_each_other_in_the_same_order(store: Store) -> None:
    """In PostgreSQL an import holds the slots, then the log: whoever held the log and waited for slots would be in a deadlock with it."""
    ready(store, prompts=1, labelers=1, overlap=1)
    work(store, "l0")
    store.publish("helpful", "Read again.")
    free: list[bool] = []

    def importing(connection: sa.Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.text("LOCK TABLE slot IN SHARE ROW EXCLUSIVE MODE"))

    def is_log_free() -> None:
        """Looked at while the retiring waits for the import."""
        with store.database.engine.begin() as connection:
            row = connection.execute(sa.select(schema.chain.c.number).with_for_update(key_share=True, skip_locked=True)).first()
            free.append(row is not None)

    def first(connection: sa.Connection) -> None:
        importing(connection)
        thread.start()
        thread.join(LONG_ENOUGH)
        is_log_free()

    thread = threading.Thread(target=lambda: store.retire("helpful"))
    store.write(first)
    thread.join(20)
    assert not thread.is_alive()
    assert free == [True]
    assert store.status()[0].retired == 1


@pytest.mark.parametrize("late", [False, True], ids=["held", "lapsed"])
def test_an_answer_under_way_when_the_instructions_change_is_retired_with_the_others(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """It was begun under the old ones, and is stored after the new ones are there; whoever retires it waits for it."""
    ready(store, prompts=1, labelers=2, overlap=1)
    task = next_task(store, "l0")
    if late:
        clock.turn(days=1)
        assert ask(store, "helpful", "l1")
    found: list[Retired] = []

    def change() -> None:
        store.publish("helpful", "Read again.")
        found.append(store.retire("helpful"))

    thread = threading.Thread(target=change)
    fill = judgements._fill

    def first(*known: Any) -> Any:
        thread.start()
        thread.join(LONG_ENOUGH)
        return fill(*known)

    monkeypatch.setattr(judgements, "_fill", first)
    answer(store, task, "l0")
    thread.join(20)
    assert found == [Retired(1, 1)]
    assert list(store.judgements("helpful")) == []
