"""What labelers say together: a first consensus, by majority.

For every two completions of a prompt each labeler has one vote, or the weight that is given for
them. Nobody is left out here unless the caller says so: who reads the scale upside down is for
``heedful.feedback.labelers`` to find and for a person, or a recorded setting, to decide.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from heedful.errors import SettingProblem, nearest
from heedful.feedback.criteria import Criterion
from heedful.feedback.votes import latest, votes
from heedful.records import Ranking, Record

SMOOTHING = 0.5
"""Added to either side of a vote (Jeffreys' prior): 3 of 3 is 0.875 and 2 of 3 is 0.625, never 0 or 1."""


@dataclass(frozen=True, slots=True)
class ConsensusPair(Record):
    """Two completions of a prompt, the preferred one first where the vote is decided.

    ``votes_for``, ``votes_against`` and ``ties`` count labelers; ``p`` is the smoothed share of
    the labelers' weight that prefers ``chosen_id``, ties counting half: at least 0.5, and 0.5
    exactly where undecided. ``by_flag``: decided because most labelers gave the rejected one an F.
    """

    prompt_id: str
    chosen_id: str
    rejected_id: str
    p: float
    votes_for: int
    votes_against: int
    ties: int
    by_flag: bool = False

    @property
    def decided(self) -> bool:
        """Whether one completion is preferred."""
        return self.p > 0.5


@dataclass(frozen=True, slots=True)
class Consensus:
    """All pairs of all prompts, decided or not; completions that most labelers gave an F; who was left out."""

    pairs: list[ConsensusPair]
    flagged: dict[str, list[str]]
    labelers: list[str]
    excluded: list[str]

    @property
    def decided(self) -> list[ConsensusPair]:
        """The pairs with a preferred completion."""
        return [pair for pair in self.pairs if pair.decided]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Consensus:
        """The inverse of :meth:`to_dict`."""
        return cls([ConsensusPair.from_dict(pair) for pair in row["pairs"]], row["flagged"], row["labelers"], row["excluded"])


def consensus(
    rankings: Iterable[Ranking],
    criterion: Criterion,
    weights: Mapping[str, float] | None = None,
    exclude: Collection[str] = (),
) -> Consensus:
    """The majority's preference between every two completions that somebody ranked together.

    A completion that more than half of the weight gave an F is below all others of its prompt,
    however the single votes went; two of those make no pair.

    Args:
        rankings: any order; of several by one labeler of one prompt the last counts.
        weights: a labeler's weight, 1 where not given; at least 0.
        exclude: labelers whose votes do not count. They are named in the result.

    Raises:
        DataProblem: there are no rankings by this criterion.
        SettingProblem: a weight is negative, a labeler to leave out has ranked nothing, or nobody is left.
    """
    rows = latest(rankings, criterion)
    weight = _weights({row.labeler for row in rows}, weights or {}, exclude)
    by_prompt: dict[str, list[Ranking]] = defaultdict(list)
    for row in rows:
        if row.labeler in weight:
            by_prompt[row.prompt_id].append(row)
    flagged = {prompt_id: found for prompt_id, judged in by_prompt.items() if (found := _flagged(judged, weight))}
    pairs = [pair for prompt_id, judged in by_prompt.items() for pair in _pairs(judged, criterion, weight, flagged.get(prompt_id, {}))]
    return Consensus(pairs, {prompt_id: sorted(found) for prompt_id, found in flagged.items()}, sorted(weight), sorted(exclude))


def _weights(names: set[str], weights: Mapping[str, float], exclude: Collection[str]) -> dict[str, float]:
    """The weight of each labeler who counts."""
    for name in exclude:
        if name not in names:
            raise SettingProblem(f"labeler {name!r}, who is to be left out, has ranked nothing.{nearest(name, names)}", "Check the name.")
    for name, weight in weights.items():
        if not 0 <= weight < float("inf"):
            raise SettingProblem(f"the weight of labeler {name!r} is {weight}", "Give a finite weight of at least 0.")
    if names <= set(exclude):
        raise SettingProblem(f"all {len(names)} labelers are to be left out", "Keep at least one, or collect more feedback.")
    return {name: weights.get(name, 1.0) for name in names - set(exclude)}


def _flagged(judged: list[Ranking], weight: Mapping[str, float]) -> dict[str, float]:
    """Completions with an F from more than half of the weight, and the smoothed share that gave it."""
    flags: dict[str, float] = defaultdict(float)
    total: dict[str, float] = defaultdict(float)
    for row in judged:
        for completion_id, rank in zip(row.completion_ids, row.ranks, strict=True):
            total[completion_id] += weight[row.labeler]
            flags[completion_id] += weight[row.labeler] * (rank is None)
    return {i: _smoothed(flags[i], total[i]) for i in total if flags[i] > total[i] / 2}


def _pairs(judged: list[Ranking], criterion: Criterion, weight: Mapping[str, float], flagged: Mapping[str, float]) -> list[ConsensusPair]:
    """The pairs of one prompt."""
    cast: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    for row in judged:
        for two, vote in votes(row, criterion).items():
            cast[two].append((vote, weight[row.labeler]))
    ids = sorted({i for row in judged for i in row.completion_ids})
    together = [two for two in combinations(ids, 2) if two in cast and not set(two) <= flagged.keys()]
    return [_pair(judged[0].prompt_id, two, cast[two], flagged) for two in together]


def _pair(prompt_id: str, two: tuple[str, str], cast: list[tuple[int, float]], flagged: Mapping[str, float]) -> ConsensusPair:
    """Count the votes on two completions and put the preferred one first."""
    first, second = two
    p = _smoothed(sum(w * (1 + vote) / 2 for vote, w in cast), sum(w for _, w in cast))
    if second in flagged:
        p = max(p, flagged[second])
    elif first in flagged:
        p = min(p, 1 - flagged[first])
    if abs(p - 0.5) < 1e-9:  # weights add up with rounding errors
        p = 0.5
    counts = {side: sum(vote == side for vote, _ in cast) for side in (1, 0, -1)}
    by_flag = first in flagged or second in flagged
    if p < 0.5:
        return ConsensusPair(prompt_id, second, first, 1 - p, counts[-1], counts[1], counts[0], by_flag)
    return ConsensusPair(prompt_id, first, second, p, counts[1], counts[-1], counts[0], by_flag)


def _smoothed(part: float, total: float) -> float:
    return (part + SMOOTHING) / (total + 2 * SMOOTHING)
