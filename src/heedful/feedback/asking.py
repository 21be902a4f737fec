"""Who is asked what next.

A labeler who still holds a task gets that one. Otherwise a draw decides what kind of task comes
next (:func:`heedful.feedback.assign.kinds_in_order`):

* ``random``: any prompt with a free place, each as likely as any other. Figures that must be
  unbiased are computed on these.
* ``calibration``: the next item that everybody judges.
* ``repeat``: a prompt that this labeler judged long enough ago, in another order.
* ``directed``, the rest: first places kept for a stratum of the population that this labeler
  stands for; then, prompt by prompt, places of the overlap, so that whole prompts are done early;
  last, places that were added where people did not agree (:func:`ask_more`).

The draw depends on the project's seed, the labeler, and how often they were asked. The order of
completions depends on seed, labeler and prompt. Both can be worked out again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from random import Random
from typing import Any

import sqlalchemy as sa

from heedful.errors import AnswerProblem, DataProblem
from heedful.feedback.assign import Kind, kinds_in_order, other_order, shown_order
from heedful.store import Store, derived, instructions, labelers, projects, slots, tasks
from heedful.store.schema import completion, prompt
from heedful.store.tasks import Task


def ask(store: Store, project: str, labeler: str) -> Task | None:
    """The labeler's next task, reserved for a while; ``None`` where there is nothing for them to do.

    Raises:
        InstructionsChanged: they have not acknowledged the current instructions.
        AnswerProblem: they or the project are not active, or there are no instructions.
    """
    return store.write(lambda c: _ask(c, project, labeler, store.clock()))


def ask_about(store: Store, project: str, labeler: str, prompt_id: str) -> Task:
    """A task about one prompt, beyond its overlap: for somebody who rules on what others left undecided, which settles it.

    Raises AnswerProblem where they have been asked about it before, or have another task.
    """

    def work(connection: sa.Connection) -> Task:
        asking = _Asking(connection, project, labeler, store.clock())
        number = connection.execute(
            sa.select(prompt.c.id).where(prompt.c.project_id == asking.project_id, prompt.c.external_id == prompt_id)
        ).scalar()
        if number is None:
            raise DataProblem(f"there is no prompt {prompt_id!r} in the project", "Check its id.")
        if asking.held():
            raise AnswerProblem(f"labeler {labeler!r} has another task", "Judge or skip that one first.")
        if slots.has_voice(connection, number, asking.labeler_id):
            raise AnswerProblem(f"labeler {labeler!r} was asked about prompt {prompt_id!r} before", "It takes somebody else to settle it.")
        return asking.outside(number, "ruling")

    return store.write(work)


def ask_more(store: Store, project: str, undecided: Iterable[str] | None = None) -> int:
    """Open one more place at every prompt that the newest consensus leaves undecided; returns their number.

    To be called whenever a consensus has been stored. It stops at the project's ``max_overlap``. ``undecided``:
    the prompts, by their ids, where the consensus is not one of pairs that the store has kept.
    """

    def work(connection: sa.Connection) -> int:
        project_id, _ = projects.find(connection, project)
        numbers = derived.undecided(connection, project) if undecided is None else derived.open_to_more(connection, project, undecided)
        return len(slots.add_places(connection, project_id, numbers, store.actor, store.clock()))

    return store.write(work)


def _ask(connection: sa.Connection, project: str, labeler: str, now: datetime) -> Task | None:
    asking = _Asking(connection, project, labeler, now)
    if task := asking.held():
        return task
    for kind in kinds_in_order(asking.asked, asking.chance):
        if task := asking.finders[kind]():
            return task
    return None


class _Asking:
    """One labeler, asked once, in one transaction."""

    def __init__(self, connection: sa.Connection, project: str, labeler: str, now: datetime) -> None:
        self.connection, self.now = connection, now
        self.labeler_id = labelers.hold_active(connection, labeler)
        self.project_id, self.asked = projects.find(connection, project)
        if self.asked.state != "active":
            raise AnswerProblem(f"project {project!r} is {self.asked.state}", "Try again later, or ask whoever leads it.")
        _, self.version = instructions.acknowledged(connection, self.project_id, self.labeler_id)
        strata = labelers.strata_of(connection, self.labeler_id)
        self.seeker = slots.Seeker(self.project_id, self.asked.overlap, self.labeler_id, strata, now)
        times = slots.times_asked(connection, self.project_id, self.labeler_id)
        self.chance = Random(f"ask {(self.asked.seed, self.labeler_id, times)}")
        self.finders: dict[Kind, Callable[[], Task | None]] = {
            "random": self._random,
            "calibration": self._calibration,
            "repeat": self._repeat,
            "directed": self._directed,
        }

    def held(self) -> Task | None:
        """The task that the labeler has already, its lease renewed."""
        row = slots.held(self.connection, self.project_id, self.labeler_id)
        if row is None:
            return None
        slots.renew(self.connection, row.token, self.labeler_id, self.now)
        return self._show(slots.mine(self.connection, row.token, self.labeler_id))

    def outside(self, prompt_id: int, purpose: str, shown: list[int] | None = None) -> Task:
        """A task outside the overlap of a prompt."""
        shown = shown or self._order(prompt_id)
        whom = (self.project_id, prompt_id, purpose, self.labeler_id)
        return self._show(slots.lease_outside(self.connection, *whom, shown, self.now, self.asked.lease))

    def _random(self) -> Task | None:
        return self._at(slots.random_place(self.connection, self.seeker, self.chance), at_random=True)

    def _directed(self) -> Task | None:
        places = [(False, False), (False, True)]
        for kept, beyond in [(True, False), *places] if self.seeker.strata else places:
            if task := self._at(slots.first_place(self.connection, self.seeker, kept, beyond)):
                return task
        return None

    def _calibration(self) -> Task | None:
        prompt_id = slots.calibration_prompt(self.connection, self.project_id, self.labeler_id)
        return None if prompt_id is None else self.outside(prompt_id, "calibration")

    def _repeat(self) -> Task | None:
        before = self.now - timedelta(seconds=self.asked.repeat_after)
        first = slots.repeat_of(self.connection, self.project_id, self.labeler_id, before)
        if first is None:
            return None
        return self.outside(first.prompt_id, "repeat", other_order(self.asked.seed, self.labeler_id, first.prompt_id, first.shown))

    def _at(self, place: sa.Row[tuple[object, ...]] | None, at_random: bool = False) -> Task | None:
        if place is None:
            return None
        shown = self._order(place.prompt_id)
        return self._show(slots.lease_place(self.connection, place, self.labeler_id, shown, at_random, self.now, self.asked.lease))

    def _order(self, prompt_id: int) -> list[int]:
        ids = self.connection.execute(sa.select(completion.c.id).where(completion.c.prompt_id == prompt_id)).scalars()
        return [int(i) for i in shown_order(self.asked.seed, str(self.labeler_id), str(prompt_id), [str(i) for i in ids])]

    def _show(self, row: Any) -> Task:
        return tasks.of_slot(self.connection, row, self.asked, self.version)
