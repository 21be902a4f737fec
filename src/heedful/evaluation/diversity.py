"""How varied, repetitive and long completions are. Pure functions on words or token ids."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from heedful.maths.statistics import Interval, wilson

Tokens = Sequence[Hashable]
WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens: mean, population standard deviation and the 5th, 50th and 95th percentile."""

    mean: float
    sd: float
    low: float
    median: float
    high: float


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return WORD.findall(text.lower())


def ngrams(tokens: Tokens, n: int) -> list[tuple[Hashable, ...]]:
    """The runs of ``n`` neighbouring tokens, in order; none where the sequence is shorter."""
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def common_budget(*groups: Sequence[Tokens]) -> int:
    """The most tokens that every group can spend: the budget at which their distinct-n may be compared."""
    return min(sum(len(tokens) for tokens in group) for group in groups)


def distinct(sequences: Sequence[Tokens], n: int, budget: int | None = None) -> float | None:
    """distinct-n: different n-grams over all n-grams (Li et al. 2016) of the first ``budget`` tokens.

    It falls as text grows longer, so compare models at one budget only (:func:`common_budget`).
    n-grams never span two sequences. ``None`` where there is no n-gram.
    """
    left = sum(len(tokens) for tokens in sequences) if budget is None else budget
    found: list[tuple[Hashable, ...]] = []
    for tokens in sequences:
        taken = tokens[:left]
        found += ngrams(taken, n)
        left -= len(taken)
    return len(set(found)) / len(found) if found else None


def repetition(tokens: Tokens, n: int) -> float:
    """rep-n inside one completion: ``1 - different n-grams / n-grams`` (Welleck et al. 2020); 0 where there is none."""
    found = ngrams(tokens, n)
    return 1 - len(set(found)) / len(found) if found else 0.0


def lengths(sequences: Sequence[Tokens]) -> Lengths:
    """Length statistics in tokens; raises ``ValueError`` where there are no sequences."""
    counts = np.array([len(tokens) for tokens in sequences], dtype=float)
    if not len(counts):
        raise ValueError("there are no sequences")
    low, median, high = np.percentile(counts, [5, 50, 95])
    return Lengths(float(counts.mean()), float(counts.std()), float(low), float(median), float(high))


def truncated_share(finish_reasons: Sequence[str]) -> Interval:
    """The share of completions cut off at the length limit (``"length"``), with its Wilson interval."""
    return wilson(sum(reason == "length" for reason in finish_reasons), len(finish_reasons))
