"""Slots: who holds which place at which prompt, for how long.

A slot is one labeler's place at one prompt. Its life:

    open ──> leased ──> judged          a place of the overlap waits, is taken, is filled
               ├──> skipped             the labeler would rather not; the place opens again
               └──> lapsed              the lease ran out *and* somebody else took the place;
                                        what still comes in is kept as an extra judgement

    judged ──> retired                  made under older instructions; kept, and no longer counted (``retiring``)

A slot once given to a labeler is never given to another: when a place changes hands, the old slot
stays with its labeler, without the place, and a new one takes the place ``k``. So nothing is
overwritten, and the overlap is exact because the database holds ``UNIQUE (prompt_id, k)`` and one
voice per prompt and labeler.

A labeler does one thing at a time (``labelers.hold``), so nobody races against themselves.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import sqlalchemy as sa

from heedful.errors import NoSuchTask
from heedful.store.audit import record, row_sha256
from heedful.store.columns import lots
from heedful.store.prompts import open_place
from heedful.store.schema import concern, judgement_revision, labeler, project, prompt, slot

DRAWS = 32
"""How many prompts are drawn before one goes through all that are free."""

_AT_ONCE = 5_000

_S = slot.c
_MET = sa.alias(slot, "met")
_ITS = sa.alias(prompt, "its")
_WITHDRAWN = sa.select(_ITS.c.withdrawn).where(_ITS.c.id == _S.prompt_id).scalar_subquery()
_FOR_ANYBODY = _S.stratum_id.is_(None)
_IN_ORDER = (_S.stratum_id, _S.prompt_id, _S.k)
"""Of the places of a project that are for anybody, or for one stratum, the order of their prompts: as in the index ix_slot_places. Only
where the stratum is named, too, does PostgreSQL see that it may walk through that index and stop at the first place."""
TAKEABLE = sa.text("slot.state IN ('open', 'leased')")  # literally the condition of the index ix_slot_places
JUDGED = sa.text("slot.state IN ('judged', 'retired')")  # whether it still counts or not; that of the index ix_slot_judged


def word(value: str) -> sa.ColumnElement[str]:
    """A word written out in the statement. As a parameter it would hide from the planner that a partial index fits."""
    return sa.literal_column(f"'{value}'")


def held(connection: sa.Connection, project_id: int, labeler_id: int) -> Any:
    """The slot that a labeler holds a lease on, run out or not, unless somebody else has taken the place since."""
    mine = (_S.project_id == project_id, _S.labeler_id == labeler_id, _S.state == word("leased"))
    return connection.execute(sa.select(slot).where(*mine)).first()


def times_asked(connection: sa.Connection, project_id: int, labeler_id: int) -> int:
    """How many slots of a project a labeler was ever given."""
    mine = sa.select(sa.func.count()).where(_S.labeler_id == labeler_id, _S.project_id == project_id)
    return int(connection.execute(mine).scalar_one())


@dataclass(frozen=True, slots=True)
class Seeker:
    """Who looks for a place: a labeler in a project, with the strata of the population that they stand for."""

    project_id: int
    overlap: int
    labeler_id: int
    strata: Sequence[int]
    now: datetime


def first_place(connection: sa.Connection, who: Seeker, kept: bool, beyond: bool) -> Any:
    """A place that a labeler may take, of the first prompt that has one; ``None`` where there is none.

    ``kept``: one that is kept for a stratum of theirs, or else one that is for anybody.
    ``beyond``: one beyond the project's overlap, added where people did not agree, or else one within.
    """
    free = _free(who).where(_S.k > who.overlap if beyond else _S.k <= who.overlap).order_by(*_IN_ORDER)
    if not kept:
        return _taken_hold_of(connection, free.where(_FOR_ANYBODY))
    # One stratum after the other, as an index can be walked in the order of prompts for each, but not for all at once.
    firsts = [connection.execute(free.where(_S.stratum_id == stratum).limit(1)).first() for stratum in who.strata]
    first = min((row for row in firsts if row), key=lambda row: (row.prompt_id, row.k), default=None)
    return first and _taken_hold_of(connection, free.where(_S.stratum_id == first.stratum_id))


def random_place(connection: sa.Connection, who: Seeker, chance: Random) -> Any:
    """A place within the overlap, of a prompt drawn uniformly from those that have one this labeler may take."""
    within = _free(who).where(_S.k <= who.overlap)
    mine = within.where(sa.or_(_FOR_ANYBODY, _kept_for(who)))
    # One after the other, as an index can be walked for either, but not for both at once.
    halves = [within.where(_FOR_ANYBODY), *([within.where(_kept_for(who))] if who.strata else [])]
    for prompt_id in _drawn(connection, who.project_id, mine, chance) or _shuffled(connection, halves, chance):
        if place := _taken_hold_of(connection, mine.where(_S.prompt_id == prompt_id).order_by(_S.k)):
            return place
    return None


def calibration_prompt(connection: sa.Connection, project_id: int, labeler_id: int) -> int | None:
    """The first item for everybody that a labeler has not been given; ``None`` when they have had all."""
    p = prompt.c
    found = sa.select(p.id).where(p.project_id == project_id, p.calibration, ~p.withdrawn, _not_met(p.id, labeler_id))
    return connection.execute(found.order_by(p.number).limit(1)).scalar()


def repeat_of(connection: sa.Connection, project_id: int, labeler_id: int, before: datetime) -> Any:
    """A labeler's first slot, judged ``before``, that they were not asked about again; ``None`` where there is none."""
    first = judgement_revision.c
    judged_at = sa.select(first.judged_at).where(first.slot_id == _S.id, first.number == 1).scalar_subquery()
    not_asked = _no_slot(
        _MET.c.prompt_id == _S.prompt_id, _MET.c.labeler_id == labeler_id, sa.text("met.purpose = 'repeat' AND met.state <> 'retired'")
    )
    mine = (_S.project_id == project_id, _S.labeler_id == labeler_id, _S.state == word("judged"))
    found = sa.select(slot).where(*mine, judged_at <= before, not_asked, ~_WITHDRAWN).order_by(_S.id).limit(1)
    # One purpose after the other: the index ix_slot_labeler then gives them in the order of their ids.
    rows = [connection.execute(found.where(_S.purpose == word(purpose))).first() for purpose in ("overlap", "calibration")]
    return min((row for row in rows if row), key=lambda row: row.id, default=None)


def has_voice(connection: sa.Connection, prompt_id: int, labeler_id: int) -> bool:
    """Whether a labeler was asked about a prompt, and may still answer, or has."""
    return bool(connection.execute(sa.select(met(prompt.c.id, labeler_id)).where(prompt.c.id == prompt_id)).scalar())


def met(prompt_id: sa.ColumnElement[int], labeler_id: int) -> sa.ColumnElement[bool]:
    """The same of each prompt of a query."""
    return ~_not_met(prompt_id, labeler_id)


def lease_place(
    connection: sa.Connection, place: Any, labeler_id: int, shown: list[int], at_random: bool, now: datetime, seconds: int
) -> Any:
    """Take a place for a labeler; whose lease on it ran out keeps their slot without the place. Returns the labeler's slot."""
    lease = _lease(labeler_id, shown, now, seconds) | {"at_random": at_random}
    if place.state == "open":
        return connection.execute(sa.update(slot).where(_S.id == place.id).values(lease).returning(*slot.columns)).one()
    _give_up(connection, place, "lapsed")
    return _insert(connection, open_place(place.project_id, place.prompt_id, place.k, place.stratum_id) | lease)


def lease_outside(
    connection: sa.Connection, project_id: int, prompt_id: int, purpose: str, labeler_id: int, shown: list[int], now: datetime, seconds: int
) -> Any:
    """Give a labeler a slot outside the overlap (``calibration``, ``repeat`` or ``ruling``). Returns that slot."""
    row = {"project_id": project_id, "prompt_id": prompt_id, "purpose": purpose, "at_random": False}
    return _insert(connection, row | _lease(labeler_id, shown, now, seconds))


def judged_outside(connection: sa.Connection, like: Any, purpose: str) -> Any:
    """A slot outside the overlap that is judged without having been leased, since its labeler may hold another task by now.

    It shows what another slot of theirs (``like``) showed, under a token of its own.
    """
    same = {name: getattr(like, name) for name in ("project_id", "prompt_id", "labeler_id", "shown", "asked_at")}
    return _insert(connection, same | {"purpose": purpose, "state": "judged", "at_random": False, "token": secrets.token_urlsafe(24)})


def mine(connection: sa.Connection, token: str, labeler_id: int, lock: bool = False, project_id: int | None = None) -> Any:
    """A labeler's slot by its token, of one project or any.

    Raises NoSuchTask where it is not theirs or not there, without a word on whether it exists.
    """
    found = sa.select(slot).where(_S.token == token, _S.labeler_id == labeler_id)
    found = found if project_id is None else found.where(_S.project_id == project_id)
    if row := connection.execute(found.with_for_update(key_share=True) if lock else found).first():
        return row
    raise NoSuchTask("there is no such task of yours", "Ask for your next task; keep what you wrote until then.")


def renew(connection: sa.Connection, token: str, labeler_id: int, now: datetime) -> datetime | None:
    """A sign of life: the lease begins anew. Returns until when it lasts; ``None`` where it is over.

    A lease that ran out is taken up again, unless somebody else has the place by now. It never
    gets shorter, even where the clock went back.
    """
    row = mine(connection, token, labeler_id, lock=True)
    if row.state != "leased":
        return None
    seconds = connection.execute(sa.select(project.c.lease).where(project.c.id == row.project_id)).scalar_one()
    until = max(row.lease_until, now + timedelta(seconds=seconds))
    connection.execute(sa.update(slot).where(_S.id == row.id).values(lease_until=until))
    return until


def skip(connection: sa.Connection, token: str, labeler_id: int, reason: str, now: datetime) -> None:
    """A labeler would rather not: the place opens for somebody else. Once a task is no longer held, this changes nothing."""
    row = mine(connection, token, labeler_id, lock=True)
    if row.state != "leased":
        return
    _give_up(connection, row, "skipped")
    if row.k is not None:
        connection.execute(sa.insert(slot).values(open_place(row.project_id, row.prompt_id, row.k, row.stratum_id)))
    raise_concern(connection, row, reason, now, skipped=True)


def raise_concern(connection: sa.Connection, about: Any, reason: str, now: datetime, skipped: bool = False) -> None:
    """Keep what a labeler has to say about a task of theirs, given by its slot."""
    values = {"slot_id": about.id, "skipped": skipped, "reason": reason, "at": now}
    connection.execute(sa.insert(concern).values(values))
    kind = "task.skipped" if skipped else "concern.raised"
    details = {"slot": about.id, "row_sha256": row_sha256(values)}
    record(connection, kind, f"labeler {about.labeler_id}", now, project=about.project_id, **details)


def concerns(connection: sa.Connection, project_id: int, limit: int = 200) -> list[dict[str, Any]]:
    """What labelers had to say about tasks, and why they skipped some, newest first: with the prompt's id and content, and who said it."""
    c = concern.c
    found = (
        sa.select(
            c.id, c.at, c.skipped, c.reason, prompt.c.external_id, prompt.c.content, prompt.c.withdrawn, labeler.c.name.label("labeler")
        )
        .join(slot, slot.c.id == c.slot_id)
        .join(prompt, prompt.c.id == slot.c.prompt_id)
        .join(labeler, labeler.c.id == slot.c.labeler_id)
        .where(slot.c.project_id == project_id)
    )
    return [dict(row._mapping) for row in connection.execute(found.order_by(c.id.desc()).limit(limit))]


def add_places(connection: sa.Connection, project_id: int, prompt_ids: Iterable[int], actor: str, now: datetime) -> list[int]:
    """One more place in the overlap of some prompts, for anybody; returns the prompts that got one.

    None gets more than the project's ``max_overlap``, or a second one while a place still waits to be filled. A prompt
    that somebody else is changing right now is left for the next time.
    """
    return [number for some in lots(sorted(prompt_ids), _AT_ONCE) for number in _add_places(connection, project_id, some, actor, now)]


def _add_places(connection: sa.Connection, project_id: int, prompt_ids: list[int], actor: str, now: datetime) -> list[int]:
    p = prompt.c
    wanted = sa.select(p.id).where(p.project_id == project_id, p.id.in_(prompt_ids)).order_by(p.id)
    held = connection.execute(wanted.with_for_update(key_share=True, skip_locked=True)).scalars().all()
    # Looked at again now that nobody else can change them: a moment ago somebody may have opened a place.
    most = sa.select(project.c.max_overlap).where(project.c.id == project_id).scalar_subquery()
    room = sa.select(p.id, p.overlap).where(p.id.in_(held), p.overlap < most, ~waits(p.id)).order_by(p.id)
    rows = connection.execute(room).all()
    raised = [row.id for row in rows]
    if raised:
        connection.execute(sa.update(prompt).where(prompt.c.id.in_(raised)).values(overlap=prompt.c.overlap + 1))
        connection.execute(sa.insert(slot), [open_place(project_id, row.id, row.overlap + 1, None) for row in rows])
        record(connection, "overlap.raised", actor, now, project=project_id, prompts=raised)
    return raised


def waits(prompt_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether somebody is still to judge a prompt: a place is open, or a task about it is held."""
    return sa.exists().where(_S.prompt_id == prompt_id, _S.state.in_([word("open"), word("leased")]))


def _give_up(connection: sa.Connection, row: Any, state: str) -> None:
    connection.execute(sa.update(slot).where(_S.id == row.id).values(state=state, k=None, lease_until=None))


def _insert(connection: sa.Connection, row: dict[str, Any]) -> Any:
    """The slot as it stands once ``row`` is stored."""
    return connection.execute(sa.insert(slot).values(row).returning(*slot.columns)).one()


def _lease(labeler_id: int, shown: list[int], now: datetime, seconds: int) -> dict[str, Any]:
    until = now + timedelta(seconds=seconds)
    lease = {"state": "leased", "labeler_id": labeler_id, "shown": shown, "asked_at": now, "lease_until": until}
    return lease | {"token": secrets.token_urlsafe(24)}


def _free(who: Seeker) -> sa.Select[Any]:
    """Places that are open, or whose lease ran out, at prompts that this labeler has not met and that are not withdrawn."""
    free = sa.or_(_S.state == word("open"), _S.lease_until <= who.now)
    found = sa.select(slot).where(_S.project_id == who.project_id, TAKEABLE, _S.k.is_not(None), free)
    return found.where(_not_met(_S.prompt_id, who.labeler_id), ~_WITHDRAWN)


def _kept_for(who: Seeker) -> sa.ColumnElement[bool]:
    return _S.stratum_id.in_(who.strata)


def _taken_hold_of(connection: sa.Connection, places: sa.Select[Any]) -> Any:
    """The first of these places that nobody else is taking at this moment."""
    return connection.execute(places.limit(1).with_for_update(key_share=True, of=slot, skip_locked=True)).first()


def _not_met(prompt_id: sa.ColumnElement[int], labeler_id: int) -> sa.ColumnElement[bool]:
    """The labeler has no voice at the prompt yet; literally the condition of the index uq_slot_voice."""
    own = (_MET.c.prompt_id == prompt_id, _MET.c.labeler_id == labeler_id)
    return _no_slot(*own, sa.text("met.purpose <> 'repeat' AND met.state <> 'lapsed' AND met.state <> 'retired'"))


def _no_slot(*conditions: sa.ColumnElement[bool] | sa.TextClause) -> sa.ColumnElement[bool]:
    """No slot, by the name of ``met``, fulfils the conditions.

    They are counted, for one row of the query after the other and by index. NOT EXISTS is something that PostgreSQL may turn
    into a join with all that a labeler has judged, for which it goes through the whole table.
    """
    return sa.select(sa.func.count()).select_from(_MET).where(*conditions).scalar_subquery() < 1


def _drawn(connection: sa.Connection, project_id: int, free: sa.Select[Any], chance: Random) -> list[int]:
    """Some free prompts in a uniformly random order; none where few are free.

    Prompts are numbered without gaps, so drawing numbers until one is free draws uniformly from
    the free ones, without counting them.
    """
    highest = connection.execute(sa.select(sa.func.max(prompt.c.number)).where(prompt.c.project_id == project_id)).scalar()
    numbers = [chance.randint(0, highest) for _ in range(DRAWS)] if highest is not None else []
    drawn = sa.select(prompt.c.id, prompt.c.number).where(prompt.c.project_id == project_id, prompt.c.number.in_(numbers))
    drawn = drawn.where(free.where(_S.prompt_id == prompt.c.id).correlate(prompt).exists())
    found = {row.number: row.id for row in connection.execute(drawn)}
    return [found[number] for number in dict.fromkeys(numbers) if number in found]


def _shuffled(connection: sa.Connection, free: Sequence[sa.Select[Any]], chance: Random) -> list[int]:
    """All free prompts in a uniformly random order: not many, if drawing found none."""
    found = {i for part in free for i in connection.execute(part.with_only_columns(_S.prompt_id).distinct()).scalars()}
    every = sorted(found)
    chance.shuffle(every)
    return every
