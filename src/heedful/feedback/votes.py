"""What one ranking says about each two of its completions."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from heedful.errors import DataProblem
from heedful.feedback.criteria import Criterion
from heedful.records import Ranking

Two = tuple[str, str]
"""Two completion ids in alphabetical order."""


def latest(rankings: Iterable[Ranking], criterion: Criterion) -> list[Ranking]:
    """The rankings by this criterion; of several by one labeler of one prompt, the last. Repeats are no further voice and left out.

    Raises DataProblem where there are none.
    """
    rows = list(rankings)
    kept = {(r.prompt_id, r.labeler): r for r in rows if r.criterion == criterion.name and r.purpose != "repeat"}
    if not kept:
        others = ", ".join(sorted({r.criterion for r in rows})) or "none at all"
        raise DataProblem(
            f"there are no rankings by {criterion.name!r} (there are: {others})", "Collect some, or choose a criterion that has rankings."
        )
    return list(kept.values())


def votes(ranking: Ranking, criterion: Criterion, with_flags: bool = True) -> dict[Two, int]:
    """For each two completions: 1 where the first is preferred, -1 where the second is, 0 for a tie.

    Two Fs say nothing and are left out. ``with_flags=False`` leaves out every F, which is a
    judgement of another kind than the order of the rest.
    """
    found = {}
    for a, b in combinations(sorted(ranking.completion_ids), 2):
        ranks = ranking.rank_of(a), ranking.rank_of(b)
        if ranks == (None, None) or (None in ranks and not with_flags):
            continue
        found[a, b] = {True: 1, False: -1, None: 0}[criterion.preferred(*ranks)]
    return found
