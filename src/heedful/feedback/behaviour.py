"""What can be seen of a labeler without looking at anybody's preference: time, position, ties, Fs, repeats, gold.

None of these is a proof. Each is a sentence with its figures, for a person to read; together with
how a labeler agrees with the others they make a recommendation (``heedful.feedback.labelers``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Literal

import numpy as np

from heedful.feedback.criteria import Criterion
from heedful.feedback.votes import votes
from heedful.records import Ranking

if TYPE_CHECKING:
    from heedful.maths.statistics import Interval

Sign = Literal["position", "untouched", "ties", "flags", "gold", "fast", "inconsistent"]
Signs = dict[str, str]
"""What was noticed, by :data:`Sign`, each as a sentence."""

CARELESS: tuple[Sign, ...] = ("position", "untouched", "ties", "flags", "gold")
"""Signs that a labeler does not judge at all, or not by the criterion. The others are only worth a word with them."""
LEAST = 5
"""Tasks before a habit is called one."""
SIGNIFICANCE = 1e-4
"""Chance that an innocent labeler shows a sign of position. Small, as a project has many labelers."""
FASTEST = 900.0
"""Words per minute. People read about 240 and skim up to 700 (Brysbaert 2019; Carver 1992)."""
HURRY = 0.3
"""Where the texts' lengths are not known: the share of the others' time on the same prompts below which it is a hurry."""
ODD_SHARE = 0.25
"""A share of ties or Fs is odd if it is this far above the panel's median, and 5 robust standard deviations."""
GOLD_CUT = 0.75
"""Right on known answers at least this often (Ouyang et al. 2022, appendix B.1)."""


@dataclass(frozen=True)
class Known:
    """What else is known: the words of each completion, the right rankings of gold prompts, and work that was asked for twice."""

    words: Mapping[str, int] = field(default_factory=dict)
    gold: Mapping[str, Ranking] = field(default_factory=dict)
    repeats: Mapping[str, Sequence[Ranking]] = field(default_factory=dict)


@dataclass(frozen=True)
class Habits:
    """One labeler's shares of tied pairs, of Fs, and of pairs in which what was shown earlier is preferred.

    ``consistency`` with themselves and how often they are right on ``gold`` are ``None`` where nothing of the kind was asked.
    """

    ties: float
    flags: float
    earlier: float
    consistency: Interval | None
    gold: Interval | None
    signs: Signs


def habits(tasks: Mapping[str, Sequence[Ranking]], criterion: Criterion, known: Known) -> dict[str, Habits]:
    """Habits of each labeler, given everybody's tasks (at most one per labeler and prompt)."""
    shares = {name: _shares(own, criterion) for name, own in tasks.items()}
    hurry = _pace(tasks, known.words)
    found = {}
    for name, own in tasks.items():
        ties, flags, earlier = shares[name]
        consistency = _same_again(own, known.repeats.get(name, ()), criterion)
        right, wrong = _gold(own, known.gold, criterion)
        signs: Signs = {
            **_positions(own),
            **_odd("ties", "Ties", "of pairs", ties, [s[0] for n, s in shares.items() if n != name], len(own)),
            **_odd("flags", "Gives an F to", "of completions", flags, [s[1] for n, s in shares.items() if n != name], len(own)),
            **wrong,
            **hurry.get(name, {}),
            **_inconsistent(consistency, len(known.repeats.get(name, ()))),
        }
        found[name] = Habits(ties, flags, earlier, consistency, right, signs)
    return found


def _shares(own: Sequence[Ranking], criterion: Criterion) -> tuple[float, float, float]:
    earlier: list[bool] = []
    pairs = 0
    for task in own:
        place = {completion_id: number for number, completion_id in enumerate(task.completion_ids)}
        cast = votes(task, criterion, with_flags=False)
        pairs += len(cast)
        earlier += [(vote > 0) == (place[a] < place[b]) for (a, b), vote in cast.items() if vote]
    ranks = [rank for task in own for rank in task.ranks]
    ties = 1 - len(earlier) / pairs if pairs else 0.0
    return ties, ranks.count(None) / len(ranks) if ranks else 0.0, sum(earlier) / len(earlier) if earlier else 0.5


def _positions(own: Sequence[Ranking]) -> Signs:
    """Whether rank 1 depends on where a completion was shown, or the order shown was left as it was."""
    from scipy.stats import binomtest, chi2

    signs: Signs = {}
    best = [(ranks.index(1), len(ranks)) for task in own if (ranks := task.ranks).count(1) == 1]
    longest = max((size for _, size in best), default=0)
    expected = np.array([sum(1 / size for _, size in best if place < size) for place in range(longest)])
    if longest > 1 and expected.min() >= LEAST:
        observed = np.bincount([place for place, _ in best], minlength=longest)
        p = float(chi2.sf(((observed - expected) ** 2 / expected).sum(), longest - 1))
        if p < SIGNIFICANCE:
            shown = ", ".join(str(count) for count in observed)
            signs["position"] = f"Rank 1 went to what was shown 1st, 2nd, ... {shown} times, which chance would hardly do (p = {p:.1g})."
    strict = [task for task in own if None not in task.ranks and len(set(task.ranks)) == len(task.ranks) > 1]
    untouched = sum(task.ranks == sorted(task.ranks) for task in strict)  # type: ignore[type-var]
    if len(strict) >= LEAST and untouched > len(strict) / 2:
        chance = sum(1 / math.factorial(len(task.ranks)) for task in strict) / len(strict)
        p = float(binomtest(untouched, len(strict), chance, alternative="greater").pvalue)
        if p < SIGNIFICANCE:
            signs["untouched"] = f"The order shown is the order given in {untouched} of {len(strict)} tasks (p = {p:.1g})."
    return signs


def _odd(sign: Sign, does: str, of: str, share: float, others: Sequence[float], tasks: int) -> Signs:
    """A share far above everybody else's."""
    if tasks < LEAST or len(others) < 2:
        return {}
    middle = median(others)
    spread = 1.4826 * median(abs(other - middle) for other in others)  # the standard deviation, if normal
    if share - middle < max(ODD_SHARE, 5 * spread):
        return {}
    return {sign: f"{does} {share:.0%} {of}; the others' median is {middle:.0%}."}


def _gold(own: Sequence[Ranking], gold: Mapping[str, Ranking], criterion: Criterion) -> tuple[Interval | None, Signs]:
    """How often a labeler is right on prompts whose answer is known, and a sign where that is too seldom."""
    from heedful.maths.agreement import clustered_share

    compared = [_same(task, gold[task.prompt_id], criterion) for task in own if task.prompt_id in gold]
    hits, sizes = [hit for hit, _ in compared], [size for _, size in compared]
    if not sum(sizes):
        return None, {}
    share = clustered_share(hits, sizes, confidence=0.9)
    if sum(size > 0 for size in sizes) < LEAST or share.high >= GOLD_CUT:
        return share, {}
    return share, {
        "gold": f"Right on {share.estimate:.0%} of {sum(sizes)} pairs with a known answer (90% interval up to {share.high:.0%}); "
        f"{GOLD_CUT:.0%} are expected."
    }


def _same_again(own: Sequence[Ranking], repeats: Iterable[Ranking], criterion: Criterion) -> Interval | None:
    """How often a labeler decides as they did the first time."""
    from heedful.maths.agreement import clustered_share

    first = {task.prompt_id: task for task in own}
    compared = [_same(task, first[task.prompt_id], criterion) for task in repeats if task.prompt_id in first]
    if not sum(size for _, size in compared):
        return None
    return clustered_share([hit for hit, _ in compared], [size for _, size in compared])


def _inconsistent(share: Interval | None, repeats: int) -> Signs:
    if share is None or repeats < LEAST or share.high >= GOLD_CUT:
        return {}
    return {
        "inconsistent": f"Decides as the first time in {share.estimate:.0%} of pairs shown again "
        f"(95% interval {share.low:.0%} to {share.high:.0%})."
    }


def _same(task: Ranking, other: Ranking, criterion: Criterion) -> tuple[int, int]:
    """Equal decisions, and decisions that both made."""
    mine, theirs = (votes(ranking, criterion, with_flags=False) for ranking in (task, other))
    shared = [(mine[two], theirs[two]) for two in mine.keys() & theirs.keys() if mine[two] and theirs[two]]
    return sum(a == b for a, b in shared), len(shared)


def _pace(tasks: Mapping[str, Sequence[Ranking]], words: Mapping[str, int]) -> dict[str, Signs]:
    """Who works faster than one can read; where lengths are unknown, much faster than others on the same prompts."""
    times: dict[str, list[int]] = {}
    for own in tasks.values():
        for task in own:
            if task.active_ms:
                times.setdefault(task.prompt_id, []).append(task.active_ms)
    found: dict[str, Signs] = {}
    for name, own in tasks.items():
        timed = [task for task in own if task.active_ms]
        if len(timed) < LEAST:
            continue
        if all(i in words for task in timed for i in task.completion_ids):
            speed = median(sum(words[i] for i in task.completion_ids) / (task.active_ms or 1) * 60_000 for task in timed)
            if speed > FASTEST:
                found[name] = {
                    "fast": f"Works at {speed:.0f} words per minute in half of the tasks; nobody reads faster than {FASTEST:.0f}."
                }
            continue
        shared = [(task.active_ms or 0, times[task.prompt_id]) for task in timed if len(times[task.prompt_id]) > 1]
        ratios = [own_time / median(_without(everybody, own_time)) for own_time, everybody in shared]
        if len(ratios) >= LEAST and median(ratios) < HURRY:
            found[name] = {"fast": f"Takes {median(ratios):.0%} of the others' time on the same prompts."}
    return found


def _without(times: Sequence[int], own: int) -> list[int]:
    rest = list(times)
    rest.remove(own)
    return rest
