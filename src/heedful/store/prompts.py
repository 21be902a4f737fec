"""Prompts with the completions that people judge: into the store, and back out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from heedful.errors import DataProblem
from heedful.records import Completion, Prompt
from heedful.store import labelers, projects
from heedful.store.audit import Digest, hold_chain, prompt_sha256, record
from heedful.store.columns import canonical, lots
from heedful.store.database import take_stock
from heedful.store.names import LONGEST_ID, refuse_bad_name
from heedful.store.projects import MOST_COMPLETIONS, Project
from heedful.store.schema import completion, completion_origin, prompt, slot

Item = tuple[Prompt, Sequence[Completion]]
"""A prompt and the completions of it that a labeler sees."""

MOST = MOST_COMPLETIONS
_AT_ONCE = 1000


def add(
    connection: sa.Connection,
    project_name: str,
    items: Iterable[Item],
    calibration: bool,
    actor: str,
    now: datetime,
    *,
    max_shown: int | None = None,
    again: bool = False,
) -> int:
    """Add prompts with their completions, and open the places of their overlap; returns the number of those that are new.

    ``calibration``: they are judged by everybody instead. ``max_shown``: instead of the project's own. ``again``: prompts that
    are there already, just so, are left as they are. All or nothing: raises DataProblem, naming the item, where one is
    not as it should be, or would show more than that.
    """
    project_id, asked = projects.find(connection, project_name, lock=True)
    asked = asked if max_shown is None else replace(asked, max_shown=max_shown)
    adder = _Adder(connection, project_id, asked, calibration, again, event=hold_chain(connection))
    for some in lots(items, _AT_ONCE):
        adder.add(some)
    if adder.digest.count:
        details = {"calibration": calibration, "stored_prompts": adder.digest.details()}
        record(connection, "prompts.added", actor, now, project=project_id, **details)
        take_stock(connection)
    return adder.digest.count


class _Adder:
    """Adds one lot after another, under one event."""

    def __init__(self, connection: sa.Connection, project_id: int, asked: Project, calibration: bool, again: bool, event: int) -> None:
        self.connection, self.project_id, self.asked, self.calibration, self.event = connection, project_id, asked, calibration, event
        self.again, self.seen, self.digest = again, 0, Digest()
        self.number = 1 + _highest(connection, sa.select(sa.func.max(prompt.c.number)).where(prompt.c.project_id == project_id), -1)
        # Whoever holds the chain gives out the ids, so that they are known before the rows are written.
        self.prompt_id = 1 + _highest(connection, sa.select(sa.func.max(prompt.c.id)), 0)
        self.completion_id = 1 + _highest(connection, sa.select(sa.func.max(completion.c.id)), 0)
        kept = [labelers.stratum_id(connection, *stratum) for stratum in asked.kept_places]
        self.places = [] if calibration else [*kept, *[None] * (asked.overlap - len(kept))]

    def add(self, items: Sequence[Item]) -> None:
        for number, (p, completions) in enumerate(items, self.seen + 1):
            _refuse_bad_item(number, p, completions, self.asked)
        self.seen += len(items)
        items = unknown(self.connection, self.project_id, items) if self.again else items
        self._refuse_doubles("prompt", prompt, [p.id for p, _ in items])
        self._refuse_doubles("completion", completion_origin, [c.id for _, completions in items for c in completions])
        prompts, texts, origins, slots = [], [], [], []
        for p, completions in items:
            rows = [{"id": self.completion_id + i, "external_id": c.id, **_fields(c)} for i, c in enumerate(completions)]
            row = self._prompt_row(p, rows)
            prompts.append(row)
            texts += [{"id": c["id"], "prompt_id": row["id"], "text": c["text"]} for c in rows]
            origins += [{"completion_id": c.pop("id"), "project_id": self.project_id, **c} for c in rows]
            slots += [open_place(self.project_id, row["id"], k, stratum) for k, stratum in enumerate(self.places, 1)]
            self.completion_id += len(completions)
        for table, found in ((prompt, prompts), (completion, texts), (completion_origin, origins), (slot, slots)):
            if found:
                self.connection.execute(sa.insert(table), found)

    def _prompt_row(self, p: Prompt, completions: list[dict[str, Any]]) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": self.prompt_id,
            "project_id": self.project_id,
            "external_id": p.id,
            "number": self.number,
            "content": p.prompt,
        }
        row |= {"reference": p.reference, "columns": json.loads(canonical(p.columns)), "event": self.event}
        row |= {"calibration": self.calibration, "withdrawn": False, "overlap": len(self.places)}
        row["sha256"] = prompt_sha256(row, completions)
        self.digest.add(row["sha256"])
        self.prompt_id, self.number = self.prompt_id + 1, self.number + 1
        return row

    def _refuse_doubles(self, what: str, table: sa.Table, ids: Sequence[str]) -> None:
        there = sa.select(table.c.external_id).where(table.c.project_id == self.project_id, table.c.external_id.in_(ids))
        known = set(self.connection.execute(there).scalars())
        for external_id in ids:
            if external_id in known:
                raise DataProblem(f"{what} id {external_id!r} stands twice", "Give each an id of its own. Nothing was added.")
            known.add(external_id)


def unknown(connection: sa.Connection, project_id: int, items: Iterable[Item]) -> list[Item]:
    """Those whose prompt the project does not have yet, by its id.

    Raises DataProblem where it is there with another text or without these completions: what people
    said of those is not about these.
    """
    found: list[Item] = []
    for some in lots(items, _AT_ONCE):
        ids = [p.id for p, _ in some]
        known = sa.select(prompt.c.external_id, prompt.c.content).where(prompt.c.project_id == project_id, prompt.c.external_id.in_(ids))
        there = {row.external_id: row.content for row in connection.execute(known)}
        of_these = _completions().where(prompt.c.project_id == project_id, prompt.c.external_id.in_(there))
        texts = {row.external_id: row.text for row in connection.execute(of_these)}
        for p, completions in some:
            if p.id not in there:
                found.append((p, completions))
            elif there[p.id] != p.prompt or any(texts.get(c.id) != c.text for c in completions):
                raise DataProblem(
                    f"prompt {p.id!r} is in the project already, with another text or with other completions", "Name another project."
                )
    return found


def set_withdrawn(connection: sa.Connection, project_name: str, ids: Sequence[str], withdrawn: bool, actor: str, now: datetime) -> None:
    """Ask nobody about some prompts any more, or ask about them again. What was said of them stays.

    Raises DataProblem for an unknown id.
    """
    project_id, _ = projects.find(connection, project_name)
    which = (prompt.c.project_id == project_id, prompt.c.external_id.in_(ids))
    found = {row.external_id: row.id for row in connection.execute(sa.select(prompt.c.id, prompt.c.external_id).where(*which))}
    if strange := [name for name in ids if name not in found]:
        raise DataProblem(f"there is no prompt {strange[0]!r} in project {project_name!r}", "Check its id. Nothing was changed.")
    connection.execute(sa.update(prompt).where(*which).values(withdrawn=withdrawn))
    kind = "prompts.withdrawn" if withdrawn else "prompts.brought_back"
    record(connection, kind, actor, now, project=project_id, prompts=sorted(found.values()))


def open_place(project_id: int, prompt_id: int, k: int, stratum: int | None) -> dict[str, Any]:
    """The row of a free place in a prompt's overlap."""
    row = {"project_id": project_id, "prompt_id": prompt_id, "k": k, "stratum_id": stratum}
    return row | {"purpose": "overlap", "state": "open", "at_random": False}


def page(connection: sa.Connection, project_id: int, after: int, limit: int) -> list[tuple[int, Prompt]]:
    """The next prompts after a number, each with its number."""
    return [(row.number, _prompt(row)) for row in connection.execute(_next(project_id, after, limit))]


def items_page(connection: sa.Connection, project_id: int, as_of: int, after: int, limit: int) -> list[tuple[int, tuple[int, Item]]]:
    """The next prompts after a number that were there after an event: number, and the store's own id with prompt and completions."""
    rows = connection.execute(_next(project_id, after, limit).where(prompt.c.event <= as_of)).all()
    shown: dict[int, list[Completion]] = {row.id: [] for row in rows}
    for row in connection.execute(_completions().where(completion.c.prompt_id.in_(shown))):
        shown[row.prompt_id].append(_completion(row))
    return [(row.number, (row.id, (_prompt(row), shown[row.id]))) for row in rows]


def completions_page(connection: sa.Connection, project_id: int, after: int, limit: int) -> list[tuple[int, Completion]]:
    """The next completions after an id, each with its id."""
    found = _completions().where(prompt.c.project_id == project_id, completion.c.id > after).limit(limit)
    return [(row.completion_id, _completion(row)) for row in connection.execute(found)]


def _next(project_id: int, after: int, limit: int) -> sa.Select[Any]:
    """Prompts of a project after a number, in order."""
    return sa.select(prompt).where(prompt.c.project_id == project_id, prompt.c.number > after).order_by(prompt.c.number).limit(limit)


def _completions() -> sa.Select[Any]:
    """Completions with all that is known of them, in the order of their ids."""
    return (
        sa.select(completion_origin, completion.c.text, completion.c.prompt_id, prompt.c.external_id.label("prompt"))
        .join(completion, completion.c.id == completion_origin.c.completion_id)
        .join(prompt, prompt.c.id == completion.c.prompt_id)
        .order_by(completion.c.id)
    )


def external_ids(connection: sa.Connection, prompt_ids: Iterable[int]) -> dict[int, str]:
    """The ids under which the completions of some prompts came, by the store's own ids. Not for the eyes of labelers."""
    rows = connection.execute(
        sa.select(completion_origin.c.completion_id, completion_origin.c.external_id)
        .join(completion, completion.c.id == completion_origin.c.completion_id)
        .where(completion.c.prompt_id.in_(set(prompt_ids)))
    )
    return {row.completion_id: row.external_id for row in rows}


def _prompt(row: Any) -> Prompt:
    return Prompt(row.external_id, row.content, row.reference, row.columns)


def _completion(row: Any) -> Completion:
    values = {name: getattr(row, name) for name in ("token_ids", "finish_reason", "seed", "model", "sampling")}
    return Completion(row.external_id, row.prompt, row.text, **values)


def _fields(c: Completion) -> dict[str, Any]:
    values = {"text": c.text, "model": c.model, "seed": c.seed, "sampling": c.sampling}
    return values | {"token_ids": c.token_ids, "finish_reason": c.finish_reason}


def _highest(connection: sa.Connection, highest: sa.Select[Any], otherwise: int) -> int:
    found = connection.execute(highest).scalar()
    return otherwise if found is None else int(found)


def _refuse_bad_item(number: int, p: Prompt, completions: Sequence[Completion], asked: Project) -> None:
    least = 2 if asked.task == "ranking" else 1
    try:
        refuse_bad_name("prompt", p.id, LONGEST_ID)
        if not least <= len(completions) <= asked.max_shown:
            most = f"Leave some out, or raise max_shown (at most {MOST})." if len(completions) > asked.max_shown else "Give it more."
            shows = f"a task of type {asked.task} shows {least} to {asked.max_shown} in this project"
            raise DataProblem(f"prompt {p.id!r} has {len(completions)} completion(s), and {shows}", most)
        for fault in _faults(p, completions):
            raise DataProblem(fault, "Mend or leave out the row.")
        for c in completions:
            refuse_bad_name("completion", c.id, LONGEST_ID)
            canonical(_fields(c))
        canonical([p.prompt, p.reference, p.columns])
    except DataProblem as problem:
        raise DataProblem(f"item {number}: {problem.what}", f"{problem.next_step} Nothing was added.") from None
    except (TypeError, ValueError) as error:
        raise DataProblem(
            f"item {number}: prompt {p.id!r} holds something that JSON does not: {error}", "Mend the row. Nothing was added."
        ) from None


def _faults(p: Prompt, completions: Sequence[Completion]) -> Iterator[str]:
    for c in completions:
        if c.prompt_id != p.id:
            yield f"completion {c.id!r} belongs to prompt {c.prompt_id!r}, not to {p.id!r}"
        if not isinstance(c.text, str):
            yield f"the text of completion {c.id!r} is {c.text!r}"
        if c.finish_reason not in ("stop", "length"):
            yield f"finish_reason of completion {c.id!r} is {c.finish_reason!r}"
