"""Instructions in versions, and who has read which."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from heedful.errors import AnswerProblem, InstructionsChanged
from heedful.store import projects
from heedful.store.audit import instructions_sha256, record
from heedful.store.columns import add_row, find_or_add
from heedful.store.schema import acknowledgement, instructions

_I = instructions.c


def publish(connection: sa.Connection, project: str, text: str, actor: str, now: datetime) -> str:
    """Make a text the current instructions; returns its version, the first 12 digits of its sha256.

    Everybody has to acknowledge it before the next task. The current text again changes nothing.
    """
    project_id, _ = projects.find(connection, project, lock=True)
    sha256 = instructions_sha256(text)
    version = sha256[:12]
    newest = _newest(connection, project_id)
    if newest is None or newest.version != version:
        add_row(connection, instructions, project_id=project_id, version=version, text=text, published_at=now)
        record(connection, "instructions.published", actor, now, project=project_id, version=version, sha256=sha256)
    return version


def current(connection: sa.Connection, project: str) -> tuple[str, str]:
    """Version and text of the current instructions. Raises AnswerProblem where there are none yet."""
    project_id, _ = projects.find(connection, project)
    number, version = current_version(connection, project_id)
    return version, connection.execute(sa.select(_I.text).where(_I.id == number)).scalar_one()


def current_version(connection: sa.Connection, project_id: int) -> tuple[int, str]:
    """Id and version of the current instructions. Raises AnswerProblem where there are none yet."""
    newest = _newest(connection, project_id)
    if newest is None:
        raise AnswerProblem("the project has no instructions yet", "Publish some before people are asked.")
    return newest.id, newest.version


def versions(connection: sa.Connection, project_id: int) -> dict[str, datetime | None]:
    """Every version under which something was judged or could have been, and when it was last published; ``None`` where it came with
    imported judgements. The oldest comes first."""
    rows = connection.execute(sa.select(_I.version, _I.published_at).where(_I.project_id == project_id).order_by(_I.id))
    return {row.version: row.published_at for row in rows}


def acknowledge(connection: sa.Connection, project: str, labeler_id: int, version: str, now: datetime) -> None:
    """A labeler has read a version. Raises InstructionsChanged where it is no longer the current one."""
    project_id, _ = projects.find(connection, project)
    number, newest = current_version(connection, project_id)
    if newest != version:
        raise changed(newest)
    if not _has_read(connection, labeler_id, number):
        connection.execute(sa.insert(acknowledgement).values(labeler_id=labeler_id, instructions_id=number, at=now))
        record(connection, "instructions.acknowledged", f"labeler {labeler_id}", now, project=project_id, version=version)


def acknowledged(connection: sa.Connection, project_id: int, labeler_id: int) -> tuple[int, str]:
    """Id and version of the current instructions. Raises InstructionsChanged where the labeler has not acknowledged them."""
    number, version = current_version(connection, project_id)
    if not _has_read(connection, labeler_id, number):
        raise changed(version)
    return number, version


def changed(version: str) -> InstructionsChanged:
    """The refusal of those who have read another version than the current one."""
    return InstructionsChanged(
        f"the instructions are now version {version}",
        "Read and acknowledge them, then go on: your task is still yours, and nothing is lost.",
    )


def last_acknowledged(connection: sa.Connection, project: str, labeler_id: int) -> tuple[str, str] | None:
    """Version and text of the newest instructions that a labeler has acknowledged, to show what changed since."""
    project_id, _ = projects.find(connection, project)
    mine = sa.select(acknowledgement.c.instructions_id).where(acknowledgement.c.labeler_id == labeler_id)
    found = sa.select(_I.version, _I.text).where(_I.project_id == project_id, _I.id.in_(mine))
    row = connection.execute(found.order_by(_I.id.desc()).limit(1)).first()
    return (row.version, row.text) if row else None


def version_id(connection: sa.Connection, project_id: int, version: str) -> int:
    """The id of a version that imported judgements name, whether its text is known here or not."""
    return find_or_add(connection, instructions, project_id=project_id, version=version)


def _newest(connection: sa.Connection, project_id: int) -> Any:
    published = sa.select(_I.id, _I.version).where(_I.project_id == project_id, _I.published_at.is_not(None))
    return connection.execute(published.order_by(_I.id.desc()).limit(1)).first()


def _has_read(connection: sa.Connection, labeler_id: int, number: int) -> bool:
    a = acknowledgement.c
    return connection.execute(sa.select(a.at).where(a.labeler_id == labeler_id, a.instructions_id == number)).first() is not None
