"""True labels from votes: golden numbers, a hand-worked step, and laws."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from heedful.maths.dawid_skene import NO_PRIOR, Votes, fit, next_vote

TRUE = np.array([0.9, 0.8, 0.7, 0.5, 0.15])
"""How often each labeler gives the true label of two; the last one has them exchanged."""


def drawn(items: int = 800, seed: int = 0) -> tuple[Votes, np.ndarray]:
    """Votes of all labelers on all items, and the truth."""
    random = np.random.default_rng(seed)
    truth = (random.random(items) < 0.3).astype(int)
    item, labeler = (axis.ravel() for axis in np.indices((items, len(TRUE))))
    right = random.random(len(item)) < TRUE[labeler]
    return Votes(item, labeler, np.where(right, truth[item], 1 - truth[item]), items, len(TRUE), 2), truth


def test_golden(shared: Path) -> None:
    for case in json.loads((shared / "golden" / "dawid_skene.json").read_text())["cases"]:
        rows, expected = case["inputs"]["votes"], case["expected"]["posterior_of_1"]
        items, names = list(expected), sorted({who for _, who, _ in rows})
        columns = [(items.index(item), names.index(who), label) for item, who, label in rows]
        votes = Votes(*np.array(columns).T, len(items), len(names), 2)
        # crowd-kit stops when a round gains less than 1e-5: here after 14. Where it would end is near, not the same.
        assert fit(votes, NO_PRIOR, rounds=14, tolerance=0).truth[:, 1] == pytest.approx(list(expected.values()), abs=1e-6)
        assert fit(votes, NO_PRIOR).truth[:, 1] == pytest.approx(list(expected.values()), abs=1e-3)


def test_one_round_by_hand() -> None:
    # Item 0: votes 0, 0; item 1: votes 0, 1. From shares of votes: truths (1, 0) and (1/2, 1/2).
    votes = Votes(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]), np.array([0, 0, 0, 1]), 2, 2, 2)
    found = fit(votes, NO_PRIOR, rounds=1)
    assert found.share == pytest.approx([0.75, 0.25])
    assert found.confusion[0] == pytest.approx(np.array([[1, 0], [1, 0]]), abs=1e-9)
    assert found.confusion[1] == pytest.approx(np.array([[2 / 3, 1 / 3], [0, 1]]), abs=1e-9)
    # Of item 1: 3/4 * 1 * 1/3 against 1/4 * 1 * 1.
    assert found.truth[1] == pytest.approx([0.5, 0.5])


def test_known_confusions_are_found_again_and_a_turned_labeler_still_helps() -> None:
    votes, truth = drawn()
    found = fit(votes)
    assert found.confusion[:, 0, 0] == pytest.approx(TRUE, abs=0.06)
    assert found.confusion[:, 1, 1] == pytest.approx(TRUE, abs=0.08)
    majority = votes.counts().argmax(axis=1) == truth
    assert (found.truth.argmax(axis=1) == truth).mean() > majority.mean() + 0.05


def test_the_order_of_votes_does_not_matter() -> None:
    votes, _ = drawn(100)
    order = np.random.default_rng(1).permutation(len(votes.item))
    mixed = replace(votes, item=votes.item[order], labeler=votes.labeler[order], label=votes.label[order])
    assert fit(mixed).truth == pytest.approx(fit(votes).truth, abs=1e-9)


def test_who_has_voted_once_is_taken_for_an_average_labeler() -> None:
    votes, _ = drawn(200)
    one = Votes(np.append(votes.item, 0), np.append(votes.labeler, 5), np.append(votes.label, 1), 200, 6, 2)
    found = fit(one)
    assert np.abs(found.confusion[5] - found.pooled).max() < 1 / 9 + 1e-9  # one vote against the prior's eight


def test_one_more_vote_is_predicted_as_it_comes() -> None:
    """Where the model is true, a held-out labeler's votes come as often as is said."""
    votes, _ = drawn(3000)
    seen = votes.labeler != 1
    rest = replace(votes, item=votes.item[seen], labeler=votes.labeler[seen], label=votes.label[seen])
    chances, worth = next_vote(rest, fit(rest))
    assert chances.sum(axis=1) == pytest.approx(np.ones(3000))
    assert worth > 5
    held_out = votes.label[~seen]
    high = chances[:, 1] > 0.5
    assert held_out[high].mean() > held_out[~high].mean() + 0.3
