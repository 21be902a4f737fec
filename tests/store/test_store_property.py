"""Whatever people do, in whatever order, by whatever clock: what is stored is what they said last, once."""

from __future__ import annotations

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from heedful.feedback.asking import ask
from heedful.records import Ranking
from heedful.store import Answer, Store
from heedful.store.schema import judgement_revision, slot
from heedful.store.tasks import Task
from stores import Clock, ready

PROMPTS, OVERLAP, PEOPLE = 3, 2, ("l0", "l1", "l2", "l3")
ranks = st.lists(st.none() | st.integers(1, 3), min_size=3, max_size=3)


class People(RuleBasedStateMachine):
    """Four people at three prompts, and a model of what they said."""

    where = ""

    @initialize()
    def begin(self) -> None:
        self.clock = Clock()
        self.store = Store.open(self.where, clock=self.clock, warn=lambda _: None)
        self.version = ready(self.store, PROMPTS, len(PEOPLE), overlap=OVERLAP, repeat_share=0.3, random_share=0.5, repeat_after=600)
        self.given: list[tuple[str, Task]] = []
        self.said: dict[str, tuple[str, Answer]] = {}
        self.last: dict[tuple[str, object, bool], list[int | None]] = {}
        self.sent: list[tuple[str, Task, str, Answer]] = []

    @rule(name=st.sampled_from(PEOPLE))
    def ask(self, name: str) -> None:
        if (task := ask(self.store, "helpful", name)) and (name, task.token) not in [(n, t.token) for n, t in self.given]:
            self.given.append((name, task))

    @precondition(lambda self: self.given)
    @rule(pick=st.randoms(use_true_random=False), ranks=ranks)
    def answer(self, pick: Any, ranks: list[int | None]) -> None:
        """To a task that is held, lapsed, skipped or judged already."""
        name, task = pick.choice(self.given)
        key = f"key {len(self.sent)}"
        self.sent.append((name, task, key, Answer(ranks=ranks)))
        self._submit(*self.sent[-1])
        ids = {text: number for number, text in enumerate(sorted(task.completions))}
        self.last[name, task.prompt, self._purpose(task) == "repeat"] = [
            rank for _, rank in sorted((ids[text], rank) for text, rank in zip(task.completions, ranks, strict=True))
        ]

    @precondition(lambda self: self.sent)
    @rule(pick=st.randoms(use_true_random=False))
    def send_again(self, pick: Any) -> None:
        """The reply was lost."""
        name, task, key, said = pick.choice(self.sent)
        assert self._submit(name, task, key, said) == self._submit(name, task, key, said)

    @precondition(lambda self: self.given)
    @rule(pick=st.randoms(use_true_random=False))
    def skip(self, pick: Any) -> None:
        name, task = pick.choice(self.given)
        self.store.skip(task.token, name, "no")

    @precondition(lambda self: self.given)
    @rule(pick=st.randoms(use_true_random=False))
    def renew(self, pick: Any) -> None:
        name, task = pick.choice(self.given)
        self.store.renew(task.token, name)

    @rule(name=st.sampled_from(PEOPLE))
    def instructions_change(self, name: str) -> None:
        """And what was said under those before is judged again."""
        self.version = self.store.publish("helpful", f"Instructions {len(self.sent)} {name}")
        for one in PEOPLE:
            self.store.acknowledge("helpful", one, self.version)
        under = {(row.labeler, f"question {row.prompt_id[1:]}", row.purpose == "repeat"): row for row in self._rankings()}
        self.store.retire("helpful")
        self.last = {place: said for place, said in self.last.items() if under[place].instructions_version == self.version}

    @rule(minutes=st.integers(-60, 90))
    def time_passes(self, minutes: int) -> None:
        self.clock.now += timedelta(minutes=minutes)

    @rule()
    def the_process_dies(self) -> None:
        self.store.close()
        self.store = Store.open(self.where, clock=self.clock, warn=lambda _: None)

    @invariant()
    def what_is_stored_is_what_was_said_last(self) -> None:
        if not hasattr(self, "store"):
            return
        stored = {}
        for row in self._rankings():
            place = (row.labeler, f"question {row.prompt_id[1:]}", row.purpose == "repeat")
            assert place not in stored, "two voices"
            stored[place] = [rank for _, rank in sorted(zip(row.completion_ids, row.ranks, strict=True))]
        assert stored == self.last

    @invariant()
    def places_are_exact(self) -> None:
        if not hasattr(self, "store"):
            return
        rows = self.store.read(lambda c: c.execute(sa.select(slot).where(slot.c.k.is_not(None))).all())
        assert sorted((row.prompt_id, row.k) for row in rows) == [(p, k) for p in range(1, PROMPTS + 1) for k in range(1, OVERLAP + 1)]
        held = [(row.prompt_id, row.labeler_id) for row in rows if row.labeler_id]
        assert len(held) == len(set(held))

    def teardown(self) -> None:
        if hasattr(self, "store"):
            count = sa.select(sa.func.count()).select_from(judgement_revision)
            assert self.store.read(lambda c: c.execute(count).scalar_one()) == len(self.sent)
            assert self.store.check().problem == ""
            self.store.close()

    def _submit(self, name: str, task: Task, key: str, said: Answer) -> Any:
        return self.store.submit(task.token, name, key, said, self.version)

    def _rankings(self) -> list[Ranking]:
        return [row for row in self.store.judgements("helpful") if isinstance(row, Ranking)]

    def _purpose(self, task: Task) -> str:
        """Where an answer to a task goes: what comes after a repetition was retired is an answer like any other."""
        row = self.store.read(lambda c: c.execute(sa.select(slot.c.purpose, slot.c.state).where(slot.c.token == task.token)).one())
        return "extra" if row.state == "retired" else str(row.purpose)


def test_people_at_work(sqlite_template: Path) -> None:
    """On SQLite; the same rules hold in PostgreSQL, whose every single step the other tests take."""
    folder = Path(tempfile.mkdtemp(prefix="heedful-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    class Here(People):
        def __init__(self) -> None:
            super().__init__()
            self.where = str(Path(tempfile.mkdtemp(dir=folder)) / "labels.db")
            shutil.copy(sqlite_template, self.where)

    try:
        run(Here, examples=15, steps=40)
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_people_at_work_in_postgresql(postgres_server: str, postgres_template: str) -> None:
    from postgres import create_database

    numbers = iter(range(10_000))

    class Here(People):
        def __init__(self) -> None:
            super().__init__()
            name = f"people_{next(numbers)}"
            create_database(postgres_server, name, postgres_template)
            self.where = postgres_server.format(name)

    run(Here, examples=20, steps=40)


def run(machine: type[People], examples: int, steps: int) -> None:
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        machine,
        settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks, database=None),
    )
