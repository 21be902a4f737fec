"""Labelers, the strata they stand for, and decisions about them.

Nobody is ever deleted: whoever leaves is deactivated, and may be given a pseudonym; what they
said stays. In quarantine somebody's judgements count for nothing until a person decides otherwise; it is
a decision with a reason, and reversible.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, get_args

import sqlalchemy as sa

from heedful.errors import AnswerProblem, DataProblem, SettingProblem, nearest
from heedful.records import Labeler, LabelerKind
from heedful.store import projects
from heedful.store.audit import record, row_sha256
from heedful.store.columns import add_row, find_or_add
from heedful.store.names import refuse_bad_name, refuse_bad_reason, refuse_bad_strata
from heedful.store.schema import labeler, labeler_stratum, quarantine, slot, stratum

State = Literal["active", "paused", "deactivated"]
KINDS = get_args(LabelerKind)
STATES = get_args(State)


def add(connection: sa.Connection, new: Iterable[Labeler], actor: str, now: datetime) -> None:
    """Add labelers. Raises DataProblem where a name is taken."""
    for one in new:
        labeler_id = insert(connection, one, now)
        record(connection, "labeler.added", actor, now, labeler=labeler_id, labeler_kind=one.kind)


def insert(connection: sa.Connection, new: Labeler, now: datetime) -> int:
    """Add a labeler under an event that the caller records; returns their id."""
    refuse_bad_name("labeler", new.name)
    if new.kind not in KINDS:
        raise DataProblem(f"labeler {new.name!r} is a {new.kind!r}", f"Choose one of {', '.join(KINDS)}.")
    if _find(connection, new.name):
        raise DataProblem(f"there is a labeler {new.name!r} already", "Choose another name.")
    values = {"name": new.name, "kind": new.kind, "state": "active", "added_at": now}
    labeler_id = add_row(connection, labeler, **values)
    _put_in_strata(connection, labeler_id, new.strata)
    return labeler_id


def ids(connection: sa.Connection, names: Iterable[str]) -> dict[str, int]:
    """The ids of those that are known."""
    rows = connection.execute(sa.select(labeler.c.id, labeler.c.name).where(labeler.c.name.in_(set(names))))
    return {row.name: row.id for row in rows}


def get(connection: sa.Connection, name: str) -> int:
    """A labeler's id. Raises DataProblem for an unknown name."""
    return int(_known(connection, name).id)


def hold(connection: sa.Connection, name: str) -> int:
    """The same, and one thing at a time: whatever else this labeler does waits until this transaction ends."""
    return int(_known(connection, name, lock=True).id)


def hold_id(connection: sa.Connection, labeler_id: int) -> None:
    """The same, of somebody whose id is known."""
    connection.execute(sa.select(labeler.c.id).where(labeler.c.id == labeler_id).with_for_update(key_share=True))


def hold_active(connection: sa.Connection, name: str) -> int:
    """The same; raises AnswerProblem for somebody who is paused or has left."""
    who = _known(connection, name, lock=True)
    if who.state != "active":
        raise AnswerProblem(f"labeler {name!r} is {who.state}", "Ask whoever leads the project.")
    return int(who.id)


def set_state(connection: sa.Connection, name: str, state: State, actor: str, now: datetime) -> None:
    """Pause somebody, let them go on, or deactivate them; the tasks that they hold become free for others.

    What they still send in is kept.
    """
    if state not in STATES:
        raise SettingProblem(f"a labeler cannot be {state!r}.{nearest(state, STATES)}", f"Choose one of {', '.join(STATES)}.")
    who = _known(connection, name, lock=True)
    if who.state == state:
        return
    connection.execute(sa.update(labeler).where(labeler.c.id == who.id).values(state=state))
    if state != "active":
        let_go(connection, int(who.id), now)
    record(connection, f"labeler.{state}", actor, now, labeler=int(who.id))


def let_go(connection: sa.Connection, labeler_id: int, now: datetime, project_id: int | None = None) -> None:
    """Make the tasks that somebody holds, of one project or all, free for others."""
    held = sa.update(slot).where(slot.c.labeler_id == labeler_id, slot.c.state == "leased", slot.c.lease_until > now)
    held = held if project_id is None else held.where(slot.c.project_id == project_id)
    connection.execute(held.values(lease_until=now))


def rename(connection: sa.Connection, name: str, new_name: str, actor: str, now: datetime) -> None:
    """Give somebody another name everywhere, say a pseudonym when they leave; the log has known only their number."""
    refuse_bad_name("labeler", new_name)
    who = _known(connection, name, lock=True)
    if _find(connection, new_name):
        raise DataProblem(f"there is a labeler {new_name!r} already", "Choose another name.")
    connection.execute(sa.update(labeler).where(labeler.c.id == who.id).values(name=new_name))
    record(connection, "labeler.renamed", actor, now, labeler=int(who.id))


def set_kind(connection: sa.Connection, name: str, kind: str, actor: str, now: datetime) -> None:
    """Say anew what judges under a name, say an AI judge for which a person took up the invitation."""
    if kind not in KINDS:
        raise SettingProblem(f"a labeler cannot be {kind!r}.{nearest(kind, KINDS)}", f"Choose one of {', '.join(KINDS)}.")
    who = _known(connection, name, lock=True)
    connection.execute(sa.update(labeler).where(labeler.c.id == who.id).values(kind=kind))
    record(connection, "labeler.kind", actor, now, labeler=int(who.id), labeler_kind=kind)


def set_strata(connection: sa.Connection, name: str, strata: Mapping[str, str], actor: str, now: datetime) -> None:
    """Say anew which strata of the population somebody stands for; nothing, where they take back their consent."""
    who = _known(connection, name, lock=True)
    connection.execute(sa.delete(labeler_stratum).where(labeler_stratum.c.labeler_id == who.id))
    _put_in_strata(connection, int(who.id), strata)
    record(connection, "labeler.strata", actor, now, labeler=int(who.id))


def everybody(connection: sa.Connection) -> list[Labeler]:
    """All labelers with their strata, in the order in which they came."""
    strata: dict[int, dict[str, str]] = {}
    members = sa.select(labeler_stratum.c.labeler_id, stratum.c.dimension, stratum.c.value).join(stratum)
    for row in connection.execute(members):
        strata.setdefault(row.labeler_id, {})[row.dimension] = row.value
    rows = connection.execute(sa.select(labeler.c.id, labeler.c.name, labeler.c.kind).order_by(labeler.c.id))
    return [Labeler(row.name, row.kind, strata.get(row.id, {})) for row in rows]


def strata_of(connection: sa.Connection, labeler_id: int) -> list[int]:
    """The ids of the strata that somebody stands for."""
    found = sa.select(labeler_stratum.c.stratum_id).where(labeler_stratum.c.labeler_id == labeler_id)
    return list(connection.execute(found).scalars())


def strata_named(connection: sa.Connection, labeler_id: int) -> dict[str, str]:
    """The strata that somebody stands for, by dimension."""
    mine = sa.select(stratum.c.dimension, stratum.c.value).join(labeler_stratum, labeler_stratum.c.stratum_id == stratum.c.id)
    rows = connection.execute(mine.where(labeler_stratum.c.labeler_id == labeler_id))
    return {row.dimension: row.value for row in rows}


def stratum_id(connection: sa.Connection, dimension: str, value: str) -> int:
    """The id of a stratum, which is made where there is none."""
    return find_or_add(connection, stratum, dimension=dimension, value=value)


def decide(connection: sa.Connection, project_name: str, name: str, quarantined: bool, decided_by: str, why: str, now: datetime) -> None:
    """Quarantine a labeler's judgements in a project, or let them count again."""
    refuse_bad_reason("a decision on a labeler's judgements", why)
    project_id, _ = projects.find(connection, project_name)
    who = _known(connection, name, lock=True)
    values = {"project_id": project_id, "labeler_id": who.id, "quarantined": quarantined, "decided_by": decided_by, "why": why, "at": now}
    decision = add_row(connection, quarantine, **values)
    kind = "labeler.quarantined" if quarantined else "labeler.reinstated"
    record(connection, kind, decided_by, now, project=project_id, labeler=int(who.id), decision=decision, row_sha256=row_sha256(values))


def quarantined(connection: sa.Connection, project_name: str) -> dict[str, str]:
    """Whose judgements are in quarantine, and why."""
    latest = {row["labeler"]: row for row in decisions(connection, project_name)}
    return {name: row["why"] for name, row in latest.items() if row["quarantined"]}


def decisions(connection: sa.Connection, project_name: str) -> list[dict[str, Any]]:
    """Every decision in a project, oldest first."""
    project_id, _ = projects.find(connection, project_name)
    q = quarantine.c
    rows = connection.execute(
        sa.select(labeler.c.name.label("labeler"), q.quarantined, q.decided_by, q.why, q.at)
        .join(labeler, labeler.c.id == q.labeler_id)
        .where(q.project_id == project_id)
        .order_by(q.id)
    )
    return [dict(row._mapping) for row in rows]


def _put_in_strata(connection: sa.Connection, labeler_id: int, strata: Mapping[str, str]) -> None:
    refuse_bad_strata(strata)
    for dimension, value in strata.items():
        member = {"labeler_id": labeler_id, "stratum_id": stratum_id(connection, dimension, value)}
        connection.execute(sa.insert(labeler_stratum).values(member))


def _known(connection: sa.Connection, name: str, lock: bool = False) -> Any:
    row = _find(connection, name, lock)
    if row is None:
        raise DataProblem(f"there is no labeler {name!r}", "Check the name, or add them first.")
    return row


def _find(connection: sa.Connection, name: str, lock: bool = False) -> Any:
    found = sa.select(labeler.c.id, labeler.c.state).where(labeler.c.name == name)
    return connection.execute(found.with_for_update(key_share=True) if lock else found).first()
