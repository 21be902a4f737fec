"""Split prompts into training, validation and test.

Prompts whose text is the same but for case, punctuation and spacing form a group, and a group
falls on one side. Groups stand in the order of a hash of their text and the seed; the test set
takes the first, validation the next, training the rest. So appended rows can push a prompt from
test to validation or from validation to training, never the other way: what was trained on does
not turn up in a later test set.

Where a column of the rows says what belongs where (``split_by_column``), that is kept to.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from heedful.errors import DataProblem
from heedful.records import Prompt, PromptText

PARTS = ("test", "validation", "train")
"""In the order in which they take near-copies that are marked differently."""


@dataclass(frozen=True)
class Splits:
    """Disjoint prompts, each part in hash order. ``unused``: beyond what was asked for, or a
    near-copy for which its part had no more room."""

    train: list[Prompt]
    validation: list[Prompt]
    test: list[Prompt]
    unused: list[Prompt]


def split(prompts: Sequence[Prompt], train: int | None, validation: int, test: int, seed: int = 0) -> Splits:
    """Exactly so many prompts for each part; ``train=None`` takes all that the others leave.

    Raises ``DataProblem`` when there are too few.
    """
    groups = iter(_groups(prompts, seed))
    parts: list[list[Prompt]] = []
    unused: list[Prompt] = []
    for wanted in (test, validation, train):
        part: list[Prompt] = []
        while wanted is None or len(part) < wanted:
            group = next(groups, None)
            if group is None:
                break
            part += group
        parts.append(part[:wanted])
        unused += [] if wanted is None else part[wanted:]
    unused += [prompt for group in groups for prompt in group]
    splits = Splits(parts[2], parts[1], parts[0], unused)
    _refuse_too_few(splits, train, validation, test)
    return splits


def split_by_column(prompts: Sequence[Prompt], column: str, train: int | None, validation: int, test: int, seed: int = 0) -> Splits:
    """Exactly so many prompts of each part, as ``column`` says ``train``, ``validation`` or ``test``.

    What a part has beyond its number is unused (the first in hash order stay). Near-copies that are
    marked differently stay in the first of test, validation and training; the others are unused.
    Raises ``DataProblem`` for any other mark, and when a part has too few prompts.
    """
    parts: dict[str, list[Prompt]] = {name: [] for name in PARTS}
    unused: list[Prompt] = []
    for group in _groups(prompts, seed):
        marks = [_mark(prompt, column) for prompt in group]
        home = min(marks, key=PARTS.index)
        for prompt, mark in zip(group, marks, strict=True):
            (parts[home] if mark == home else unused).append(prompt)
    wanted = {"test": test, "validation": validation, "train": max(1, len(parts["train"])) if train is None else train}
    for name, number in wanted.items():
        if len(parts[name]) < number:
            raise DataProblem(
                f"{len(parts[name])} prompts are marked {name!r} in column {column!r}, but {number} are wanted",
                f"Lower prompts.{name}, or mark more rows.",
            )
        unused += parts[name][number:]
    kept = {name: parts[name][:number] for name, number in wanted.items()}
    return Splits(kept["train"], kept["validation"], kept["test"], unused)


def _mark(prompt: Prompt, column: str) -> str:
    mark = prompt.columns.get(column)
    if mark not in PARTS:
        what = f"the prompt {prompt.id!r} says {mark!r} in column {column!r}"
        raise DataProblem(what, "Each row must say train, validation or test in the column that prompts.split_column names.")
    return str(mark)


def normalised_text(prompt: PromptText) -> str:
    """The words of a prompt in small letters with single spaces; what near-copies have in common."""
    text = prompt if isinstance(prompt, str) else "\n".join(f"{message['role']} {message['content']}" for message in prompt)
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"\w+", folded)) or "".join(folded.split())


def _groups(prompts: Sequence[Prompt], seed: int) -> list[list[Prompt]]:
    by_text: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        by_text.setdefault(normalised_text(prompt.prompt), []).append(prompt)
    return [by_text[text] for text in sorted(by_text, key=lambda text: _order(text, seed))]


def _order(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{text}".encode(errors="surrogatepass")).digest()


def _refuse_too_few(splits: Splits, train: int | None, validation: int, test: int) -> None:
    wanted = {"train": 1 if train is None else train, "validation": validation, "test": test}
    have = {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)}
    if any(have[name] < number for name, number in wanted.items()):
        total = sum(have.values()) + len(splits.unused)
        asked = " + ".join(f"{number} for {name}" for name, number in wanted.items())
        copies = f", {len(splits.unused)} of them near-copies without room" if splits.unused else ""
        raise DataProblem(
            f"there are {total} prompts{copies}, but {asked} need at least {sum(wanted.values())}",
            "Lower prompts.validation, prompts.test or prompts.train, or give more prompts.",
        )
