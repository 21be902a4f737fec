"""How much a labeler has done: counted by when they answered."""

from __future__ import annotations

from datetime import timedelta

from apps import person

from heedful.store import Answer, Store
from heedful.web import labelling
from stores import Clock, answer, items, next_task, project


def test_what_was_asked_before_midnight_and_judged_after_is_judged_today(store: Store, clock: Clock) -> None:
    store.create_project(project())
    store.add_prompts("helpful", items(3))
    ann = person(store, "ann", "labeler")
    store.acknowledge("helpful", "ann", store.publish("helpful", "Read."))

    def done() -> dict[str, int]:
        return store.read(lambda c: labelling.progress(c, 1, ann, clock()))

    clock.now = clock.now.replace(hour=23, minute=50)
    first = next_task(store, "ann")
    answer(store, first, "ann")
    assert done() == {"done": 1, "today": 1}
    late = next_task(store, "ann")
    clock.now += timedelta(minutes=11)
    assert done() == {"done": 1, "today": 0}
    answer(store, late, "ann")
    assert done() == {"done": 2, "today": 1}
    answer(store, first, "ann", Answer(ranks=[3, 2, 1]))
    assert done() == {"done": 2, "today": 1}, "yesterday's, changed today, was judged yesterday"
