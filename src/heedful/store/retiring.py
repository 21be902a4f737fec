"""Retiring judgements: prompts that were judged under older instructions are judged again.

What was said stays as it was said, and in every snapshot that was taken before; from the event on that
retires it, it no longer counts. The place that it filled is open again, and whoever had filled it may be
asked once more, as they have no voice at the prompt now.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from heedful.errors import DataProblem
from heedful.store import instructions
from heedful.store.audit import record
from heedful.store.columns import lots
from heedful.store.prompts import open_place
from heedful.store.schema import instructions as versions
from heedful.store.schema import judgement_revision, prompt, slot
from heedful.store.slots import word

AT_ONCE = 500
"""Prompts whose judgements are retired in one transaction."""
_R = judgement_revision.c


@dataclass(frozen=True, slots=True)
class Retired:
    """How many judgements no longer count, of how many prompts."""

    prompts: int = 0
    judgements: int = 0

    def __add__(self, other: Retired) -> Retired:
        return Retired(self.prompts + other.prompts, self.judgements + other.judgements)


def candidates(connection: sa.Connection, project_id: int, ids: Iterable[str] | None = None) -> list[int]:
    """Prompts of a project that people may be asked about, all or those named, in order.

    Raises DataProblem for an unknown id, AnswerProblem where there are no instructions under which they could be judged.
    """
    instructions.current_version(connection, project_id)
    all_of_it = sa.select(prompt.c.id, prompt.c.external_id, prompt.c.withdrawn).where(prompt.c.project_id == project_id)
    if ids is None:
        return sorted(connection.execute(all_of_it.where(~prompt.c.withdrawn)).scalars())
    found: list[int] = []
    for some in lots(dict.fromkeys(ids), AT_ONCE):
        rows = connection.execute(all_of_it.where(prompt.c.external_id.in_(some))).all()
        if strange := set(some).difference(row.external_id for row in rows):
            raise DataProblem(f"there is no prompt {min(strange)!r} in the project", "Check its id. Nothing was changed.")
        found += [row.id for row in rows if not row.withdrawn]
    return sorted(found)


def retire(connection: sa.Connection, project_id: int, prompt_ids: Sequence[int], actor: str, now: datetime) -> Retired:
    """Retire what was last said of some prompts under other instructions than the current ones, and open the places again."""
    if connection.dialect.name == "postgresql":  # what an UPDATE takes, before the log as everybody does: an import would deadlock with it
        connection.execute(sa.text("LOCK TABLE slot IN ROW EXCLUSIVE MODE"))
    _, version = instructions.current_version(connection, project_id)
    # By prompts alone: were the project named, too, SQLite would go through all that it was ever asked.
    asked = (slot.c.prompt_id.in_(prompt_ids), slot.c.state.not_in([word("open"), word("retired")]))
    held = connection.execute(sa.select(slot).where(*asked).order_by(slot.c.id).with_for_update(key_share=True)).all()
    # Looked at once nobody else can change them: a moment ago somebody may have revised what they said, or answered before they could
    # know of the new instructions.
    judged = [row for row in held if row.state == "judged"]
    under = _versions(connection, [row.id for row in judged])
    outdated = [row for row in judged if under[row.id] != version]
    if not outdated:
        return Retired()
    ids = [row.id for row in outdated]
    event = record(connection, "judgements.retired", actor, now, project=project_id, version=version, slots=ids)
    for some in lots(ids, AT_ONCE):  # everybody judges a calibration item, so they may be many
        connection.execute(sa.update(slot).where(slot.c.id.in_(some)).values(state="retired", k=None, retired_in=event))
    places = [open_place(project_id, row.prompt_id, row.k, row.stratum_id) for row in outdated if row.k is not None]
    if places:
        connection.execute(sa.insert(slot), places)
    return Retired(len({row.prompt_id for row in outdated}), len(ids))


def _versions(connection: sa.Connection, slot_ids: Sequence[int]) -> dict[int, str]:
    """The version of the instructions under which what counts was said, by slot."""
    found: dict[int, str] = {}
    for some in lots(slot_ids, AT_ONCE):
        rows: Any = connection.execute(
            sa.select(_R.slot_id, versions.c.version)
            .join(versions, versions.c.id == _R.instructions_id)
            .where(_R.slot_id.in_(some))
            .order_by(_R.slot_id, _R.number)
        )
        found.update((row.slot_id, row.version) for row in rows)
    return found
