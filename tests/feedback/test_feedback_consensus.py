"""The first consensus, by hand-counted votes."""

from __future__ import annotations

import json

import pytest

from heedful.errors import DataProblem, SettingProblem
from heedful.feedback.consensus import Consensus, ConsensusPair, consensus
from heedful.feedback.criteria import CRITERIA, Criterion
from heedful.feedback.majority import majority
from heedful.records import Ranking

HELPFULNESS, TOXICITY = CRITERIA["helpfulness"], CRITERIA["toxicity"]


def judged(labeler: str, ranks: dict[str, int | None], criterion: str = "helpfulness", prompt_id: str = "p") -> Ranking:
    return Ranking(prompt_id, labeler, list(ranks), list(ranks.values()), criterion, "v")


def test_votes_are_counted_and_smoothed() -> None:
    rows = [judged("x", {"a": 1, "b": 2}), judged("y", {"b": 2, "a": 1}), judged("z", {"a": 2, "b": 1}), judged("t", {"a": 1, "b": 1})]
    # For a: 2 + half a tie, of 4; smoothed (2.5 + 0.5) / (4 + 1).
    assert consensus(rows, HELPFULNESS).pairs == [ConsensusPair("p", "a", "b", 0.6, 2, 1, 1)]


def test_direction_turns_the_preference() -> None:
    rows = [judged(name, {"a": 1, "b": 2}, "toxicity") for name in "xyz"]
    assert consensus(rows, TOXICITY).pairs == [ConsensusPair("p", "b", "a", 0.875, 3, 0, 0)]


def test_an_even_vote_decides_nothing() -> None:
    agreed = consensus([judged("x", {"a": 1, "b": 2}), judged("y", {"a": 2, "b": 1})], HELPFULNESS)
    assert agreed.pairs == [ConsensusPair("p", "a", "b", 0.5, 1, 1, 0)]
    assert agreed.decided == []


def test_a_majority_of_fs_puts_a_completion_below_all_others() -> None:
    rows = [
        judged("x", {"a": None, "b": None, "c": 1}),
        judged("y", {"a": 1, "b": None, "c": 2}),
        judged("z", {"a": 2, "b": 1, "c": None}),
    ]
    agreed = consensus(rows, HELPFULNESS)
    assert agreed.completions_f == {"p": ["b"]}
    found = {(pair.chosen_id, pair.rejected_id): pair for pair in agreed.pairs}
    # a against b: y says a, z says b, x says nothing. Two of three Fs decide: (2 + 0.5) / (3 + 1).
    assert found["a", "b"] == ConsensusPair("p", "a", "b", 0.625, 1, 1, 0, by_flag=True)
    # c against b: x and y prefer c, z gave c an F: (2 + 0.5) / 4 either way.
    assert found["c", "b"] == ConsensusPair("p", "c", "b", 0.625, 2, 1, 0, by_flag=True)
    # a against c: y and z prefer a (F below), x prefers c.
    assert found["a", "c"] == ConsensusPair("p", "a", "c", 0.625, 2, 1, 0)


def test_two_flagged_completions_make_no_pair_and_half_is_no_majority() -> None:
    both = consensus([judged(n, {"a": None, "b": None, "c": 1}) for n in "xy"], HELPFULNESS)
    assert {(pair.chosen_id, pair.rejected_id) for pair in both.pairs} == {("c", "a"), ("c", "b")}
    votes = [judged("x", {"a": None, "b": 1}), judged("y", {"a": None, "b": None}), judged("z", {"a": 1, "b": None})]
    assert consensus(votes, HELPFULNESS).pairs == []
    half = consensus([judged("x", {"a": None, "b": 1}), judged("y", {"a": 1, "b": 2})], HELPFULNESS)
    assert half.completions_f == {}
    assert half.decided == []


def test_weights_and_exclusion() -> None:
    rows = [judged("x", {"a": 1, "b": 2}), judged("y", {"a": 2, "b": 1}), judged("z", {"a": 2, "b": 1})]
    pairs, _ = majority(rows[:2], HELPFULNESS, weights={"x": 3.0})
    assert pairs == [ConsensusPair("p", "a", "b", 0.7, 1, 1, 0)]  # (3 + 0.5) / (4 + 1)
    agreed = consensus(rows, HELPFULNESS, exclude=["z"])
    assert (agreed.pairs[0].p, agreed.labelers, agreed.excluded) == (0.5, ["x", "y"], ["z"])
    assert consensus(rows, HELPFULNESS).pairs[0].chosen_id == "b"


def test_what_a_consensus_is_stamped_with_makes_it_again() -> None:
    rows = [judged(name, {"a": 1, "b": 2, "c": None}, "toxicity") for name in "xyz"]
    made = consensus(rows, TOXICITY, exclude=["y"], least_rankings=7).parameters
    assert made == {"criterion": TOXICITY.to_dict(), "exclude": ["y"], "decided": 0.55, "least_rankings": 7, "smoothing": 0.5}
    again = consensus(rows, Criterion.from_dict(made["criterion"]), made["exclude"], least_rankings=made["least_rankings"])
    assert again == consensus(rows, TOXICITY, exclude=["y"], least_rankings=7)


def test_the_last_of_several_judgements_counts() -> None:
    rows = [judged("x", {"a": 1, "b": 2}), judged("x", {"a": 2, "b": 1})]
    assert consensus(rows, HELPFULNESS).pairs == [ConsensusPair("p", "b", "a", 0.75, 1, 0, 0)]


def test_a_consensus_survives_json() -> None:
    agreed = consensus([judged("x", {"a": 1, "b": None}), judged("y", {"a": 1, "b": None}, prompt_id="q")], HELPFULNESS)
    assert Consensus.from_dict(json.loads(json.dumps(agreed.to_dict()))) == agreed


def test_mistakes_are_named() -> None:
    rows = [judged("xenia", {"a": 1, "b": 2})]
    with pytest.raises(DataProblem, match="there are: helpfulness"):
        consensus(rows, TOXICITY)
    with pytest.raises(SettingProblem, match="'xenia'"):
        consensus(rows, HELPFULNESS, exclude=["xena"])
    with pytest.raises(SettingProblem, match="all 1 labelers"):
        consensus(rows, HELPFULNESS, exclude=["xenia"])
    with pytest.raises(SettingProblem, match="-1"):
        majority(rows, HELPFULNESS, weights={"xenia": -1})
