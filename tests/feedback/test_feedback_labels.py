"""Consensus of single labels: counts, probabilities, votes of unknown labelers, and what is refused."""

from __future__ import annotations

import json
from random import Random

import pytest

from heedful.errors import DataProblem, SettingProblem
from heedful.feedback.labels import LabelConsensus, LabelVote, label_consensus, thumb_consensus
from heedful.records import Thumb

RIGHT = {"ada": 0.95, "ben": 0.8, "cleo": 0.65, "uma": 0.1}


def votes(items: int = 300, seed: int = 0) -> tuple[list[LabelVote], dict[str, str]]:
    """Every labeler's label of every item, and the truth."""
    chance = Random(seed)
    truth = {f"i{n:03}": chance.choice(["no", "yes"]) for n in range(items)}
    other = {"no": "yes", "yes": "no"}
    said = [LabelVote(i, t if chance.random() < right else other[t], who) for i, t in truth.items() for who, right in RIGHT.items()]
    return said, truth


def accuracy(found: LabelConsensus, truth: dict[str, str]) -> float:
    return sum(0.5 if item.label is None else item.label == truth[item.item] for item in found.items) / len(truth)


def test_a_majority_is_smoothed_and_an_even_vote_decides_nothing() -> None:
    said = [
        LabelVote("a", "yes", "x"),
        LabelVote("a", "yes", "y"),
        LabelVote("a", "no", "z"),
        LabelVote("b", "yes", "x"),
        LabelVote("b", "no", "y"),
    ]
    found = label_consensus(said)
    assert found.method == "majority"
    assert "too few" in found.reason
    a, b = found.items
    assert (a.label, a.p, a.votes) == ("yes", 0.625, {"no": 1, "yes": 2})  # (2 + 0.5) / (3 + 1)
    assert (b.label, b.p, b.next_vote) == (None, 0.5, {"no": 0.5, "yes": 0.5})


def test_the_model_knows_whom_to_believe() -> None:
    said, truth = votes()
    model, majority = label_consensus(said), label_consensus(said, method="majority")
    assert model.method == "model"
    assert model.right == pytest.approx(RIGHT, abs=0.08)
    assert accuracy(model, truth) > accuracy(majority, truth) + 0.05
    assert label_consensus(Random(1).sample(said, len(said))) == model
    assert LabelConsensus.from_dict(json.loads(json.dumps(model.to_dict()))) == model


def test_the_last_vote_of_a_known_labeler_counts_and_all_of_unknown_ones() -> None:
    named = [LabelVote("a", "yes", "x"), LabelVote("a", "no", "x")]
    assert label_consensus(named, ["no", "yes"]).items[0].votes == {"no": 1, "yes": 0}
    unnamed = [LabelVote("a", "yes"), LabelVote("a", "no")]
    assert label_consensus(unnamed).items[0].votes == {"no": 1, "yes": 1}


def test_thumbs_are_up_or_down_and_repeats_no_further_voice() -> None:
    thumbs = [Thumb("p", who, "c", True) for who in "xyz"] + [Thumb("p", "x", "c", False, purpose="repeat")]
    found = thumb_consensus(thumbs)
    assert (found.items[0].label, found.items[0].votes) == ("up", {"down": 0, "up": 3})


def test_mistakes_are_named() -> None:
    with pytest.raises(DataProblem, match="no votes"):
        label_consensus([])
    with pytest.raises(DataProblem, match="'maybe'"):
        label_consensus([LabelVote("a", "maybe", "x")], ["no", "yes"])
    with pytest.raises(SettingProblem, match="'best'"):
        label_consensus([LabelVote("a", "no", "x")], method="best")  # type: ignore[arg-type]
