"""Who was asked how often: judgements by prompt, purpose, day and version, and the groups of people that they come from. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from heedful.records import Correction, Labeler, Ranking, Record, Thumb

NOT_STATED = "not stated"
"""The group of those who say nothing of a stratum."""


@dataclass(frozen=True, slots=True)
class Coverage(Record):
    """What there is.

    ``judgements`` are by purpose, ``overlap`` counts prompts by the number of different labelers who
    judged them, ``per_labeler`` is the least, the median and the most that one labeler judged.
    ``versions`` are judgements by version of the instructions; ``days`` by the day (UTC) where it is known.
    ``strata`` counts the people who judged (AI judges are none), by stratum and group: for whoever leads the project. Before
    others see it, small groups are to be hidden (:func:`heedful.maths.disclosure.shown_cells`).
    """

    prompts: int
    labelers: int
    judgements: dict[str, int]
    overlap: dict[int, int]
    per_labeler: dict[str, float]
    versions: dict[str, int]
    days: dict[str, int]
    strata: dict[str, dict[str, int]]


def coverage(judgements: Iterable[Ranking | Thumb | Correction], labelers: Iterable[Labeler] = ()) -> Coverage:
    """Count judgements: what one labeler said of one prompt for one purpose is one, however many thumbs or corrections it has."""
    first: dict[tuple[str, str, str], Ranking | Thumb | Correction] = {}
    for row in judgements:
        first.setdefault((row.prompt_id, row.labeler, row.purpose), row)
    rows = list(first.values())
    voices: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        voices[row.prompt_id].add(row.labeler)
    each = Counter(row.labeler for row in rows)
    known = {labeler.name: labeler for labeler in labelers}
    return Coverage(
        prompts=len(voices),
        labelers=len(each),
        judgements=dict(sorted(Counter(str(row.purpose) for row in rows).items())),
        overlap=dict(sorted(Counter(len(names) for names in voices.values()).items())),
        per_labeler={"least": min(each.values()), "median": median(each.values()), "most": max(each.values())} if each else {},
        versions=dict(sorted(Counter(row.instructions_version for row in rows).items())),
        days=dict(sorted(Counter(row.judged_at[:10] for row in rows if row.judged_at).items())),
        strata=_strata([known[name] for name in each if name in known and known[name].kind != "ai"]),
    )


def _strata(people: list[Labeler]) -> dict[str, dict[str, int]]:
    """People by group of each stratum that somebody has stated."""
    stated = sorted({name for one in people for name in one.strata})
    return {name: dict(sorted(Counter(one.strata.get(name, NOT_STATED) for one in people).items())) for name in stated}
