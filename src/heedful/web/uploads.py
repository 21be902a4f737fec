"""Prompts with completions as people upload them: JSON lines, read in bounds, never anything that runs.

A row without an ``id`` is called by what it holds, so that rows of two files never clash, and the same row
that comes again is known for the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from heedful.errors import DataProblem
from heedful.feedback.blindness import blindness
from heedful.feedback.said import GOLD, is_rank
from heedful.records import Completion, Prompt
from heedful.store import Store, prompts
from heedful.store.names import LONGEST_ID, refuse_bad_name
from heedful.store.projects import Project
from heedful.store.prompts import Item

LONGEST_LINE = 2**20
MOST_ROWS = 100_000
EXAMPLE = '{"prompt": "...", "completions": ["...", {"text": "...", "model": "..."}]}'


@dataclass(frozen=True, slots=True)
class Added:
    """How many prompts are new, how many were ``there_before`` just so; and how many completions are ``naming_their_model``."""

    new: int
    there_before: int
    naming_their_model: int
    naming: str
    """A sentence on those."""


def add(store: Store, asked: Project, items: Sequence[Item], calibration: bool, actor: str) -> Added:
    """Put prompts into a project, all of them or none; what is there already, just so, is left as it is. Raises as ``prompts.add``."""
    new = store.write(lambda c: prompts.add(c, asked.name, items, calibration, actor, store.clock(), max_shown=asked.max_shown, again=True))
    told = blindness((p for p, _ in items), (c for _, completions in items for c in completions))
    return Added(new, len(items) - new, told.naming, told.sentence)


def rows_of(lines: Iterable[bytes]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of an uploaded file, each with where it stands. Raises DataProblem, naming the line."""
    rows = 0
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise DataProblem(f"line {number} is longer than {LONGEST_LINE // 2**20} MiB", "Mend or leave out the row. Nothing was added.")
        if not line.strip():
            continue
        rows += 1
        if rows > MOST_ROWS:
            raise DataProblem(f"there are more than {MOST_ROWS} rows", "Upload them in several files. Nothing was added.")
        yield f"line {number}", _object(line, number)


def items_of(rows: Iterable[tuple[str, Mapping[str, Any]]], asked: Project) -> list[Item]:
    """Rows, each with where it stands, as prompts with at most ``asked.max_shown`` of their completions.

    A row is ``{"prompt", "completions"}``, the prompt a text or chat messages, a completion a text or
    ``{"text", "model"?, "id"?}``; ``id``, ``reference`` and ``gold_ranks`` (the right rank of each completion,
    null for an F) are welcome. Of more completions than are shown, so many are drawn without replacement, by the project's
    seed and the prompt's id: the same file always gives the same. Raises DataProblem, naming where it is.
    """
    found: list[Item] = []
    stands: dict[str, str] = {}
    for where, row in rows:
        item = item_of(row, where, asked)
        if (first := stands.setdefault(item[0].id, where)) != where:
            what = f"{first} and {where} have the id {item[0].id!r}" if row.get("id") else f"{where} says the same as {first}"
            raise DataProblem(what, "Leave one out, or give each an id of its own. Nothing was added.")
        found.append(item)
    return found


def item_of(row: Mapping[str, Any], where: str, asked: Project) -> Item:
    """One row; ``where`` it stands is for the sentence of a DataProblem."""
    content = row.get("prompt")
    if not (isinstance(content, str) and content.strip()) and not _is_chat(content):
        raise DataProblem(f"{where} has the prompt {str(content)[:40]!r}", f"Write a row like {EXAMPLE}. Nothing was added.")
    given = row.get("completions")
    if not isinstance(given, list) or not all(_is_completion(one) for one in given):
        raise DataProblem(f"the completions of {where} are no list of texts", f"Write a row like {EXAMPLE}. Nothing was added.")
    prompt_id = str(row.get("id") or _content_id(content, given))
    refuse_bad_name(f"prompt of {where}", prompt_id, LONGEST_ID)
    reference = row.get("reference")
    found = [_completion(prompt_id, number, one) for number, one in enumerate(given)]
    gold = _gold(row, found, where)
    if len(found) > asked.max_shown:
        found = Random(f"shown {(asked.seed, prompt_id)!r}").sample(found, asked.max_shown)
    columns = {GOLD: {c.id: gold[c.id] for c in found}} if gold else {}
    return Prompt(prompt_id, content, [reference] if isinstance(reference, str) else reference, columns), found  # type: ignore[arg-type]


def _content_id(content: Any, given: Sequence[Any]) -> str:
    """What a row is called that has no id: by its prompt and the texts of its completions."""
    texts = [one["text"] if isinstance(one, dict) else one for one in given]
    return f"row {hashlib.sha256(json.dumps([content, texts], sort_keys=True).encode()).hexdigest()[:24]}"


def _gold(row: Mapping[str, Any], found: Sequence[Completion], where: str) -> dict[str, int | None]:
    """The right ranks by completion id, empty where they are not known."""
    ranks = row.get(GOLD)
    if ranks is None:
        return {}
    if not isinstance(ranks, list) or len(ranks) != len(found) or not all(is_rank(rank) for rank in ranks):
        what = f"{GOLD} of {where} is {str(ranks)[:60]!r}"
        raise DataProblem(what, f"Write {len(found)} ranks, one for each completion, null for an F. Nothing was added.")
    return dict(zip((c.id for c in found), ranks, strict=True))


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise DataProblem(f"line {number} is not UTF-8 text", "Save the file as UTF-8. Nothing was added.") from None
    except (json.JSONDecodeError, RecursionError):
        raise DataProblem(f"line {number} is not JSON", f"Write a row like {EXAMPLE}. Nothing was added.") from None
    if not isinstance(row, dict):
        raise DataProblem(f"line {number} is no object", f"Write a row like {EXAMPLE}. Nothing was added.")
    return row


def _completion(prompt_id: str, number: int, given: Any) -> Completion:
    fields = given if isinstance(given, dict) else {"text": given}
    name = str(fields.get("id") or f"{prompt_id}:{number}")
    return Completion(name, prompt_id, fields["text"], [], "stop", 0, str(fields.get("model") or "unknown"))


def _is_chat(content: object) -> bool:
    return isinstance(content, list) and bool(content) and all(isinstance(m, dict) and _is_message(m) for m in content)


def _is_message(message: Mapping[str, Any]) -> bool:
    return set(message) == {"role", "content"} and all(isinstance(value, str) for value in message.values())


def _is_completion(given: object) -> bool:
    return isinstance(given, str) or (isinstance(given, dict) and isinstance(given.get("text"), str))
