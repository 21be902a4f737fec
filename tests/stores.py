"""Small stores for tests: a clock that one can turn, prompts with completions, and people who are ready to be asked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

from heedful.feedback.asking import ask
from heedful.records import Completion, Labeler, Prompt
from heedful.store import Answer, Project, Receipt, Store
from heedful.store.tasks import Task

Item = tuple[Prompt, list[Completion]]
INSTRUCTIONS = "Rank by how much it helps."
_keys = count()


class Clock:
    """A clock that stands still until it is turned, forwards or backwards."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def turn(self, **by: float) -> None:
        """``minutes=31``, ``hours=-2``."""
        self.now += timedelta(**by)


def items(n: int, completions: int = 3, first: int = 0) -> list[Item]:
    """Prompts p0, p1, ... with completions p0:a, p0:b, ... by models that one must not see."""
    letters = "abcdefghi"[:completions]
    return [(Prompt(f"p{i}", f"question {i}"), [completion(f"p{i}", letter) for letter in letters]) for i in range(first, first + n)]


def completion(prompt_id: str, letter: str) -> Completion:
    """One completion; its text tells which it is."""
    text = f"answer {letter} to {prompt_id}"
    return Completion(f"{prompt_id}:{letter}", prompt_id, text, [1, 2], "stop", 7, f"model-{letter}", {"top_p": 1.0})


def project(name: str = "helpful", **settings: Any) -> Project:
    """A project in which nothing is left to chance unless the test says so: no calibration, no repetition."""
    return Project(name, "helpfulness", "Which helps most?", **{"calibration_share": 0.0, "repeat_share": 0.0, **settings})


def ready(store: Store, prompts: int = 4, labelers: int = 3, completions: int = 3, **settings: Any) -> str:
    """A project with prompts, and labelers l0, l1, ... who have read its instructions; returns their version."""
    store.create_project(project(**settings))
    version = store.publish("helpful", INSTRUCTIONS)
    if prompts:
        store.add_prompts("helpful", items(prompts, completions))
    for i in range(labelers):
        join(store, f"l{i}", version)
    return version


def join(store: Store, name: str, version: str, **strata: str) -> None:
    """One more labeler who has read the instructions."""
    store.add_labelers(Labeler(name, strata=strata))
    store.acknowledge("helpful", name, version)


def answer(store: Store, task: Task, labeler: str, said: Answer | None = None, key: str = "") -> Receipt:
    """Send an answer, by default the order as shown, under a new key."""
    said = said or Answer(ranks=list(range(1, len(task.completions) + 1)))
    return store.submit(task.token, labeler, key or f"key {next(_keys)}", said, task.instructions_version)


def next_task(store: Store, labeler: str) -> Task:
    """The next task of a labeler for whom there is one."""
    task = ask(store, "helpful", labeler)
    assert task is not None
    return task


def work(store: Store, labeler: str, times: int = 1_000_000, how: Callable[[Task], Answer | None] = lambda _: None) -> list[Task]:
    """Ask a labeler and store the answer, so many times or until there is nothing left; returns the tasks."""
    done: list[Task] = []
    while len(done) < times and (task := ask(store, "helpful", labeler)):
        answer(store, task, labeler, how(task))
        done.append(task)
    return done
