"""How well labelers agree on thumbs: with each other, and each of them with the others.

What :mod:`heedful.feedback.agreement` says of rankings. A decision is a completion to which two labelers gave a thumb. How
often two of them are the same depends on how many thumbs are up; Krippendorff's alpha does not.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from heedful.feedback.agreement import PanelAgreement, agreement_of
from heedful.records import Thumb

if TYPE_CHECKING:
    from heedful.maths.meetings import Meetings
    from heedful.maths.statistics import Interval

Given = dict[str, dict[str, dict[str, bool]]]
"""Whether a thumb is up, by prompt, labeler and completion, each in alphabetical order."""
VALUES = np.array([0.0, 1.0])


def thumb_agreement(thumbs: Iterable[Thumb]) -> PanelAgreement:
    """Agreement of a panel, with 95 % intervals over prompts and labelers at once; ``pairs`` are decisions that two share.

    There is no tau-b and no W of thumbs, and no published agreement that they could be held against.
    """
    given = _given(thumbs)
    names = sorted({name for said in given.values() for name in said})
    found = agreement_of(_meetings(given, {name: number for number, name in enumerate(names)}), len(names), len(given))
    share = found.intervals["agreement"]
    sentence = "No two labelers gave a thumb to the same completion yet, so their agreement is not known."
    if share is not None:
        sentence = (
            f"Labelers agree on {found.agreement:.0%} of {found.pairs} shared thumbs (95% interval {found.low:.0%} to {found.high:.0%})."
        )
    return replace(found, alert=False, sentence=sentence)


def agreement_with_others(thumbs: Iterable[Thumb]) -> dict[str, tuple[Interval, int]]:
    """Of each labeler the share of their thumbs that most of the others gave too, and of how many thumbs.

    Thumbs on which the others are divided, or say nothing, do not count. Thumbs of one prompt repeat each other, so
    the 95 % interval is wider than of as many prompts.
    """
    from heedful.maths.agreement import clustered_share

    told: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for said in _given(thumbs).values():
        ups = Counter(completion for given in said.values() for completion, up in given.items() if up)
        voices = Counter(completion for given in said.values() for completion in given)
        for name, given in said.items():
            # Twice the others' thumbs up, less all of their thumbs: above 0 most of them are up.
            most = {c: 2 * (ups[c] - up) - (voices[c] - 1) for c, up in given.items()}
            told[name].append((sum((most[c] > 0) == up for c, up in given.items() if most[c]), sum(most[c] != 0 for c in given)))
    found = {}
    for name, rows in sorted(told.items()):
        hits, sizes = np.array([row for row in rows if row[1]], dtype=float).reshape(-1, 2).T
        found[name] = clustered_share(hits, sizes), int(sizes.sum())
    return found


def _given(thumbs: Iterable[Thumb]) -> Given:
    """The last thumb of each labeler on each completion; a repeat is no further voice."""
    found: Given = {}
    for row in sorted((row for row in thumbs if row.purpose != "repeat"), key=lambda row: (row.prompt_id, row.labeler, row.completion_id)):
        found.setdefault(row.prompt_id, {}).setdefault(row.labeler, {})[row.completion_id] = row.label
    return found


def _meetings(given: Given, numbers: dict[str, int]) -> Meetings:
    """Every two labelers on every prompt: how many of their thumbs are the same, of how many."""
    from scipy.sparse import csr_array

    from heedful.maths.meetings import DECIDED, SAME, Meetings

    who: list[tuple[int, int, int]] = []
    sums: list[list[float]] = []
    rows, cells, shares = [], [], []
    for prompt, said in enumerate(given.values()):
        voices = Counter(completion for labeler in said.values() for completion in labeler)
        for first, second in combinations(said, 2):
            both = [c for c in said[first] if c in said[second]]
            sums.append([0.0] * 6)
            sums[-1][SAME], sums[-1][DECIDED] = sum(said[first][c] == said[second][c] for c in both), len(both)
            for a, b, c in ((said[first][c], said[second][c], c) for c in both):
                rows += [len(who)] * 2
                cells += [2 * a + b, 2 * b + a]
                shares += [1 / (voices[c] - 1)] * 2
            who.append((prompt, numbers[first], numbers[second]))
    prompts, firsts, seconds = np.array(who, dtype=np.int64).reshape(-1, 3).T
    coincidences = csr_array((shares, (rows, cells)), shape=(len(who), len(VALUES) ** 2))
    each = sum(map(len, given.values())) / max(1, len(given))
    return Meetings(prompts, firsts, seconds, np.array(sums).reshape(-1, 6), coincidences, VALUES, each)
