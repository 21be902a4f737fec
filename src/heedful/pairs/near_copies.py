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
_WORD = re.compile(r"\w+")
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
    found. Texts of fewer than ``at_least`` words are left out. In memory are the shingles of one split
    at a time, never of the first, which usually is the largest.
    """
    copies: list[tuple[Key, Key]] = []
    splits = list(texts_by_split.items())
    for number, (split, texts) in enumerate(splits[1:], 1):
        before = ((other, name, text) for other, rows in splits[:number] for name, text in rows)
        copies += [((split, name), other) for name, other in _closest(texts, before, at_least)]
    return copies


def _closest(texts: Iterable[tuple[str, str]], others: Iterable[tuple[str, str, str]], at_least: int) -> list[tuple[str, Key]]:
    """Each text that is much like one of the others, with the one that it is most like."""
    names: list[str] = []
    needed: list[float] = []
    holders: dict[int, list[int]] = defaultdict(list)
    for name, text in texts:
        own = _shingles(text, at_least)
        for shingle in own:
            holders[shingle].append(len(names))
        names.append(name)
        needed.append(MUCH * len(own))
    best: dict[int, tuple[int, Key]] = {}
    for split, name, text in others:
        hits = Counter(holder for shingle in _shingles(text, at_least) for holder in holders.get(shingle, ()))
        for holder, shared in hits.items():
            if shared >= needed[holder]:
                best[holder] = max(best.get(holder, (0, ("", ""))), (shared, (split, name)))
    return [(names[holder], key) for holder, (_, key) in sorted(best.items())]


def _shingles(text: str, at_least: int) -> set[int]:
    """Hashes of every 13 words in a row; the words themselves would fill the memory."""
    words = [hash(word) for word in _WORD.findall(text.casefold())]
    if len(words) < at_least:
        return set()
    if len(words) <= SHINGLE:
        return {hash(tuple(words))}
    return set(map(hash, zip(*(words[i:] for i in range(SHINGLE)), strict=False)))
