"""What was worked out from judgements: who is to be believed, and how sure one is of a pair.

A derived run says which algorithm made it, in which version, with which parameters, from which
judgements. It can be thrown away and made again; nothing else in the store depends on it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from heedful.errors import DataProblem
from heedful.store import labelers, projects
from heedful.store.audit import record
from heedful.store.columns import add_row, lots
from heedful.store.reading import Snapshot
from heedful.store.schema import completion_origin, derived_labeler, derived_pair, derived_run, judgement_revision, labeler, prompt, slot
from heedful.store.slots import waits, word

_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class DerivedPair:
    """``chosen_id`` is preferred to ``rejected_id`` with probability ``p``; ``details`` are the algorithm's own."""

    prompt_id: str
    chosen_id: str
    rejected_id: str
    p: float
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DerivedLabeler:
    """The verdict on a labeler, in a word; ``details`` are the evidence."""

    labeler: str
    verdict: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DerivedRun:
    """One calculation over the judgements of a snapshot."""

    id: int
    algorithm: str
    version: str
    parameters: Mapping[str, Any]
    as_of: int
    input_sha256: str
    made_at: datetime
    summary: Mapping[str, Any] | None = None


def save(
    connection: sa.Connection,
    project_name: str,
    made_from: Snapshot,
    algorithm: str,
    version: str,
    parameters: Mapping[str, Any],
    pairs: Iterable[DerivedPair],
    reports: Iterable[DerivedLabeler],
    now: datetime,
    summary: Mapping[str, Any] | None = None,
) -> int:
    """Store a run with its pairs, what it says of labelers, and of the project (``summary``); returns its id.

    Raises DataProblem for prompts, completions or labelers that the store does not have.
    """
    project_id, _ = projects.find(connection, project_name)
    values = {"project_id": project_id, "algorithm": algorithm, "version": version, "parameters": dict(parameters)}
    values |= {"as_of": made_from.event, "input_sha256": made_from.sha256, "made_at": now}
    values |= {"summary": None if summary is None else dict(summary)}
    run_id = add_row(connection, derived_run, **values)
    for some in lots(pairs, _AT_ONCE):
        _save_pairs(connection, project_id, run_id, some)
    _save_reports(connection, run_id, list(reports))
    details = {"run": run_id, "algorithm": algorithm, "version": version, "input_sha256": made_from.sha256}
    record(connection, "derived.saved", "heedful", now, project=project_id, **details)
    return run_id


def latest(connection: sa.Connection, project_name: str, algorithm: str | None = None, *, summarised: bool = False) -> DerivedRun | None:
    """The newest run of a project, of one algorithm or any, with a summary or not; ``None`` where there is none."""
    project_id, _ = projects.find(connection, project_name)
    r = derived_run.c
    found = sa.select(r.id, r.algorithm, r.version, r.parameters, r.as_of, r.input_sha256, r.made_at, r.summary).where(
        r.project_id == project_id
    )
    found = found if algorithm is None else found.where(r.algorithm == algorithm)
    found = found.where(r.summary.is_not(None)) if summarised else found
    row = connection.execute(found.order_by(r.id.desc()).limit(1)).first()
    return DerivedRun(**row._mapping) if row else None


def pairs_page(connection: sa.Connection, run_id: int, after: int, limit: int) -> list[tuple[int, list[DerivedPair]]]:
    """The pairs of the next prompts after a prompt's own number in the store."""
    d, chosen, rejected = derived_pair.c, sa.alias(completion_origin), sa.alias(completion_origin)
    prompts = sa.select(d.prompt_id).where(d.run_id == run_id, d.prompt_id > after).distinct().order_by(d.prompt_id).limit(limit)
    rows = connection.execute(
        sa.select(
            d.prompt_id,
            prompt.c.external_id,
            chosen.c.external_id.label("chosen"),
            rejected.c.external_id.label("rejected"),
            d.p,
            d.details,
        )
        .join(prompt, prompt.c.id == d.prompt_id)
        .join(chosen, chosen.c.completion_id == d.chosen_id)
        .join(rejected, rejected.c.completion_id == d.rejected_id)
        .where(d.run_id == run_id, d.prompt_id.in_(prompts))
        .order_by(d.prompt_id, d.chosen_id, d.rejected_id)
    )
    found: dict[int, list[DerivedPair]] = {}
    for row in rows:
        found.setdefault(row.prompt_id, []).append(DerivedPair(row.external_id, row.chosen, row.rejected, row.p, row.details))
    return list(found.items())


def reports(connection: sa.Connection, run_id: int) -> list[DerivedLabeler]:
    """What a run says of labelers."""
    d = derived_labeler.c
    rows = connection.execute(
        sa.select(labeler.c.name, d.finding, d.details)
        .join(labeler, labeler.c.id == d.labeler_id)
        .where(d.run_id == run_id)
        .order_by(d.labeler_id)
    )
    return [DerivedLabeler(row.name, row.finding, row.details) for row in rows]


def discard(connection: sa.Connection, run_id: int, actor: str, now: datetime) -> None:
    """Throw a run away."""
    for table in (derived_pair, derived_labeler):
        connection.execute(sa.delete(table).where(table.c.run_id == run_id))
    connection.execute(sa.delete(derived_run).where(derived_run.c.id == run_id))
    record(connection, "derived.discarded", actor, now, run=run_id)


def undecided(connection: sa.Connection, project_name: str) -> list[int]:
    """Prompts of which the newest run is sure of no pair, and which may be shown to one more labeler.

    Not those with a place still to be filled, nor those on which somebody has ruled, nor those about
    which somebody said something that the run does not know. The most undecided come first.
    """
    _, asked = projects.find(connection, project_name)
    run = latest(connection, project_name)
    if run is None:
        return []
    d, best = derived_pair.c, sa.func.max(derived_pair.c.p)
    found = sa.select(d.prompt_id).join(prompt, prompt.c.id == d.prompt_id).where(d.run_id == run.id, *_open(connection, project_name, run))
    return list(connection.execute(found.group_by(d.prompt_id).having(best < asked.decided).order_by(best, d.prompt_id)).scalars())


def open_to_more(connection: sa.Connection, project_name: str, prompt_ids: Iterable[str]) -> list[int]:
    """Of some prompts that a run leaves undecided, those that may be shown to one more labeler; see :func:`undecided`."""
    run = latest(connection, project_name)
    if run is None:
        return []
    which = sa.select(prompt.c.id).where(*_open(connection, project_name, run))
    return [
        number
        for some in lots(prompt_ids, _AT_ONCE)
        for number in connection.execute(which.where(prompt.c.external_id.in_(some))).scalars()
    ]


def _open(connection: sa.Connection, project_name: str, run: DerivedRun) -> list[sa.ColumnElement[bool]]:
    """Of a ``prompt``: whether one more labeler may be asked about it, as far as a run of its project knows."""
    project_id, asked = projects.find(connection, project_name)
    s, r, p = slot.c, judgement_revision.c, prompt.c
    news = sa.exists().where(s.prompt_id == p.id, r.slot_id == s.id, r.event > run.as_of)
    room = (p.project_id == project_id, p.overlap < asked.max_overlap, ~p.withdrawn)
    return [*room, ~waits(p.id), ~news, ~ruled(connection, project_name)]


def ruled(connection: sa.Connection, project_name: str) -> sa.ColumnElement[bool]:
    """Of a ``prompt``: whether somebody has ruled on it whose judgements are not in quarantine."""
    quarantined = labelers.ids(connection, labelers.quarantined(connection, project_name)).values()
    s = slot.c
    by_now = sa.exists().where(s.prompt_id == prompt.c.id, s.purpose == word("ruling"), s.state == word("judged"))
    return by_now.where(s.labeler_id.not_in(list(quarantined)))


def _save_pairs(connection: sa.Connection, project_id: int, run_id: int, pairs: list[DerivedPair]) -> None:
    wanted = {p.prompt_id for p in pairs}
    prompts = {
        row.external_id: row.id
        for row in connection.execute(
            sa.select(prompt.c.id, prompt.c.external_id).where(prompt.c.project_id == project_id, prompt.c.external_id.in_(wanted))
        )
    }
    completions = {
        row.external_id: row.completion_id
        for row in connection.execute(
            sa.select(completion_origin.c.completion_id, completion_origin.c.external_id).where(
                completion_origin.c.project_id == project_id,
                completion_origin.c.external_id.in_({c for p in pairs for c in (p.chosen_id, p.rejected_id)}),
            )
        )
    }
    try:
        rows = [
            {"run_id": run_id, "prompt_id": prompts[p.prompt_id], "chosen_id": completions[p.chosen_id]}
            | {"rejected_id": completions[p.rejected_id], "p": p.p, "details": dict(p.details)}
            for p in pairs
        ]
    except KeyError as unknown:
        raise DataProblem(
            f"a pair names {unknown.args[0]!r}, which the project does not have", "Derive from this store's own judgements."
        ) from None
    connection.execute(sa.insert(derived_pair), rows)


def _save_reports(connection: sa.Connection, run_id: int, found: list[DerivedLabeler]) -> None:
    rows = [
        {"run_id": run_id, "labeler_id": labelers.get(connection, one.labeler), "finding": one.verdict, "details": dict(one.details)}
        for one in found
    ]
    if rows:
        connection.execute(sa.insert(derived_labeler), rows)
