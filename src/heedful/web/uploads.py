"""Prompts with completions as people upload them: JSON lines, read in bounds, never anything that runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from random import Random
from typing import Any

from heedful.errors import DataProblem
from heedful.records import Completion, Prompt
from heedful.store.prompts import MOST, Item

LONGEST_LINE = 2**20
MOST_ROWS = 100_000
EXAMPLE = '{"prompt": "...", "completions": ["...", {"text": "...", "model": "..."}]}'


def items_of(lines: Iterable[bytes], most: int, seed: int) -> Iterator[Item]:
    """The rows of an uploaded file, each with at most ``most`` of its completions, drawn at random.

    A row is ``{"prompt", "completions"}``, the prompt a text or chat messages, a completion a text or
    ``{"text", "model"?, "id"?}``; ``id`` and ``reference`` are welcome. Raises DataProblem, naming the line.
    """
    if not 1 <= most <= MOST:
        raise DataProblem(f"{most} completions should be shown", f"Choose 1 to {MOST}.")
    rows = 0
    for number, line in enumerate(lines, 1):
        if len(line) > LONGEST_LINE:
            raise DataProblem(f"line {number} is longer than {LONGEST_LINE // 2**20} MiB", "Mend or leave out the row. Nothing was added.")
        if not line.strip():
            continue
        rows += 1
        if rows > MOST_ROWS:
            raise DataProblem(f"there are more than {MOST_ROWS} rows", "Upload them in several files. Nothing was added.")
        yield item_of(_object(line, number), f"line {number}", most, seed)


def item_of(row: Mapping[str, Any], where: str, most: int, seed: int) -> Item:
    """One row; ``where`` it stands is for the sentence of a DataProblem."""
    content = row.get("prompt")
    if not (isinstance(content, str) and content.strip()) and not _is_chat(content):
        raise DataProblem(f"{where} has the prompt {str(content)[:40]!r}", f"Write a row like {EXAMPLE}. Nothing was added.")
    given = row.get("completions")
    if not isinstance(given, list) or not all(_is_completion(one) for one in given):
        raise DataProblem(f"the completions of {where} are no list of texts", f"Write a row like {EXAMPLE}. Nothing was added.")
    prompt_id = str(row.get("id") or where)
    reference = row.get("reference")
    prompt = Prompt(prompt_id, content, [reference] if isinstance(reference, str) else reference)  # type: ignore[arg-type]
    found = [_completion(prompt_id, number, one) for number, one in enumerate(given)]
    if len(found) > most:
        found = Random(f"shown {(seed, prompt_id)!r}").sample(found, most)
    return prompt, found


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
