"""What a labeler does, for pages and for the API alike: a thin layer over the store.

Before the first task they read the instructions and answer the questions on them. An answer is
never held back by either: what somebody has judged is stored.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from heedful.errors import AnswerProblem, InstructionsChanged
from heedful.feedback.asking import ask
from heedful.store import Answer, Receipt, Store, audit, comprehension, instructions, judgements, labelers, slots, tasks
from heedful.store.accounts import Account
from heedful.store.comprehension import Standing
from heedful.store.projects import Project
from heedful.store.schema import judgement_revision, slot
from heedful.store.tasks import Answered, Task
from heedful.web.bodies import Skipped, Submitted

Step = Literal["instructions", "check", "waiting", "task"]


class CheckNeeded(AnswerProblem):
    """The labeler has to answer the questions on the instructions first."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The instructions as a labeler stands to them; ``before`` is the text that they read last, ``None`` where they read none."""

    version: str
    text: str
    acknowledged: bool
    before: str | None


def reading(connection: sa.Connection, asked: Project, who: Account) -> Reading:
    """What somebody has read. Raises AnswerProblem where there are no instructions yet."""
    version, text = instructions.current(connection, asked.name)
    last = instructions.last_acknowledged(connection, asked.name, who.labeler_id)
    return Reading(version, text, bool(last and last[0] == version), last[1] if last else None)


def step(connection: sa.Connection, asked: Project, project_id: int, who: Account) -> tuple[Step, Reading, Standing]:
    """What comes next for a labeler: to read, to answer questions, to wait for a person, or a task."""
    read = reading(connection, asked, who)
    standing = comprehension.standing(connection, project_id, who.labeler_id)
    if not read.acknowledged:
        return "instructions", read, standing
    if standing.state in ("open", "waiting"):
        return ("check" if standing.state == "open" else "waiting"), read, standing
    return "task", read, standing


def next_task(store: Store, asked: Project, project_id: int, who: Account) -> Task | None:
    """The next task. Raises InstructionsChanged or CheckNeeded where something else comes first."""
    standing = store.read(lambda c: comprehension.standing(c, project_id, who.labeler_id))
    if standing.state in ("open", "waiting"):
        _refuse_unread(store, asked, who)
        raise CheckNeeded("the questions on the instructions come first", "Answer them, or wait for somebody to decide.")
    return ask(store, asked.name, who.labeler)  # which looks at what they have read


def _refuse_unread(store: Store, asked: Project, who: Account) -> None:
    """Raise InstructionsChanged where somebody has not read the current instructions: reading comes before questions."""
    read = store.read(lambda c: reading(c, asked, who))
    if not read.acknowledged:
        raise instructions.changed(read.version)


def submit(store: Store, who: Account, project_id: int, sent: Submitted) -> Receipt:
    """Store an answer, and what was noted on the task, once; see :meth:`heedful.store.Store.submit`.

    What somebody may do in one project, they may not do to a task of another: ``project_id`` is where they were let in.
    """
    answer = sent.answer.answer()

    def work(c: sa.Connection) -> Receipt:
        slots.mine(c, sent.token, who.labeler_id, project_id=project_id)
        before = audit.chain_end(c).number
        receipt = judgements.submit(c, sent.token, who.labeler, sent.key, answer, sent.version, store.clock())
        if sent.answer.note.strip() and receipt.event > before:
            slots.raise_concern(c, slots.mine(c, sent.token, who.labeler_id), sent.answer.note, store.clock())
        return receipt

    try:
        return store.write(work)
    except InstructionsChanged:
        store.renew(sent.token, who.labeler)
        raise


def renew(store: Store, who: Account, project_id: int, token: str) -> int | None:
    """A sign of life; returns for how many seconds the task is theirs, ``None`` where it no longer is."""

    def work(c: sa.Connection) -> datetime | None:
        slots.mine(c, token, labelers.hold(c, who.labeler), project_id=project_id)
        return slots.renew(c, token, who.labeler_id, store.clock())

    return lease_seconds(store.write(work), store.clock())


def skip(store: Store, who: Account, project_id: int, skipped: Skipped) -> None:
    """Somebody would rather not judge a task; it goes to somebody else."""

    def work(c: sa.Connection) -> None:
        slots.mine(c, skipped.token, labelers.hold(c, who.labeler), project_id=project_id)
        slots.skip(c, skipped.token, who.labeler_id, skipped.reason, store.clock())

    store.write(work)


def reopen(store: Store, who: Account, project_id: int, token: str) -> Answered:
    """A task that somebody has judged, with what they said, to change it."""

    def work(c: sa.Connection) -> Answered:
        said = judgements.as_answered(c, slots.mine(c, token, who.labeler_id, project_id=project_id).id)
        if said is None:
            raise AnswerProblem("there is no answer of yours to change", "Go on with your next task.")
        return Answered(tasks.show(c, token, who.labeler), said)

    return store.read(work)


def progress(connection: sa.Connection, project_id: int, who: Account, now: datetime) -> dict[str, int]:
    """How many tasks of a project somebody has judged, in all and since midnight (UTC): work that no longer counts was work, too."""
    mine = (slot.c.project_id == project_id, slot.c.labeler_id == who.labeler_id, slots.JUDGED)
    done = sa.select(sa.func.count()).select_from(slot).where(*mine)
    first, midnight = judgement_revision.c, now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = done.join(judgement_revision, (first.slot_id == slot.c.id) & (first.number == 1)).where(first.judged_at >= midnight)
    return {"done": int(connection.execute(done).scalar_one()), "today": int(connection.execute(today).scalar_one())}


def acknowledge(store: Store, asked: Project, who: Account, version: str) -> None:
    """Somebody has read a version of the instructions. Raises InstructionsChanged where there is a newer one."""
    store.write(lambda c: instructions.acknowledge(c, asked.name, labelers.hold(c, who.labeler), version, store.clock()))


def task_json(task: Task, now: datetime, answer: Answer | None = None) -> dict[str, Any]:
    """A task as it is sent to a labeler. The handles of completions tell nothing: an answer names them by their position."""
    handles = [hashlib.sha256(f"{task.token} {position}".encode()).hexdigest()[:12] for position in range(len(task.completions))]
    return {
        "token": task.token,
        "kind": task.task,
        "prompt": task.prompt,
        "completions": [{"id": handle, "text": text} for handle, text in zip(handles, task.completions, strict=True)],
        "version": task.instructions_version,
        "lease_seconds": lease_seconds(task.lease_until, now),
        "previous": answer_json(answer) if answer else None,
    }


def lease_seconds(until: datetime | None, now: datetime) -> int | None:
    """For how much longer a task is reserved; ``None`` where it is not."""
    return None if until is None else max(0, int((until - now).total_seconds()))


def answer_json(answer: Answer) -> dict[str, Any]:
    """An answer as it was given."""
    texts = {"reasons": dict(answer.reasons), "corrections": dict(answer.corrections)}
    return {"ranks": answer.ranks, "thumbs": answer.thumbs, "active_ms": answer.active_ms, **texts}


def receipt_json(receipt: Receipt) -> dict[str, Any]:
    """What was stored. Only whether it came too late to count is told, not why the task was given."""
    purpose = "extra" if receipt.purpose == "extra" else "overlap"
    return {"stored": True, "revision": receipt.revision, "purpose": purpose, "warnings": receipt.warnings}
