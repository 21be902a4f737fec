"""Simulated labelers whose truth is known, for the demo and for tests of everything downstream.

A completion's *quality* is how good it is (more is better), or ``None`` for a nonsensical one.
Where it comes from is the caller's business. Each labeler perceives quality with noise and puts
completions that look equally good on one rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from heedful.errors import DataProblem
from heedful.feedback.assign import Assignment, shown_order
from heedful.feedback.criteria import Criterion
from heedful.feedback.instructions import Instructions
from heedful.records import Completion, Labeler, Prompt, Ranking

Kind = Literal["careful", "random", "upside_down", "first_position", "all_ties", "all_f", "hasty", "misreads", "minority"]
Quality = Callable[[Prompt, Completion], float | None] | Mapping[str, float | None]
"""A function of prompt and completion, or a mapping from completion id."""

F_MISSED = 0.1
"""How often a labeler ranks a nonsensical completion (last) instead of giving it an F."""
F_GUESSED = 0.05
"""How often one who does not read gives an F."""
HASTE = 2.5
"""A hasty labeler's noise, in multiples of what it would be with time."""
START_MS, WORD_MS, SPREAD = 15_000, 250, 0.3
"""Active time: so much to begin with, so much per word read (240 words a minute), and the spread of its logarithm."""
HASTY_SHARE = 0.08
"""A hasty labeler's time, as a share of a careful one's; those who do not read at all take it too."""
UNREAD: tuple[Kind, ...] = ("random", "first_position", "all_ties", "all_f", "hasty")
"""Who takes less time than reading would."""


@dataclass(frozen=True, slots=True)
class SimulatedLabeler:
    """One labeler.

    ``kind``:

    * ``careful`` ranks by quality; ``hasty`` too, in no time and with ``HASTE`` times the noise;
    * ``random`` ranks by nothing, ``first_position`` prefers what is shown first;
    * ``upside_down`` ranks by quality with the ends exchanged; ``misreads`` does so under the
      version of the instructions named in ``misread_version`` and is careful otherwise;
    * ``all_ties`` puts everything on one rank, ``all_f`` gives everything an F;
    * ``minority`` ranks carefully by the second quality that :func:`collect` is given.

    ``noise``: standard deviation of the error in what is perceived, in units of quality.
    ``tie_width``: completions this close in what is perceived share a rank.
    ``strata``: the parts of the population that they stand for.

    With quality normally distributed with standard deviation ``s``, a careful labeler orders a
    pair correctly with probability ``1/2 + atan(s / noise) / pi``.
    """

    name: str
    kind: Kind = "careful"
    noise: float = 0.3
    tie_width: float = 0.0
    misread_version: str = ""
    strata: Mapping[str, str] = field(default_factory=dict)

    def as_labeler(self) -> Labeler:
        """The labeler's row, as a store would keep it."""
        return Labeler(self.name, "simulated", dict(self.strata))

    def rank(self, quality: Sequence[float | None], chance: Random, version: str = "") -> list[int | None]:
        """Ranks of completions whose qualities stand in the order shown; rank 1 for the best, ``None`` for F.

        ``version`` is that of the instructions they were read under.
        """
        if self.kind == "first_position":
            return list(range(1, len(quality) + 1))
        if self.kind in ("all_ties", "all_f"):
            return [1 if self.kind == "all_ties" else None] * len(quality)
        upside_down = self.kind == "upside_down" or (self.kind == "misreads" and version == self.misread_version)
        flagged = [chance.random() < self._f_chance(value) for value in quality]
        perceived = [self._perceive(value, quality, upside_down, chance) for value in quality]
        tiers = _tiers([p for p, f in zip(perceived, flagged, strict=True) if not f], self.tie_width)
        return [None if f else tiers[p] for p, f in zip(perceived, flagged, strict=True)]

    def active_ms(self, words: int, chance: Random) -> int:
        """How long a task of so many words takes, in milliseconds."""
        careful = (START_MS + WORD_MS * words) * chance.lognormvariate(0, SPREAD)
        return round(careful * (HASTY_SHARE if self.kind in UNREAD else 1))

    def _f_chance(self, value: float | None) -> float:
        if self.kind == "random":
            return F_GUESSED
        return 1 - F_MISSED if value is None else 0.0

    def _perceive(self, value: float | None, quality: Sequence[float | None], upside_down: bool, chance: Random) -> float:
        """What the labeler takes for the quality; nonsense that passes for sense looks as bad as the worst."""
        if self.kind == "random":
            return chance.gauss(0, 1)
        seen = min((q for q in quality if q is not None), default=0.0) if value is None else value
        return (-seen if upside_down else seen) + chance.gauss(0, self.noise * (HASTE if self.kind == "hasty" else 1))


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
    minority_quality: Quality | None = None,
) -> list[Ranking]:
    """Every assigned labeler's ranking of every prompt's completions, in the order shown to them.

    ``minority_quality`` is what labelers of a minority taste judge by. Raises DataProblem where a
    labeler or a quality is missing. Each ranking depends on seed, labeler and prompt only,
    whatever else is collected with it.
    """
    by_name = {labeler.name: labeler for labeler in labelers}
    rankings = []
    for prompt, completions in prompts:
        truth = {c.id: _truth(quality, prompt, c) for c in completions}
        words = sum(len(c.text.split()) for c in completions)
        for name in assignment.get(prompt.id, []):
            if name not in by_name:
                raise DataProblem(f"prompt {prompt.id!r} is assigned to {name!r}, who is not there", "Assign prompts to the same labelers.")
            labeler = by_name[name]
            own = _minority(name, minority_quality, prompt, completions) if labeler.kind == "minority" else truth
            order = shown_order(seed, name, prompt.id, list(truth))
            key = repr((seed, name, prompt.id))
            best_first = labeler.rank([own[i] for i in order], Random(f"rank {key}"), instructions.version)
            ranks = best_first if criterion.higher_is == "better" else _reversed(best_first)
            took = labeler.active_ms(words, Random(f"time {key}"))
            rankings.append(Ranking(prompt.id, name, order, ranks, criterion.name, instructions.version, active_ms=took))
    return rankings


def _minority(name: str, quality: Quality | None, prompt: Prompt, completions: Sequence[Completion]) -> dict[str, float | None]:
    if quality is None:
        raise DataProblem(f"labeler {name!r} has a minority's taste, of which nothing is known", "Give collect() a minority_quality.")
    return {c.id: _truth(quality, prompt, c) for c in completions}


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
