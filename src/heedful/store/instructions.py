"""Instructions in versions, and who has read which."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from heedful.errors import AnswerProblem, InstructionsChanged
from heedful.store import projects
from heedful.store.audit import record
from heedful.store.columns import add_row
from heedful.store.schema import acknowledgement, instructions


def publish(connection: sa.Connection, name: str, text: str, actor: str, now: datetime) -> str:
    """Make a text the current instructions; returns its version, the first 12 digits of its sha256.

    Everybody has to acknowledge it before the next task. The current text again changes nothing.
    """
    project_id, _ = projects.find(connection, name, lock=True)
    sha256 = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    version = sha256[:12]
    current = _current(connection, project_id)
    if current is None or current.version != version:
        connection.execute(sa.insert(instructions).values(project_id=project_id, version=version, text=text, published_at=now))
        record(connection, "instructions.published", actor, now, project=project_id, version=version, sha256=sha256)
    return version


def current(connection: sa.Connection, name: str) -> tuple[str, str]:
    """Version and text of the current instructions."""
    project_id, _ = projects.find(connection, name)
    row = _current(connection, project_id)
    if row is None:
        raise _none_yet(name)
    return row.version, row.text


def acknowledge(connection: sa.Connection, name: str, labeler_id: int, version: str, now: datetime) -> None:
    """A labeler has read a version. Raises InstructionsChanged where it is no longer the current one."""
    project_id, _ = projects.find(connection, name)
    row = _current(connection, project_id)
    if row is None:
        raise _none_yet(name)
    if row.version != version:
        raise changed(row.version)
    if not _has_read(connection, labeler_id, row.id):
        connection.execute(sa.insert(acknowledgement).values(labeler_id=labeler_id, instructions_id=row.id, at=now))
        record(connection, "instructions.acknowledged", f"labeler {labeler_id}", now, project=project_id, version=version)


def acknowledged(connection: sa.Connection, project_id: int, labeler_id: int) -> tuple[int, str]:
    """Id and version of the current instructions. Raises InstructionsChanged where the labeler has not acknowledged them."""
    row = _current(connection, project_id)
    if row is None:
        raise _none_yet("")
    if not _has_read(connection, labeler_id, row.id):
        raise changed(row.version)
    return row.id, row.version


def changed(version: str) -> InstructionsChanged:
    """The refusal of those who have read another version than the current one."""
    return InstructionsChanged(
        f"the instructions are now version {version}",
        "Read and acknowledge them, then go on: your task is still yours, and nothing is lost.",
    )


def last_acknowledged(connection: sa.Connection, name: str, labeler_id: int) -> tuple[str, str] | None:
    """Version and text of the newest instructions that a labeler has acknowledged, to show what changed since."""
    project_id, _ = projects.find(connection, name)
    mine = sa.select(acknowledgement.c.instructions_id).where(acknowledgement.c.labeler_id == labeler_id)
    found = connection.execute(
        sa.select(instructions.c.version, instructions.c.text)
        .where(instructions.c.project_id == project_id, instructions.c.id.in_(mine))
        .order_by(instructions.c.id.desc())
        .limit(1)
    ).first()
    return (found.version, found.text) if found else None


def version_id(connection: sa.Connection, project_id: int, version: str) -> int:
    """The id of a version of the instructions that imported judgements name, known here or not."""
    found = connection.execute(
        sa.select(sa.func.max(instructions.c.id)).where(instructions.c.project_id == project_id, instructions.c.version == version)
    ).scalar()
    return int(found) if found is not None else add_row(connection, instructions, project_id=project_id, version=version)


def _none_yet(name: str) -> AnswerProblem:
    return AnswerProblem(f"project {name!r} has no instructions yet", "Publish some before people are asked.")


def _current(connection: sa.Connection, project_id: int) -> Any:
    return connection.execute(
        sa.select(instructions)
        .where(instructions.c.project_id == project_id, instructions.c.published_at.is_not(None))
        .order_by(instructions.c.id.desc())
        .limit(1)
    ).first()


def _has_read(connection: sa.Connection, labeler_id: int, instructions_id: int) -> bool:
    a = acknowledgement.c
    found = sa.select(a.at).where(a.labeler_id == labeler_id, a.instructions_id == instructions_id)
    return connection.execute(found).first() is not None
