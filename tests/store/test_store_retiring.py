"""Prompts that were judged under older instructions are judged again; nothing that was said is lost, and nothing counts twice."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from heedful.errors import AnswerProblem, DataProblem, StoreProblem
from heedful.feedback import findings
from heedful.feedback.asking import ask, ask_about
from heedful.feedback.said import said_in
from heedful.records import Ranking
from heedful.store import Answer, Store, instructions, prompts
from heedful.store.importing import Imported
from heedful.store.retiring import Retired
from heedful.store.schema import slot
from stores import INSTRUCTIONS, answer, items, join, next_task, project, ready, work

NEW = "Rank by how kind it is."
EVERY_PURPOSE = {"calibration_share": 0.4, "repeat_share": 0.4, "random_share": 0.2, "repeat_after": 0}


def by_letter(store: Store, name: str, *, down: bool = False) -> None:
    """All that a labeler is asked, ranked by the letter of each completion."""

    def how(task):  # type: ignore[no-untyped-def]
        order = sorted(task.completions, reverse=down)
        return Answer(ranks=[order.index(text) + 1 for text in task.completions])

    work(store, name, how=how)


def publish(store: Store, *readers: str) -> str:
    version = store.publish("helpful", NEW)
    for name in readers:
        store.acknowledge("helpful", name, version)
    return version


def counted(store: Store) -> list[tuple[str, str, str]]:
    return sorted((row.prompt_id, row.labeler, row.instructions_version) for row in store.judgements("helpful"))


def test_what_was_judged_under_older_instructions_is_judged_again(store: Store) -> None:
    old = ready(store, prompts=2, labelers=3, overlap=2)
    by_letter(store, "l0")
    by_letter(store, "l1")
    before, status = store.snapshot("helpful"), store.status()[0]
    assert (status.complete, status.retired) == (2, 0)
    new = publish(store, "l0", "l1", "l2")
    assert ask(store, "helpful", "l0") is None, "new instructions alone open nothing"

    assert store.retire("helpful") == Retired(prompts=2, judgements=4)
    assert counted(store) == []
    status = store.status()[0]
    assert (status.complete, status.places, status.places_open, status.retired) == (0, 4, 4, 4)
    assert status.judgements == {}
    assert store.snapshot("helpful", before.event) == before, "what a run has named is still there"
    assert len(list(store.judgements("helpful", before.event))) == 4
    assert len(list(store.judgements("helpful", retired=True))) == 4
    assert list(store.judgements("helpful", before.event, retired=True)) == []

    by_letter(store, "l0", down=True)  # who judged before, and somebody new
    by_letter(store, "l2", down=True)
    assert counted(store) == [("p0", "l0", new), ("p0", "l2", new), ("p1", "l0", new), ("p1", "l2", new)]
    assert ask(store, "helpful", "l1") is None, "the overlap is as exact as before"
    assert store.retire("helpful") == Retired(), "the same again changes nothing"
    assert {row.instructions_version for row in store.judgements("helpful", retired=True)} == {old}
    assert [len(found[2]) for found in store.everything("helpful")] == [2, 2]
    assert store.check().problem == ""


def test_only_some_prompts_and_only_what_is_outdated(store: Store) -> None:
    ready(store, prompts=3, labelers=2, overlap=2)
    by_letter(store, "l0")
    new = publish(store, "l1")
    by_letter(store, "l1")
    store.write(lambda c: prompts.set_withdrawn(c, "helpful", ["p2"], True, "manager 1", store.clock()))
    assert store.retire("helpful", ["p1", "p2"]) == Retired(1, 1), "nobody is asked about p2 any more"
    assert [row[:2] for row in counted(store)] == [("p0", "l0"), ("p0", "l1"), ("p1", "l1"), ("p2", "l0"), ("p2", "l1")]
    assert ("p1", "l1", new) in counted(store)
    assert store.retire("helpful") == Retired(1, 1), "neither when all are to be judged again"
    before = store.check()
    with pytest.raises(DataProblem, match="there is no prompt 'p9' in the project"):
        store.retire("helpful", ["p0", "p9"])
    assert store.check() == before


def test_the_same_text_published_again_is_the_same_version(store: Store) -> None:
    ready(store, prompts=1, labelers=1, overlap=1)
    by_letter(store, "l0")
    text = store.read(lambda c: instructions.current(c, "helpful"))[1]
    publish(store)
    store.publish("helpful", text)
    assert store.retire("helpful") == Retired()


def test_a_project_without_instructions_says_so(store: Store) -> None:
    store.create_project(project())
    with pytest.raises(AnswerProblem, match="no instructions yet"):
        store.retire("helpful")


def test_a_revised_answer_is_of_the_version_under_which_it_was_revised(store: Store) -> None:
    ready(store, prompts=1, labelers=1, overlap=1)
    task = next_task(store, "l0")
    answer(store, task, "l0")
    new = publish(store, "l0")
    store.submit(task.token, "l0", "revised", Answer(ranks=[3, 2, 1]), new)
    assert store.retire("helpful") == Retired()


def test_every_purpose_is_asked_again(store: Store) -> None:
    """Calibration by everybody, a repetition by the same labeler, a ruling by whoever settles."""
    version = ready(store, prompts=6, labelers=1, overlap=1, **EVERY_PURPOSE)
    store.add_prompts("helpful", items(2, first=50), calibration=True)
    join(store, "settler", version)

    def purposes() -> tuple[list[tuple[str, str]], set[str]]:
        """Who was asked what; and what they were asked once more."""
        by_letter(store, "l0")
        answer(store, ask_about(store, "helpful", "settler", "p0"), "settler")
        rows = [(row.prompt_id, row.purpose) for row in store.judgements("helpful")]
        return sorted(row for row in rows if row[1] != "repeat"), {name for name, purpose in rows if purpose == "repeat"}

    told, again = purposes()
    assert {purpose for _, purpose in told} == {"overlap", "calibration", "ruling"}
    publish(store, "l0", "settler")
    assert store.retire("helpful") == Retired(8, len(told) + len(again))
    told_now, again_now = purposes()
    assert told_now == told
    assert again & again_now, "whoever judged a prompt twice may do so again"
    assert store.check().problem == ""


def test_places_kept_for_a_stratum_stay_kept(store: Store) -> None:
    version = ready(store, prompts=1, labelers=1, overlap=1, coverage={"language": {"native": 1}})
    join(store, "nina", version, language="native")
    by_letter(store, "nina")
    publish(store, "l0", "nina")
    store.retire("helpful")
    assert store.status()[0].kept_open == {"language native": 1}
    assert ask(store, "helpful", "l0") is None
    assert ask(store, "helpful", "nina") is not None


def test_an_answer_that_comes_after_its_judgement_was_retired_is_kept(store: Store) -> None:
    """Somebody has an old answer open, and a new task in another tab, while the manager retires it."""
    ready(store, prompts=1, labelers=2, overlap=1)
    task = next_task(store, "l0")
    answer(store, task, "l0", key="first")
    new = publish(store, "l0", "l1")
    store.retire("helpful")
    store.add_prompts("helpful", items(1, first=1))
    store.write(lambda c: prompts.set_withdrawn(c, "helpful", ["p0"], True, "manager 1", store.clock()))
    held = next_task(store, "l0")
    assert held.prompt == "question 1"
    late = store.submit(task.token, "l0", "late", Answer(ranks=[3, 2, 1]), new)
    assert (late.purpose, late.revision) == ("extra", 1)
    assert store.submit(task.token, "l0", "late", Answer(ranks=[3, 2, 1]), new) == late, "sent again, it is heard of again"
    again = store.submit(task.token, "l0", "later", Answer(ranks=[2, 3, 1]), new)
    assert (again.token, again.revision) == (late.token, 2), "one voice, however often"
    assert [row.purpose for row in store.judgements("helpful")] == ["extra"]
    assert store.status()[0].places_open == 1, "the place is for somebody who was asked anew"
    assert next_task(store, "l0") == held
    assert store.check().problem == ""


def test_an_answer_goes_where_the_labeler_was_asked_again(store: Store) -> None:
    ready(store, prompts=1, labelers=1, overlap=1)
    first = next_task(store, "l0")
    answer(store, first, "l0")
    new = publish(store, "l0")
    store.retire("helpful")
    second = next_task(store, "l0")
    assert second.token != first.token
    receipt = store.submit(first.token, "l0", "by the old tab", Answer(ranks=[1, 2, 3]), new)
    assert (receipt.token, receipt.purpose) == (second.token, "overlap")
    assert store.status()[0].complete == 1


def test_an_answer_that_comes_late_is_for_what_it_was_asked_for(store: Store) -> None:
    """But it fills no place, and is no repetition of something that does not count."""
    version = ready(store, prompts=6, labelers=1, overlap=1, **EVERY_PURPOSE)
    store.add_prompts("helpful", items(2, first=50), calibration=True)
    join(store, "settler", version)
    tasks = {task.token: ("l0", task) for task in work(store, "l0")}
    ruling = ask_about(store, "helpful", "settler", "p0")
    answer(store, ruling, "settler")
    tasks[ruling.token] = ("settler", ruling)
    new = publish(store, "l0", "settler")
    asked_for = dict(store.read(lambda c: c.execute(sa.select(slot.c.token, slot.c.purpose)).all()))
    store.retire("helpful")
    late: dict[str, set[str]] = {}
    for token in sorted(tasks, key=lambda token: ("calibration", "repeat", "overlap", "ruling").index(asked_for[token])):
        who, _ = tasks[token]
        receipt = store.submit(token, who, f"late {token}", Answer(ranks=[3, 2, 1]), new)
        late.setdefault(asked_for[token], set()).add(receipt.purpose)
    assert "extra" in late["repeat"], "the first that counts of what they say of the prompt"
    assert "repeat" not in late.pop("repeat")
    assert late == {"calibration": {"calibration"}, "overlap": {"extra"}, "ruling": {"ruling"}}
    assert store.check().problem == ""


def test_a_file_that_brought_judgements_may_come_again_after_they_were_retired(store: Store) -> None:
    ready(store, prompts=1, labelers=0, overlap=1)
    rows = [Ranking("p0", "ann", ["p0:a", "p0:b"], [1, 2], "helpfulness", "elsewhere")]
    store.import_judgements("helpful", rows)
    assert store.retire("helpful") == Retired(1, 1)
    before = store.check()
    assert store.import_judgements("helpful", rows) == Imported(stored=0, there_before=1, new_labelers=0)
    assert store.check() == before
    other = [Ranking("p0", "ann", ["p0:a", "p0:b"], [2, 1], "helpfulness", "elsewhere")]
    assert store.import_judgements("helpful", other).stored == 1, "something else is something new"
    assert counted(store) == [("p0", "ann", "elsewhere")]
    assert store.check().problem == ""


def test_agreement_under_the_older_instructions_is_still_told(store: Store) -> None:
    """Under the old ones two labelers agreed on nothing, under the new ones on everything."""
    old = ready(store, prompts=4, labelers=2, overlap=2)
    by_letter(store, "l0")
    by_letter(store, "l1", down=True)
    new = publish(store, "l0", "l1")
    store.retire("helpful")
    by_letter(store, "l0")
    by_letter(store, "l1")
    rows, everybody = findings.agreement_rows(said_in(store, "helpful"))
    told = {row["of"]: row["agreement"]["estimate"] for row in rows if row["kind"] == "version"}
    assert told == {f"version {old}": 0.0, f"version {new}": 1.0}
    assert everybody.agreement == 1.0, "of what counts"


def test_of_what_somebody_said_twice_under_the_same_instructions_the_last_counts(store: Store) -> None:
    """The older instructions were the better ones, and are published again: what was first said under them is past."""
    old = ready(store, prompts=4, labelers=2, overlap=2)
    by_letter(store, "l0")
    by_letter(store, "l1", down=True)
    publish(store, "l0", "l1")
    store.retire("helpful")
    by_letter(store, "l0")
    assert store.publish("helpful", INSTRUCTIONS) == old
    store.acknowledge("helpful", "l0", old)
    store.retire("helpful")
    store.acknowledge("helpful", "l1", old)
    by_letter(store, "l0")
    by_letter(store, "l1")
    rows, _ = findings.agreement_rows(said_in(store, "helpful"))
    told = {row["of"]: row["agreement"]["estimate"] for row in rows if row["agreement"]}
    assert (told["all"], told[f"version {old}"]) == (1.0, 1.0)


def test_the_check_finds_what_was_retired_behind_the_logs_back(store: Store) -> None:
    ready(store, prompts=0, labelers=1, calibration_share=0.4)
    store.add_prompts("helpful", items(1), calibration=True)
    by_letter(store, "l0")
    publish(store)
    assert store.retire("helpful") == Retired(1, 1)
    assert store.check().problem == ""
    store.write(lambda c: c.execute(sa.update(slot).values(state="judged", retired_in=None)))
    assert "retired 1 judgements; 0 are" in store.check().problem
    store.write(lambda c: c.execute(sa.update(slot).values(state="retired", retired_in=1)))
    assert "event 1 retired 0 judgements; 1 are" in store.check().problem


def test_the_check_finds_that_another_judgement_was_retired(store: Store) -> None:
    ready(store, prompts=0, labelers=1, calibration_share=0.4)
    store.add_prompts("helpful", items(2), calibration=True)
    by_letter(store, "l0")
    publish(store)
    store.retire("helpful", ["p0"])

    def swap(connection: sa.Connection) -> None:
        [gone] = connection.execute(sa.select(slot).where(slot.c.state == "retired")).all()
        connection.execute(sa.update(slot).where(slot.c.state == "judged").values(state="retired", retired_in=gone.retired_in))
        connection.execute(sa.update(slot).where(slot.c.id == gone.id).values(state="judged", retired_in=None))

    store.write(swap)
    assert "retired 1 judgements; 1 are, or they are others" in store.check().problem


def test_whoever_answers_meanwhile_waits_and_loses_nothing(store: Store) -> None:
    """Revisions under the new instructions race with the retiring: each judgement is either retired or of the new version."""
    ready(store, prompts=12, labelers=1, overlap=1)
    tasks = work(store, "l0")
    new = publish(store, "l0")
    problems: list[BaseException] = []

    def revise() -> None:
        for number, task in enumerate(tasks):
            try:
                store.submit(task.token, "l0", f"revised {number}", Answer(ranks=[3, 2, 1]), new)
            except (StoreProblem, AnswerProblem) as problem:
                problems.append(problem)

    other = threading.Thread(target=revise)
    other.start()
    for prompt_id in [f"p{i}" for i in range(11, -1, -1)]:
        store.retire("helpful", [prompt_id])
    other.join()
    assert problems == []
    assert {(row.prompt_id, row.instructions_version) for row in store.judgements("helpful")} == {(f"p{i}", new) for i in range(12)}
    assert store.check().problem == ""
