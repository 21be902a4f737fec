"""What is odd about a set of pairs, before a model learns it."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from heedful.maths.agreement import design_effect
from heedful.maths.statistics import Interval, wilson
from heedful.pairs.near_copies import SHINGLE, NearCopy, near_copies
from heedful.pairs.snapshot import prompt_key
from heedful.records import Pair, PromptText, Ranking, Record, Unpaired

LONGER = 0.6
"""Published people prefer the longer one in about 60 % of pairs; a rate surely above is said aloud."""
MOST_BY_ONE = 1 / 3
"""Share of everything that comes from one labeler, or one prompt, from which it is said aloud."""
FEW = 4
"""Of so few labelers, or prompts, one naturally gives a large share."""
Preferred = Callable[[int | None, int | None], bool | None]


@dataclass(frozen=True, slots=True)
class Balance(Record):
    """How ``total`` things spread over ``groups``: the ``largest`` share of one, and how many, the largest first, have ``half`` of all."""

    groups: int
    total: int
    largest: Interval
    largest_name: str
    half: int


@dataclass(frozen=True)
class Audit:
    """Counts over all splits, and ``warnings`` in words; ``labeler_warnings`` name people, and are not for everybody's eyes.

    ``exact_duplicates``: pairs beyond the first with the same prompt, chosen and rejected.
    ``contradictions``: two completions of a prompt that stand in both orders. ``shared_completions``:
    texts that are a completion in more than one split. ``longer_wins``: share of pairs whose chosen
    completion has more characters, among those of unequal length. ``by_prompt``: pairs by prompt.
    Where rankings were given: ``earlier_wins``, the share of preferences for what was shown earlier,
    ``leaning``, the labelers for whom it is surely not one half, and ``by_labeler``, rankings by labeler.
    Where unpaired rows were given: ``wanted``, the share that is. Intervals are 95 %, Wilson's, on the
    number of independent judgements that the rows are worth.
    """

    pairs: dict[str, int]
    prompts: dict[str, int]
    exact_duplicates: int
    contradictions: int
    empty: int
    equal: int
    undecided: int
    shared_completions: int
    longer_wins: Interval | None
    earlier_wins: Interval | None
    leaning: dict[str, Interval]
    by_prompt: Balance | None
    by_labeler: Balance | None
    wanted: Interval | None
    near_copies: list[NearCopy]
    warnings: list[str] = field(default_factory=list)
    labeler_warnings: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


def audit(
    pairs_by_split: Mapping[str, Sequence[Pair]],
    rankings: Iterable[Ranking] = (),
    preferred: Preferred | None = None,
    unpaired: Sequence[Unpaired] = (),
) -> Audit:
    """Look at all pairs of all splits; with rankings and the criterion's ``preferred`` also at labelers and positions."""
    pairs = [pair for rows in pairs_by_split.values() for pair in rows]
    judged = list(rankings) if preferred else []
    seen = Counter((_text(p.prompt), p.chosen, p.rejected) for p in pairs)
    homes = [{text for p in rows for text in (p.chosen, p.rejected)} for rows in pairs_by_split.values()]
    found = Audit(
        pairs={split: len(rows) for split, rows in pairs_by_split.items()},
        prompts={split: len({prompt_key(p) for p in rows}) for split, rows in pairs_by_split.items()},
        exact_duplicates=len(pairs) - len(seen),
        contradictions=sum(chosen < rejected and (prompt, rejected, chosen) in seen for prompt, chosen, rejected in seen),
        empty=sum(not p.chosen.strip() or not p.rejected.strip() for p in pairs),
        equal=sum(p.chosen.strip() == p.rejected.strip() for p in pairs),
        undecided=sum(p.p <= 0.5 and not p.tie for p in pairs),
        shared_completions=sum(times > 1 for times in Counter(text for home in homes for text in home).values()),
        longer_wins=_share((prompt_key(p), len(p.chosen) > len(p.rejected)) for p in pairs if len(p.chosen) != len(p.rejected)),
        earlier_wins=_share(_earlier(judged, preferred)) if preferred else None,
        leaning=_leaning(judged, preferred) if preferred else {},
        by_prompt=_balance(Counter(prompt_key(p) for p in pairs)),
        by_labeler=_balance(Counter(r.labeler for r in judged)),
        wanted=_share((row.prompt_id, row.label) for row in unpaired),
        near_copies=[*_near(pairs_by_split, "prompt"), *_near(pairs_by_split, "completion")],
    )
    found.warnings.extend(_warnings(found))
    found.labeler_warnings.extend(_labeler_warnings(found))
    return found


def sentences(found: Audit) -> list[str]:
    """What was found, for people; the warnings come last."""
    counts = ", ".join(f"{number} of {found.prompts[split]} prompts in {split}" for split, number in found.pairs.items())
    said = [f"{sum(found.pairs.values())} pairs: {counts}."]
    shares = [
        ("The longer completion wins", found.longer_wins),
        ("What was shown earlier wins", found.earlier_wins),
        ("A completion by itself is wanted", found.wanted),
    ]
    said += [f"{what} {_percent(share)}." for what, share in shares if share]
    for balance, what, of in ((found.by_prompt, "prompts", "pairs"), (found.by_labeler, "labelers", "rankings")):
        if balance:
            said.append(f"{balance.half} of {balance.groups} {what} have half of the {balance.total} {of}.")
    if found.shared_completions:
        said.append(f"{found.shared_completions} completions stand word for word in more than one split.")
    return said + [f"Look at this: {warning}" for warning in [*found.warnings, *found.labeler_warnings]]


def _near(pairs_by_split: Mapping[str, Sequence[Pair]], kind: str) -> list[NearCopy]:
    """Near-copies across splits. A short completion may be a stock phrase, and does not count."""
    if kind == "prompt":
        texts = {split: {prompt_key(p): _text(p.prompt) for p in rows}.items() for split, rows in pairs_by_split.items()}
        return [NearCopy(*one, *other) for one, other in near_copies(texts)]
    said = {split: {(prompt_key(p), t) for p in rows for t in (p.chosen, p.rejected)} for split, rows in pairs_by_split.items()}
    copies = dict.fromkeys(near_copies({split: sorted(texts) for split, texts in said.items()}, at_least=SHINGLE))
    return [NearCopy(*one, *other, kind="completion") for one, other in copies]


def _text(prompt: PromptText) -> str:
    """A prompt's text; of messages their contents with the roles, so that no two prompts are taken for one."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False, sort_keys=True)


def _share(judgements: Iterable[tuple[str, bool]], confidence: float = 0.95) -> Interval | None:
    """The share that is true, with prompts as clusters; ``None`` of nothing.

    The estimate is the plain share; its interval is Wilson's on counts divided by the design effect.
    """
    by_prompt: dict[str, list[bool]] = defaultdict(list)
    for prompt, holds in judgements:
        by_prompt[prompt].append(holds)
    if not by_prompt:
        return None
    hits, sizes = [sum(v) for v in by_prompt.values()], [len(v) for v in by_prompt.values()]
    worth = max(1, int(sum(sizes) / design_effect(hits, sizes) + 1e-9))  # 50 over 1.0000000000000002 are 50
    share = sum(hits) / sum(sizes)
    interval = wilson(share * worth, worth, confidence)
    return Interval(share, interval.low, interval.high)


def _earlier(rankings: Iterable[Ranking], preferred: Preferred) -> Iterable[tuple[str, bool]]:
    """For each preference whether what was shown earlier won; completions stand in the order shown."""
    for ranking in rankings:
        for earlier, later in combinations(ranking.ranks, 2):
            wins = preferred(earlier, later)
            if wins is not None:
                yield ranking.prompt_id, wins


def _leaning(rankings: Sequence[Ranking], preferred: Preferred) -> dict[str, Interval]:
    """Labelers who surely prefer a position; the more there are, the surer it has to be (Bonferroni)."""
    by_labeler: dict[str, list[Ranking]] = defaultdict(list)
    for ranking in rankings:
        by_labeler[ranking.labeler].append(ranking)
    shares = {name: _share(_earlier(rows, preferred), 1 - 0.05 / len(by_labeler)) for name, rows in by_labeler.items()}
    return {name: share for name, share in sorted(shares.items()) if share and not share.contains(0.5)}


def _balance(sizes: Counter[str]) -> Balance | None:
    if not sizes:
        return None
    total, running, half = sizes.total(), 0, 0
    for _, size in sizes.most_common():
        running, half = running + size, half + 1
        if running >= total / 2:
            break
    name, most = sizes.most_common(1)[0]
    return Balance(len(sizes), total, wilson(most, total), name, half)


def _warnings(found: Audit) -> list[str]:
    total = sum(found.pairs.values())
    near = Counter(copy.kind for copy in found.near_copies)
    counted = [
        (found.exact_duplicates, "pairs stand more than once word for word"),
        (found.contradictions, "pairs of completions stand in both orders: people disagree, or a criterion's direction is mixed up"),
        (found.empty, "pairs have an empty completion"),
        (found.equal, "pairs have two equal completions"),
        (found.undecided, "pairs say that the chosen one is no more likely to be preferred (p of 0.5 or less)"),
        (near["prompt"], "prompts are near-copies of a prompt in another split, so measurements on it flatter"),
        (near["completion"], "prompts have a long completion that is a near-copy of one in another split, so measurements on it flatter"),
    ]
    said = [f"{number} {words} ({total} pairs in all)." for number, words in counted if number]
    said += [f"Split {split!r} has no pairs." for split, number in found.pairs.items() if not number]
    return said + _leanings(found)


def _leanings(found: Audit) -> list[str]:
    said = []
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
    return said + _dominant(found.by_prompt, "prompt", "pairs")


def _labeler_warnings(found: Audit) -> list[str]:
    said = [f"To labeler {name!r} what was shown earlier wins {_percent(share)}." for name, share in found.leaning.items()]
    return said + _dominant(found.by_labeler, "labeler", "rankings")


def _dominant(balance: Balance | None, what: str, of: str) -> list[str]:
    if balance is None or balance.groups <= FEW or balance.largest.low <= MOST_BY_ONE:
        return []
    return [f"One {what} of {balance.groups} ({balance.largest_name!r}) has {_portion(balance.largest)} of the {of}."]


def _percent(share: Interval) -> str:
    return f"{share.estimate:.0%} of the time (95% interval {share.low:.0%} to {share.high:.0%})"


def _portion(share: Interval) -> str:
    return f"{share.estimate:.0%} (95% interval {share.low:.0%} to {share.high:.0%})"


def _plain(value: object) -> object:
    if isinstance(value, Interval):
        return value.to_dict()
    if isinstance(value, Record):
        return _plain(value.to_dict())
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
