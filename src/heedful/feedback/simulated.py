"""Simulated labelers whose truth is known, for the demo and for tests of everything downstream.

A completion's *quality* is how good it is (more is better), or ``None`` for a nonsensical one.
Where it comes from is the caller's business. Each labeler perceives quality with noise and puts
completions that look equally good on one rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from heedful.errors import DataProblem
from heedful.feedback.assign import Assignment, shown_order
from heedful.feedback.criteria import Criterion
from heedful.feedback.instructions import Instructions
from heedful.records import Completion, Prompt, Ranking

Kind = Literal["careful", "random", "upside_down", "first_position"]
Quality = Callable[[Prompt, Completion], float | None] | Mapping[str, float | None]
"""A function of prompt and completion, or a mapping from completion id."""

F_MISSED = 0.1
"""How often a labeler ranks a nonsensical completion (last) instead of giving it an F."""
F_GUESSED = 0.05
"""How often one who does not read gives an F."""


@dataclass(frozen=True, slots=True)
class SimulatedLabeler:
    """One labeler.

    ``kind``: ``careful`` ranks by quality, ``random`` by nothing, ``upside_down`` by quality with
    the ends exchanged, ``first_position`` prefers what is shown first.
    ``noise``: standard deviation of the error in what is perceived, in units of quality.
    ``tie_width``: completions this close in what is perceived share a rank.

    With quality normally distributed with standard deviation ``s``, a careful labeler orders a
    pair correctly with probability ``1/2 + atan(s / noise) / pi``.
    """

    name: str
    kind: Kind = "careful"
    noise: float = 0.3
    tie_width: float = 0.0

    def rank(self, quality: Sequence[float | None], chance: Random) -> list[int | None]:
        """Ranks of completions whose qualities stand in the order shown; rank 1 for the best, ``None`` for F."""
        if self.kind == "first_position":
            return list(range(1, len(quality) + 1))
        flagged = [chance.random() < self._f_chance(value) for value in quality]
        perceived = [self._perceive(value, quality, chance) for value in quality]
        tiers = _tiers([p for p, f in zip(perceived, flagged, strict=True) if not f], self.tie_width)
        return [None if f else tiers[p] for p, f in zip(perceived, flagged, strict=True)]

    def _f_chance(self, value: float | None) -> float:
        if self.kind == "random":
            return F_GUESSED
        return 1 - F_MISSED if value is None else 0.0

    def _perceive(self, value: float | None, quality: Sequence[float | None], chance: Random) -> float:
        """What the labeler takes for the quality; nonsense that passes for sense looks as bad as the worst."""
        if self.kind == "random":
            return chance.gauss(0, 1)
        seen = min((q for q in quality if q is not None), default=0.0) if value is None else value
        return (-seen if self.kind == "upside_down" else seen) + chance.gauss(0, self.noise)


def _tiers(perceived: Sequence[float], tie_width: float) -> dict[float, int]:
    """The rank of each value: 1 for the highest; a tier holds what lies within ``tie_width`` of its first."""
    ranks: dict[float, int] = {}
    top, rank = 0.0, 0
    for value in sorted(perceived, reverse=True):
        if rank == 0 or top - value > tie_width:
            top, rank = value, rank + 1
        ranks[value] = rank
    return ranks


_NAMES = ("ada", "ben", "cleo", "dan")


def panel(noises: Sequence[float] = (0.2, 0.4, 0.6, 0.8), tie_width: float = 0.05, spread: float = 1.0) -> list[SimulatedLabeler]:
    """The demo's six labelers: four careful ones of different degrees, one who guesses, one who reads the scale upside down.

    ``noises`` and ``tie_width`` are in multiples of ``spread``, the standard deviation of the
    quality. On normal qualities the four are right on 94, 88, 83 and 79 % of pairs.
    """
    names = [*_NAMES, *(f"labeler-{number}" for number in range(len(_NAMES) + 1, len(noises) + 1))]
    careful = [SimulatedLabeler(n, "careful", noise * spread, tie_width * spread) for n, noise in zip(names, noises, strict=False)]
    guesser = SimulatedLabeler("rory", "random")
    return [*careful, guesser, SimulatedLabeler("uma", "upside_down", 0.4 * spread, tie_width * spread)]


def collect(
    prompts: Iterable[tuple[Prompt, Sequence[Completion]]],
    quality: Quality,
    labelers: Iterable[SimulatedLabeler],
    assignment: Assignment,
    criterion: Criterion,
    instructions: Instructions,
    seed: int,
) -> list[Ranking]:
    """Every assigned labeler's ranking of every prompt's completions, in the order shown to them.

    Raises DataProblem where a labeler or a completion's quality is missing. Each ranking depends
    on seed, labeler and prompt only, whatever else is collected with it.
    """
    by_name = {labeler.name: labeler for labeler in labelers}
    rankings = []
    for prompt, completions in prompts:
        truth = {c.id: _truth(quality, prompt, c) for c in completions}
        for name in assignment.get(prompt.id, []):
            if name not in by_name:
                raise DataProblem(f"prompt {prompt.id!r} is assigned to {name!r}, who is not there", "Assign prompts to the same labelers.")
            order = shown_order(seed, name, prompt.id, list(truth))
            best_first = by_name[name].rank([truth[i] for i in order], Random(f"rank {(seed, name, prompt.id)!r}"))
            ranks = best_first if criterion.higher_is == "better" else _reversed(best_first)
            rankings.append(Ranking(prompt.id, name, order, ranks, criterion.name, instructions.version))
    return rankings


def _truth(quality: Quality, prompt: Prompt, completion: Completion) -> float | None:
    if callable(quality):
        return quality(prompt, completion)
    if completion.id not in quality:
        raise DataProblem(f"completion {completion.id!r} has no quality", "Give one for every completion; None for a nonsensical one.")
    return quality[completion.id]


def _reversed(ranks: Sequence[int | None]) -> list[int | None]:
    """Rank 1 for what was last: of toxicity, the worst completion holds most."""
    last = max((rank for rank in ranks if rank is not None), default=0)
    return [None if rank is None else last + 1 - rank for rank in ranks]
