"""How a cost grows: the order that points follow, and whether one of them falls out. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

CLIFF = 1.6
"""A point this many times above the trend of its neighbours is a cliff."""


def exponent(xs: Sequence[float], ys: Sequence[float]) -> float:
    """``k`` of ``y ~ x^k`` by least squares over the logarithms of the upper half of the points (three at least):
    lower down, what a step costs whatever its size hides the order."""
    count = max(3, (len(xs) + 1) // 2)
    logs = [(math.log(x), math.log(y)) for x, y in zip(xs[-count:], ys[-count:], strict=True)]
    mean_x, mean_y = (sum(part) / len(logs) for part in zip(*logs, strict=True))
    return sum((x - mean_x) * (y - mean_y) for x, y in logs) / sum((x - mean_x) ** 2 for x, _ in logs)


def cliffs(xs: Sequence[float], ys: Sequence[float]) -> list[int]:
    """Which points stand more than 1.6 times above their neighbours' trend.

    The trend at a point is the straight line through the two before it; at the second point, through
    the first and the third. Where that line falls, as noise makes it, growth in proportion takes its place.
    """
    found = []
    for at in range(1, len(xs)):
        a, b = (at - 2, at - 1) if at > 1 else (0, 2)
        if b >= len(xs):
            continue
        slope = (ys[b] - ys[a]) / (xs[b] - xs[a]) if ys[b] >= ys[a] else ys[b] / xs[b]
        if ys[at] > CLIFF * (ys[b] + slope * (xs[at] - xs[b])):
            found.append(at)
    return found
