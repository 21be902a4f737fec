"""What the pages show of a project is stamped with how it was found."""

from __future__ import annotations

from heedful.feedback.consensus import LEAST_RANKINGS
from heedful.store import Answer, Store, derived
from heedful.store.tasks import Task
from heedful.web import analysis
from stores import ready, work


def by_text(task: Task) -> Answer:
    """Labelers who agree: completions in the order of their texts."""
    texts = list(task.completions)
    return Answer(ranks=[sorted(texts).index(text) + 1 for text in texts])


def judged(store: Store, prompts: int) -> None:
    ready(store, prompts=prompts, labelers=3, overlap=3)
    for labeler in ("l0", "l1", "l2"):
        work(store, labeler, how=by_text)


def test_a_run_names_the_consensus_that_it_was_made_by(store: Store) -> None:
    judged(store, LEAST_RANKINGS + 5)
    analysis.work_out(store, "helpful")
    found = analysis.newest(store, "helpful")
    assert found
    assert found.run.algorithm not in ("majority", "none"), "there is enough for the model of the panel"
    assert found.run.parameters["quarantined"] == []


def test_where_there_is_little_it_names_the_majority(store: Store) -> None:
    judged(store, 2)
    analysis.work_out(store, "helpful")
    found = analysis.newest(store, "helpful")
    assert found
    assert found.run.algorithm == "majority"


def test_a_consensus_that_is_kept_by_itself_hides_nothing(store: Store) -> None:
    """``heed feedback consensus --save`` keeps one without a summary: the pages go on showing what was worked out."""
    judged(store, 2)
    number = analysis.work_out(store, "helpful")
    made_from = store.snapshot("helpful")
    store.write(lambda c: derived.save(c, "helpful", made_from, "majority", "2", {}, [], [], store.clock()))
    found = analysis.newest(store, "helpful")
    assert found
    assert found.run.id == number
    assert found.summary["panel"] is not None
