"""A few questions on the instructions, before the first task: two tries, then a person decides.

The newest questions of a project hold. Whoever passed them need not answer them again when only
the text of the instructions changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from heedful.errors import AnswerProblem, SettingProblem
from heedful.store import labelers, projects
from heedful.store.audit import record, row_sha256
from heedful.store.columns import add_row
from heedful.store.names import refuse_bad_reason
from heedful.store.schema import labeler
from heedful.store.schema_access import comprehension, comprehension_attempt, comprehension_decision

TRIES = 2
_C, _A, _D = comprehension.c, comprehension_attempt.c, comprehension_decision.c


@dataclass(frozen=True, slots=True)
class Question:
    """A question with choices, of which one is right; ``why`` is told to whoever chose another."""

    question: str
    choices: list[str]
    right: int
    why: str = ""

    def __post_init__(self) -> None:
        if not self.question.strip() or len(self.choices) < 2 or not all(c.strip() for c in self.choices):
            raise SettingProblem(
                f"the question {self.question!r} has {len(self.choices)} choices", "Give it a text and two choices or more."
            )
        if not 0 <= self.right < len(self.choices):
            raise SettingProblem(f"the right choice of {self.question!r} is number {self.right + 1}", "Mark one of its choices.")


@dataclass(frozen=True, slots=True)
class Standing:
    """How far somebody is. ``state``: ``none`` (there are no questions), ``open``, ``passed``, or ``waiting`` for a person to decide."""

    state: str
    questions: list[Question]
    tries_left: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody who has used up their tries, and what they answered last."""

    labeler: str
    labeler_id: int
    answers: list[int]
    at: datetime


def publish(connection: sa.Connection, project_name: str, questions: Sequence[Question], actor: str, now: datetime) -> None:
    """Make these the questions of a project; none, to ask none. The same ones again change nothing."""
    project_id, _ = projects.find(connection, project_name, lock=True)
    rows = [{"question": q.question, "choices": q.choices, "right": q.right, "why": q.why} for q in questions]
    newest = _newest(connection, project_id)
    if rows == (newest.questions if newest else []):
        return
    values = {"project_id": project_id, "questions": rows, "published_at": now}
    number = add_row(connection, comprehension, **values)
    details = {"comprehension": number, "questions": len(rows), "row_sha256": row_sha256(values)}
    record(connection, "comprehension.published", actor, now, project=project_id, **details)


def current(connection: sa.Connection, project_id: int) -> list[Question]:
    """The questions of a project."""
    newest = _newest(connection, project_id)
    return [Question(**row) for row in newest.questions] if newest else []


def standing(connection: sa.Connection, project_id: int, labeler_id: int) -> Standing:
    """How far somebody is with the questions of a project."""
    return _standing(connection, _newest(connection, project_id), labeler_id)


def attempt(connection: sa.Connection, project_id: int, labeler_id: int, answers: Sequence[int], now: datetime) -> list[int]:
    """Answer the questions; returns the numbers of those that were answered wrongly: none, where it is passed.

    Raises AnswerProblem where there is nothing to answer now, or not every question has an answer.
    """
    labelers.hold_id(connection, labeler_id)  # so that answers that are sent at once are tries one after the other
    newest = _newest(connection, project_id)
    where = _standing(connection, newest, labeler_id)
    if where.state != "open":
        raise AnswerProblem("there are no questions for you to answer now", "Go on, or wait for somebody to decide.")
    if len(answers) != len(where.questions):
        raise AnswerProblem(f"{len(answers)} of {len(where.questions)} questions were answered", "Answer every question.")
    wrong = [number for number, (q, a) in enumerate(zip(where.questions, answers, strict=True)) if q.right != a]
    values = {"comprehension_id": newest.id, "labeler_id": labeler_id, "answers": list(answers), "passed": not wrong, "at": now}
    number = add_row(connection, comprehension_attempt, **values)
    details = {"attempt": number, "passed": not wrong, "row_sha256": row_sha256(values)}
    record(connection, "comprehension.attempted", f"labeler {labeler_id}", now, project=project_id, **details)
    return wrong


def decide(connection: sa.Connection, project_id: int, labeler_id: int, decision: str, by: str, why: str, now: datetime) -> None:
    """A person lets somebody in who has used up their tries (``passed``), or gives them two more (``try_again``)."""
    newest = _newest(connection, project_id)
    if newest is None or decision not in ("passed", "try_again"):
        raise SettingProblem(f"nothing can be decided by {decision!r}", "Choose passed or try_again.")
    refuse_bad_reason("the decision", why)
    values = {"comprehension_id": newest.id, "labeler_id": labeler_id, "decision": decision, "decided_by": by, "why": why, "at": now}
    number = add_row(connection, comprehension_decision, **values)
    details = {"labeler": labeler_id, "decision": number, "row_sha256": row_sha256(values)}
    record(connection, "comprehension.decided", by, now, project=project_id, **details)


def waiting(connection: sa.Connection, project_id: int) -> list[Waiting]:
    """Who waits for a person to decide."""
    newest = _newest(connection, project_id)
    if newest is None:
        return []
    attempts = sa.select(labeler.c.name, _A.labeler_id, _A.answers, _A.passed, _A.at).join(labeler, labeler.c.id == _A.labeler_id)
    by_labeler: dict[int, list[Any]] = {}
    for row in connection.execute(attempts.where(_A.comprehension_id == newest.id).order_by(_A.id)):
        by_labeler.setdefault(row.labeler_id, []).append(row)
    decisions = sa.select(comprehension_decision).where(_D.comprehension_id == newest.id).order_by(_D.id)
    decided = {row.labeler_id: row for row in connection.execute(decisions)}
    found = {number: rows[-1] for number, rows in by_labeler.items() if _state(rows, decided.get(number))[0] == "waiting"}
    return [Waiting(row.name, number, row.answers, row.at) for number, row in found.items()]


def _standing(connection: sa.Connection, newest: Any, labeler_id: int) -> Standing:
    if newest is None or not newest.questions:
        return Standing("none", [], 0)
    questions = [Question(**row) for row in newest.questions]
    mine = sa.select(_A.passed, _A.at).where(_A.comprehension_id == newest.id, _A.labeler_id == labeler_id).order_by(_A.id)
    state, left = _state(connection.execute(mine).all(), _decision(connection, newest.id, labeler_id))
    return Standing(state, questions, left)


def _state(attempts: Sequence[Any], decision: Any) -> tuple[str, int]:
    """How far somebody is by what they answered, oldest first, and what was decided last; and how many tries they have left."""
    tries = [row for row in attempts if decision is None or row.at > decision.at]
    if any(row.passed for row in tries) or (decision and decision.decision == "passed"):
        return "passed", 0
    left = max(TRIES - len(tries), 0)
    return ("open" if left else "waiting"), left


def _newest(connection: sa.Connection, project_id: int) -> Any:
    return connection.execute(sa.select(comprehension).where(_C.project_id == project_id).order_by(_C.id.desc()).limit(1)).first()


def _decision(connection: sa.Connection, number: int, labeler_id: int) -> Any:
    mine = (_D.comprehension_id == number, _D.labeler_id == labeler_id)
    return connection.execute(sa.select(comprehension_decision).where(*mine).order_by(_D.id.desc()).limit(1)).first()
