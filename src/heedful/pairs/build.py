"""From judgements to pairs: every two completions of a prompt of which one is preferred.

Of N ranked completions come up to N-choose-2 pairs, the preferred one first (``chosen``). Equal
ranks make no pair, an F is below everything that is not F, two Fs make no pair. Which rank is
preferred is the criterion's business and comes in as a function.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol, TypeVar

from heedful.errors import DataProblem
from heedful.records import Completion, Pair, Prompt, Ranking, Thumb

Preferred = Callable[[int | None, int | None], bool | None]
"""Whether the first rank is preferred over the second; ``None`` where neither is. ``Criterion.preferred`` is one."""
Found = TypeVar("Found")


class Decided(Protocol):
    """Two completions of a prompt, the preferred one first, with the probability that it is."""

    @property
    def prompt_id(self) -> str: ...
    @property
    def chosen_id(self) -> str: ...
    @property
    def rejected_id(self) -> str: ...
    @property
    def p(self) -> float: ...


class Agreed(Protocol):
    """What several labelers say together."""

    @property
    def decided(self) -> Sequence[Decided]: ...


def from_rankings(
    rankings: Iterable[Ranking], prompts: Iterable[Prompt], completions: Iterable[Completion], preferred: Preferred
) -> list[Pair]:
    """One pair for every labeler's preference between two completions; of several rankings by one labeler of one prompt the last counts.

    Raises DataProblem where a prompt or completion is missing, or a completion answers another prompt.
    """
    texts = _Texts(prompts, completions)
    last = {(r.prompt_id, r.labeler, r.criterion): r for r in rankings}
    return [texts.pair(r.prompt_id, chosen, rejected) for r in last.values() for chosen, rejected in _preferences(r, preferred)]


def from_consensus(agreed: Agreed, prompts: Iterable[Prompt], completions: Iterable[Completion]) -> list[Pair]:
    """One pair for every two completions that the consensus decides, with its probability.

    Raises DataProblem where a prompt or completion is missing, or a completion answers another prompt.
    """
    texts = _Texts(prompts, completions)
    return [texts.pair(d.prompt_id, d.chosen_id, d.rejected_id, d.p) for d in agreed.decided]


def from_thumbs(thumbs: Iterable[Thumb], prompts: Iterable[Prompt], completions: Iterable[Completion]) -> list[dict[str, Any]]:
    """Unpaired rows ``{"prompt", "completion", "label"}`` with the ids they came from, one per thumb.

    Of several thumbs by one labeler on one completion the last counts. Raises DataProblem as above.
    """
    texts = _Texts(prompts, completions)
    last = {(t.completion_id, t.labeler, t.criterion): t for t in thumbs}
    return [
        {
            "prompt": texts.prompt(t.prompt_id),
            "completion": texts.completion(t.completion_id, t.prompt_id),
            "label": t.label,
            "prompt_id": t.prompt_id,
            "completion_id": t.completion_id,
        }
        for t in last.values()
    ]


def _preferences(ranking: Ranking, preferred: Preferred) -> list[tuple[str, str]]:
    """(preferred, other) completion ids of one ranking."""
    found = []
    for (a, rank_a), (b, rank_b) in combinations(zip(ranking.completion_ids, ranking.ranks, strict=True), 2):
        wins = preferred(rank_a, rank_b)
        if wins is not None:
            found.append((a, b) if wins else (b, a))
    return found


class _Texts:
    """Prompts and completions by id."""

    def __init__(self, prompts: Iterable[Prompt], completions: Iterable[Completion]) -> None:
        self._prompts = {p.id: p for p in prompts}
        self._completions = {c.id: c for c in completions}

    def prompt(self, prompt_id: str) -> Any:
        return _known(self._prompts, prompt_id, "prompt").prompt

    def completion(self, completion_id: str, prompt_id: str) -> str:
        found = _known(self._completions, completion_id, "completion")
        if found.prompt_id != prompt_id:
            what = f"completion {completion_id!r} was judged under prompt {prompt_id!r} but answers prompt {found.prompt_id!r}"
            raise DataProblem(what, "Use the completions that were shown when the judgements were made.")
        return found.text

    def pair(self, prompt_id: str, chosen_id: str, rejected_id: str, p: float = 1.0) -> Pair:
        chosen, rejected = self.completion(chosen_id, prompt_id), self.completion(rejected_id, prompt_id)
        return Pair(self.prompt(prompt_id), chosen, rejected, p, prompt_id=prompt_id, chosen_id=chosen_id, rejected_id=rejected_id)


def _known(rows: Mapping[str, Found], key: str, what: str) -> Found:
    if key not in rows:
        raise DataProblem(
            f"a judgement speaks of {what} {key!r}, which is not there", f"Give the {what}s that the judgements were made on."
        )
    return rows[key]
