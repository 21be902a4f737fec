"""The data set types of Hugging Face TRL: preference, unpaired preference, prompt-completion.

Standard rows hold texts, conversational rows chat messages; a file is one or the other:

    {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    {"prompt": [{"role": "user", "content": "..."}], "chosen": [{"role": "assistant", "content": "..."}], "rejected": [...]}

Without a ``prompt`` it is what ``chosen`` and ``rejected`` begin with in common: whole messages, or
text up to the end of a word. Columns beyond the trainer's own say where a row comes from; trainers
ignore them, and ``strict`` leaves them out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from heedful.errors import DataProblem, nearest
from heedful.pairs.formats.files import write_rows
from heedful.pairs.formats.rows import Columns, LeftOut, Row, messages
from heedful.records import Message, Pair, PairSource, Prompt, PromptText, Unpaired

Style = Literal["standard", "conversational"]
_COUNTS = {"n_for": "integer", "n_against": "integer"}
_WORDS = dict.fromkeys(("criterion", "instructions_version", "source"), "text")
PAIR_COLUMNS = {
    "p": "number",
    "margin": "number",
    "prompt_id": "text",
    "chosen_id": "text",
    "rejected_id": "text",
    **_COUNTS,
    "n_tie": "integer",
    **_WORDS,
    "tie": "boolean",
}
UNPAIRED_COLUMNS = {"prompt_id": "text", "completion_id": "text", **_COUNTS, **_WORDS}
_IN_WORD = re.compile(r"[^\W\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff]")
"""A character of a word, in scripts that put spaces between words."""
_LAST_WORD = re.compile(rf"{_IN_WORD.pattern}*\Z")


def read_pair(row: Row) -> Pair:
    """A preference; raises LeftOut where the two completions are equal, empty or not texts."""
    chosen, rejected = _said(row, "chosen"), _said(row, "rejected")
    if "prompt" not in row.values:
        prompt, chosen, rejected = _implicit(row, chosen, rejected)
    elif all(isinstance(side, list) and len(side) > 1 for side in (chosen, rejected)):
        prompt, chosen, rejected = _conversations(row.prompt(), chosen, rejected)
    else:
        prompt = row.prompt()
    chosen, rejected = _answer(chosen), _answer(rejected)
    if not chosen.strip() or not rejected.strip():
        raise LeftOut("a completion is empty")
    if chosen.strip() == rejected.strip():
        raise LeftOut("both completions are the same")
    p = row.number_or("p", 1.0)
    if not 0 <= p <= 1:
        raise DataProblem(f"p in {row.where} is {p}", "It is the probability that chosen is the preferred one: 0 to 1.")
    tie = row.values.get("tie") not in (None, "") and row.flag("tie")
    own = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "p": p, "margin": row.number_or("margin", 0.0), "tie": tie}
    return Pair.from_dict(own | _evidence(row, PAIR_COLUMNS, get_args(PairSource)))


def read_unpaired(row: Row) -> Unpaired:
    """A completion by itself; raises LeftOut for an empty one."""
    completion = _answer(_said(row, "completion"))
    if not completion.strip():
        raise LeftOut("a completion is empty")
    own = {"prompt": row.prompt(), "completion": completion, "label": row.flag("label")}
    return Unpaired.from_dict(own | _evidence(row, UNPAIRED_COLUMNS, ("thumb", "flag")))


def read_demonstration(row: Row) -> Prompt:
    """A prompt with its completion as the reference; its id is ``prompt_id`` where there is one."""
    completion = _answer(_said(row, "completion"))
    if not completion.strip():
        raise LeftOut("a completion is empty")
    return Prompt(row.identifier("prompt_id"), row.prompt(), [completion])


def write_pairs(path: Path, pairs: Iterable[Pair], style: Style | None = None, strict: bool = False) -> int:
    """Write preferences; returns their number. Without a style it is that of the first prompt."""
    return _write(path, pairs, ("chosen", "rejected"), {}, {} if strict else PAIR_COLUMNS, style)


def write_unpaired(path: Path, rows: Iterable[Unpaired], style: Style | None = None, strict: bool = False) -> int:
    """Write unpaired preferences; returns their number."""
    return _write(path, rows, ("completion",), {"label": "boolean"}, {} if strict else UNPAIRED_COLUMNS, style)


def write_demonstrations(path: Path, prompts: Iterable[Prompt], style: Style | None = None, strict: bool = False) -> int:
    """Write a prompt-completion row for every reference of every prompt; returns their number."""
    rows = (_Demonstration(p.prompt, text, p.id) for p in prompts for text in p.reference or [])
    return _write(path, rows, ("completion",), {}, {} if strict else {"prompt_id": "text"}, style)


class _Demonstration(NamedTuple):
    prompt: PromptText
    completion: str
    prompt_id: str


def _write(path: Path, rows: Iterable[Any], texts: tuple[str, ...], own: Columns, extra: Columns, style: Style | None) -> int:
    """Rows whose ``prompt`` and ``texts`` follow the style; the other columns are taken as they are."""
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        raise DataProblem(f"there are no rows to write into {path}", "Check what was read, and the criterion.")
    style = style or ("standard" if isinstance(first.prompt, str) else "conversational")
    others = {**own, **extra}
    kind = "text" if style == "standard" else "messages"

    def shaped() -> Iterator[Mapping[str, Any]]:
        for number, row in enumerate(chain([first], rows), 1):
            values = _styled(row, texts, style, number, path)
            values.update((name, getattr(row, name)) for name in others)
            yield values

    return write_rows(path, shaped(), {**dict.fromkeys(("prompt", *texts), kind), **others})


def _styled(row: Any, texts: tuple[str, ...], style: Style, number: int, path: Path) -> dict[str, Any]:
    prompt = row.prompt
    if style == "standard":
        if not isinstance(prompt, str):
            what = f"row {number} for {path} has chat messages for a prompt, and the rows before it texts"
            raise DataProblem(what, "Choose the conversational style, which turns texts into messages of the user.")
        return {"prompt": prompt, **{name: getattr(row, name) for name in texts}}
    asked = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    return {"prompt": asked, **{name: [{"role": "assistant", "content": getattr(row, name)}] for name in texts}}


def _said(row: Row, name: str) -> str | list[Message]:
    """What a column holds: a text, or chat messages."""
    value = row.get(name)
    return messages(value, row.where) if isinstance(value, list) else row.text(name)


def _answer(said: str | list[Message]) -> str:
    """The text of the one message of the assistant."""
    if isinstance(said, str):
        return said
    if len(said) != 1 or said[0]["role"] != "assistant":
        raise LeftOut("a completion is not one message of the assistant")
    return said[0]["content"]


def _evidence(row: Row, columns: Columns, sources: Sequence[str]) -> dict[str, Any]:
    """The columns that say where a row comes from, as far as they are there; ``source`` only where it is one of ours."""
    found: dict[str, Any] = {name: row.identifier(name) for name, kind in columns.items() if kind == "text" and name != "source"}
    found.update((name, row.count(name)) for name, kind in columns.items() if kind == "integer")
    return found | ({"source": source} if (source := row.values.get("source")) in sources else {})


def _implicit(row: Row, chosen: Any, rejected: Any) -> tuple[PromptText, Any, Any]:
    """Prompt and two completions of two texts, or two conversations, that begin alike."""
    if hint := nearest("prompt", row.values):
        raise DataProblem(f"{row.where} has no column 'prompt', only {', '.join(row.values)}", f"Name it so.{hint}")
    if isinstance(chosen, str) != isinstance(rejected, str):
        raise LeftOut("one side is a text and the other a conversation")
    length = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), min(len(chosen), len(rejected)))
    if isinstance(chosen, str):
        length = _to_the_word(chosen, rejected, length)
    if not length or not str(chosen[:length]).strip():
        raise LeftOut("there is no prompt, and the two sides have no common beginning")
    return chosen[:length], chosen[length:], rejected[length:]


def _conversations(prompt: PromptText, chosen: Any, rejected: Any) -> tuple[PromptText, Any, Any]:
    """Two whole conversations beside their prompt, as UltraFeedback has them: the messages before the last are the prompt."""
    before = chosen[:-1]
    if rejected[:-1] != before or prompt not in (before, before[-1]["content"]):
        raise LeftOut("the prompt is not what the two conversations begin with")
    return before, chosen[-1:], rejected[-1:]


def _to_the_word(a: str, b: str, length: int) -> int:
    """The ``length`` that two texts have in common, cut back to where a word begins if they part inside one.

    The space before what follows is not part of it: it belongs to the completion, as in TRL.
    """
    if any(_IN_WORD.match(text, length) for text in (a, b)):
        length = _LAST_WORD.search(a, 0, length).start()  # type: ignore[union-attr]  # it matches nothing at the end, too
    return length - 1 if a[length - 1 : length] == " " else length
