"""Consensus by the model of the panel: better than a majority, honest about what it does not know, and always the same."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, permutations
from random import Random

import numpy as np
import pytest
from test_feedback_labelers import World, judgements, world

from heedful.errors import SettingProblem
from heedful.feedback.agreed import Consensus, ConsensusPair
from heedful.feedback.consensus import consensus
from heedful.feedback.criteria import CRITERIA
from heedful.feedback.panel import fit_panel
from heedful.feedback.simulated import SimulatedLabeler, panel
from heedful.feedback.table import table
from heedful.records import Ranking

HELPFULNESS, TOXICITY = CRITERIA["helpfulness"], CRITERIA["toxicity"]


@pytest.fixture(scope="module")
def there() -> World:
    return world(11, prompts=120)


@pytest.fixture(scope="module")
def rankings(there: World) -> list[Ranking]:
    return judgements(there, panel(), 11)


def brier(agreed: Consensus, truth: dict[str, float | None]) -> float:
    """Of pairs of sensible completions."""
    rows = [(pair.p, truth[pair.chosen_id], truth[pair.rejected_id]) for pair in agreed.pairs]
    return float(np.mean([(p - (a > b)) ** 2 for p, a, b in rows if a is not None and b is not None]))


def test_the_model_beats_the_majority_and_its_intervals_hold(there: World, rankings: list[Ranking]) -> None:
    model, majority = (consensus(rankings, HELPFULNESS, method=method) for method in ("model", "majority"))
    assert brier(model, there[1]) < brier(majority, there[1]) - 0.02
    truth = {i: q for i, q in there[1].items() if q is not None}
    inside = [
        pair.interval[0] <= truth[pair.chosen_id] - truth[pair.rejected_id] <= pair.interval[1]
        for pair in model.pairs
        if pair.interval and {pair.chosen_id, pair.rejected_id} <= truth.keys()
    ]
    assert 0.83 < np.mean(inside) < 0.97
    counts = {(p.prompt_id, *sorted((p.chosen_id, p.rejected_id))): {p.votes_for, p.votes_against, p.ties} for p in majority.pairs}
    for pair in model.pairs:
        assert counts[pair.prompt_id, *sorted((pair.chosen_id, pair.rejected_id))] == {pair.votes_for, pair.votes_against, pair.ties}


def test_the_same_rankings_in_any_order_give_the_same_consensus(rankings: list[Ranking]) -> None:
    first = consensus(rankings, HELPFULNESS)
    again = consensus(Random(0).sample(rankings, len(rankings)), HELPFULNESS)
    assert again == first
    changed = consensus([replace(rankings[0], ranks=[1] * len(rankings[0].ranks)), *rankings[1:]], HELPFULNESS)
    assert changed.input_sha256 != first.input_sha256
    assert Consensus.from_dict(json.loads(json.dumps(first.to_dict()))) == first
    assert (first.algorithm[:5], first.version, first.parameters["converged"]) == ("panel", "1", True)


def test_the_order_is_the_one_that_contradicts_fewest_votes_unless_it_is_nearly_even() -> None:
    """Among equally good labelers Kemeny's order, by going through all of a prompt's, is turned only where hardly anything is preferred."""
    equals = [SimulatedLabeler(name, "careful", 0.5) for name in ("ada", "ben", "cleo", "dan", "eve")]
    there = world(5, prompts=60, nonsense=0.0)
    agreed = consensus(judgements(there, equals, 5, 5), HELPFULNESS, method="model")
    by_prompt: dict[str, list[ConsensusPair]] = {}
    for pair in agreed.pairs:
        by_prompt.setdefault(pair.prompt_id, []).append(pair)
    for pairs in by_prompt.values():
        votes = {(p.chosen_id, p.rejected_id): p.votes_for for p in pairs} | {(p.rejected_id, p.chosen_id): p.votes_against for p in pairs}
        orders = [
            (sum(votes[worse, better] for better, worse in combinations(order, 2)), order) for order in permutations({a for a, _ in votes})
        ]
        fewest = min(contradicted for contradicted, _ in orders)
        best = [set(combinations(order, 2)) for contradicted, order in orders if contradicted == fewest]
        assert any(all((p.chosen_id, p.rejected_id) in order for p in pairs if p.p > 0.7) for order in best), pairs
    assert sum(p.p > 0.7 for p in agreed.pairs) > 0.8 * len(agreed.pairs)


def test_turning_the_criterion_and_all_ranks_changes_nothing(there: World) -> None:
    rows = judgements(there, panel()[:4], 3)
    last = max(rank for row in rows for rank in row.ranks if rank is not None)
    turned = [replace(r, criterion="toxicity", ranks=[None if k is None else last + 1 - k for k in r.ranks]) for r in rows]
    assert consensus(turned, TOXICITY, method="model").pairs == consensus(rows, HELPFULNESS, method="model").pairs


def test_too_little_is_decided_by_majority_and_says_so(there: World) -> None:
    few = consensus(judgements(world(0, 12), panel(), 0), HELPFULNESS)
    assert few.method == "majority"
    assert "6 rankings per labeler are too few" in few.reason
    two = consensus(judgements(there, panel()[:2], 0, overlap=2), HELPFULNESS)
    assert "of 2 labeler(s) nobody can say" in two.reason
    alone = consensus(judgements(there, panel()[:4], 0, overlap=1), HELPFULNESS)
    assert "no prompt was judged by two" in alone.reason
    enough = consensus(judgements(there, panel()[:4], 0), HELPFULNESS)
    assert (enough.method, enough.reason[:6]) == ("model", "Model:")
    with pytest.raises(SettingProblem, match="'vote'"):
        consensus(judgements(there, panel(), 0), HELPFULNESS, method="vote")  # type: ignore[arg-type]


def test_an_ai_judge_is_a_labeler_like_any_other(rankings: list[Ranking]) -> None:
    """Who somebody is must not matter, only how they judge."""
    renamed = [replace(r, labeler="judge:model-x") if r.labeler == "cleo" else r for r in rankings]
    person, judge = consensus(rankings, HELPFULNESS), consensus(renamed, HELPFULNESS)
    assert judge.reliability["judge:model-x"] == pytest.approx(person.reliability["cleo"], abs=2e-3)


def test_fs_have_a_consensus_of_their_own() -> None:
    """Three Fs of a labeler who gives them to everything prove less than two of careful ones."""
    lavish = SimulatedLabeler("lee", "all_f")
    there = world(5, prompts=150, nonsense=0.1)
    agreed = consensus(judgements(there, [*panel()[:4], lavish], 5, overlap=3), HELPFULNESS, method="model")
    with_f = {i for ids in agreed.completions_f.values() for i in ids}
    nonsense = {i for i, quality in there[1].items() if quality is None}
    assert len(with_f & nonsense) / len(nonsense) > 0.85
    assert len(with_f & nonsense) / len(with_f) > 0.95
    sides = [pair for pair in agreed.pairs if pair.by_flag]
    assert sides
    assert all(pair.rejected_id in with_f and pair.chosen_id not in with_f and pair.p > 0.5 for pair in sides)


@pytest.mark.parametrize(("overlap", "noise"), [(2, 0.25), (2, 0.75), (3, 0.5), (3, 1.0)])
def test_what_is_stated_is_true_as_often_even_of_few_noisy_labelers(there: World, overlap: int, noise: float) -> None:
    """A share of the rankings is shuffled, so that labelers look alike and nobody can be relied on."""
    chance = Random(0)

    def shuffled(row: Ranking) -> Ranking:
        return replace(row, ranks=chance.sample(row.ranks, len(row.ranks))) if chance.random() < noise else row

    rows = [shuffled(row) for row in judgements(there, panel((0.6, 0.6, 0.6, 0.6))[:4], 7, overlap=overlap)]
    fitted = fit_panel(table(rows, HELPFULNESS))
    assert fitted.panel.converged
    assert 0.8 < fitted.temperature() < 1.25
    model, majority = (consensus(rows, HELPFULNESS, method=method) for method in ("model", "majority"))
    assert brier(model, there[1]) < brier(majority, there[1]) + 0.01


def test_a_place_preference_is_found_and_taken_out(there: World) -> None:
    """Careful labelers who lean towards what is shown first: the model sees the habit, the majority believes it."""
    random = np.random.default_rng(0)

    def leaning(who: str, prompt: str, ids: Sequence[str]) -> Ranking:
        shown = random.permutation(ids).tolist()
        seen = [(there[1][i] or 0.0) + 0.4 * random.normal() - 0.6 * place for place, i in enumerate(shown)]
        ranks = [1 + sum(other > mine for other in seen) for mine in seen]
        return Ranking(prompt, who, shown, ranks, "helpfulness", "v")

    rows = [leaning(who, p.id, [c.id for c in cs]) for p, cs in there[0] for who in "abcd"]
    fitted = fit_panel(table(rows, HELPFULNESS))
    assert fitted.panel.worth.habit.min() > 0.5
    model, majority = (brier(consensus(rows, HELPFULNESS, method=method), there[1]) for method in ("model", "majority"))
    assert model < majority
