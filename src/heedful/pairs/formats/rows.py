"""A row of somebody's file, and what may be taken out of it: every wrong value is named with its row.

Rows that are sound but teach nothing (:class:`LeftOut`) are counted and told at the end.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from heedful.errors import DataProblem, nearest
from heedful.records import Message, PromptText

Columns = Mapping[str, str]
"""Names of columns and what they hold: text, number, integer, boolean or messages."""
Say = Callable[[str], None]
Given = TypeVar("Given")
Made = TypeVar("Made")
_MESSAGES = 'Messages are a list of {"role": ..., "content": ...}.'


class LeftOut(Exception):
    """The row is sound but of no use; the message says why."""


@dataclass(frozen=True, slots=True)
class Row:
    """Columns by name, and where they stand."""

    values: Mapping[str, Any]
    number: int
    path: Path

    @property
    def where(self) -> str:
        """For sentences: ``row 3 of pairs.jsonl``."""
        return f"row {self.number} of {self.path}"

    def get(self, name: str) -> Any:
        """The value of a column that must be there."""
        if name not in self.values:
            raise DataProblem(
                f"{self.where} has no column {name!r}, only {', '.join(map(str, self.values)) or 'none'}",
                f"Check that it is a file of this format.{nearest(name, map(str, self.values))}",
            )
        return self.values[name]

    def of_kind(self, name: str, kind: type[Made]) -> Made:
        """The value of a column that must be of this Python type."""
        value = self.get(name)
        if not isinstance(value, kind):
            words = {str: "a text", dict: "an object", list: "a list", bool: "true or false"}
            raise DataProblem(f"{name!r} in {self.where} is a {type(value).__name__}, not {words[kind]}", "Mend or remove that row.")
        return value

    def text(self, name: str) -> str:
        """A text."""
        return self.of_kind(name, str)

    def rows(self, name: str) -> list[Row]:
        """A list of objects, as rows of their own that stand where this one does; none where the column is absent or null."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(one, Mapping) for one in value):
            raise DataProblem(f"{name!r} in {self.where} is {str(value)[:60]!r}", "It is a list of objects.")
        return [Row(one, self.number, self.path) for one in value]

    def prompt(self, name: str = "prompt") -> PromptText:
        """A text that is not blank, or chat messages."""
        value = self.get(name)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list) and value:
            return messages(value, self.where)
        raise DataProblem(f"the prompt in {self.where} is {str(value)[:60]!r}", f"It is a text, or chat messages. {_MESSAGES}")

    def number_or(self, name: str, default: float) -> float:
        """A finite number, also one written as text (CSV); ``default`` where there is none."""
        value = self.values.get(name)
        if value is None or value == "":
            return default
        try:
            found = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            found = math.nan
        if not math.isfinite(found):
            raise DataProblem(f"{name!r} in {self.where} is {value!r}", "It is a number.")
        return found

    def count(self, name: str) -> int | None:
        """A whole number of at least 0; ``None`` where there is none."""
        found = self.number_or(name, -1)
        if found == -1 and self.values.get(name) in (None, ""):
            return None
        if found < 0 or found != int(found):
            raise DataProblem(f"{name!r} in {self.where} is {self.values[name]!r}", "It is a whole number of at least 0.")
        return int(found)

    def identifier(self, name: str) -> str:
        """A text or a whole number, as text; empty where there is none."""
        value = self.values.get(name)
        if value is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise DataProblem(f"{name!r} in {self.where} is {value!r}", "It is a text or a whole number.")
        return str(value)

    def flag(self, name: str) -> bool:
        """True or false, also written as text (CSV)."""
        value = self.get(name)
        written = {"true": True, "false": False}.get(value.lower()) if isinstance(value, str) else value
        if not isinstance(written, bool):
            raise DataProblem(f"{name!r} in {self.where} is {value!r}", "It is true or false.")
        return written


def messages(value: list[Any], where: str) -> list[Message]:
    """Chat messages with a role and a text; raises LeftOut for one that holds more than text."""
    for message in value:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise _no_message(message, where)
        if message.get("tool_calls") or isinstance(message.get("content"), list):
            raise LeftOut("a message holds more than text")
        if not isinstance(message.get("content"), str):
            raise _no_message(message, where)
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _no_message(value: Any, where: str) -> DataProblem:
    return DataProblem(f"{where} holds {str(value)[:60]!r} where a chat message should be", _MESSAGES)


def useful(given: Iterable[Given], make: Callable[[Given], Made], rows: str, noun: str, say: Say) -> Iterator[Made]:
    """What ``make`` makes of each row. At the end ``say`` receives how many were left out and why.

    ``rows`` says which they are (``rows of pairs.jsonl``), ``noun`` what is made of them. Raises DataProblem
    at the end where nothing was made.
    """
    left_out: Counter[str] = Counter()
    number = made = 0
    for row in given:
        number += 1
        try:
            result = make(row)
        except LeftOut as useless:
            left_out[str(useless)] += 1
        else:
            made += 1
            yield result
    for reason, times in left_out.items():
        say(f"{times} of {number} {rows} were left out: {reason}.")
    if not made:
        what = f"the {rows} give no {noun}: of {number} rows {left_out.total()} were of no use"
        raise DataProblem(what, "Check that it is the right file, and of the format that was named.")
