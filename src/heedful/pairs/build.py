"""From judgements to pairs: every two completions of a prompt of which one is preferred.

Of N ranked completions come up to N-choose-2 pairs, the preferred one first (``chosen``). Equal
ranks make no pair, an F is below everything that is not F, two Fs make no pair. Which rank is
preferred is the criterion's business.

Everybody who judged a prompt has one voice about each two of its completions; a pair carries the
counts. Whom to believe is not decided here: that is the consensus, which :func:`from_consensus`
takes in. Of several judgements by one labeler the last counts, a repeat (the same prompt once more,
to see whether somebody agrees with themselves) never does, and of a prompt on which somebody has
ruled only the ruling.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from typing import Any, Protocol, TypeVar

from heedful.errors import DataProblem
from heedful.pairs.texts import Texts
from heedful.records import Completion, Correction, Pair, Prompt, Ranking, Thumb, Unpaired, settled

Judgement = TypeVar("Judgement", Ranking, Thumb, Correction)


class Criterion(Protocol):
    """What was judged: its name, and which of two ranks is preferred (``None`` where neither is)."""

    @property
    def name(self) -> str: ...
    def preferred(self, rank_a: int | None, rank_b: int | None) -> bool | None: ...


class Decided(Protocol):
    """Two completions of a prompt, the preferred one first, with the probability that it is and the votes behind it."""

    @property
    def prompt_id(self) -> str: ...
    @property
    def chosen_id(self) -> str: ...
    @property
    def rejected_id(self) -> str: ...
    @property
    def p(self) -> float: ...
    @property
    def votes_for(self) -> int: ...
    @property
    def votes_against(self) -> int: ...
    @property
    def ties(self) -> int: ...
    @property
    def by_flag(self) -> bool: ...


class Agreed(Protocol):
    """What several labelers say together."""

    @property
    def decided(self) -> Sequence[Decided]: ...


@dataclass(slots=True)
class _Votes:
    """How many prefer the first of two completions, the second, or neither; ``by_flag`` of them because the other got an F."""

    first: int = 0
    second: int = 0
    ties: int = 0
    by_flag: int = 0


def from_rankings(
    rankings: Iterable[Ranking],
    prompts: Iterable[Prompt],
    completions: Iterable[Completion],
    criterion: Criterion,
    *,
    flags: bool = True,
    ties: bool = False,
) -> list[Pair]:
    """A pair for every two completions of which more labelers prefer the one; ``p`` is the share who do, ties counting half.

    Args:
        flags: whether an F is a vote for the other completion.
        ties: whether two completions of which neither is preferred become a pair too, with ``p`` 0.5
            and ``tie`` set.

    Raises DataProblem where there are no rankings by this criterion, a prompt or completion is
    missing, or a completion answers another prompt.
    """
    texts = Texts(prompts, completions)
    found = []
    for prompt_id, judged in _by_prompt(rankings, criterion).items():
        versions = _versions(judged)
        for (a, b), votes in _count(judged, criterion, flags).items():
            if votes.first != votes.second or ties:
                pair = texts.pair(prompt_id, *((a, b) if votes.first >= votes.second else (b, a)))
                found.append(replace(pair, **_evidence(votes), criterion=criterion.name, instructions_version=versions))
    return found


def from_consensus(
    agreed: Agreed,
    prompts: Iterable[Prompt],
    completions: Iterable[Completion],
    criterion: str = "",
    versions: Mapping[str, str] | None = None,
    *,
    margins: bool = False,
) -> list[Pair]:
    """One pair for every two completions that the consensus decides, with its probability and the votes.

    ``versions``: of the instructions that a prompt's labelers had read, by its id.
    ``margins``: whether the consensus's own ``margin``, where it has one, becomes the pair's. A trainer takes a
    margin off the difference of the scores, so together with ``p`` it would count the same confidence twice.

    Raises DataProblem where a prompt or completion is missing, or a completion answers another prompt.
    """
    texts = Texts(prompts, completions)
    return [
        replace(
            texts.pair(d.prompt_id, d.chosen_id, d.rejected_id),
            p=d.p,
            margin=(getattr(d, "margin", None) or 0.0) if margins else 0.0,
            n_for=d.votes_for,
            n_against=d.votes_against,
            n_tie=d.ties,
            source="flag" if d.by_flag else "rank",
            criterion=criterion,
            instructions_version=(versions or {}).get(d.prompt_id, ""),
        )
        for d in agreed.decided
    ]


def versions_read(rankings: Iterable[Ranking]) -> dict[str, str]:
    """The versions of the instructions that whoever decided on each prompt had read, by its id; several stand with commas."""
    by_prompt: dict[str, list[Ranking]] = defaultdict(list)
    for row in settled(row for row in rankings if row.purpose != "repeat"):
        by_prompt[row.prompt_id].append(row)
    return {prompt_id: _versions(rows) for prompt_id, rows in by_prompt.items()}


def from_thumbs(thumbs: Iterable[Thumb], prompts: Iterable[Prompt], completions: Iterable[Completion]) -> list[Unpaired]:
    """A row for every completion and criterion on which more thumbs are up than down, or more down than up.

    Raises DataProblem where a prompt or completion is missing, or a completion answers another prompt.
    """
    texts, judged = Texts(prompts, completions), defaultdict(list)
    for thumb in settled(_voices(thumbs, lambda t: (t.completion_id, t.labeler, t.criterion))):
        judged[thumb.prompt_id, thumb.completion_id, thumb.criterion].append(thumb)
    found = []
    for (prompt_id, completion_id, criterion), rows in judged.items():
        up = sum(t.label for t in rows)
        down = len(rows) - up
        if up != down:
            row = texts.unpaired(prompt_id, completion_id, up > down)
            most, fewest = max(up, down), min(up, down)
            found.append(replace(row, n_for=most, n_against=fewest, criterion=criterion, instructions_version=_versions(rows)))
    return found


def pairs_from_thumbs(
    thumbs: Iterable[Thumb],
    prompts: Iterable[Prompt],
    completions: Iterable[Completion],
    criterion: str = "",
    up: Mapping[str, float] | None = None,
    least: float = 0.5,
) -> list[Pair]:
    """A pair for every two completions of a prompt of which one is probably up and the other down.

    ``p`` is the probability that it is this way round, given that one is up and the other down. The
    counts are of labelers who gave both a thumb: one up and one down, the other way round, or two alike.

    Args:
        up: the probability that a completion is up, by its id; by default the share of thumbs that are,
            with half a thumb for either added, so that one thumb is no certainty.
        least: pairs of a lower ``p`` are left out.

    Raises DataProblem where a prompt or completion is missing, or a completion answers another prompt.
    """
    texts, by_prompt = Texts(prompts, completions), defaultdict(list)
    for thumb in settled(_voices(thumbs, lambda t: (t.completion_id, t.labeler))):
        by_prompt[thumb.prompt_id].append(thumb)
    found = []
    for prompt_id, judged in by_prompt.items():
        share, versions = up if up is not None else _share_up(judged), _versions(judged)
        for a, b in permutations(dict.fromkeys(t.completion_id for t in judged), 2):
            this, other = share[a] * (1 - share[b]), share[b] * (1 - share[a])
            if share[a] > 0.5 > share[b] and (p := this / (this + other)) >= least:
                pair = replace(texts.pair(prompt_id, a, b), p=p, source="thumb", criterion=criterion, instructions_version=versions)
                found.append(replace(pair, **_counts(judged, a, b)))
    return found


def pairs_from_corrections(
    corrections: Iterable[Correction], prompts: Iterable[Prompt], completions: Iterable[Completion], criterion: str = ""
) -> list[Pair]:
    """A pair for every correction, which is preferred to what it corrects; ``n_for`` counts those who wrote the same.

    Corrections that are empty or change nothing are left out. Raises as :func:`pairs_from_thumbs`.
    """
    texts, written = Texts(prompts, completions), defaultdict(list)
    for row in _voices(corrections, lambda c: (c.completion_id, c.labeler, c.criterion)):
        said = texts.completion(row.completion_id, row.prompt_id)
        if row.text.strip() not in ("", said.strip()):
            written[row.prompt_id, row.completion_id, row.text].append(row)
    found = []
    for (prompt_id, completion_id, text), rows in written.items():
        pair = replace(texts.pair(prompt_id, completion_id, completion_id), chosen=text, chosen_id="", source="correction")
        found.append(replace(pair, n_for=len(rows), n_against=0, n_tie=0, criterion=criterion, instructions_version=_versions(rows)))
    return found


def from_flags(
    rankings: Iterable[Ranking], prompts: Iterable[Prompt], completions: Iterable[Completion], criterion: Criterion
) -> list[Unpaired]:
    """An unwanted row for every completion that more than half of its labelers gave an F. Raises as :func:`from_rankings`."""
    texts, found = Texts(prompts, completions), []
    for prompt_id, judged in _by_prompt(rankings, criterion).items():
        flagged, seen = _flags(judged)
        for name in _mostly(flagged, seen):
            row = texts.unpaired(prompt_id, name, False)
            row = replace(row, n_for=flagged[name], n_against=seen[name] - flagged[name], source="flag")
            found.append(replace(row, criterion=criterion.name, instructions_version=_versions(judged)))
    return found


def from_corrections(corrections: Iterable[Correction], prompts: Iterable[Prompt], completions: Iterable[Completion]) -> list[Prompt]:
    """Demonstrations: each corrected prompt once, with what labelers wrote as its references, in their order.

    Empty corrections are left out. Raises DataProblem where a prompt or completion is missing, or a
    completion answers another prompt.
    """
    texts = Texts(prompts, completions)
    written: dict[str, list[str]] = defaultdict(list)
    for row in _voices(corrections, lambda c: (c.completion_id, c.labeler, c.criterion)):
        texts.completion(row.completion_id, row.prompt_id)
        if row.text.strip():
            written[row.prompt_id].append(row.text)
    return [replace(texts.prompt(prompt_id), reference=list(dict.fromkeys(said))) for prompt_id, said in written.items()]


def for_review(rankings: Iterable[Ranking], criterion: Criterion) -> list[str]:
    """Prompts whose every completion more than half of its labelers gave an F: they teach nothing, and somebody should look."""
    found = []
    for prompt_id, judged in _by_prompt(rankings, criterion).items():
        flagged, seen = _flags(judged)
        if len(_mostly(flagged, seen)) == len(seen):
            found.append(prompt_id)
    return found


def _by_prompt(rankings: Iterable[Ranking], criterion: Criterion) -> dict[str, list[Ranking]]:
    """Each prompt's rankings by this criterion, one for each labeler, or what settles it."""
    rows = list(rankings)
    by_prompt: dict[str, list[Ranking]] = defaultdict(list)
    for ranking in settled(_voices((r for r in rows if r.criterion == criterion.name), lambda r: (r.prompt_id, r.labeler))):
        by_prompt[ranking.prompt_id].append(ranking)
    if not by_prompt:
        others = ", ".join(sorted({r.criterion for r in rows})) or "none at all"
        raise DataProblem(
            f"there are no rankings by {criterion.name!r} (there are: {others})", "Collect some, or choose a criterion that has rankings."
        )
    return by_prompt


def _voices(rows: Iterable[Judgement], voice: Callable[[Judgement], Hashable]) -> Iterable[Judgement]:
    """The last judgement of each voice, repeats left out."""
    return {voice(row): row for row in rows if row.purpose != "repeat"}.values()


def _count(judged: Sequence[Ranking], criterion: Criterion, flags: bool) -> dict[tuple[str, str], _Votes]:
    """The votes on every two completions, named in alphabetical order; without those that most labelers gave an F, both of them."""
    hopeless = _mostly(*_flags(judged))
    found: dict[tuple[str, str], _Votes] = defaultdict(_Votes)
    for ranking in judged:
        ranks = sorted(zip(ranking.completion_ids, ranking.ranks, strict=True))
        for (a, rank_a), (b, rank_b) in combinations(ranks, 2):
            flag = rank_a is None or rank_b is None
            if (rank_a is None and rank_b is None) or (flag and not flags) or (a in hopeless and b in hopeless):
                continue
            wins, votes = criterion.preferred(rank_a, rank_b), found[a, b]
            votes.first += wins is True
            votes.second += wins is False
            votes.ties += wins is None
            votes.by_flag += flag
    return found


def _flags(judged: Iterable[Ranking]) -> tuple[Counter[str], Counter[str]]:
    """How often each completion got an F, and by how many it was judged."""
    seen = Counter(name for ranking in judged for name in ranking.completion_ids)
    flagged = Counter(name for r in judged for name, rank in zip(r.completion_ids, r.ranks, strict=True) if rank is None)
    return flagged, seen


def _mostly(flagged: Mapping[str, int], seen: Mapping[str, int]) -> list[str]:
    return [name for name, total in seen.items() if flagged[name] > total / 2]


def _share_up(judged: Sequence[Thumb]) -> dict[str, float]:
    """The share of a completion's thumbs that are up, half a thumb for either added."""
    given = Counter(t.completion_id for t in judged)
    ups = Counter(t.completion_id for t in judged if t.label)
    return {name: (ups[name] + 0.5) / (total + 1) for name, total in given.items()}


def _counts(judged: Sequence[Thumb], a: str, b: str) -> dict[str, Any]:
    """Labelers who gave both a thumb, by which of the two they would prefer."""
    said = {(t.labeler, t.completion_id): t.label for t in judged}
    both = [(said[who, a], said[who, b]) for who in {t.labeler for t in judged} if (who, a) in said and (who, b) in said]
    n_for, n_against = both.count((True, False)), both.count((False, True))
    return {"n_for": n_for, "n_against": n_against, "n_tie": len(both) - n_for - n_against}


def _evidence(votes: _Votes) -> dict[str, Any]:
    most, fewest = max(votes.first, votes.second), min(votes.first, votes.second)
    return {
        "p": (most + votes.ties / 2) / (most + fewest + votes.ties),
        "n_for": most,
        "n_against": fewest,
        "n_tie": votes.ties,
        "source": "flag" if votes.by_flag > (most + fewest) / 2 else "rank",
        "tie": most == fewest,
    }


def _versions(judged: Iterable[Judgement]) -> str:
    return ",".join(sorted({row.instructions_version for row in judged} - {""}))
