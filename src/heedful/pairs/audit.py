"""What is odd about a set of pairs, before a model learns it."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from heedful.maths.agreement import design_effect
from heedful.maths.statistics import Interval, wilson
from heedful.pairs.snapshot import prompt_key
from heedful.records import Pair, PromptText, Ranking, Record

SHINGLE = 13
"""Words in a row that two prompts must share; the length that is usual in checks for contamination."""
MUCH = 0.5
"""Share of a prompt's shingles found in one prompt of another split from which it counts as a near-copy."""
LONGER = 0.6
"""Published people prefer the longer one in about 60 % of pairs; a rate surely above is said aloud."""


@dataclass(frozen=True, slots=True)
class NearCopy(Record):
    """Two prompts of different splits that share much of their text."""

    split: str
    prompt_id: str
    other_split: str
    other_prompt_id: str


@dataclass(frozen=True)
class Audit:
    """Counts over all splits, and ``warnings`` in words.

    ``exact_duplicates``: pairs beyond the first with the same prompt, chosen and rejected.
    ``contradictions``: two completions of a prompt that stand in both orders. ``longer_wins``:
    share of pairs whose chosen completion has more characters, among those of unequal length.
    ``earlier_wins``: share of preferences for what was shown earlier, where rankings were given.
    Intervals are 95 %, Wilson's, on the number of independent judgements the pairs are worth.
    """

    pairs: dict[str, int]
    prompts: dict[str, int]
    exact_duplicates: int
    contradictions: int
    empty: int
    equal: int
    undecided: int
    longer_wins: Interval | None
    earlier_wins: Interval | None
    near_copies: list[NearCopy]
    warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        intervals = {name: value and value.to_dict() for name, value in plain.items() if name in ("longer_wins", "earlier_wins")}
        return plain | intervals | {"near_copies": [copy.to_dict() for copy in self.near_copies]}


def audit(
    pairs_by_split: Mapping[str, Sequence[Pair]],
    rankings: Iterable[Ranking] = (),
    preferred: Callable[[int | None, int | None], bool | None] | None = None,
) -> Audit:
    """Look at all pairs of all splits; with rankings and the criterion's ``preferred``, also at position bias."""
    pairs = [pair for rows in pairs_by_split.values() for pair in rows]
    seen = Counter((_text(p.prompt), p.chosen, p.rejected) for p in pairs)
    found = Audit(
        pairs={split: len(rows) for split, rows in pairs_by_split.items()},
        prompts={split: len({prompt_key(p) for p in rows}) for split, rows in pairs_by_split.items()},
        exact_duplicates=len(pairs) - len(seen),
        contradictions=sum(chosen < rejected and (prompt, rejected, chosen) in seen for prompt, chosen, rejected in seen),
        empty=sum(not p.chosen.strip() or not p.rejected.strip() for p in pairs),
        equal=sum(p.chosen.strip() == p.rejected.strip() for p in pairs),
        undecided=sum(p.p <= 0.5 for p in pairs),
        longer_wins=_share((prompt_key(p), len(p.chosen) > len(p.rejected)) for p in pairs if len(p.chosen) != len(p.rejected)),
        earlier_wins=_share(_earlier(rankings, preferred)) if preferred else None,
        near_copies=near_copies(pairs_by_split),
    )
    found.warnings.extend(_warnings(found))
    return found


def near_copies(pairs_by_split: Mapping[str, Sequence[Pair]]) -> list[NearCopy]:
    """Prompts that share at least half of their 13-word shingles with a prompt of an earlier-named split.

    A prompt of fewer words is one shingle, so only its copies (but for case and punctuation) are found.
    """
    home: dict[tuple[str, ...], set[tuple[str, str]]] = defaultdict(set)
    copies = []
    for split, rows in pairs_by_split.items():
        shingles = {prompt_key(p): _shingles(p.prompt) for p in rows}
        for key, own in shingles.items():
            hits = Counter(other for shingle in own for other in home[shingle])
            closest = max(hits, key=lambda other: (hits[other], other), default=None)
            if closest and hits[closest] >= MUCH * len(own):
                copies.append(NearCopy(split, key, *closest))
        for key, own in shingles.items():
            for shingle in own:
                home[shingle].add((split, key))
    return copies


def _shingles(prompt: PromptText) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", _text(prompt).casefold())
    return {tuple(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


def _text(prompt: PromptText) -> str:
    """A prompt's text; of messages their contents with the roles, so that no two prompts are taken for one."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False, sort_keys=True)


def _share(judgements: Iterable[tuple[str, bool]]) -> Interval | None:
    """The share that is true, with prompts as clusters; ``None`` of nothing.

    The estimate is the plain share; its interval is Wilson's on counts divided by the design effect.
    """
    by_prompt: dict[str, list[bool]] = defaultdict(list)
    for prompt, holds in judgements:
        by_prompt[prompt].append(holds)
    if not by_prompt:
        return None
    hits, sizes = [sum(v) for v in by_prompt.values()], [len(v) for v in by_prompt.values()]
    worth = max(1, int(sum(sizes) / design_effect(hits, sizes)))
    share = sum(hits) / sum(sizes)
    interval = wilson(share * worth, worth)
    return Interval(share, interval.low, interval.high)


def _earlier(rankings: Iterable[Ranking], preferred: Callable[[int | None, int | None], bool | None]) -> Iterable[tuple[str, bool]]:
    """For each preference whether what was shown earlier won; completions stand in the order shown."""
    for ranking in rankings:
        for earlier, later in combinations(ranking.ranks, 2):
            wins = preferred(earlier, later)
            if wins is not None:
                yield ranking.prompt_id, wins


def _warnings(found: Audit) -> list[str]:
    total = sum(found.pairs.values())
    counted = [
        (found.exact_duplicates, "pairs stand more than once word for word"),
        (found.contradictions, "pairs of completions stand in both orders: people disagree, or a criterion's direction is mixed up"),
        (found.empty, "pairs have an empty completion"),
        (found.equal, "pairs have two equal completions"),
        (found.undecided, "pairs say that the chosen one is no more likely to be preferred (p of 0.5 or less)"),
        (len(found.near_copies), "prompts are near-copies of a prompt in another split, so measurements on it flatter"),
    ]
    said = [f"{number} {words} ({total} pairs in all)." for number, words in counted if number]
    said += [f"Split {split!r} has no pairs." for split, number in found.pairs.items() if not number]
    if found.longer_wins and found.longer_wins.low > LONGER:
        said.append(f"The longer completion wins {_percent(found.longer_wins)}: a reward model may learn length instead of the criterion.")
    if found.longer_wins and found.longer_wins.high < 1 - LONGER:
        said.append(
            f"The longer completion wins only {_percent(found.longer_wins)}: a reward model may learn brevity instead of the criterion."
        )
    if found.earlier_wins and not found.earlier_wins.contains(0.5):
        said.append(
            f"What was shown earlier wins {_percent(found.earlier_wins)}, though the order was random: labelers lean to a position."
        )
    return said


def _percent(share: Interval) -> str:
    return f"{share.estimate:.0%} of the time (95% interval {share.low:.0%} to {share.high:.0%})"
