"""From judgements to pairs: the rules, counted by hand and as laws."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import DataProblem
from heedful.feedback.consensus import consensus
from heedful.feedback.criteria import CRITERIA
from heedful.pairs.build import (
    for_review,
    from_consensus,
    from_corrections,
    from_flags,
    from_rankings,
    from_thumbs,
    pairs_from_corrections,
    pairs_from_thumbs,
    versions_read,
)
from heedful.records import Completion, Correction, Pair, Prompt, Ranking, Thumb

PROMPTS = [Prompt("p", "Ask."), Prompt("q", [{"role": "user", "content": "Ask again."}])]
COMPLETIONS = [Completion(i, "p", f"text {i}", [], "stop", 0, "m") for i in "abcdefghi"] + [
    Completion(i, "q", f"text {i}", [], "stop", 0, "m") for i in "yz"
]
BETTER, WORSE = CRITERIA["helpfulness"], replace(CRITERIA["toxicity"], name="helpfulness")
RANKS = st.lists(st.none() | st.integers(1, 5), min_size=2, max_size=9)


def ranking(ranks: list[int | None], labeler: str = "x", shown: str = "abcdefghi", **others: str) -> Ranking:
    return Ranking("p", labeler, list(shown[: len(ranks)]), ranks, "helpfulness", others.pop("version", "v"), **others)


def twos(pairs: list[Pair]) -> list[str]:
    return [p.chosen_id + p.rejected_id for p in pairs]


def test_a_ranking_with_a_tie_and_two_fs_by_hand() -> None:
    pairs = from_rankings([ranking([2, 1, 1, None, None])], PROMPTS, COMPLETIONS, BETTER)
    assert sorted(twos(pairs)) == ["ad", "ae", "ba", "bd", "be", "ca", "cd", "ce"]
    assert pairs[0] == Pair("Ask.", "text b", "text a", 1.0, 0.0, "p", "b", "a", 1, 0, 0, "helpfulness", "v", "rank", False)
    assert {p.chosen_id + p.rejected_id for p in pairs if p.source == "flag"} == {"ad", "ae", "bd", "be", "cd", "ce"}


def test_of_toxicity_the_last_rank_is_preferred_and_an_f_still_the_worst() -> None:
    assert sorted(twos(from_rankings([ranking([2, 1, None])], PROMPTS, COMPLETIONS, WORSE))) == ["ab", "ac", "bc"]


@given(RANKS)
def test_every_two_differently_ranked_completions_make_one_pair(ranks: list[int | None]) -> None:
    n = len(ranks)
    equal = sum(ranks[i] == ranks[j] for i in range(n) for j in range(i))
    if equal == n * (n - 1) // 2:
        assert from_rankings([ranking(ranks)], PROMPTS, COMPLETIONS, BETTER) == []
        return
    better, worse = (set(twos(from_rankings([ranking(ranks)], PROMPTS, COMPLETIONS, c))) for c in (BETTER, WORSE))
    assert len(better) == len(worse) == n * (n - 1) // 2 - equal
    fs = {i for i, rank in zip("abcdefghi", ranks, strict=False) if rank is None}
    assert {two for two in better if not fs & set(two)} == {two[::-1] for two in worse if not fs & set(two)}
    assert {two for two in better if fs & set(two)} == {two for two in worse if fs & set(two)}


@given(RANKS)
def test_on_request_ties_are_pairs_too_and_fs_are_none(ranks: list[int | None]) -> None:
    n, ranked = len(ranks), sum(rank is not None for rank in ranks)
    with_ties = from_rankings([ranking(ranks)], PROMPTS, COMPLETIONS, BETTER, ties=True)
    assert len(with_ties) == n * (n - 1) // 2 - (n - ranked) * (n - ranked - 1) // 2, "all but F against F"
    assert all((p.p, p.n_for, p.n_against, p.n_tie) == (0.5, 0, 0, 1) for p in with_ties if p.tie)
    assert [p for p in with_ties if not p.tie] == from_rankings([ranking(ranks)], PROMPTS, COMPLETIONS, BETTER)
    without_flags = from_rankings([ranking(ranks)], PROMPTS, COMPLETIONS, BETTER, ties=True, flags=False)
    assert len(without_flags) == ranked * (ranked - 1) // 2
    assert all(p.source == "rank" for p in without_flags)


def test_labelers_are_counted_and_the_last_judgement_of_each_counts() -> None:
    rows = [ranking([1, 2]), ranking([2, 1]), ranking([1, 2], "y", shown="ba"), ranking([1, 2], "z", version="w")]
    (pair,) = from_rankings(rows, PROMPTS, COMPLETIONS, BETTER)
    assert (pair.chosen_id, pair.n_for, pair.n_against, pair.n_tie) == ("b", 2, 1, 0)
    assert pair.p == pytest.approx(2 / 3)
    assert pair.instructions_version == "v,w"
    (tied,) = from_rankings([*rows, ranking([1, 1], "w")], PROMPTS, COMPLETIONS, BETTER)
    assert (tied.n_for, tied.n_against, tied.n_tie, tied.p) == (2, 1, 1, 2.5 / 4)


def test_who_is_split_evenly_makes_no_pair() -> None:
    rows = [ranking([1, 2]), ranking([2, 1], "y")]
    assert from_rankings(rows, PROMPTS, COMPLETIONS, BETTER) == []
    (undecided,) = from_rankings(rows, PROMPTS, COMPLETIONS, BETTER, ties=True)
    assert (undecided.tie, undecided.p, undecided.n_for, undecided.n_against, undecided.n_tie) == (True, 0.5, 1, 1, 0)


def test_a_repeat_is_no_second_voice() -> None:
    rows = [
        ranking([1, 2]),
        ranking([2, 1], purpose="repeat"),
        ranking([2, 1], "y", purpose="repeat"),
        ranking([2, 1], "z", purpose="extra"),
    ]
    (pair,) = from_rankings(rows, PROMPTS, COMPLETIONS, BETTER, ties=True)
    assert (pair.tie, pair.n_for, pair.n_against) == (True, 1, 1), "x once, z once, y never"


def test_rankings_by_another_criterion_are_another_matter() -> None:
    other = replace(ranking([2, 1]), criterion="honesty")
    (pair,) = from_rankings([ranking([1, 2]), other], PROMPTS, COMPLETIONS, BETTER)
    assert (pair.chosen_id, pair.n_for) == ("a", 1)
    with pytest.raises(DataProblem, match=r"no rankings by 'helpfulness' \(there are: honesty\)"):
        from_rankings([other], PROMPTS, COMPLETIONS, BETTER)


def test_what_most_labelers_call_an_f_is_below_and_two_of_them_are_no_pair() -> None:
    rows = [ranking([1, None, None]), ranking([2, None, 1], "y"), ranking([1, 2, None], "z")]
    pairs = from_rankings(rows, PROMPTS, COMPLETIONS, BETTER, ties=True)
    assert {(p.chosen_id, p.rejected_id, p.n_for, p.n_against, p.source) for p in pairs} == {
        ("a", "b", 3, 0, "flag"),
        ("a", "c", 2, 1, "flag"),
    }, "b and c were called F by two of three each"
    assert for_review(rows, BETTER) == []
    nothing = [ranking([None, None]), ranking([None, None], "y"), ranking([1, None], "z")]
    assert for_review(nothing, BETTER) == ["p"]
    assert from_rankings(nothing, PROMPTS, COMPLETIONS, BETTER, ties=True) == []


@pytest.mark.parametrize(("by_rank", "by_flag", "source"), [(2, 1, "rank"), (2, 2, "rank"), (1, 2, "flag")])
def test_a_pair_comes_from_an_f_where_most_of_its_votes_do(by_rank: int, by_flag: int, source: str) -> None:
    rows = [ranking([1, 2] if n < by_rank else [1, None], f"x{n}") for n in range(by_rank + by_flag)]
    assert [(p.source, p.n_for) for p in from_rankings(rows, PROMPTS, COMPLETIONS, BETTER)] == [(source, by_rank + by_flag)]


def test_the_majority_of_the_consensus_module_says_the_same() -> None:
    """An independent count: smoothing and flags aside, the same completion is preferred with the same votes."""
    rows = [
        ranking(list(ranks), name) for name, ranks in {"x": (1, 2, 3, 3), "y": (2, 1, 4, 3), "z": (3, 1, 2, 2), "w": (1, 1, 1, 2)}.items()
    ]
    counted = {(p.chosen_id, p.rejected_id, p.n_for, p.n_against, p.n_tie) for p in from_rankings(rows, PROMPTS, COMPLETIONS, BETTER)}
    agreed = consensus(rows, BETTER)
    assert counted == {(p.chosen_id, p.rejected_id, p.votes_for, p.votes_against, p.ties) for p in agreed.decided}
    pairs = from_consensus(agreed, PROMPTS, COMPLETIONS, "helpfulness", {"p": "v", "q": "w"})
    assert {(p.chosen_id, p.rejected_id, p.n_for, p.n_against, p.n_tie) for p in pairs} == counted
    assert {(p.criterion, p.instructions_version) for p in pairs} == {("helpfulness", "v")}


@dataclass
class Two:
    prompt_id: str
    chosen_id: str
    rejected_id: str
    p: float
    margin: float | None = 0.0
    votes_for: int = 3
    votes_against: int = 1
    ties: int = 0
    by_flag: bool = False


@dataclass
class Agreed:
    decided: list[Two] = field(default_factory=list)


def test_a_consensus_gives_each_decided_pair_with_its_probability_and_evidence() -> None:
    agreed = Agreed([Two("p", "c", "a", 0.8, 1.5), Two("p", "c", "b", 0.9, None, by_flag=True)])
    pairs = from_consensus(agreed, PROMPTS, COMPLETIONS)
    assert [(p.chosen, p.rejected, p.p, p.margin, p.n_for, p.n_against, p.n_tie, p.source) for p in pairs] == [
        ("text c", "text a", 0.8, 0.0, 3, 1, 0, "rank"),
        ("text c", "text b", 0.9, 0.0, 3, 1, 0, "flag"),
    ], "a trainer would take the margin off the scores, beside p"
    assert [p.margin for p in from_consensus(agreed, PROMPTS, COMPLETIONS, margins=True)] == [1.5, 0.0]


def test_the_versions_that_a_prompts_labelers_had_read() -> None:
    rows = [ranking([1, 2]), replace(ranking([1, 2], "y"), instructions_version="a"), replace(ranking([2, 1], "z"), prompt_id="q")]
    rows.append(replace(ranking([1, 2], "y", purpose="repeat"), instructions_version="read later"))
    assert versions_read(rows) == {"p": f"a,{rows[0].instructions_version}", "q": rows[0].instructions_version}


def test_thumbs_become_unpaired_rows() -> None:
    thumbs = [
        Thumb("p", "x", "a", False, "h", "v"),
        Thumb("p", "x", "a", True, "h", "v"),
        Thumb("p", "y", "a", True, "h", "w"),
        Thumb("p", "z", "a", False, "h", "v"),
        Thumb("q", "x", "z", False, "h", "v"),
        Thumb("q", "x", "z", True, "h", "v", purpose="repeat"),
        Thumb("p", "x", "b", True, "h", "v"),
        Thumb("p", "y", "b", False, "h", "v"),
    ]
    rows = from_thumbs(thumbs, PROMPTS, COMPLETIONS)
    assert [(r.prompt, r.completion, r.label, r.n_for, r.n_against, r.instructions_version) for r in rows] == [
        ("Ask.", "text a", True, 2, 1, "v,w"),
        (PROMPTS[1].prompt, "text z", False, 1, 0, "v"),
    ], "b is undecided"
    assert {(r.prompt_id, r.completion_id, r.criterion, r.source) for r in rows} == {("p", "a", "h", "thumb"), ("q", "z", "h", "thumb")}


def thumbs_of(*said: tuple[str, str, bool], **others: Any) -> list[Thumb]:
    """Of completion, labeler, and whether it is up."""
    return [Thumb("p", who, name, up, "h", "v", **others) for name, who, up in said]


def test_an_up_is_preferred_to_a_down() -> None:
    """Of a two thumbs are up, of b one of two, of c none of one: 2.5/3, 1.5/3 and 0.5/2."""
    thumbs = thumbs_of(("a", "x", True), ("a", "y", True), ("b", "x", False), ("b", "y", True), ("c", "x", False))
    repeated = thumbs_of(("c", "y", True), ("c", "z", True), purpose="repeat")
    (pair,) = pairs_from_thumbs([*thumbs, *repeated], PROMPTS, COMPLETIONS, "h")
    p = (5 / 6 * 3 / 4) / (5 / 6 * 3 / 4 + 1 / 6 * 1 / 4)
    assert pair == Pair("Ask.", "text a", "text c", pytest.approx(p), 0.0, "p", "a", "c", 1, 0, 0, "h", "v", "thumb", False)
    assert p == pytest.approx(15 / 16)
    assert pairs_from_thumbs(thumbs, PROMPTS, COMPLETIONS, least=0.94) == []


def test_whom_a_consensus_believes_decides_and_the_counts_are_of_those_who_judged_both() -> None:
    thumbs = thumbs_of(("a", "x", True), ("b", "x", False), ("a", "y", False), ("b", "y", True), ("a", "z", False), ("b", "z", False))
    assert pairs_from_thumbs(thumbs, PROMPTS, COMPLETIONS) == [], "one of three against one of three"
    (pair,) = pairs_from_thumbs([*thumbs, *thumbs_of(("a", "w", True))], PROMPTS, COMPLETIONS, up={"a": 0.9, "b": 0.2})
    assert (pair.chosen_id, pair.rejected_id, pair.n_for, pair.n_against, pair.n_tie) == ("a", "b", 1, 1, 1)
    assert pair.p == pytest.approx(0.72 / 0.74)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans()), max_size=12))
def test_pairs_of_thumbs_are_of_an_up_and_a_down(said: list[tuple[str, str, bool]]) -> None:
    thumbs = thumbs_of(*said)
    label = {row.completion_id: row.label for row in from_thumbs(thumbs, PROMPTS, COMPLETIONS)}
    ups, downs = ([name for name, up in label.items() if up is wanted] for wanted in (True, False))
    pairs = pairs_from_thumbs(thumbs, PROMPTS, COMPLETIONS)
    assert sorted(twos(pairs)) == sorted(a + b for a in ups for b in downs)
    assert all(0.5 < p.p < 1 for p in pairs)


def test_fs_become_unwanted_rows() -> None:
    rows = [ranking([1, None, None]), ranking([2, None, 1], "y"), ranking([2, None, 1], "y", purpose="repeat")]
    (row,) = from_flags(rows, PROMPTS, COMPLETIONS, BETTER)
    assert (row.completion, row.label, row.n_for, row.n_against, row.source) == ("text b", False, 2, 0, "flag"), "c got one F of two"


def test_corrections_become_demonstrations() -> None:
    corrections = [
        Correction("p", "x", "a", "first try"),
        Correction("p", "x", "a", "Better so."),
        Correction("p", "y", "a", "Or so."),
        Correction("p", "z", "b", "Or so."),
        Correction("p", "x", "b", " "),
        Correction("q", "x", "z", "Chat.", purpose="repeat"),
    ]
    assert from_corrections(corrections, PROMPTS, COMPLETIONS) == [Prompt("p", "Ask.", ["Better so.", "Or so."])]


def test_a_correction_is_preferred_to_what_it_corrects() -> None:
    corrections = [
        Correction("p", "x", "a", "first try", instructions_version="v"),
        Correction("p", "x", "a", "Better so.", instructions_version="v"),
        Correction("p", "y", "a", "Better so.", instructions_version="w"),
        Correction("p", "z", "a", "Or so.", instructions_version="w"),
        Correction("p", "x", "b", " "),
        Correction("p", "y", "b", " text b "),
        Correction("q", "x", "z", "Chat.", purpose="repeat"),
    ]
    assert pairs_from_corrections(corrections, PROMPTS, COMPLETIONS, "h") == [
        Pair("Ask.", "Better so.", "text a", 1.0, 0.0, "p", "", "a", 2, 0, 0, "h", "v,w", "correction", False),
        Pair("Ask.", "Or so.", "text a", 1.0, 0.0, "p", "", "a", 1, 0, 0, "h", "w", "correction", False),
    ], "nothing, and what changes nothing, is left out"
    with pytest.raises(DataProblem, match="answers prompt 'q'"):
        pairs_from_corrections([Correction("p", "x", "z", "text")], PROMPTS, COMPLETIONS)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(DataProblem, match="completion 'a'"):
        from_rankings([ranking([1, 2])], PROMPTS, [], BETTER)
    with pytest.raises(DataProblem, match="prompt 'p'"):
        from_rankings([ranking([1, 2])], [], COMPLETIONS, BETTER)
    with pytest.raises(DataProblem, match="answers prompt 'q'"):
        from_rankings([ranking([1, 2], shown="az")], PROMPTS, COMPLETIONS, BETTER)
    with pytest.raises(DataProblem, match="answers prompt 'q'"):
        from_corrections([Correction("p", "x", "z", "text")], PROMPTS, COMPLETIONS)
