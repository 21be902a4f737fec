"""What counts: a ruling settles its prompt, whoever gave it, and a late answer never does; who is in quarantine or excluded does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from heedful.errors import DataProblem, SettingProblem
from heedful.feedback import findings
from heedful.feedback.asking import ask_about, ask_more
from heedful.feedback.criteria import CRITERIA
from heedful.feedback.labels import thumb_consensus
from heedful.feedback.said import Said, said_in
from heedful.pairs.build import from_rankings, from_thumbs, pairs_from_thumbs
from heedful.records import Ranking, Thumb, settled
from heedful.store import Answer, Store, accounts, derived, instructions, invitations, labelers
from heedful.store.accounts import Account
from heedful.store.derived import DerivedPair
from heedful.store.tasks import Task
from stores import Clock, answer, items, next_task, ready, work

FORWARDS = ["p0:a", "p0:b", "p0:c"]


def alphabet(task: Task, turned: bool = False) -> Answer:
    """Ranks in the order of the alphabet, or against it."""
    order = sorted(task.completions, reverse=turned)
    return Answer([order.index(text) + 1 for text in task.completions])


def member(store: Store, name: str, role: str) -> Account:
    """Somebody with an account, who has read the instructions."""

    def work(c):  # type: ignore[no-untyped-def]
        who = invitations.accept(c, invitations.make(c, role, 1, {}, None, store.clock()), name, None, store.clock())
        instructions.acknowledge(c, "helpful", who.labeler_id, instructions.current(c, "helpful")[0], store.clock())
        return who

    return store.write(work)


def best_first(store: Store) -> list[tuple[str, str]]:
    return [(pair.chosen_id, pair.rejected_id) for pair in findings.agree(said_in(store, "helpful")).decided]


PANEL = [("p0:a", "p0:b"), ("p0:a", "p0:c"), ("p0:b", "p0:c")]
RULED = [(worse, better) for better, worse in PANEL]


@pytest.fixture
def judged(store: Store) -> Store:
    """A prompt that two have judged alike."""
    ready(store, prompts=1, labelers=2, overlap=2)
    for name in ("l0", "l1"):
        work(store, name, how=alphabet)
    return store


def test_the_ruling_of_an_adjudicator_who_left_still_settles(judged: Store) -> None:
    who = member(judged, "adam", "adjudicator")
    assert best_first(judged) == PANEL
    task = ask_about(judged, "helpful", "adam", "p0")
    assert answer(judged, task, "adam", alphabet(task, turned=True)).purpose == "ruling"
    assert sorted(best_first(judged)) == sorted(RULED)
    judged.write(lambda c: accounts.set_role(c, who.id, 1, None, "test", judged.clock()))
    assert sorted(best_first(judged)) == sorted(RULED)
    assert said_in(judged, "helpful").ruled_on == {"p0"}
    judged.write(lambda c: labelers.decide(c, "helpful", "adam", True, "test", "was asleep", judged.clock()))
    assert best_first(judged) == PANEL, "whose work is in quarantine rules on nothing"
    assert judged.check().problem == ""


@pytest.mark.parametrize("role", ["manager", "adjudicator"])
def test_a_late_answer_is_one_voice_more_whoever_gives_it(store: Store, clock: Clock, role: str) -> None:
    ready(store, prompts=1, labelers=3, overlap=3)
    member(store, "mona", role)
    late = next_task(store, "mona")
    clock.turn(minutes=31)
    for name in ("l0", "l1", "l2"):
        work(store, name, how=alphabet)
    assert answer(store, late, "mona", alphabet(late, turned=True)).purpose == "extra"
    assert said_in(store, "helpful").ruled_on == set()
    assert best_first(store) == PANEL


def test_a_labeler_who_is_promoted_has_not_ruled_on_anything(store: Store, clock: Clock) -> None:
    ready(store, prompts=1, labelers=2, overlap=2)
    who = member(store, "pia", "labeler")
    late = next_task(store, "pia")
    clock.turn(minutes=31)
    for name in ("l0", "l1"):
        work(store, name, how=alphabet)
    answer(store, late, "pia", alphabet(late, turned=True))
    store.write(lambda c: accounts.set_role(c, who.id, 1, "adjudicator", "test", store.clock()))
    assert said_in(store, "helpful").ruled_on == set()
    assert best_first(store) == PANEL


def test_nobody_more_is_asked_about_what_was_ruled_on(judged: Store) -> None:
    member(judged, "adam", "adjudicator")
    answer(judged, ask_about(judged, "helpful", "adam", "p0"), "adam")
    made_from, unsure = judged.snapshot("helpful"), [DerivedPair("p0", "p0:a", "p0:b", 0.5)]
    judged.write(lambda c: derived.save(c, "helpful", made_from, "test", "1", {}, unsure, [], judged.clock()))
    assert ask_more(judged, "helpful") == 0
    judged.write(lambda c: labelers.decide(c, "helpful", "adam", True, "test", "was asleep", judged.clock()))
    assert ask_more(judged, "helpful") == 1


def test_a_ruling_is_by_its_own_criterion_and_prompt() -> None:
    rows = [
        Thumb("p0", "ann", "p0:a", True, "wit"),
        Thumb("p0", "bea", "p0:a", False, "wit", purpose="ruling"),
        Thumb("p0", "ann", "p0:a", True, "tact"),
        Thumb("p1", "ann", "p1:a", True, "wit"),
    ]
    assert settled(rows) == rows[1:]


def test_everything_that_is_learnt_keeps_to_a_ruling() -> None:
    texts = ([p for p, _ in items(1)], [c for _, shown in items(1) for c in shown])
    said = [Ranking("p0", who, FORWARDS, [1, 2, 3], "helpfulness", "v") for who in ("ann", "ben")]
    said.append(Ranking("p0", "adam", FORWARDS, [3, 2, 1], "helpfulness", "v", purpose="ruling"))
    pairs = from_rankings(said, *texts, CRITERIA["helpfulness"])
    assert {(pair.chosen_id, pair.n_for, pair.n_against) for pair in pairs} == {("p0:c", 1, 0), ("p0:b", 1, 0)}
    thumbs = [Thumb("p0", who, c, c == "p0:a") for who in ("ann", "ben") for c in FORWARDS[:2]]
    thumbs += [Thumb("p0", "adam", c, c == "p0:b", purpose="ruling") for c in FORWARDS[:2]]
    assert [(pair.chosen_id, pair.n_for) for pair in pairs_from_thumbs(thumbs, *texts)] == [("p0:b", 1)]
    assert {(row.completion_id, row.label, row.n_against) for row in from_thumbs(thumbs, *texts)} == {("p0:a", False, 0), ("p0:b", True, 0)}
    assert {item.item: item.label for item in thumb_consensus(thumbs).items} == {"p0:a": "down", "p0:b": "up"}


HELPFUL = CRITERIA["helpfulness"]
THREE = ("ann", "ben", "uma")
ASKED = Said("lab", HELPFUL, [Ranking("p0", who, FORWARDS, [1, 2, 3], "helpfulness", "v") for who in THREE], quarantined={"uma": "guesses"})


def test_who_is_in_quarantine_may_be_excluded_besides() -> None:
    agreed = findings.agree(ASKED, exclude=["uma", "ben"])
    assert (agreed.labelers, agreed.excluded) == (["ann"], ["ben"])
    with pytest.raises(SettingProblem, match="labeler 'una', who is to be excluded, has judged nothing"):
        findings.agree(ASKED, exclude=["una"])


@pytest.mark.parametrize("look", [findings.agree, findings.agreement_rows, findings.agree_on_thumbs])
def test_where_everybody_is_in_quarantine_that_is_said(look: Callable[[Said], object]) -> None:
    thumbs = [Thumb("p0", who, "p0:a", True) for who in THREE]
    with pytest.raises(DataProblem, match=r"everybody who judged lab is in quarantine \(ann, ben, uma\)"):
        look(replace(ASKED, thumbs=thumbs, quarantined=dict.fromkeys(THREE, "asleep")))


def test_the_thumbs_of_an_excluded_labeler_do_not_count() -> None:
    said = Said("lab", HELPFUL, [], [Thumb("p0", who, "p0:a", who != "uma") for who in THREE])
    [item] = findings.agree_on_thumbs(said, exclude=["uma"]).items
    assert (item.label, item.votes) == ("up", {"down": 0, "up": 2})
    with pytest.raises(SettingProblem, match="all 3 labelers are to be excluded"):
        findings.agree_on_thumbs(said, exclude=THREE)
