"""How far a project has come, counted by hand."""

from __future__ import annotations

from heedful.store import Store, labelers, prompts, slots
from heedful.store.status import ProjectStatus
from stores import items, join, next_task, ready, work


def test_every_figure_counted_by_hand(store: Store) -> None:
    """Three prompts of two places, one kept for natives: p0 is judged by both, p1 was skipped and is held, p2 is withdrawn."""

    def withdraw(withdrawn: bool, *ids: str) -> None:
        store.write(lambda c: prompts.set_withdrawn(c, "helpful", ids, withdrawn, "ann", store.clock()))

    version = ready(store, prompts=3, labelers=2, overlap=2, coverage={"language": {"native": 1}})
    store.add_prompts("helpful", items(2, first=50), calibration=True)
    join(store, "n", version, language="native")
    withdraw(True, "p1", "p2")
    assert [len(work(store, name, 1)) for name in ("l0", "n")] == [1, 1]
    withdraw(False, "p1")
    store.skip(next_task(store, "l1").token, "l1", "too long")
    held = next_task(store, "l0")
    for why in ("cut off", "hateful"):
        store.write(lambda c, why=why: slots.raise_concern(c, slots.mine(c, held.token, labelers.get(c, "l0")), why, store.clock()))  # type: ignore[misc]
    assert store.status() == [
        ProjectStatus(
            project="helpful",
            task="ranking",
            state="active",
            prompts=5,
            complete=1,
            calibration_prompts=2,
            withdrawn=1,
            places=6,
            places_open=1,
            places_leased=1,
            kept_open={"language native": 2},
            judgements={"overlap": 2},
            skipped=1,
            concerns=2,
            labelers={"l0": 1, "n": 1},
        )
    ]
