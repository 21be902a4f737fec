"""How well labelers agree with each other: the ceiling to which a reward model is compared.

Only the order of completions counts here; an F is a judgement of another kind and takes no part.
Data that nobody read gives an alpha and a tau-b of about 0, and an agreement of about one half.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heedful.feedback.criteria import Criterion
from heedful.feedback.table import Part, Table, table
from heedful.feedback.votes import latest
from heedful.records import Labeler, Ranking, Record

if TYPE_CHECKING:
    from heedful.maths.meetings import Meetings
    from heedful.maths.statistics import Interval

PUBLISHED = (0.72, 0.77)
"""Agreement of trained labelers in published work: 72 % (Stiennon et al. 2020), 73 to 77 % (Ouyang et al. 2022)."""
ALERT_BELOW = 0.65
"""Where labelers agree less than this, the instructions deserve a look before more is collected."""


@dataclass(frozen=True, slots=True)
class PanelAgreement(Record):
    """Agreement of a panel, with 95 % intervals over prompts and labelers at once.

    ``agreement`` with ``low`` and ``high`` is the share of shared decisions that are the same, over ``pairs``
    decisions. ``alpha`` is Krippendorff's, ordinal, on the ranks; ``tau_b`` and ``w`` are Kendall's, between two
    labelers of one prompt and among all of them. ``None`` where one is undefined; ``intervals`` holds all four.
    """

    labelers: int
    prompts: int
    pairs: int
    agreement: float
    low: float
    high: float
    alpha: float | None
    tau_b: float | None
    w: float | None
    intervals: dict[str, dict[str, float | None] | None]
    alert: bool
    sentence: str


def panel_agreement(
    rankings: Iterable[Ranking], criterion: Criterion, exclude: Collection[str] = (), resamples: int = 400, seed: int = 0
) -> PanelAgreement:
    """Agreement of all labelers but the excluded; raises DataProblem where nobody is left."""
    judged = table(latest((r for r in rankings if r.labeler not in exclude), criterion), criterion)
    return agreement_of(meetings(judged), len(judged.labelers), sum(len(part.prompt_ids) for part in judged.parts), resamples, seed)


def agreement_of(met: Meetings, labelers: int, prompts: int, resamples: int = 400, seed: int = 0) -> PanelAgreement:
    """What a panel's meetings come to; see :func:`heedful.maths.meetings.intervals`."""
    from heedful.maths.meetings import DECIDED, intervals

    found = intervals(met, resamples=resamples, seed=seed)
    share, pairs = found["agreement"], int(met.sums[:, DECIDED].sum())
    estimate, low, high = (share.estimate, share.low, share.high) if share else (0.5, 0.0, 1.0)
    alert = share is not None and share.estimate < ALERT_BELOW
    return PanelAgreement(
        labelers,
        prompts,
        pairs,
        estimate,
        low,
        high,
        _estimate(found["alpha"]),
        _estimate(found["tau_b"]),
        _estimate(found["w"]),
        {name: None if interval is None else interval.to_dict() for name, interval in found.items()},
        alert,
        _sentence(share, pairs, alert),
    )


def agreement_by_version(rankings: Iterable[Ranking], criterion: Criterion) -> dict[str, PanelAgreement]:
    """Agreement under each version of the instructions, in order of version."""
    return _by(rankings, criterion, lambda r: [r.instructions_version])


def self_agreement(rankings: Iterable[Ranking], criterion: Criterion, resamples: int = 400, seed: int = 0) -> PanelAgreement | None:
    """How well labelers agree with themselves on prompts that they judged again; ``None`` where nobody did.

    The same measures and two-way intervals as of two labelers: each first judgement meets the one that repeats it.
    """
    told: dict[bool, dict[tuple[str, str], Ranking]] = {False: {}, True: {}}
    for row in rankings:
        if row.criterion == criterion.name:
            told[row.purpose == "repeat"][row.prompt_id, row.labeler] = row
    both = sorted(told[False].keys() & told[True].keys())
    if not both:
        return None
    # For the table every such task is a prompt of its own, judged by two who are then found to be one.
    rows = [replace(told[again][key], prompt_id=f"{n:09}", labeler=str(again)) for n, key in enumerate(both) for again in told]
    judged = table(rows, criterion)
    task = np.array([int(unit) for part in judged.parts for unit in part.prompt_ids])
    prompts, labelers = _numbers([prompt_id for prompt_id, _ in both]), _numbers([labeler for _, labeler in both])
    met = meetings(judged)
    who = labelers[task[met.prompt]]
    met = replace(met, prompt=prompts[task[met.prompt]], first=who, second=who)
    return agreement_of(met, len(set(labelers.tolist())), len(set(prompts.tolist())), resamples, seed)


def agreement_by_stratum(rankings: Iterable[Ranking], criterion: Criterion, labelers: Iterable[Labeler]) -> dict[str, PanelAgreement]:
    """Agreement among the labelers of each stratum, as ``"age: 30-44"``; strata in which nobody shares a prompt say so in ``pairs``."""
    strata = {labeler.name: [f"{name}: {value}" for name, value in labeler.strata.items()] for labeler in labelers}
    return _by(rankings, criterion, lambda r: strata.get(r.labeler, []))


def _by(rankings: Iterable[Ranking], criterion: Criterion, groups_of: Callable[[Ranking], Sequence[str]]) -> dict[str, PanelAgreement]:
    """Of each group on its own: what one labeler said of one prompt may stand in several, under one version and under the next."""
    groups: dict[str, list[Ranking]] = {}
    for row in rankings:
        for name in groups_of(row) if row.criterion == criterion.name and row.purpose != "repeat" else ():
            groups.setdefault(name, []).append(row)
    return {name: panel_agreement(groups[name], criterion) for name in sorted(groups)}


def _numbers(names: Sequence[str]) -> NDArray[np.int64]:
    """A number for each name, the same for the same."""
    return np.unique(names, return_inverse=True)[1].astype(np.int64)


def _estimate(interval: Interval | None) -> float | None:
    return None if interval is None else interval.estimate


def _sentence(share: Interval | None, pairs: int, alert: bool) -> str:
    if share is None:
        return "No two labelers decided the same pair yet, so their agreement is not known."
    low, high = PUBLISHED
    said = (
        f"Labelers agree on {share.estimate:.0%} of {pairs} shared decisions (95% interval {share.low:.0%} to {share.high:.0%}); "
        f"published labelers reach {low:.0%} to {high:.0%}."
    )
    return f"{said} Below {ALERT_BELOW:.0%} look at the instructions before more is collected." if alert else said


def meetings(judged: Table) -> Meetings:
    """Every two labelers on every prompt, and what their agreement adds up from."""
    from scipy.sparse import csr_array, vstack

    from heedful.maths.meetings import Meetings

    sizes = [part.size for part in judged.parts]
    values = np.arange(2, 2 * max(sizes, default=1) + 1) / 2
    starts = np.cumsum([0, *(len(part.prompt_ids) for part in judged.parts)])
    found = [_meetings(part, judged, len(values)) for part in judged.parts]
    empty = [np.zeros(0, dtype=np.int64)]
    return Meetings(
        np.concatenate(empty + [start + part.prompt[left] for start, part, (left, *_) in zip(starts, judged.parts, found, strict=False)]),
        np.concatenate(empty + [judged.labeler_of[part.reader[left]] for part, (left, *_) in zip(judged.parts, found, strict=True)]),
        np.concatenate(empty + [judged.labeler_of[part.reader[right]] for part, (_, right, *_) in zip(judged.parts, found, strict=True)]),
        np.concatenate([np.zeros((0, 6)), *(sums for _, _, sums, _ in found)]),
        vstack([csr_array((0, len(values) ** 2)), *(counts for *_, counts in found)], format="csr"),
        values,
        judged.rankings / max(1, int(starts[-1])),
    )


def _meetings(part: Part, judged: Table, values: int) -> tuple[Any, Any, Any, Any]:
    """Rows of both labelers of each meeting, their sums, and their coincidences of ranks."""
    from heedful.maths.meetings import centred, compare

    ranks = np.where(np.isinf(part.ranks), np.nan, part.ranks)
    left, right = _together(part.prompt)
    _, middle = centred(ranks)
    count = np.isfinite(ranks).sum(axis=1, keepdims=True)
    code = np.where(np.isfinite(ranks), 2 * middle + count - 1, 0).astype(np.int64)  # midrank 1, 1.5, 2 ... as 0, 1, 2 ...
    rated = np.zeros((len(part.prompt_ids), part.size))
    np.add.at(rated, part.prompt, np.isfinite(ranks))
    return left, right, compare(ranks[left], ranks[right]), _coincidences(ranks, code, rated[part.prompt], left, right, values)


def _coincidences(ranks: Any, code: Any, rated: Any, left: Any, right: Any, values: int) -> Any:
    """Sparse ``[meetings, values * values]``: each completion's two ranks, both ways, over the number of its other ratings."""
    from scipy.sparse import csr_array

    meeting, column = np.nonzero(np.isfinite(ranks[left]) & np.isfinite(ranks[right]))
    first, second = code[left[meeting], column], code[right[meeting], column]
    share = 1 / (rated[left[meeting], column] - 1)
    cells = np.concatenate([first * values + second, second * values + first])
    return csr_array((np.tile(share, 2), (np.tile(meeting, 2), cells)), shape=(len(left), values * values))


def _together(prompt: Any) -> tuple[Any, Any]:
    """Rows of every two rankings of one prompt; ``prompt`` is in order."""
    found = [(np.zeros(0, dtype=np.int64),) * 2]
    for apart in range(1, int(np.bincount(prompt).max(initial=1))):
        first = np.flatnonzero(prompt[apart:] == prompt[:-apart])
        found.append((first, first + apart))
    return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])
