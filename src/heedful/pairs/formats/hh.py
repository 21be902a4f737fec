"""The text format of Anthropic's HH data: two whole dialogues that differ in their last answer.

    {"chosen": "\\n\\nHuman: ...\\n\\nAssistant: good", "rejected": "\\n\\nHuman: ...\\n\\nAssistant: bad"}

What goes before the last answer is the prompt, as chat messages. The format has no other speakers and
no ids; a text that holds the mark of a turn itself cannot be written in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from heedful.pairs.formats import trl
from heedful.pairs.formats.files import write_rows
from heedful.pairs.formats.rows import LeftOut, Row, Say, useful
from heedful.records import Message, Pair, PromptText

COLUMNS = {"chosen": "text", "rejected": "text"}
_TURN = re.compile(r"\n\n(Human|Assistant):")
_LAST_TURN = "\n\nAssistant:"
_ROLES = {"Human": "user", "Assistant": "assistant"}
_SPEAKERS = {role: speaker for speaker, role in _ROLES.items()}
_NO_TURNS = "people and assistant do not take turns in the dialogue"


def is_dialogue(row: Row) -> bool:
    """Whether both sides of a row without a prompt are dialogues."""
    sides = row.values.get("chosen"), row.values.get("rejected")
    return "prompt" not in row.values and all(isinstance(side, str) and _LAST_TURN in side for side in sides)


def read_pair(row: Row) -> Pair:
    """A preference; raises LeftOut where the two dialogues do not answer the same turns."""
    turns, _, chosen = row.text("chosen").rpartition(_LAST_TURN)
    other_turns, _, rejected = row.text("rejected").rpartition(_LAST_TURN)
    if turns != other_turns:
        raise LeftOut("the two dialogues differ before their last assistant turn")
    sides = {"prompt": _messages(turns), "chosen": _answer(chosen), "rejected": _answer(rejected)}
    return trl.read_pair(replace(row, values={**row.values, **sides}))


def write_pairs(path: Path, pairs: Iterable[Pair], say: Say) -> int:
    """Write dialogues; returns their number. ``say`` receives how many pairs the format cannot hold."""
    rows = useful(pairs, _dialogues, f"pairs for {path}", "dialogues", say)
    return write_rows(path, rows, COLUMNS)


def _dialogues(pair: Pair) -> dict[str, Any]:
    return {"chosen": _dialogue(pair.prompt, pair.chosen), "rejected": _dialogue(pair.prompt, pair.rejected)}


def _dialogue(prompt: PromptText, completion: str) -> str:
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    speakers = [_SPEAKERS.get(message["role"], "") for message in asked]
    _refuse_unless_in_turn(speakers)
    turns = [*zip(speakers, (message["content"] for message in asked), strict=True), ("Assistant", completion)]
    if any(_TURN.search(text.strip()) for _, text in turns):
        raise LeftOut("a text holds the mark of a turn itself")
    return "".join(f"\n\n{speaker}: {text.strip()}" for speaker, text in turns)


def _messages(turns: str) -> list[Message]:
    """Chat messages, people and assistant in turn, people first and last."""
    before, *parts = _TURN.split(turns)
    speakers, contents = parts[::2], parts[1::2]
    if before.strip():
        raise LeftOut(_NO_TURNS)
    _refuse_unless_in_turn(speakers)
    return [{"role": _ROLES[who], "content": said.strip()} for who, said in zip(speakers, contents, strict=True)]


def _refuse_unless_in_turn(speakers: list[str]) -> None:
    if not speakers or speakers != (["Human", "Assistant"] * len(speakers))[: len(speakers)] or speakers[-1] != "Human":
        raise LeftOut(_NO_TURNS)


def _answer(text: str) -> str:
    if "\n\nHuman:" in text:
        raise LeftOut("the dialogue does not end with the assistant")
    return text.strip()
