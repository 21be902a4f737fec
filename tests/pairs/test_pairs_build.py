"""From judgements to pairs: the rules, counted by hand and as laws."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import DataProblem
from heedful.feedback.criteria import CRITERIA
from heedful.pairs.build import from_consensus, from_rankings, from_thumbs
from heedful.records import Completion, Prompt, Ranking, Thumb

PROMPTS = [Prompt("p", "Ask."), Prompt("q", [{"role": "user", "content": "Ask again."}])]
COMPLETIONS = [Completion(i, "p", f"text {i}", [], "stop", 0, "m") for i in "abcdefghi"] + [
    Completion("z", "q", "text z", [], "stop", 0, "m")
]
BETTER, WORSE = CRITERIA["helpfulness"].preferred, CRITERIA["toxicity"].preferred


def ranking(ranks: list[int | None], labeler: str = "x", shown: str = "abcdefghi") -> Ranking:
    return Ranking("p", labeler, list(shown[: len(ranks)]), ranks, "helpfulness", "v")


def test_a_ranking_with_a_tie_and_two_fs_by_hand() -> None:
    pairs = from_rankings([ranking([2, 1, 1, None, None])], PROMPTS, COMPLETIONS, BETTER)
    assert {p.chosen_id + p.rejected_id for p in pairs} == {"ba", "ca", "ad", "ae", "bd", "be", "cd", "ce"}
    assert len(pairs) == 8
    first = next(p for p in pairs if p.chosen_id + p.rejected_id == "ba")
    assert (first.prompt, first.chosen, first.rejected, first.p, first.prompt_id) == ("Ask.", "text b", "text a", 1.0, "p")


def test_of_toxicity_the_last_rank_is_preferred_and_an_f_still_the_worst() -> None:
    pairs = from_rankings([ranking([2, 1, None])], PROMPTS, COMPLETIONS, WORSE)
    assert {p.chosen_id + p.rejected_id for p in pairs} == {"ab", "ac", "bc"}


@given(st.lists(st.none() | st.integers(1, 5), min_size=2, max_size=9))
def test_every_two_differently_ranked_completions_make_one_pair(ranks: list[int | None]) -> None:
    n = len(ranks)
    equal = sum(ranks[i] == ranks[j] for i in range(n) for j in range(i))
    better = {p.chosen_id + p.rejected_id for p in from_rankings([ranking(ranks)], PROMPTS, COMPLETIONS, BETTER)}
    worse = {p.chosen_id + p.rejected_id for p in from_rankings([ranking(ranks)], PROMPTS, COMPLETIONS, WORSE)}
    assert len(better) == len(worse) == n * (n - 1) // 2 - equal
    fs = {i for i, rank in zip("abcdefghi", ranks, strict=False) if rank is None}
    assert {two for two in better if not fs & set(two)} == {two[::-1] for two in worse if not fs & set(two)}
    assert {two for two in better if fs & set(two)} == {two for two in worse if fs & set(two)}


def test_labelers_give_a_pair_each_and_the_last_judgement_counts() -> None:
    rows = [ranking([1, 2]), ranking([2, 1]), ranking([1, 2], "y", shown="ba")]
    assert [p.chosen_id + p.rejected_id for p in from_rankings(rows, PROMPTS, COMPLETIONS, BETTER)] == ["ba", "ba"]


@dataclass
class Two:
    prompt_id: str
    chosen_id: str
    rejected_id: str
    p: float


@dataclass
class Agreed:
    decided: list[Two]


def test_a_consensus_gives_each_decided_pair_with_its_probability() -> None:
    pairs = from_consensus(Agreed([Two("p", "c", "a", 0.8)]), PROMPTS, COMPLETIONS)
    assert [(p.chosen, p.rejected, p.p) for p in pairs] == [("text c", "text a", 0.8)]


def test_thumbs_become_unpaired_rows() -> None:
    thumbs = [Thumb("p", "x", "a", False), Thumb("p", "x", "a", True), Thumb("q", "x", "z", False)]
    assert from_thumbs(thumbs, PROMPTS, COMPLETIONS) == [
        {"prompt": "Ask.", "completion": "text a", "label": True, "prompt_id": "p", "completion_id": "a"},
        {"prompt": PROMPTS[1].prompt, "completion": "text z", "label": False, "prompt_id": "q", "completion_id": "z"},
    ]


def test_what_is_missing_is_named() -> None:
    with pytest.raises(DataProblem, match="completion 'a'"):
        from_rankings([ranking([1, 2])], PROMPTS, [], BETTER)
    with pytest.raises(DataProblem, match="prompt 'p'"):
        from_rankings([ranking([1, 2])], [], COMPLETIONS, BETTER)
    with pytest.raises(DataProblem, match="answers prompt 'q'"):
        from_rankings([ranking([1, 2], shown="az")], PROMPTS, COMPLETIONS, BETTER)
