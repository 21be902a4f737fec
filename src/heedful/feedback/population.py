"""A minority that agrees with itself is a population with a taste of its own, and not an error.

Labelers stand for strata of a population (``Labeler.strata``). Who disagrees with the panel but
agrees with their own stratum is shown as that: leaving them out would make the model serve the
majority only (Kirk et al. 2024, "The PRISM alignment dataset").
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from heedful.records import Labeler

if TYPE_CHECKING:
    from heedful.maths.meetings import Meetings
    from heedful.maths.statistics import Interval

LEAST_MATES = 2
"""Other labelers of the stratum that one must have met: two people who agree may be a coincidence."""


@dataclass(frozen=True)
class Difference:
    """A labeler's agreement with their own stratum and with everybody else, over shared decisions."""

    stratum: str
    mates: int
    within: Interval
    outside: Interval

    @property
    def sentence(self) -> str:
        """In words."""
        return (
            f"Agrees with {self.mates} others of {self.stratum} on {self.within.estimate:.0%} of shared decisions "
            f"(95% interval {self.within.low:.0%} to {self.within.high:.0%}) and with the rest on {self.outside.estimate:.0%}: "
            "a difference between populations, not an error."
        )


def differences(names: list[str], met: Meetings, labelers: Iterable[Labeler]) -> dict[str, Difference]:
    """Labelers who surely agree with their own stratum, and surely more than with the rest.

    ``names`` are the labelers' names by the numbers in ``met``.
    """
    strata = {labeler.name: set(labeler.strata.items()) for labeler in labelers}
    found: dict[str, Difference] = {}
    for number, name in enumerate(names):
        for stratum in sorted(strata.get(name, ())):
            mates = {other for other, known in enumerate(names) if other != number and stratum in strata.get(known, ())}
            difference = _difference(number, mates, met, f"{stratum[0]} {stratum[1]!r}")
            if difference and name not in found:
                found[name] = difference
    return found


def _difference(number: int, mates: set[int], met: Meetings, stratum: str) -> Difference | None:
    from heedful.maths.agreement import clustered_share
    from heedful.maths.meetings import DECIDED, SAME

    here = (met.first == number) | (met.second == number)
    other = np.where(met.first == number, met.second, met.first)[here]
    same, decided = met.sums[here, SAME], met.sums[here, DECIDED]
    own = np.isin(other, list(mates)) & (decided > 0)
    if len(set(other[own].tolist())) < LEAST_MATES or not decided[~own].sum():
        return None
    prompt = met.prompt[here]
    within, outside = (clustered_share(np.bincount(prompt[of], same[of]), np.bincount(prompt[of], decided[of])) for of in (own, ~own))
    if within.low <= 0.5 or outside.high >= within.estimate:
        return None
    return Difference(stratum, len(set(other[own].tolist())), within, outside)
