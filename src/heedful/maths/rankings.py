"""Strengths of items from who beat whom. Pure functions of numpy arrays."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def bradley_terry_strengths(n_items: int, wins: Iterable[tuple[int, int]], alpha: float = 0.0) -> Array:
    """Log-strengths ``[n_items]`` of the Bradley-Terry model ``P(i beats j) = s_i / (s_i + s_j)``, mean 0.

    The maximum of the log-likelihood plus ``alpha * n * sum_i (log s_i - s_i)``, a Gamma prior on
    every strength. It is what spectral ranking with ``alpha`` added to every rate converges to,
    and it keeps items finite that only win or only lose.

    Args:
        n_items: number of items.
        wins: ``(winner, loser)`` item numbers, one per comparison.
        alpha: weight of the prior, 0 for maximum likelihood.

    Raises:
        ValueError: an item number is out of range or beats itself, ``alpha`` is negative, or it is
            0 and some items never lost to (or never met) the others, so that no finite maximum exists.

    Source: Hunter (2004), eq. 4, for the likelihood; Caron & Doucet (2012), section 2, for the
    prior; Maystre & Grossglauser (2015), "Fast and accurate inference of Plackett-Luce models",
    for the spectral form.
    """
    table = _win_table(n_items, wins)
    if alpha < 0:
        raise ValueError(f"alpha is 0 or more, got {alpha}")
    if alpha == 0 and not _connected(table):
        raise ValueError("some items never lost to the others, so their strength is unbounded: set alpha above 0")
    strengths = np.zeros(n_items)
    for _ in range(200):
        slope, curvature = derivatives(strengths, table, alpha)
        step: Array = np.linalg.lstsq(-curvature, slope, rcond=None)[0].astype(np.float64)  # a flat direction (alpha 0) gets no step
        strengths = _climb(strengths, step, table, alpha)
        if np.abs(step).max(initial=0.0) < 1e-12:
            break
    return strengths - strengths.mean()


def log_posterior(strengths: Array, table: Array, alpha: float) -> float:
    """What is maximised, at log-strengths ``[n]`` with ``table[i, j]`` the times ``i`` beat ``j``."""
    margins = np.subtract.outer(strengths, strengths)
    prior = alpha * len(strengths) * float((strengths - np.exp(strengths)).sum())
    return prior - float((table * np.logaddexp(0, -margins)).sum())


def derivatives(strengths: Array, table: Array, alpha: float) -> tuple[Array, Array]:
    """Gradient ``[n]`` and Hessian ``[n, n]`` of :func:`log_posterior`."""
    beats = 1 / (1 + np.exp(-np.subtract.outer(strengths, strengths)))  # [i, j]: P(i beats j)
    meetings = table + table.T
    prior = alpha * len(strengths)
    slope = (table - meetings * beats).sum(axis=1) + prior * (1 - np.exp(strengths))
    curvature = meetings * beats * beats.T
    return slope, curvature - np.diag(curvature.sum(axis=1) + prior * np.exp(strengths))


def _climb(strengths: Array, step: Array, table: Array, alpha: float) -> Array:
    """Newton's step, halved until it does not lead downhill."""
    here = log_posterior(strengths, table, alpha)
    for halvings in range(60):
        there = strengths + step * 0.5**halvings
        if log_posterior(there, table, alpha) >= here - 1e-12 * abs(here):
            return there
    return strengths


def _win_table(n_items: int, wins: Iterable[tuple[int, int]]) -> Array:
    """``[n, n]``: how often row beat column."""
    table = np.zeros((n_items, n_items))
    for winner, loser in wins:
        if winner == loser or not (0 <= winner < n_items and 0 <= loser < n_items):
            raise ValueError(f"a win is two different items of 0..{n_items - 1}, got ({winner}, {loser})")
        table[winner, loser] += 1
    return table


def _connected(table: Array) -> bool:
    """Whether wins lead from every item to every other (Ford, 1957): then the maximum is finite."""
    reach = (table > 0) | np.eye(len(table), dtype=bool)
    for _ in range(len(table).bit_length()):
        reach = reach.astype(float) @ reach.astype(float) > 0
    return bool(reach.all())
