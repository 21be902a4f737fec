"""Projects: what is judged, and how people are asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa

from heedful.errors import SettingProblem, nearest
from heedful.store.audit import record
from heedful.store.columns import add_row, find_or_add
from heedful.store.names import refuse_bad_name
from heedful.store.schema import criterion, project

TaskType = Literal["ranking", "thumbs", "correction"]
TiePolicy = Literal["none", "sparing", "free"]
LEAST_RANDOM_SHARE = 0.2
MOST_COMPLETIONS = 9
"""More nobody can compare."""


@dataclass(frozen=True, slots=True)
class Project:
    """One criterion, one type of task, and how labelers are asked. Durations are in seconds.

    ``higher_is``: whether more of the criterion is wanted.
    ``tie_policy``: whether completions may share a rank: not at all (``none``), with a reminder
    to do so sparingly, or freely.
    ``overlap``: how many different labelers judge a prompt; where their consensus stays
    undecided (no pair, or not every thumb, has probability ``decided``), more are asked, up to ``max_overlap``.
    ``max_shown``: how many completions of a prompt a task shows at most. Of a prompt that is uploaded with more,
    so many are drawn, and one that comes in another way is refused; what was there before it was changed stays as it is.
    ``coverage``: places of every prompt that are kept for a stratum of the population, like
    ``{"language": {"native": 1}}``.
    ``random_share``: at least this share of tasks is drawn uniformly at random, so that figures
    computed on them are unbiased. ``calibration_share`` are items that everybody judges,
    ``repeat_share`` prompts that the same labeler judged at least ``repeat_after`` ago, again.
    ``content_warning``: what people are told beforehand about what they might have to read.
    ``lease``: how long a task stays reserved without a sign of life. ``state``: only an active
    project asks; an archived one is out of sight, and everything in it stays.
    """

    name: str
    criterion: str
    question: str
    higher_is: Literal["better", "worse"] = "better"
    task: TaskType = "ranking"
    tie_policy: TiePolicy = "sparing"
    overlap: int = 3
    max_overlap: int = 5
    max_shown: int = MOST_COMPLETIONS
    decided: float = 0.75
    coverage: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    random_share: float = 0.25
    calibration_share: float = 0.1
    repeat_share: float = 0.03
    repeat_after: int = 24 * 3600
    lease: int = 30 * 60
    seed: int = 0
    state: Literal["active", "paused", "archived"] = "active"
    content_warning: str | None = None

    def __post_init__(self) -> None:
        refuse_bad_name("project", self.name)
        refuse_bad_name("criterion", self.criterion)
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                raise _problem(self, name, f"Choose one of {', '.join(allowed)}.")
        for name, (low, high) in _RANGES.items():
            if not low <= getattr(self, name) <= high:
                raise _problem(self, name, f"Choose a number from {low:g} to {high:g}.")
        if self.max_overlap < self.overlap:
            raise _problem(self, "max_overlap", f"It is at least the overlap, {self.overlap}.")
        if self.task == "ranking" and self.max_shown < 2:
            raise _problem(self, "max_shown", f"Choose 2 to {MOST_COMPLETIONS}: one completion cannot be ranked.")
        if self.random_share + self.calibration_share + self.repeat_share > 1:
            raise _problem(self, "random_share", "With calibration_share and repeat_share it adds up to at most 1.")
        self._check_coverage()

    def _check_coverage(self) -> None:
        for dimension, values in self.coverage.items():
            refuse_bad_name("dimension", dimension)
            for value, count in values.items():
                refuse_bad_name("stratum", value)
                if count < 1:
                    raise _problem(self, "coverage", f"Keep at least one place for {dimension} {value!r}, or leave it out.")
        if len(self.kept_places) > self.overlap:
            raise _problem(self, "coverage", f"It keeps {len(self.kept_places)} places of an overlap of {self.overlap}.")

    @property
    def kept_places(self) -> list[tuple[str, str]]:
        """The strata (dimension, value) for which a prompt's first places are kept, one after another."""
        return [
            (dimension, value)
            for dimension, values in sorted(self.coverage.items())
            for value, count in sorted(values.items())
            for _ in range(count)
        ]


_ALLOWED = {
    "higher_is": ("better", "worse"),
    "task": get_args(TaskType),
    "tie_policy": get_args(TiePolicy),
    "state": ("active", "paused", "archived"),
}
_RANGES: dict[str, tuple[float, float]] = {
    "overlap": (1, 100),
    "max_overlap": (1, 100),
    "max_shown": (1, MOST_COMPLETIONS),
    "decided": (0.5, 1),
    "random_share": (LEAST_RANDOM_SHARE, 1),
    "calibration_share": (0, 1 - LEAST_RANDOM_SHARE),
    "repeat_share": (0, 1 - LEAST_RANDOM_SHARE),
    "repeat_after": (0, 10 * 365 * 24 * 3600),
    "lease": (1, 7 * 24 * 3600),
    "seed": (0, 2**62),
}
CHANGEABLE = (
    "tie_policy",
    "max_overlap",
    "max_shown",
    "decided",
    "random_share",
    "calibration_share",
    "repeat_share",
    "repeat_after",
    "lease",
    "state",
    "content_warning",
)
"""What may change while people are at work. The rest decides what judgements mean, or which places prompts have."""


def create(connection: sa.Connection, new: Project, actor: str, now: datetime) -> int:
    """A new project; returns its id. Raises SettingProblem where the name is taken."""
    if _first(connection, project.c.name == new.name):
        raise SettingProblem(f"there is a project {new.name!r} already", "Choose another name.")
    values = {f.name: getattr(new, f.name) for f in dataclasses.fields(new)}
    asked = {name: values.pop(key) for name, key in (("name", "criterion"), ("question", "question"), ("higher_is", "higher_is"))}
    values["criterion_id"] = find_or_add(connection, criterion, **asked)
    project_id = add_row(connection, project, **values)
    record(connection, "project.created", actor, now, project=project_id, settings=dataclasses.asdict(new))
    return project_id


def change(connection: sa.Connection, name: str, actor: str, now: datetime, **changes: Any) -> Project:
    """Change some of CHANGEABLE. Raises SettingProblem for anything else, and for values that do not go together."""
    project_id, before = find(connection, name, lock=True)
    if fixed := sorted(set(changes) - set(CHANGEABLE)):
        raise SettingProblem(
            f"{fixed[0]!r} of a project cannot be changed once people are asked.{nearest(fixed[0], CHANGEABLE)}", "Make a new project."
        )
    if not changes:
        return before
    after = dataclasses.replace(before, **changes)
    connection.execute(sa.update(project).where(project.c.id == project_id).values(changes))
    record(connection, "project.changed", actor, now, project=project_id, changes=changes)
    return after


def find(connection: sa.Connection, name: str, lock: bool = False) -> tuple[int, Project]:
    """A project's id and settings; ``lock``: nobody else changes it before this transaction ends."""
    row = _first(connection, project.c.name == name, lock)
    if row is None:
        known = [str(other) for other in connection.execute(sa.select(project.c.name)).scalars()]
        raise SettingProblem(f"there is no project {name!r}.{nearest(name, known)}", f"There are: {', '.join(sorted(known)) or 'none'}.")
    values = dict(row._mapping)
    return values.pop("id"), Project(**values)


def get(connection: sa.Connection, project_id: int) -> Project:
    """A project's settings by its id."""
    values = dict(_first(connection, project.c.id == project_id)._mapping)
    del values["id"]
    return Project(**values)


def names(connection: sa.Connection) -> list[str]:
    """All projects."""
    return list(connection.execute(sa.select(project.c.name).order_by(project.c.id)).scalars())


def _first(connection: sa.Connection, which: sa.ColumnElement[bool], lock: bool = False) -> Any:
    columns = [project.c[f.name] for f in dataclasses.fields(Project) if f.name in project.c]
    found = sa.select(project.c.id, *columns, criterion.c.name.label("criterion"), criterion.c.question, criterion.c.higher_is)
    found = found.join(criterion, criterion.c.id == project.c.criterion_id).where(which)
    return connection.execute(found.with_for_update(key_share=True, of=project) if lock else found).first()


def _problem(given: Project, name: str, next_step: str) -> SettingProblem:
    return SettingProblem(f"{name} of project {given.name!r} is {getattr(given, name)!r}", next_step)
