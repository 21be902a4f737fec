"""How far a project has come: every figure counted when it is asked for, none stored."""

from __future__ import annotations

from dataclasses import dataclass, field

import sqlalchemy as sa

from heedful.records import Record
from heedful.store import projects
from heedful.store.schema import concern, labeler, prompt, slot, stratum
from heedful.store.slots import word

_S = slot.c


@dataclass(frozen=True, slots=True)
class ProjectStatus(Record):
    """One project in figures.

    ``complete``: prompts whose overlap is filled. ``judgements`` are by purpose, ``labelers``
    by name. ``places_open`` wait for anybody, ``kept_open`` for a stratum (``"language native"``).
    """

    project: str
    task: str
    paused: bool
    prompts: int
    complete: int
    calibration_prompts: int
    places: int
    places_open: int
    places_leased: int
    kept_open: dict[str, int] = field(default_factory=dict)
    judgements: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    concerns: int = 0
    labelers: dict[str, int] = field(default_factory=dict)


def of_project(connection: sa.Connection, name: str) -> ProjectStatus:
    """Count everything in a project."""
    project_id, asked = projects.find(connection, name)
    by_state = sa.select(_S.state, _S.purpose, sa.func.count().label("n")).where(_S.project_id == project_id)
    slots = {(row.state, row.purpose): row.n for row in connection.execute(by_state.group_by(_S.state, _S.purpose))}
    prompts = dict(_count_prompts(connection, project_id))
    waiting = _count(
        connection,
        sa.select(_S.prompt_id).where(_S.project_id == project_id, _S.state.in_([word("open"), word("leased")]), _S.k.is_not(None)),
    )
    places = {state: slots.get((state, "overlap"), 0) for state in ("open", "leased", "judged")}
    kept = _kept_open(connection, project_id)
    return ProjectStatus(
        project=name,
        task=asked.task,
        paused=asked.paused,
        prompts=sum(prompts.values()),
        complete=prompts.get(False, 0) - waiting,
        calibration_prompts=prompts.get(True, 0),
        places=sum(places.values()),
        places_open=places["open"] - sum(kept.values()),
        places_leased=places["leased"],
        kept_open=kept,
        judgements={purpose: n for (state, purpose), n in sorted(slots.items()) if state == "judged"},
        skipped=sum(n for (state, _), n in slots.items() if state == "skipped"),
        concerns=_concerns(connection, project_id),
        labelers=_judged_by(connection, project_id),
    )


def _count_prompts(connection: sa.Connection, project_id: int) -> list[tuple[bool, int]]:
    found = sa.select(prompt.c.calibration, sa.func.count()).where(prompt.c.project_id == project_id).group_by(prompt.c.calibration)
    return [(bool(calibration), n) for calibration, n in connection.execute(found)]


def _kept_open(connection: sa.Connection, project_id: int) -> dict[str, int]:
    found = (
        sa.select(stratum.c.dimension, stratum.c.value, sa.func.count())
        .join(slot, _S.stratum_id == stratum.c.id)
        .where(_S.project_id == project_id, _S.state == word("open"))
        .group_by(stratum.c.dimension, stratum.c.value)
        .order_by(stratum.c.dimension, stratum.c.value)
    )
    return {f"{dimension} {value}": n for dimension, value, n in connection.execute(found)}


def _concerns(connection: sa.Connection, project_id: int) -> int:
    found = sa.select(sa.func.count()).select_from(concern).join(slot, concern.c.slot_id == _S.id)
    return int(connection.execute(found.where(_S.project_id == project_id, ~concern.c.skipped)).scalar_one())


def _judged_by(connection: sa.Connection, project_id: int) -> dict[str, int]:
    n = sa.func.count().label("n")
    counted = sa.select(_S.labeler_id, n).where(_S.project_id == project_id, _S.state == word("judged")).group_by(_S.labeler_id).subquery()
    found = sa.select(labeler.c.name, counted.c.n).join(counted, counted.c.labeler_id == labeler.c.id).order_by(labeler.c.id)
    return {row.name: row.n for row in connection.execute(found)}


def _count(connection: sa.Connection, found: sa.Select[tuple[int]]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(found.distinct().subquery())).scalar_one())
