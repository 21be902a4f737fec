"""How sure a number is: intervals, paired differences and what a sample is able to show.

The unit is the prompt. Average the samples of a prompt first (:func:`cluster_means`), then treat
the ``n`` prompts as independent; before and after are paired by prompt. numpy and scipy only.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Array = NDArray[np.float64]
Statistic = Callable[..., Any]
BATCH_ELEMENTS = 2_000_000  # resamples held in memory at once, in numbers: 16 MB, which stays fast


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate and the interval around it. Infinite bounds say that nothing is known about its spread."""

    estimate: float
    low: float = -math.inf
    high: float = math.inf

    def contains(self, value: float = 0.0) -> bool:
        """Whether ``value`` lies in the interval, its ends included."""
        return self.low <= value <= self.high

    @property
    def bounded(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)

    def to_dict(self) -> dict[str, float | None]:
        """Plain JSON types; an infinite end becomes ``None``."""
        return {"estimate": self.estimate, "low": _finite(self.low), "high": _finite(self.high)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`."""
        low, high = row.get("low"), row.get("high")
        return cls(float(row["estimate"]), -math.inf if low is None else float(low), math.inf if high is None else float(high))


@dataclass(frozen=True, slots=True)
class PairedChange:
    """One measure on the same ``prompts`` before and after.

    ``difference`` is after minus before; ``relative`` is that over the mean before, as a fraction,
    and ``None`` where the baseline's interval touches 0; ``detectable`` is the smallest difference
    that this many prompts show with 80 % power.
    """

    before: Interval
    after: Interval
    difference: Interval
    relative: Interval | None
    prompts: int
    detectable: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        intervals = {"before": self.before, "after": self.after, "difference": self.difference, "relative": self.relative}
        return {k: v and v.to_dict() for k, v in intervals.items()} | {"prompts": self.prompts, "detectable": self.detectable}


def wilson(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a proportion (Wilson 1927; Brown, Cai and DasGupta 2001, eq. 4).

    ``successes`` may be fractional (ties count 0.5); the interval is then conservative.
    Raises ``ValueError`` unless ``0 <= successes <= n`` and ``n > 0``.
    """
    if n <= 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} is no proportion")
    z, share = _quantile(confidence), successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # In exact arithmetic the ends are 0 and 1 there; rounding must not put the estimate outside.
    return Interval(share, 0.0 if successes == 0 else centre - half, 1.0 if successes == n else centre + half)


def bootstrap(
    columns: Sequence[ArrayLike],
    statistic: Statistic,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
    method: Literal["BCa", "percentile"] = "BCa",
) -> Interval:
    """Bootstrap interval of ``statistic(*columns, axis=-1)``; rows of the columns ``[n]`` are drawn together.

    BCa (Efron 1987, eq. 2.3), and the percentile interval where BCa's correction is undefined. With
    one row the ends are infinite. Raises ``ValueError`` on no rows, unequal columns or non-finite values.
    """
    data = _columns(columns)
    estimate, n = float(statistic(*data, axis=-1)), len(data[0])
    if n < 2:
        return Interval(estimate)
    if all(np.all(column == column[0]) for column in data):
        return Interval(estimate, estimate, estimate)
    for name in [method, "percentile"]:
        low, high = _resample(data, statistic, confidence, resamples, seed, name)
        if math.isfinite(low) and math.isfinite(high):
            return Interval(estimate, min(low, estimate), max(high, estimate))
    return Interval(estimate)


def paired_bootstrap(
    differences: ArrayLike, confidence: float = 0.95, resamples: int = 9999, seed: int = 0, method: Literal["BCa", "percentile"] = "BCa"
) -> Interval:
    """Interval of the mean of per-prompt values or differences ``[n]``; see :func:`bootstrap`.

    Where all are equal the interval is that one point: the sample shows no spread at all.
    """
    return bootstrap([differences], np.mean, confidence, resamples, seed, method)


def share_interval(shares: ArrayLike, confidence: float = 0.95, resamples: int = 9999, seed: int = 0) -> Interval:
    """Interval of the mean of per-prompt shares ``[n]`` in [0, 1].

    Bootstrap over prompts; where all are equal that would claim certainty, and Wilson's interval does not.
    """
    values = _columns([shares])[0]
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError("a share lies outside 0 to 1")
    if np.all(values == values[0]):
        return wilson(float(values[0]) * len(values), len(values), confidence)
    return paired_bootstrap(values, confidence, resamples, seed)


def ratio_interval(before: ArrayLike, after: ArrayLike, confidence: float = 0.95, resamples: int = 9999, seed: int = 0) -> Interval | None:
    """Relative change ``(mean(after) - mean(before)) / |mean(before)|`` as a fraction, paired by prompt ``[n]``.

    ``None`` where the interval of the mean before touches 0: a percentage of almost nothing means nothing.
    """
    baseline = paired_bootstrap(before, confidence, resamples, seed)
    if baseline.contains(0.0):
        return None
    return bootstrap([before, after], _relative_change, confidence, resamples, seed)


def paired_change(before: ArrayLike, after: ArrayLike, confidence: float = 0.95, resamples: int = 9999, seed: int = 0) -> PairedChange:
    """Everything that can be said about the means of one value per prompt, before ``[n]`` and after ``[n]``."""
    first, second = _columns([before, after])
    differences = second - first
    n = len(differences)
    return PairedChange(
        before=paired_bootstrap(first, confidence, resamples, seed),
        after=paired_bootstrap(second, confidence, resamples, seed),
        difference=paired_bootstrap(differences, confidence, resamples, seed),
        relative=ratio_interval(first, second, confidence, resamples, seed),
        prompts=n,
        detectable=minimum_detectable_difference(float(differences.std(ddof=1)), n) if n > 1 else None,
    )


def cluster_means(values: ArrayLike, clusters: Sequence[Hashable]) -> Array:
    """The mean of ``values [m]`` inside each cluster, clusters in order of first appearance.

    Samples of one prompt are not independent; their mean is one observation.
    """
    numbers = _columns([values])[0]
    if len(numbers) != len(clusters):
        raise ValueError(f"{len(numbers)} values but {len(clusters)} clusters")
    order = {cluster: index for index, cluster in enumerate(dict.fromkeys(clusters))}
    index = np.array([order[cluster] for cluster in clusters])
    return np.bincount(index, numbers) / np.bincount(index)


def mcnemar_exact(before: Sequence[bool], after: Sequence[bool]) -> float:
    """Two-sided exact p-value that two paired yes/no outcomes ``[n]`` are equally frequent (McNemar 1947).

    Binomial test on the prompts whose outcome changed; 1 where none did.
    """
    first, second = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if first.shape != second.shape:
        raise ValueError(f"{len(first)} outcomes before but {len(second)} after")
    lost, won = int(np.sum(first & ~second)), int(np.sum(~first & second))
    return float(stats.binomtest(won, won + lost, 0.5).pvalue) if won + lost else 1.0


def minimum_detectable_difference(sd: float, n: int, power: float = 0.8, alpha: float = 0.05) -> float:
    """The smallest true mean difference that ``n`` prompts show with this power: ``(z_alpha/2 + z_power) sd / sqrt(n)``.

    ``sd``: standard deviation of the per-prompt differences.
    """
    if n <= 0 or sd < 0:
        raise ValueError(f"needs n > 0 and sd >= 0, got n={n}, sd={sd}")
    return float((stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) * sd / math.sqrt(n))


def _relative_change(before: Array, after: Array, axis: int = -1) -> Any:
    start = np.mean(before, axis=axis)
    return (np.mean(after, axis=axis) - start) / np.abs(start)


def _resample(data: list[Array], statistic: Statistic, confidence: float, resamples: int, seed: int, method: str) -> tuple[float, float]:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # scipy warns where BCa is undefined; the caller looks at the ends and falls back.
        warnings.simplefilter("ignore")
        result = stats.bootstrap(
            data,
            statistic,
            n_resamples=resamples,
            batch=max(1, BATCH_ELEMENTS // len(data[0])),
            vectorized=True,
            paired=True,
            confidence_level=confidence,
            method=method,
            random_state=np.random.default_rng(seed),
        )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _columns(columns: Sequence[ArrayLike]) -> list[Array]:
    data = [np.asarray(column, dtype=np.float64) for column in columns]
    if any(column.ndim != 1 or len(column) != len(data[0]) or len(column) == 0 for column in data):
        raise ValueError(f"needs columns of one length [n], n > 0; got shapes {[column.shape for column in data]}")
    if not all(np.isfinite(column).all() for column in data):
        raise ValueError("a value is NaN or infinite")
    return data


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, got {confidence}")
    return float(stats.norm.ppf(0.5 + confidence / 2))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
