"""Read a user's own pairs: JSON lines (also gzipped), or dialogues in the HH text form.

Rows are ``{"prompt", "chosen", "rejected", "p"?, "prompt_id"?}``. In the form of Anthropic's HH
data there is no prompt column: ``chosen`` and ``rejected`` are whole dialogues,
``"\\n\\nHuman: ... \\n\\nAssistant: ..."``, which are split at the last assistant turn; what goes
before becomes chat messages.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from heedful.errors import DataProblem, FileProblem, nearest
from heedful.pairs.snapshot import prompt_hash
from heedful.records import Message, Pair, PromptText, read_jsonl

Row = Mapping[str, Any]
_TURN = re.compile(r"\n\n(Human|Assistant):")
_LAST_TURN = "\n\nAssistant:"
_ROLES = {"Human": "user", "Assistant": "assistant"}
_EXAMPLE = 'Each row is {"prompt": ..., "chosen": ..., "rejected": ...}.'


class _LeftOut(Exception):
    """The row is sound but of no use; the message says why."""


def load_pairs(path: Path, say: Callable[[str], None] = lambda _: None) -> list[Pair]:
    """The pairs of a file in its order; rows that cannot teach anything are left out.

    Left out are rows with an empty completion, with equal completions, and dialogues whose two
    sides do not answer the same turns. ``say`` receives a sentence with the number of each. A
    prompt without a ``prompt_id`` gets one from its text, so that equal prompts share it.

    Raises:
        FileProblem: the file cannot be read.
        DataProblem: a row lacks a column or holds something else than it should, or nothing is left.
    """
    pairs: list[Pair] = []
    left_out: Counter[str] = Counter()
    number = 0
    for number, row in enumerate(_readable(path), 1):
        try:
            pairs.append(_pair(row, f"row {number} of {path}"))
        except _LeftOut as useless:
            left_out[str(useless)] += 1
    for reason, times in left_out.items():
        say(f"{times} of {number} rows of {path} were left out: {reason}.")
    if not pairs:
        raise DataProblem(f"{path} gives no pairs: of {number} rows {sum(left_out.values())} were of no use", _EXAMPLE)
    return pairs


def _readable(path: Path) -> Iterator[Row]:
    try:
        yield from read_jsonl(path)
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise FileProblem(f"{path} cannot be read to its end: {error}", "It may be damaged: fetch or write it again.") from None


def _pair(row: Row, where: str) -> Pair:
    chosen, rejected = _text(row, "chosen", where), _text(row, "rejected", where)
    if "prompt" in row:
        prompt = _prompt(row["prompt"], where)
    elif _LAST_TURN in chosen and _LAST_TURN in rejected:
        prompt, chosen, rejected = _split_dialogues(chosen, rejected)
    else:
        raise _missing(row, "prompt", where)
    if not chosen.strip() or not rejected.strip():
        raise _LeftOut("a completion is empty")
    if chosen.strip() == rejected.strip():
        raise _LeftOut("both completions are the same")
    ids = {name: _id(row, name, where) for name in ("prompt_id", "chosen_id", "rejected_id")}
    p = _number(row, "p", 1.0, where)
    if not 0 <= p <= 1:
        raise DataProblem(f"p in {where} is {p}", "It is the probability that chosen is the preferred one: 0 to 1.")
    return Pair(
        prompt, chosen, rejected, p, _number(row, "margin", 0.0, where), **(ids | {"prompt_id": ids["prompt_id"] or prompt_hash(prompt)})
    )


def _text(row: Row, name: str, where: str) -> str:
    if name not in row:
        raise _missing(row, name, where)
    if not isinstance(row[name], str):
        raise DataProblem(f"{name!r} in {where} is a {type(row[name]).__name__}, not a text", _EXAMPLE)
    return str(row[name])


def _missing(row: Row, name: str, where: str) -> DataProblem:
    return DataProblem(f"{where} has no column {name!r}, only {', '.join(row) or 'none'}", f"{_EXAMPLE}{nearest(name, row)}")


def _prompt(value: Any, where: str) -> PromptText:
    """A non-empty text, or chat messages with role and content."""
    if isinstance(value, str) and value.strip():
        return value
    if (
        isinstance(value, list)
        and value
        and all(isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in value)
    ):
        return [{"role": m["role"], "content": m["content"]} for m in value]
    raise DataProblem(f"the prompt in {where} is {str(value)[:60]!r}", 'It is a text, or a list of {"role": ..., "content": ...}.')


def _number(row: Row, name: str, default: float, where: str) -> float:
    value = row.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) == float("inf") or value != value:
        raise DataProblem(f"{name!r} in {where} is {value!r}", "It is a number.")
    return float(value)


def _id(row: Row, name: str, where: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataProblem(f"{name!r} in {where} is {value!r}", "It is a text or a whole number.")
    return str(value)


def _split_dialogues(chosen: str, rejected: str) -> tuple[list[Message], str, str]:
    """Prompt and two completions of two dialogues that differ in the last assistant turn only."""
    turns, _, good = chosen.rpartition(_LAST_TURN)
    other_turns, _, bad = rejected.rpartition(_LAST_TURN)
    if turns != other_turns:
        raise _LeftOut("the two dialogues differ before their last assistant turn")
    return _messages(turns), _only_answer(good), _only_answer(bad)


def _messages(turns: str) -> list[Message]:
    """Chat messages, people and assistant in turn, people first and last."""
    before, *parts = _TURN.split(turns)
    speakers, contents = parts[::2], parts[1::2]
    if before.strip() or not speakers or speakers != (["Human", "Assistant"] * len(speakers))[: len(speakers)] or speakers[-1] != "Human":
        raise _LeftOut("people and assistant do not take turns in the dialogue")
    return [{"role": _ROLES[who], "content": said.strip()} for who, said in zip(speakers, contents, strict=True)]


def _only_answer(text: str) -> str:
    if "\n\nHuman:" in text:
        raise _LeftOut("the dialogue does not end with the assistant")
    return text.strip()
