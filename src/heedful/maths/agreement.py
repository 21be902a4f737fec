"""How well labelers agree: Krippendorff's alpha, Kendall's tau-b and W.

Pure functions of numpy arrays. Rows are labelers, columns are what they judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from heedful.maths.statistics import Interval

Level = Literal["nominal", "ordinal", "interval"]
Array = NDArray[np.float64]


def krippendorff_alpha(ratings: ArrayLike | Sequence[Sequence[float | None]], level: Level) -> float:
    """Krippendorff's alpha: 1 is perfect agreement, 0 what chance gives, below 0 is systematic disagreement.

    Args:
        ratings: ``[labelers, units]``; NaN or ``None`` where a labeler did not rate a unit.
        level: how far two values are apart: ``nominal`` (equal or not), ``ordinal`` (ratings
            between them), ``interval`` (squared difference).

    Returns:
        The coefficient, or NaN where it is undefined: nothing was rated twice, or all ratings
        are the same, so that there is no variation to agree about.

    Raises:
        ValueError: ``level`` is unknown or ``ratings`` is not two-dimensional.

    Source: Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section on
    coincidence matrices.
    """
    table = np.asarray(ratings, dtype=float)
    if table.ndim != 2:
        raise ValueError(f"ratings are [labelers, units], got {table.ndim} dimension(s)")
    values = np.unique(table[~np.isnan(table)])
    counts = (table[:, :, None] == values).sum(axis=0).astype(float)  # [units, values]
    counts = counts[counts.sum(axis=1) >= 2]  # a unit rated once can agree with nothing
    return alpha_of(_coincidences(counts), values, level)


def alpha_of(coincidences: Array, values: Array, level: Level) -> float:
    """Krippendorff's alpha of a coincidence matrix ``[values, values]`` (symmetric, each rating counted once); NaN where undefined."""
    totals = coincidences.sum(axis=0)
    distances = _squared_distances(values, totals, level)
    expected = float((np.outer(totals, totals) * distances).sum())
    if expected == 0:
        return float("nan")
    return 1 - float((totals.sum() - 1) * (coincidences * distances).sum()) / expected


def _coincidences(counts: Array) -> Array:
    """``[values, values]``: how often two ratings of one unit were this pair, each unit weighing its ratings."""
    weights = 1 / (counts.sum(axis=1) - 1)
    return (counts * weights[:, None]).T @ counts - np.diag((counts * weights[:, None]).sum(axis=0))


def _squared_distances(values: Array, totals: Array, level: Level) -> Array:
    """``[values, values]`` squared distances of the level; ``totals`` are the values' frequencies."""
    if level == "nominal":
        return 1 - np.eye(len(values))
    if level == "interval":
        return np.subtract.outer(values, values) ** 2
    if level == "ordinal":
        # The ratings between two values, with half of each end: a distance between midpoints.
        middles = np.cumsum(totals) - totals / 2
        return np.subtract.outer(middles, middles) ** 2
    raise ValueError(f"level is 'nominal', 'ordinal' or 'interval', got {level!r}")


def kendall_tau_b(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b of two lists ``[n]``: concordant minus discordant pairs, corrected for ties.

    NaN where a list is constant or shorter than two. Raises ValueError where lengths differ.
    Source: Kendall (1945), "The treatment of ties in ranking problems".
    """
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"two lists of one length are compared, got shapes {x.shape} and {y.shape}")
    signs_x, signs_y = np.sign(np.subtract.outer(x, x)), np.sign(np.subtract.outer(y, y))
    norm = np.sqrt((signs_x**2).sum() * (signs_y**2).sum())
    return float((signs_x * signs_y).sum() / norm) if norm else float("nan")


def kendall_w(rankings: ArrayLike) -> float:
    """Kendall's coefficient of concordance W of ``[labelers, items]``, corrected for ties; 0 to 1.

    Rows may hold ranks or scores, as only their order counts. NaN where every row is constant.
    Raises ValueError with fewer than two rows or columns, or missing values.
    Source: Kendall & Babington Smith (1939); tie correction as in Siegel & Castellan (1988), 9.4.
    """
    table = np.asarray(rankings, dtype=float)
    if table.ndim != 2 or min(table.shape) < 2 or np.isnan(table).any():
        raise ValueError(f"at least two complete rankings of two items are needed, got shape {table.shape}")
    labelers, items = table.shape
    below = (table[:, None, :] < table[:, :, None]).sum(axis=2)
    tied = (table[:, None, :] == table[:, :, None]).sum(axis=2)  # the size of each item's tie group
    sums = (below + (tied + 1) / 2).sum(axis=0)
    spread = float(((sums - sums.mean()) ** 2).sum())
    correction = float((tied**2 - 1).sum())  # over items, so a group of t adds t^3 - t
    largest = labelers**2 * (items**3 - items) - labelers * correction
    return 12 * spread / largest if largest else float("nan")


def design_effect(hits: Any, sizes: Any) -> float:
    """By how much judgements of one prompt repeat each other: variance of the share over that of independent ones.

    ``hits`` and ``sizes`` are ``[prompts]``: successes and trials of each. At least 1; dividing
    both counts by it gives what as many independent judgements would be worth.
    Source: Kish (1965), "Survey Sampling", section 8.2, with the ratio estimator's variance.
    """
    k, n = np.asarray(hits, dtype=float), np.asarray(sizes, dtype=float)
    total = n.sum()
    share = k.sum() / total if total else 0.0
    independent = share * (1 - share) * total
    return max(1.0, float(((k - share * n) ** 2).sum() / independent)) if independent > 0 else 1.0


def clustered_share(hits: ArrayLike, sizes: ArrayLike, confidence: float = 0.95) -> Interval:
    """A share and its Beta posterior interval from a uniform prior, where judgements of one prompt repeat each other.

    ``hits`` and ``sizes`` as in :func:`design_effect`, by which both counts are divided. Without any the estimate is one half.
    """
    k, n = np.asarray(hits, dtype=float), np.asarray(sizes, dtype=float)
    effect = design_effect(k, n)
    a, b = 1 + k.sum() / effect, 1 + (n - k).sum() / effect
    low, high = betaincinv(a, b, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(k.sum() / n.sum()) if n.sum() else 0.5, float(low), float(high))
