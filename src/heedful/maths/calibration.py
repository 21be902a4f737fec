"""Whether stated probabilities come true: reliability, calibration error, proper scores, temperature.

For a reward model the probability of a pair is ``sigmoid(r_first - r_second)`` and the outcome says
whether the first was preferred. Put the two completions in a random order (or each pair in both):
with the preferred one always first, every outcome is 1 and calibration is not measured at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

SMALLEST = 1e-12  # a stated 0 that comes true costs 27.6 nats rather than infinity


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """``n`` predictions of similar probability: their mean, and the share that came true."""

    predicted: float
    observed: float
    n: int


def reliability_curve(probabilities: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> list[ReliabilityBin]:
    """Bins of equal mass over ``probabilities [n]`` with ``outcomes [n]`` in [0, 1], lowest first.

    Equal probabilities may fall into neighbouring bins; no bin is empty. Raises ``ValueError`` on bad input.
    """
    p, y = _checked(probabilities, outcomes)
    order = np.argsort(p, kind="stable")
    parts = np.array_split(order, min(bins, len(p)))
    return [ReliabilityBin(float(p[part].mean()), float(y[part].mean()), len(part)) for part in parts]


def ece(probabilities: ArrayLike, outcomes: ArrayLike, bins: int = 10) -> float:
    """Expected calibration error with equal-mass bins: ``sum_b n_b / n |observed_b - predicted_b|`` (Nixon et al. 2019)."""
    curve = reliability_curve(probabilities, outcomes, bins)
    return sum(b.n * abs(b.observed - b.predicted) for b in curve) / sum(b.n for b in curve)


def brier(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Mean squared error of ``probabilities [n]`` against ``outcomes [n]`` (Brier 1950, two classes counted once)."""
    p, y = _checked(probabilities, outcomes)
    return float(np.mean((p - y) ** 2))


def nll(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Mean negative log-likelihood in nats; outcomes may be soft. Probabilities are kept 1e-12 away from 0 and 1."""
    p, y = _checked(probabilities, outcomes)
    p = np.clip(p, SMALLEST, 1 - SMALLEST)
    return float(-np.mean(y * np.log(p) + (1 - y) * np.log1p(-p)))


def temperature_scale(logits: ArrayLike, outcomes: ArrayLike, weights: ArrayLike | None = None, prior_sd: float = np.inf) -> float:
    """The temperature T in [0.01, 100] for which ``sigmoid(logits / T)`` has the least nll (Guo et al. 2017, section 4.2).

    ``logits [n]``: score differences; ``outcomes [n]``: 1 where the first was preferred, may be soft;
    ``weights [n]``: how many independent outcomes each is worth, 1 if not given. ``prior_sd``: standard
    deviation of a normal prior on log T around 0, for little data.
    T > 1 says that the scores were too sure of themselves. Fit it on other pairs than those you report.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"needs finite logits [n] and outcomes [n], n > 0; got shapes {x.shape} and {y.shape}")
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64)

    def loss(log_temperature: float) -> float:
        scaled = x / np.exp(log_temperature)
        return float(w @ (np.logaddexp(0, scaled) - y * scaled) + (log_temperature / prior_sd) ** 2 / 2) / len(x)

    limit = float(np.log(100))
    return float(np.exp(minimize_scalar(loss, bounds=(-limit, limit), method="bounded", options={"xatol": 1e-9}).x))


def _checked(probabilities: ArrayLike, outcomes: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p, y = np.asarray(probabilities, dtype=np.float64), np.asarray(outcomes, dtype=np.float64)
    if p.shape != y.shape or p.ndim != 1 or not len(p):
        raise ValueError(f"needs probabilities [n] and outcomes [n], n > 0; got shapes {p.shape} and {y.shape}")
    if not (np.all((p >= 0) & (p <= 1)) and np.all((y >= 0) & (y <= 1))):
        raise ValueError("a probability or outcome lies outside 0 to 1")
    return p, y
