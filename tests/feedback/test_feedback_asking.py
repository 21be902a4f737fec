"""Who is asked what: exact overlap, coverage, shares, orders, leases; the same in both databases."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa

from heedful.errors import AnswerProblem, DataProblem, InstructionsChanged
from heedful.feedback.asking import ask, ask_about, ask_more
from heedful.feedback.assign import kinds_in_order, other_order
from heedful.records import Correction, Ranking, Thumb
from heedful.store import Answer, Store, derived, labelers, projects, prompts
from heedful.store.derived import DerivedPair
from heedful.store.schema import prompt, slot
from stores import INSTRUCTIONS, Clock, answer, items, join, next_task, project, ready, work


def places(store: Store) -> dict[str, list[str | None]]:
    """The labelers of each prompt's places, in the order of k; ``None`` for a place nobody has."""
    names = dict(store.read(lambda c: [(row.id, row.name) for row in c.execute(sa.text("SELECT id, name FROM labeler"))]))
    rows = sa.select(prompt.c.external_id, slot.c.labeler_id, slot.c.k).join(slot, slot.c.prompt_id == prompt.c.id)
    found: dict[str, list[str | None]] = {}
    for row in store.read(lambda c: c.execute(rows.where(slot.c.k.is_not(None)).order_by(prompt.c.number, slot.c.k)).all()):
        found.setdefault(row.external_id, []).append(names.get(row.labeler_id))
    return found


def purposes(store: Store) -> Counter[str]:
    return Counter(row.purpose for row in store.judgements("helpful"))


def test_every_prompt_is_judged_by_exactly_its_overlap_of_different_labelers(store: Store) -> None:
    ready(store, prompts=6, labelers=5, overlap=3)
    for name in ("l0", "l1", "l2", "l3", "l4"):
        work(store, name)
    for labelers_of in places(store).values():
        assert len(labelers_of) == len(set(labelers_of)) == 3
        assert None not in labelers_of
    assert ask(store, "helpful", "l4") is None
    assert store.check().problem == ""


def test_a_labeler_who_asks_again_gets_the_same_task(store: Store, clock: Clock) -> None:
    ready(store)
    first = next_task(store, "l0")
    clock.turn(minutes=10)
    again = next_task(store, "l0")
    assert (again.token, again.completions) == (first.token, first.completions)
    assert again.lease_until == clock.now + (first.lease_until - clock.now) + (again.lease_until - first.lease_until)  # type: ignore[operator]
    assert again.lease_until > first.lease_until  # type: ignore[operator]


def test_an_expired_lease_goes_to_somebody_else_and_the_late_answer_is_kept_as_extra(store: Store, clock: Clock) -> None:
    ready(store, prompts=1, labelers=2, overlap=1)
    late = next_task(store, "l0")
    assert ask(store, "helpful", "l1") is None
    clock.turn(minutes=30)
    taken = next_task(store, "l1")
    assert answer(store, taken, "l1").purpose == "overlap"
    receipt = answer(store, late, "l0")
    assert receipt.purpose == "extra"
    assert purposes(store) == {"overlap": 1, "extra": 1}
    assert places(store) == {"p0": ["l1"]}
    assert ask(store, "helpful", "l0") is None
    assert store.check().problem == ""


def test_an_expired_lease_that_nobody_took_still_counts(store: Store, clock: Clock) -> None:
    ready(store, prompts=1, labelers=1, overlap=1)
    task = next_task(store, "l0")
    clock.turn(days=3)
    assert answer(store, task, "l0").purpose == "overlap"


def test_a_heartbeat_keeps_a_task_and_a_lost_one_is_not_brought_back(store: Store, clock: Clock) -> None:
    ready(store, prompts=1, labelers=2, overlap=1)
    task = next_task(store, "l0")
    for _ in range(4):
        clock.turn(minutes=20)
        assert store.renew(task.token, "l0") is not None
    assert ask(store, "helpful", "l1") is None
    clock.turn(minutes=31)
    next_task(store, "l1")
    assert store.renew(task.token, "l0") is None
    with pytest.raises(AnswerProblem, match="no such task"):
        store.renew(task.token, "l1")


def test_a_sign_of_life_never_shortens_a_lease(store: Store, clock: Clock) -> None:
    ready(store, prompts=1, labelers=1, overlap=1)
    task = next_task(store, "l0")
    clock.turn(hours=-5)
    assert store.renew(task.token, "l0") == next_task(store, "l0").lease_until == task.lease_until


def test_whoever_lost_a_place_may_be_asked_again_and_has_one_voice(store: Store, clock: Clock) -> None:
    """l0's lease lapses, l1 takes the place and skips it; l0 gets the prompt again, and answers in the old tab."""
    ready(store, prompts=1, labelers=2, overlap=1)
    old_tab = next_task(store, "l0")
    clock.turn(minutes=31)
    store.skip(next_task(store, "l1").token, "l1", "not for me")
    new_tab = next_task(store, "l0")
    assert new_tab.token != old_tab.token
    said = Answer(ranks=[3, 1, 2])
    assert answer(store, old_tab, "l0", said).purpose == "overlap"
    assert answer(store, new_tab, "l0", Answer(ranks=[1, 2, 3])).revision == 2
    [only] = store.judgements("helpful")
    assert isinstance(only, Ranking)
    assert only.ranks == [1, 2, 3]
    assert store.check().problem == ""


def test_a_skipped_place_goes_to_somebody_else_without_penalty(store: Store) -> None:
    ready(store, prompts=1, labelers=2, overlap=1)
    store.skip(next_task(store, "l0").token, "l0", "upsetting")
    assert ask(store, "helpful", "l0") is None
    assert len(work(store, "l1")) == 1
    [status] = store.status()
    assert (status.skipped, status.complete, status.labelers) == (1, 1, {"l1": 1})


def test_a_clock_that_goes_backwards_neither_loses_nor_doubles(store: Store, clock: Clock) -> None:
    ready(store, prompts=3, labelers=4, overlap=2, repeat_share=0.5, random_share=0.5, repeat_after=60)
    chance, held, said = Random(1), {}, 0
    for _ in range(60):
        clock.turn(minutes=chance.uniform(-90, 90))
        name = f"l{chance.randrange(4)}"
        if task := ask(store, "helpful", name):
            held.setdefault(name, []).append(task)
        if name in held and chance.random() < 0.6:
            answer(store, chance.choice(held[name]), name)
            said += 1
    revisions = store.read(lambda c: c.execute(sa.text("SELECT count(*) FROM judgement_revision")).scalar())
    assert revisions == said > 15
    voices = [(row.prompt_id, row.labeler, row.purpose == "repeat") for row in store.judgements("helpful")]
    assert len(voices) == len(set(voices))
    assert all(len(of_prompt) == 2 for of_prompt in places(store).values())
    assert store.check().problem == ""


def test_places_kept_for_a_stratum_go_to_it_first_and_to_nobody_else(store: Store) -> None:
    version = ready(store, prompts=5, labelers=0, overlap=2, coverage={"language": {"native": 1}})
    join(store, "other", version, language="second")
    join(store, "third", version)
    join(store, "native", version, language="native")
    assert len(work(store, "other")) == 5
    assert work(store, "third") == []
    [status] = store.status()
    assert (status.kept_open, status.places_open) == ({"language native": 5}, 0)
    work(store, "native")
    assert set(map(tuple, places(store).values())) == {("native", "other")}


def test_a_member_of_a_stratum_fills_its_places_before_any_other(store: Store) -> None:
    version = ready(store, prompts=20, labelers=0, overlap=2, coverage={"language": {"native": 1}}, random_share=0.2)
    join(store, "native", version, language="native")
    work(store, "native")
    # Directed tasks take the kept place (k = 1); only a random draw may take the other one where the kept one is gone.
    assert all(of_prompt[0] == "native" for of_prompt in places(store).values())


def test_prompts_are_finished_in_their_order(store: Store, clock: Clock) -> None:
    ready(store, prompts=30, labelers=1, overlap=1, random_share=0.2)
    for _ in range(20):
        work(store, "l0", 1)
        clock.turn(minutes=1)
    rows = sa.select(slot.c.prompt_id).where(slot.c.state == "judged", ~slot.c.at_random).order_by(slot.c.asked_at)
    directed = store.read(lambda c: list(c.execute(rows).scalars()))
    assert directed == sorted(directed)
    assert len(directed) > 8


def test_random_tasks_are_drawn_at_their_share_and_uniformly(store: Store) -> None:
    ready(store, prompts=12, labelers=0, overlap=60, max_overlap=60, random_share=0.5)
    version = store.publish("helpful", INSTRUCTIONS)
    drawn: Counter[int] = Counter()
    for i in range(60):
        join(store, f"x{i}", version)
        work(store, f"x{i}", 2)
    for row in store.read(lambda c: c.execute(sa.select(slot.c.prompt_id).where(slot.c.at_random)).all()):
        drawn[row.prompt_id] += 1
    assert 40 <= drawn.total() <= 80  # 60 expected of 120, standard deviation 5.5
    # Directed tasks all go to the first two prompts. Uniform draws spread over the twelve: 5 each.
    expected = drawn.total() / 12
    assert sum((drawn[i] - expected) ** 2 / expected for i in range(1, 13)) < 31.3  # chi-squared, 11 degrees, 0.1 %
    assert len(list(store.judgements("helpful", only_random=True))) == drawn.total()


def test_the_last_free_prompt_is_drawn_too(store: Store) -> None:
    """Where nearly nothing is free, drawing numbers finds nothing, and all that is free is looked through."""
    ready(store, prompts=60, labelers=1, overlap=1, random_share=1.0)
    assert len({task.prompt for task in work(store, "l0")}) == 60
    assert store.read(lambda c: c.execute(sa.select(sa.func.count()).where(slot.c.at_random)).scalar_one()) == 60


def test_calibration_items_go_to_everybody_and_repetitions_come_later_in_another_order(store: Store, clock: Clock) -> None:
    ready(store, prompts=20, labelers=2, overlap=2, random_share=0.2, calibration_share=0.2, repeat_share=0.3, repeat_after=3600)
    store.add_prompts("helpful", items(3, first=100), calibration=True)
    for name in ("l0", "l1"):
        for _ in range(40):
            clock.turn(minutes=20)
            work(store, name, 1)
    rows = [row for row in store.judgements("helpful") if isinstance(row, Ranking)]
    calibration = Counter((row.labeler, row.prompt_id) for row in rows if row.purpose == "calibration")
    assert calibration == {(name, f"p{i}"): 1 for name in ("l0", "l1") for i in (100, 101, 102)}
    repeats = [row for row in rows if row.purpose == "repeat"]
    assert len(repeats) >= 4
    for again in repeats:
        [first] = [r for r in rows if (r.prompt_id, r.labeler) == (again.prompt_id, again.labeler) and r.purpose != "repeat"]
        assert first.completion_ids != again.completion_ids
        assert sorted(first.completion_ids) == sorted(again.completion_ids)
        assert again.judged_at >= first.judged_at
    assert store.check().problem == ""


def test_nothing_is_repeated_before_its_time(store: Store) -> None:
    ready(store, prompts=3, labelers=1, overlap=1, repeat_share=0.8, random_share=0.2, repeat_after=3600)
    assert len(work(store, "l0")) == 3


def test_orders_are_seeded_per_labeler_and_prompt_and_recorded(store: Store) -> None:
    ready(store, prompts=12, labelers=2, completions=4, overlap=2)
    shown = {name: {task.prompt: task.completions for task in work(store, name)} for name in ("l0", "l1")}
    assert shown["l0"] != shown["l1"]
    assert len({tuple(text[7] for text in texts) for texts in shown["l0"].values()}) > 6  # "answer b to p3": the letters
    for row in store.judgements("helpful"):
        assert isinstance(row, Ranking)
        recorded = [f"answer {c[-1]} to {row.prompt_id}" for c in row.completion_ids]
        assert recorded == shown[row.labeler][f"question {row.prompt_id[1:]}"]


def orders(store: Store, seed: int) -> list[list[str]]:
    """In which order a labeler sees the completions of six prompts."""
    ready(store, prompts=6, labelers=1, completions=5, overlap=1, seed=seed)
    return [task.completions for task in sorted(work(store, "l0"), key=lambda task: str(task.prompt))]


def test_the_seed_alone_decides_the_orders(store: Store, clock: Clock, tmp_path: Path, sqlite_template: Path) -> None:
    """The same seed shows the same in another store, whatever its database; another seed shows something else."""
    found = {}
    for seed in (3, 4):
        with Store.open(shutil.copy(sqlite_template, tmp_path / f"seed {seed}.db"), clock=clock) as other:
            found[seed] = orders(other, seed)
    assert orders(store, 3) == found[3] != found[4]


SAID = {
    "ranking": lambda n: Answer(ranks=range(1, n + 1)),
    "thumbs": lambda n: Answer(thumbs=[True] * n),
    "correction": lambda n: Answer(corrections={0: "better"}),
}


@pytest.mark.parametrize(("task", "records"), [("ranking", {Ranking: 3}), ("thumbs", {Thumb: 16}), ("correction", {Correction: 3})])
def test_every_type_of_task_is_asked_and_stored_with_two_to_nine_completions(store: Store, task: str, records: dict[type, int]) -> None:
    version = ready(store, prompts=0, labelers=0, task=task, overlap=1)
    for n in (2, 5, 9):
        store.add_prompts("helpful", items(1, completions=n, first=n))
    join(store, "ann", version)
    asked = work(store, "ann", how=lambda one: SAID[task](len(one.completions)))
    assert {(one.prompt, one.task, len(one.completions)) for one in asked} == {(f"question {n}", task, n) for n in (2, 5, 9)}
    assert Counter(type(row) for row in store.judgements("helpful")) == records
    assert store.check().problem == ""


@pytest.mark.parametrize(("policy", "warned"), [("sparing", 1), ("free", 0)])
def test_ties_are_warned_of_or_welcome_and_stored_in_either_case(store: Store, policy: str, warned: int) -> None:
    ready(store, prompts=1, labelers=1, tie_policy=policy)
    task = next_task(store, "l0")
    assert task.tie_policy == policy
    assert len(answer(store, task, "l0", Answer(ranks=[1, 1, 2])).warnings) == warned
    [row] = store.judgements("helpful")
    assert isinstance(row, Ranking)
    assert row.ranks == [1, 1, 2]


def test_tasks_come_as_they_are_drawn_and_the_draws_can_be_worked_out_again(store: Store) -> None:
    shares = {"random_share": 0.35, "calibration_share": 0.2, "repeat_share": 0.15, "seed": 7}
    ready(store, prompts=50, labelers=2, overlap=2, repeat_after=0, **shares)
    store.add_prompts("helpful", items(30, first=1000), calibration=True)
    for name in ("l0", "l1"):
        work(store, name, 50)
    draws = [Random(f"ask {(7, labeler_id, times)}") for labeler_id in (1, 2) for times in range(50)]
    drawn = Counter(kinds_in_order(project(**shares), chance)[0] for chance in draws)
    told = purposes(store)
    assert len(list(store.judgements("helpful", only_random=True))) == drawn["random"] > 25
    assert told["calibration"] == drawn["calibration"] > 10
    assert told["repeat"] == drawn["repeat"] > 5
    assert told.total() == 100


def test_nothing_that_a_labeler_is_shown_tells_the_model(store: Store) -> None:
    ready(store, prompts=3, labelers=1, overlap=1)
    for task in work(store, "l0"):
        assert "model" not in repr(task)
        assert not any(f"p{i}:" in repr(task) for i in range(3))


def test_one_more_labeler_is_asked_where_nobody_is_sure_and_not_for_ever(store: Store) -> None:
    ready(store, prompts=3, labelers=5, overlap=2, max_overlap=4, decided=0.75)
    for name in ("l0", "l1"):
        work(store, name)
    assert ask_more(store, "helpful") == 0  # nothing has been derived yet

    def derive(**p: float) -> None:
        pairs = [DerivedPair(name, f"{name}:a", f"{name}:{other}", value) for name, value in p.items() for other in "bc"]
        made_from = store.snapshot("helpful")
        store.write(lambda c: derived.save(c, "helpful", made_from, "test", "1", {}, pairs, [], store.clock()))

    derive(p0=0.6, p1=0.74, p2=0.75)
    assert ask_more(store, "helpful") == 2
    assert ask_more(store, "helpful") == 0  # the places wait to be filled
    assert {task.prompt for task in work(store, "l2")} == {"question 0", "question 1"}
    assert ask_more(store, "helpful") == 0  # the run does not know what l2 said
    derive(p0=0.6, p1=0.9, p2=0.9)
    assert ask_more(store, "helpful") == 1
    assert [task.prompt for task in work(store, "l3")] == ["question 0"]
    derive(p0=0.6, p1=0.9, p2=0.9)
    assert ask_more(store, "helpful") == 0  # p0 has been shown to max_overlap labelers
    assert [len(of_prompt) for of_prompt in places(store).values()] == [4, 3, 2]
    assert store.check().problem == ""


def test_the_overlap_is_filled_before_extra_places(store: Store) -> None:
    ready(store, prompts=1, labelers=3, overlap=1)
    work(store, "l0")
    made_from = store.snapshot("helpful")
    pairs = [DerivedPair("p0", "p0:a", "p0:b", 0.5)]
    store.write(lambda c: derived.save(c, "helpful", made_from, "test", "1", {}, pairs, [], store.clock()))
    assert ask_more(store, "helpful") == 1
    store.add_prompts("helpful", items(1, first=9))
    assert [task.prompt for task in work(store, "l1")] == ["question 9", "question 0"]


def test_somebody_settles_what_others_left_undecided(store: Store) -> None:
    ready(store, prompts=1, labelers=2, overlap=1)
    work(store, "l0")
    task = ask_about(store, "helpful", "l1", "p0")
    assert answer(store, task, "l1").purpose == "ruling"
    with pytest.raises(AnswerProblem, match="asked about prompt 'p0' before"):
        ask_about(store, "helpful", "l0", "p0")
    with pytest.raises(DataProblem, match="no prompt 'p7'"):
        ask_about(store, "helpful", "l1", "p7")
    assert places(store) == {"p0": ["l0"]}


def test_who_may_not_be_asked_hears_why(store: Store) -> None:
    store.create_project(project())
    store.add_prompts("helpful", items(2))
    with pytest.raises(DataProblem, match="no labeler 'ann'"):
        ask(store, "helpful", "ann")
    version = store.publish("helpful", INSTRUCTIONS)
    join(store, "ann", version)
    store.publish("helpful", "Read this too.")
    with pytest.raises(InstructionsChanged, match="are now version"):
        ask(store, "helpful", "ann")
    store.acknowledge("helpful", "ann", store.publish("helpful", "Read this too."))
    held = next_task(store, "ann")
    store.write(lambda c: labelers.set_state(c, "ann", "paused", "test", store.clock()))
    with pytest.raises(AnswerProblem, match="'ann' is paused"):
        ask(store, "helpful", "ann")
    assert answer(store, held, "ann").purpose == "overlap"  # what was under way is kept
    store.write(lambda c: labelers.set_state(c, "ann", "active", "test", store.clock()))
    store.write(lambda c: projects.change(c, "helpful", "test", store.clock(), state="paused"))
    with pytest.raises(AnswerProblem, match="'helpful' is paused"):
        ask(store, "helpful", "ann")


def test_nobody_is_asked_about_a_prompt_that_was_withdrawn(store: Store) -> None:
    ready(store, prompts=3, labelers=2, overlap=2, calibration_share=0.4, repeat_share=0.4, random_share=0.2, repeat_after=0)
    store.add_prompts("helpful", items(1, first=50), calibration=True)

    def withdraw(withdrawn: bool, *ids: str) -> None:
        store.write(lambda c: prompts.set_withdrawn(c, "helpful", ids, withdrawn, "test", store.clock()))

    held = next_task(store, "l0")
    withdraw(True, "p0", "p1", "p50")
    answer(store, held, "l0")  # what was under way is kept
    seen = {task.prompt for task in work(store, "l0")} | {task.prompt for task in work(store, "l1")}
    assert seen - {held.prompt} == {"question 2"}
    assert store.status()[0].withdrawn == 3
    withdraw(False, "p0", "p1", "p50")
    assert {task.prompt for task in work(store, "l1")} >= {"question 0", "question 1", "question 50"}
    with pytest.raises(DataProblem, match="no prompt 'p9'"):
        withdraw(True, "p0", "p9")
    assert store.status()[0].withdrawn == 0
    assert store.check().problem == ""


def test_the_tasks_of_somebody_who_leaves_become_free(store: Store) -> None:
    ready(store, prompts=1, labelers=2, overlap=1)
    task = next_task(store, "l0")
    assert ask(store, "helpful", "l1") is None
    store.write(lambda c: labelers.set_state(c, "l0", "deactivated", "test", store.clock()))
    assert len(work(store, "l1")) == 1
    assert answer(store, task, "l0").purpose == "extra"


def test_kinds_are_drawn_at_their_shares() -> None:
    asked = project(random_share=0.25, calibration_share=0.15, repeat_share=0.1)
    chance = Random(0)
    kinds = Counter(kinds_in_order(asked, chance)[0] for _ in range(20_000))
    for kind, share in {"random": 0.25, "calibration": 0.15, "repeat": 0.1, "directed": 0.5}.items():
        assert kinds[kind] / 20_000 == pytest.approx(share, abs=0.015)  # type: ignore[index]
    assert all("repeat" not in kinds_in_order(asked, chance)[1:] for _ in range(200))


def test_another_order_is_another_order() -> None:
    for seed in range(50):
        assert sorted(other := other_order(seed, 1, 2, [7, 8])) == [7, 8]
        assert other == [8, 7]
    assert other_order(0, 1, 2, [7]) == [7]
    assert other_order(3, 1, 2, [7, 8, 9]) == other_order(3, 1, 2, [7, 8, 9])


def test_one_more_labeler_is_asked_about_what_is_named_under_the_same_conditions(store: Store) -> None:
    """Where the consensus is not one of pairs: thumbs."""
    ready(store, prompts=5, labelers=3, overlap=2, max_overlap=3, task="thumbs")
    for name in ("l0", "l1"):
        work(store, name, how=lambda task: Answer(thumbs=[True] * len(task.completions)))
    named = ["p0", "p1", "p2", "unknown"]
    assert ask_more(store, "helpful", named) == 0  # nothing has been derived yet
    store.write(lambda c: prompts.set_withdrawn(c, "helpful", ["p1"], True, "test", store.clock()))
    made_from = store.snapshot("helpful")
    store.write(lambda c: derived.save(c, "helpful", made_from, "test", "1", {}, [], [], store.clock()))
    assert ask_more(store, "helpful", named) == 2
    assert ask_more(store, "helpful", named) == 0  # the places wait to be filled
    assert {task.prompt for task in work(store, "l2", how=lambda task: Answer(thumbs=[False] * 3))} == {"question 0", "question 2"}
    made_from = store.snapshot("helpful")
    store.write(lambda c: derived.save(c, "helpful", made_from, "test", "1", {}, [], [], store.clock()))
    assert ask_more(store, "helpful", named) == 0  # they have been shown to max_overlap labelers
    assert [len(of_prompt) for of_prompt in places(store).values()] == [3, 2, 3, 2, 2]
