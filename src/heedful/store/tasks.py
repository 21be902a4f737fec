"""What a labeler sees: nothing here touches ``completion_origin``, so nothing here can tell which model wrote what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from heedful.records import PromptText
from heedful.store import instructions, judgements, labelers, projects, slots
from heedful.store.answers import Answer
from heedful.store.projects import Project
from heedful.store.schema import completion, prompt, slot


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt to judge, as it is shown. The answer names completions by their position.

    ``token`` is the task's secret name, ``lease_until`` until when it is reserved: ``None`` where
    it no longer is. ``instructions_version`` is the current one, which an answer has to name.
    Whether this is a calibration item or a repetition is not told.
    """

    token: str
    project: str
    task: str
    criterion: str
    question: str
    higher_is: str
    tie_policy: str
    instructions_version: str
    prompt: PromptText
    completions: list[str]
    lease_until: datetime | None


@dataclass(frozen=True, slots=True)
class Answered:
    """A task, and what the labeler said last."""

    task: Task
    answer: Answer


def show(connection: sa.Connection, token: str, labeler_name: str) -> Task:
    """A labeler's own task, by its token. Raises AnswerProblem where it is not theirs."""
    row = slots.mine(connection, token, labelers.get(connection, labeler_name))
    _, version = instructions.current_version(connection, row.project_id)
    return of_slot(connection, row, projects.get(connection, row.project_id), version)


def recent(connection: sa.Connection, project_name: str, labeler_name: str, limit: int = 5) -> list[Answered]:
    """What a labeler judged last in a project, newest first, to look at again and change."""
    project_id, asked = projects.find(connection, project_name)
    _, version = instructions.current_version(connection, project_id)
    mine = (slot.c.labeler_id == labelers.get(connection, labeler_name), slot.c.project_id == project_id)
    found = sa.select(slot).where(*mine, slot.c.state == slots.word("judged"), slot.c.token.is_not(None))
    rows = connection.execute(found.order_by(slot.c.asked_at.desc(), slot.c.id.desc()).limit(limit)).all()
    answers = [judgements.as_answered(connection, row.id) for row in rows]
    return [Answered(of_slot(connection, row, asked, version), answer) for row, answer in zip(rows, answers, strict=True) if answer]


def of_slot(connection: sa.Connection, row: Any, asked: Project, version: str) -> Task:
    """A slot as its labeler sees it; ``version`` of the instructions is the current one."""
    content = connection.execute(sa.select(prompt.c.content).where(prompt.c.id == row.prompt_id)).scalar_one()
    texts = {c.id: c.text for c in connection.execute(sa.select(completion.c.id, completion.c.text).where(completion.c.id.in_(row.shown)))}
    settings = (asked.task, asked.criterion, asked.question, asked.higher_is, asked.tie_policy)
    return Task(row.token, asked.name, *settings, version, content, [texts[c] for c in row.shown], row.lease_until)
