"""Win rates: how often the aligned model's completion is preferred over another's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heedful.errors import DataProblem
from heedful.maths.statistics import Interval, share_interval, wilson

PairJudge = Callable[[Sequence[object], Sequence[str], Sequence[str]], Sequence[float | None]]
"""``judge(prompts, first, second)``: the probability that each first is better; ``None`` where it abstains."""


@dataclass(frozen=True, slots=True)
class BothOrders:
    """A judge's preferences for ``after``, averaged over both orders.

    ``preferences`` and ``rows`` (their positions in the input) leave out the ``abstained`` prompts.
    ``same_position``: the share of prompts where the judge chose the same *position* in both orders;
    a judge near 1 reads positions rather than completions.
    """

    preferences: list[float]
    rows: list[int]
    same_position: Interval | None
    abstained: int


def win_rate(preferences: Sequence[float], confidence: float = 0.95, seed: int = 0) -> Interval:
    """Mean of per-prompt preferences ``[n]`` in [0, 1] (1: after wins, a tie is 0.5); see ``share_interval``."""
    p = np.asarray(preferences, dtype=np.float64)
    if p.ndim != 1 or not len(p):
        raise DataProblem("there are no preferences to take a win rate of", "Judge at least one prompt first.")
    if not np.all((p >= 0) & (p <= 1)):
        raise DataProblem(
            f"a preference of {p[~((p >= 0) & (p <= 1))][0]} lies outside 0 to 1", "Give 1 for a win, 0 for a loss, 0.5 for a tie."
        )
    return share_interval(p, confidence, seed=seed)


def preferences_by_scores(
    before: Sequence[float] | Sequence[Sequence[float]], after: Sequence[float] | Sequence[Sequence[float]], tie_width: float = 0.0
) -> NDArray[np.float64]:
    """Per prompt ``[n]``: how often a score after beats one before; scores within ``tie_width`` tie.

    Rows are one score, or several per prompt; then every sample after meets every sample before.
    """
    if len(before) != len(after):
        raise DataProblem(f"there are scores of {len(before)} prompts before and {len(after)} after", "Score the same prompts both times.")
    rows = zip(before, after, strict=True)
    return np.array([_mean_preference(np.array(first, ndmin=1), np.array(second, ndmin=1), tie_width) for first, second in rows])


def win_rate_by_scores(
    before: Sequence[float] | Sequence[Sequence[float]], after: Sequence[float] | Sequence[Sequence[float]], tie_width: float = 0.0
) -> Interval:
    """Win rate of ``after`` where a reward model's scores decide; see :func:`preferences_by_scores`."""
    return win_rate([float(p) for p in preferences_by_scores(before, after, tie_width)])


def judge_both_orders(judge: PairJudge, prompts: Sequence[object], before: Sequence[str], after: Sequence[str]) -> BothOrders:
    """Ask ``judge`` about each prompt twice, with the order swapped, and average.

    An abstention in either order leaves the prompt out and is counted.
    Raises :class:`DataProblem` where the judge returns the wrong number of answers or no probabilities.
    """
    if not len(prompts) == len(before) == len(after):
        raise DataProblem(f"{len(prompts)} prompts, {len(before)} completions before, {len(after)} after", "Give one of each per prompt.")
    forward = _asked(judge, prompts, after, before)
    backward = _asked(judge, prompts, before, after)
    rows = [i for i, (a, b) in enumerate(zip(forward, backward, strict=True)) if a is not None and b is not None]
    answers = np.array([[forward[i], backward[i]] for i in rows], dtype=np.float64).reshape(-1, 2)
    same = int(np.sum((answers[:, 0] - 0.5) * (answers[:, 1] - 0.5) > 0))
    return BothOrders(
        preferences=[float(p) for p in (answers[:, 0] + 1 - answers[:, 1]) / 2],
        rows=rows,
        same_position=wilson(same, len(rows)) if rows else None,
        abstained=len(prompts) - len(rows),
    )


def _mean_preference(before: NDArray[np.float64], after: NDArray[np.float64], tie_width: float) -> float:
    gains = after[:, None] - before[None, :]
    return float(np.mean(np.where(np.abs(gains) <= tie_width, 0.5, gains > 0)))


def _asked(judge: PairJudge, prompts: Sequence[object], first: Sequence[str], second: Sequence[str]) -> list[float | None]:
    answers = list(judge(prompts, first, second))
    if len(answers) != len(prompts):
        raise DataProblem(
            f"the judge gave {len(answers)} answers for {len(prompts)} prompts", "It must give one probability or None per prompt."
        )
    for answer in answers:
        if answer is not None and not 0 <= answer <= 1:
            raise DataProblem(f"the judge answered {answer}", "It must give probabilities between 0 and 1, or None to abstain.")
    return answers
