"""Texts of one split that are much like a text of another: what is measured on them flatters."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from heedful.records import Record

SHINGLE = 13
"""Words in a row that two texts must share; the length that is usual in checks for contamination."""
MUCH = 0.5
"""Share of a text's shingles found in one text of another split from which it counts as a near-copy."""
Key = tuple[str, str]
"""A split and an id in it."""


@dataclass(frozen=True, slots=True)
class NearCopy(Record):
    """Two prompts of different splits that share much of their text, or (``kind``) two completions of theirs."""

    split: str
    prompt_id: str
    other_split: str
    other_prompt_id: str
    kind: Literal["prompt", "completion"] = "prompt"


def near_copies(texts_by_split: Mapping[str, Iterable[tuple[str, str]]], at_least: int = 1) -> list[tuple[Key, Key]]:
    """Which texts, given as (id, text) by split, share at least half of their shingles with one of a split named before.

    A text of fewer than 13 words is one shingle, so only its copies (but for case and punctuation) are
    found. Texts of fewer than ``at_least`` words are left out.
    """
    home: dict[int, set[Key]] = defaultdict(set)
    copies: list[tuple[Key, Key]] = []
    for split, texts in texts_by_split.items():
        shingles = {(split, name, text): shingled for name, text in texts if (shingled := _shingles(text, at_least))}
        for (_, name, _), own in shingles.items():
            hits = Counter(other for shingle in own for other in home.get(shingle, ()))
            closest = max(hits, key=lambda other: (hits[other], other), default=None)
            if closest and hits[closest] >= MUCH * len(own):
                copies.append(((split, name), closest))
        for (_, name, _), own in shingles.items():
            for shingle in own:
                home[shingle].add((split, name))
    return copies


def _shingles(text: str, at_least: int) -> set[int]:
    """Hashes of every 13 words in a row; the words themselves would fill the memory."""
    words = re.findall(r"\w+", text.casefold())
    if len(words) < at_least:
        return set()
    return {hash(tuple(words[i : i + SHINGLE])) for i in range(max(1, len(words) - SHINGLE + 1))}
