"""The plainest consensus: for every two completions each labeler has one vote, or the weight that is given for them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from heedful.errors import SettingProblem
from heedful.feedback.agreed import ConsensusPair
from heedful.feedback.criteria import Criterion
from heedful.feedback.votes import votes
from heedful.records import Ranking

VERSION = "1"
SMOOTHING = 0.5
"""Added to either side of a vote (Jeffreys' prior): 3 of 3 is 0.875 and 2 of 3 is 0.625, never 0 or 1."""


def majority(
    rankings: Sequence[Ranking], criterion: Criterion, weights: Mapping[str, float] | None = None
) -> tuple[list[ConsensusPair], dict[str, list[str]]]:
    """The majority's preference between every two completions that somebody ranked together, and the completions that are F.

    ``p`` is the smoothed share of weight for the preferred one, ties counting half. A completion that more than
    half of the weight gave an F is below all others of its prompt, however the single votes went; two of those
    make no pair.

    Args:
        rankings: one per labeler and prompt.
        weights: a labeler's weight, 1 where not given; at least 0.

    Raises SettingProblem where a weight is negative or infinite.
    """
    for name, given in (weights or {}).items():
        if not 0 <= given < float("inf"):
            raise SettingProblem(f"the weight of labeler {name!r} is {given}", "Give a finite weight of at least 0.")
    weight = {row.labeler: (weights or {}).get(row.labeler, 1.0) for row in rankings}
    by_prompt: dict[str, list[Ranking]] = defaultdict(list)
    for row in sorted(rankings, key=lambda r: (r.prompt_id, r.labeler)):
        by_prompt[row.prompt_id].append(row)
    with_f = {prompt_id: found for prompt_id, judged in by_prompt.items() if (found := _completions_f(judged, weight))}
    pairs = [pair for prompt_id, judged in by_prompt.items() for pair in _pairs(judged, criterion, weight, with_f.get(prompt_id, {}))]
    return pairs, {prompt_id: sorted(found) for prompt_id, found in with_f.items()}


def _completions_f(judged: list[Ranking], weight: Mapping[str, float]) -> dict[str, float]:
    """Completions with an F from more than half of the weight, and the smoothed share that gave it."""
    flags: dict[str, float] = defaultdict(float)
    total: dict[str, float] = defaultdict(float)
    for row in judged:
        for completion_id, rank in zip(row.completion_ids, row.ranks, strict=True):
            total[completion_id] += weight[row.labeler]
            flags[completion_id] += weight[row.labeler] * (rank is None)
    return {i: _smoothed(flags[i], total[i]) for i in total if flags[i] > total[i] / 2}


def _pairs(judged: list[Ranking], criterion: Criterion, weight: Mapping[str, float], with_f: Mapping[str, float]) -> list[ConsensusPair]:
    """The pairs of one prompt."""
    cast: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for row in judged:
        for two, vote in votes(row, criterion).items():
            cast[two].append((vote, weight[row.labeler]))
    ids = sorted({i for row in judged for i in row.completion_ids})
    together = [two for two in combinations(ids, 2) if two in cast and not set(two) <= with_f.keys()]
    return [_pair(judged[0].prompt_id, two, cast[two], with_f) for two in together]


def _pair(prompt_id: str, two: tuple[str, str], cast: list[tuple[int, float]], with_f: Mapping[str, float]) -> ConsensusPair:
    """Count the votes on two completions and put the preferred one first."""
    first, second = two
    p = _smoothed(sum(w * (1 + vote) / 2 for vote, w in cast), sum(w for _, w in cast))
    if second in with_f:
        p = max(p, with_f[second])
    elif first in with_f:
        p = min(p, 1 - with_f[first])
    if abs(p - 0.5) < 1e-9:  # weights add up with rounding errors
        p = 0.5
    counts = {side: sum(vote == side for vote, _ in cast) for side in (1, 0, -1)}
    by_flag = first in with_f or second in with_f
    if p < 0.5:
        return ConsensusPair(prompt_id, second, first, 1 - p, counts[-1], counts[1], counts[0], by_flag)
    return ConsensusPair(prompt_id, first, second, p, counts[1], counts[-1], counts[0], by_flag)


def _smoothed(part: float, total: float) -> float:
    return (part + SMOOTHING) / (total + 2 * SMOOTHING)
