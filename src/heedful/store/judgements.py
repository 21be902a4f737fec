"""Judgements: how an answer is taken, revised, and never lost or counted twice.

The sender makes a key for every answer (a random one, say) and sends it again, with the same
key, until it hears that the answer is stored. The same key is the same answer: the second time
it only hears once more what was stored the first time. Another key on a task that has been
judged is a revision; all revisions are kept, the latest counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from heedful.errors import AnswerProblem
from heedful.store import answers, instructions, labelers, projects, slots
from heedful.store.answers import Answer
from heedful.store.audit import Digest, judgement_sha256, record
from heedful.store.names import refuse_bad_name
from heedful.store.projects import Project
from heedful.store.schema import judgement_revision, prompt, slot

IMPORTED = "import "
"""How the keys begin that imports make; no sender of an answer may take such a one."""
_R = judgement_revision.c


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was stored. ``purpose`` is ``extra`` for an answer that came after somebody else had filled the place.

    ``revision``: 1, or more where an answer was changed. ``event``: the number under which the
    log knows it. ``warnings`` are for the labeler to think about.
    """

    token: str
    revision: int
    event: int
    purpose: str
    judged_at: datetime
    warnings: list[str]


def submit(
    connection: sa.Connection, token: str, labeler_name: str, key: str, answer: Answer, instructions_version: str, now: datetime
) -> Receipt:
    """Store an answer to a task and return the receipt; the same key again returns it again.

    Raises:
        InstructionsChanged: ``instructions_version`` is not the current one, or not acknowledged.
        AnswerProblem: the task is not this labeler's, the answer does not fit it, or the key was used for another answer.
    """
    refuse_bad_name("key", key)
    if key.startswith(IMPORTED):
        raise AnswerProblem(
            f"the key {key[:40]!r} begins with {IMPORTED!r}, as keys of imported judgements do", "Send it under a random one."
        )
    labeler_id = labelers.hold(connection, labeler_name)
    sent_to = slots.mine(connection, token, labeler_id, lock=True)
    asked = projects.get(connection, sent_to.project_id)
    if stored := _stored(connection, key):
        return _same_again(connection, stored, sent_to, answer, asked)
    answers.refuse_bad_answer(answer, len(sent_to.shown), asked)
    version = instructions.acknowledged(connection, sent_to.project_id, labeler_id)
    if version[1] != instructions_version:
        raise instructions.changed(version[1])
    judged = _fill(connection, _voice(connection, sent_to))
    row = {"slot_id": judged.id, "key": key, "answer": answers.to_row(answer, sent_to.shown), "judged_at": now}
    row |= {"active_ms": _active_ms(answer, sent_to, now), "instructions_id": version[0]}
    row = _revise(connection, judged, row, version[1], f"labeler {labeler_id}", now)
    return Receipt(judged.token, row["number"], row["event"], judged.purpose, now, answers.warnings(answer, asked))


def _stored(connection: sa.Connection, key: str) -> Any:
    found = sa.select(judgement_revision, slot.c.labeler_id, slot.c.prompt_id, slot.c.purpose, slot.c.token, slot.c.shown)
    return connection.execute(found.join(slot, slot.c.id == _R.slot_id).where(_R.key == key)).first()


def _same_again(connection: sa.Connection, stored: Any, sent_to: Any, answer: Answer, asked: Project) -> Receipt:
    """The receipt of an answer that is stored already. Another answer under its key is refused: dropping it would lose it."""
    same_place = (stored.labeler_id, stored.prompt_id) == (sent_to.labeler_id, sent_to.prompt_id)
    answers.refuse_bad_answer(answer, len(sent_to.shown), asked)
    if not same_place or stored.answer != answers.to_row(answer, sent_to.shown):
        raise AnswerProblem("this key was used for another answer", "Send the answer under a key of its own.")
    return Receipt(stored.token, stored.number, stored.event, stored.purpose, stored.judged_at, answers.warnings(answer, asked))


def _voice(connection: sa.Connection, sent_to: Any) -> Any:
    """The slot that holds the labeler's voice at the prompt.

    It is the one that was answered, unless that one lapsed, or what it held was retired, and the labeler was asked
    the same again since: they have one voice, and the answer goes where it is. What was retired stays as it is, so
    that an answer which comes after that has a slot of its own.
    """
    if sent_to.state not in ("lapsed", "retired"):
        return sent_to
    same = (slot.c.prompt_id == sent_to.prompt_id, slot.c.labeler_id == sent_to.labeler_id)
    other = connection.execute(
        sa.select(slot).where(*same, slot.c.purpose != "repeat", slot.c.state.not_in(["lapsed", "retired"])).with_for_update(key_share=True)
    ).first()
    if other or sent_to.state == "lapsed":
        return other or sent_to
    return slots.judged_outside(connection, sent_to, "extra" if sent_to.purpose in ("overlap", "repeat") else sent_to.purpose)


def _fill(connection: sa.Connection, row: Any) -> Any:
    """The slot as judged; one that has lost its place, or gave it up, is an extra."""
    if row.state == "judged":
        return row
    late = row.state in ("lapsed", "skipped") and row.purpose == "overlap"
    values = {"state": "judged", "lease_until": None, "purpose": "extra" if late else row.purpose}
    return connection.execute(sa.update(slot).where(slot.c.id == row.id).values(values).returning(*slot.columns)).one()


def _active_ms(answer: Answer, sent_to: Any, now: datetime) -> int | None:
    """No more than has passed since the task was opened, unless the clock went back and nobody knows."""
    passed = int((now - sent_to.asked_at).total_seconds() * 1000)
    return answer.active_ms if answer.active_ms is None or passed < 0 else min(answer.active_ms, passed)


def _revise(connection: sa.Connection, judged: Any, row: dict[str, Any], version: str, actor: str, now: datetime) -> dict[str, Any]:
    """Append a revision and its event; returns the whole row."""
    latest = connection.execute(
        sa.select(_R.number, _R.active_ms).where(_R.slot_id == judged.id).order_by(_R.number.desc()).limit(1)
    ).first()
    row["number"] = latest.number + 1 if latest else 1
    if latest and latest.active_ms is not None:
        row["active_ms"] = latest.active_ms + (row["active_ms"] or 0)
    sealed_prompt = connection.execute(sa.select(prompt.c.sha256).where(prompt.c.id == judged.prompt_id)).scalar_one()
    seal(row, judged._mapping, sealed_prompt, version)
    digest = Digest()
    digest.add(row["sha256"])
    kind = "judgement.stored" if row["number"] == 1 else "judgement.revised"
    row["event"] = record(connection, kind, actor, now, project=judged.project_id, slot=judged.id, stored_judgements=digest.details())
    connection.execute(sa.insert(judgement_revision), row)
    return row


def seal(row: dict[str, Any], of_slot: Mapping[str, Any], sealed_prompt: str, version: str) -> None:
    """Put its hash on a revision of a judgement of a slot."""
    context = {name: of_slot[name] for name in ("labeler_id", "purpose", "shown")}
    row["sha256"] = judgement_sha256(row | context | {"prompt_sha256": sealed_prompt, "instructions": version})


def as_answered(connection: sa.Connection, slot_id: int) -> Answer | None:
    """The answer that counts in a slot; ``None`` where there is none yet."""
    found = (
        sa.select(_R.answer, _R.active_ms, slot.c.shown)
        .join(slot, slot.c.id == _R.slot_id)
        .where(_R.slot_id == slot_id)
        .order_by(_R.number.desc())
        .limit(1)
    )
    row = connection.execute(found).first()
    return answers.from_row(row.answer, row.shown, row.active_ms) if row else None
