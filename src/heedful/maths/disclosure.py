"""How many people of a group may be told without telling on one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SMALLEST = 5
"""People in the smallest cell that is shown."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Counts by group that may be shown, and ``hidden`` people in ``hidden_groups`` others; ``None`` where even that is too few to tell."""

    shown: dict[str, int]
    hidden_groups: int
    hidden: int | None


def shown_cells(counts: Mapping[str, int], smallest: int = SMALLEST) -> Cells:
    """Hide every cell below ``smallest``, and further ones until those hidden are as many together.

    Without the second step one hidden cell would be the total less the others. Cells of nobody are no
    cells. Largest first; equal ones in the order of their names.
    Source: Hundepool et al. (2012), "Statistical Disclosure Control", section 4.2 (secondary suppression).
    """
    order = sorted(((name, count) for name, count in counts.items() if count), key=lambda cell: (-cell[1], cell[0]))
    kept = [cell for cell in order if cell[1] >= smallest]
    hidden = sum(count for _, count in order) - sum(count for _, count in kept)
    while 0 < hidden < smallest and kept:
        hidden += kept.pop()[1]
    return Cells(dict(kept), len(order) - len(kept), hidden if hidden >= smallest or not hidden else None)
