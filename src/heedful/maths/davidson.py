"""Davidson's model of one comparison: the first wins, the second wins, or neither.

With a difference ``d`` of worth and a tie parameter ``t`` (both in nats)::

    P(first) : P(tie) : P(second)  =  exp(d / 2) : exp(t) : exp(-d / 2)

For ``t`` towards minus infinity this is Bradley and Terry's model, ``P(first) = sigmoid(d)``.
Pure functions of numpy arrays, element by element; shapes broadcast.

Source: Davidson (1970), "On extending the Bradley-Terry model to accommodate ties in paired
comparison experiments", eq. 2.5, with ``nu = exp(t)``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(9)
"""Gauss-Hermite quadrature: the mean of ``f(x)`` over a standard normal ``x`` is ``sum_k NODE_WEIGHTS[k] * f(NODES[k])``."""
NODE_WEIGHTS = NODE_WEIGHTS / NODE_WEIGHTS.sum()


def probabilities(d: Array, t: Array) -> tuple[Array, Array, Array]:
    """P(first), P(second) and P(tie). Small ones are exact too, and no finite input overflows."""
    half = np.exp(-np.abs(d) / 2)  # the weaker one's weight over the stronger one's is half ** 2
    tie = np.exp(t) * half
    total = 1 + half * half + tie
    stronger, weaker = 1 / total, half * half / total
    return np.where(d > 0, stronger, weaker), np.where(d > 0, weaker, stronger), tie / total


def log_probability(outcome: Array, d: Array, t: Array) -> Array:
    """Log-probability of ``outcome``: 1 where the first wins, -1 where the second wins, 0 for a tie."""
    log_total = np.logaddexp(np.logaddexp(d / 2, -d / 2), t)
    return np.where(outcome == 0, t, outcome * d / 2) - log_total


def slope(outcome: Array, first: Array, second: Array) -> Array:
    """Derivative of :func:`log_probability` by ``d``, from what :func:`probabilities` returns."""
    return (outcome - first + second) / 2


def curvature(first: Array, second: Array) -> Array:
    """Minus the second derivative of :func:`log_probability` by ``d``, for every outcome alike; at least 0."""
    return (first + second - (first - second) ** 2) / 4


def tie_slope(outcome: Array, tie: Array) -> Array:
    """Derivative of :func:`log_probability` by ``t``."""
    return (outcome == 0) - tie
