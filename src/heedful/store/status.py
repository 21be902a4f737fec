"""How far a project has come: every figure counted when it is asked for, none stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import sqlalchemy as sa

from heedful.records import Record
from heedful.store import projects
from heedful.store.schema import concern, labeler, prompt, slot, stratum
from heedful.store.slots import TAKEABLE, word

T = TypeVar("T")

_S = slot.c
_PLACES = ("open", "leased", "judged")


@dataclass(frozen=True, slots=True)
class ProjectStatus(Record):
    """One project in figures.

    ``complete``: prompts whose overlap is filled. ``withdrawn``: prompts that nobody is asked
    about any more. ``judgements`` are by purpose, ``labelers`` by name. ``places_open`` wait for
    anybody, ``kept_open`` for a stratum (``"language native"``). ``retired``: judgements that no longer count.
    """

    project: str
    task: str
    state: str
    prompts: int
    complete: int
    calibration_prompts: int
    withdrawn: int
    places: int
    places_open: int
    places_leased: int
    kept_open: dict[str, int] = field(default_factory=dict)
    judgements: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    concerns: int = 0
    labelers: dict[str, int] = field(default_factory=dict)
    retired: int = 0


def of_project(connection: sa.Connection, name: str) -> ProjectStatus:
    """Count everything in a project."""
    project_id, asked = projects.find(connection, name)
    slots = _slots(connection, project_id)
    prompts, calibration = _count(connection, project_id), _count(connection, project_id, prompt.c.calibration)
    kept = _kept_open(connection, project_id)
    judged = Counter({(labeler_id, purpose): n for (labeler_id, state, purpose), n in slots.items() if state == "judged"})
    places = {s: sum(n for (_, state, purpose), n in slots.items() if (state, purpose) == (s, "overlap")) for s in _PLACES}
    return ProjectStatus(
        project=name,
        task=asked.task,
        state=asked.state,
        prompts=prompts,
        complete=prompts - calibration - _waiting(connection, project_id),
        calibration_prompts=calibration,
        withdrawn=_count(connection, project_id, prompt.c.withdrawn),
        places=sum(places.values()),
        places_open=places["open"] - sum(kept.values()),
        places_leased=places["leased"],
        kept_open=kept,
        judgements=_added_up((purpose, n) for (_, purpose), n in judged.items()),
        skipped=sum(n for (_, state, _), n in slots.items() if state == "skipped"),
        concerns=_concerns(connection, project_id),
        labelers=_named(connection, _added_up((labeler_id, n) for (labeler_id, _), n in judged.items())),
        retired=sum(n for (_, state, _), n in slots.items() if state == "retired"),
    )


def _slots(connection: sa.Connection, project_id: int) -> dict[tuple[int | None, str, str], int]:
    """How many slots there are by labeler, state and purpose: one walk through the index ix_slot_labeler."""
    columns = (_S.labeler_id, _S.state, _S.purpose)
    found = sa.select(*columns, sa.func.count().label("n")).where(_S.project_id == project_id).group_by(*columns)
    return {(row.labeler_id, row.state, row.purpose): row.n for row in connection.execute(found)}


def _count(connection: sa.Connection, project_id: int, *which: sa.ColumnElement[bool]) -> int:
    """How many prompts there are, or how many of a kind."""
    found = sa.select(sa.func.count()).select_from(prompt).where(prompt.c.project_id == project_id, *which)
    return int(connection.execute(found).scalar_one())


def _waiting(connection: sa.Connection, project_id: int) -> int:
    """Prompts with a place that is not filled.

    In two halves, because SQLite, which does not know that few slots of a large project wait,
    goes through all of them unless it sees that the index ix_slot_places fits.
    """
    found = sa.select(_S.prompt_id).where(_S.project_id == project_id, TAKEABLE, _S.k.is_not(None))
    waiting = sa.union(found.where(_S.stratum_id.is_(None)), found.where(_S.stratum_id.is_not(None))).subquery()
    return int(connection.execute(sa.select(sa.func.count()).select_from(waiting)).scalar_one())


def _kept_open(connection: sa.Connection, project_id: int) -> dict[str, int]:
    kept = (_S.project_id == project_id, TAKEABLE, _S.state == word("open"), _S.stratum_id.is_not(None))
    counted = sa.select(_S.stratum_id, sa.func.count().label("n")).where(*kept).group_by(_S.stratum_id)
    n = {row.stratum_id: row.n for row in connection.execute(counted)}
    rows = connection.execute(sa.select(stratum).where(stratum.c.id.in_(n)).order_by(stratum.c.dimension, stratum.c.value))
    return {f"{row.dimension} {row.value}": n[row.id] for row in rows}


def _concerns(connection: sa.Connection, project_id: int) -> int:
    of_project = sa.select(_S.project_id).where(_S.id == concern.c.slot_id).scalar_subquery()
    return int(connection.execute(sa.select(sa.func.count()).where(~concern.c.skipped, of_project == project_id)).scalar_one())


def _named(connection: sa.Connection, by_labeler: dict[int | None, int]) -> dict[str, int]:
    rows = connection.execute(sa.select(labeler.c.id, labeler.c.name).where(labeler.c.id.in_(by_labeler)).order_by(labeler.c.id))
    return {row.name: by_labeler[row.id] for row in rows}


def _added_up(counts: Iterable[tuple[T, int]]) -> dict[T, int]:
    found: Counter[T] = Counter()
    for name, n in counts:
        found[name] += n
    return dict(found)
