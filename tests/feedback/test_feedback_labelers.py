"""Simulated labelers, and finding those who guess or read the scale upside down."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import combinations
from random import Random

import pytest

from heedful.errors import DataProblem
from heedful.feedback.agreement import panel_agreement
from heedful.feedback.assign import assign
from heedful.feedback.consensus import Consensus, consensus
from heedful.feedback.criteria import CRITERIA
from heedful.feedback.instructions import Instructions, instructions_for
from heedful.feedback.labelers import flagged, labeler_reports
from heedful.feedback.simulated import SimulatedLabeler, collect, panel
from heedful.records import Completion, Prompt, Ranking

HELPFULNESS = CRITERIA["helpfulness"]
NEW = Instructions("Rank them by how much they help. Ties are rare.")
World = tuple[list[tuple[Prompt, list[Completion]]], dict[str, float | None]]


def world(seed: int, prompts: int = 240, nonsense: float = 0.05) -> World:
    """Prompts with four completions and the truth about each: qualities with standard deviation 1."""
    chance, rows, truth = Random(f"world {seed}"), [], {}
    for number in range(prompts):
        completions = [Completion(f"p{number}c{k}", f"p{number}", "", [], "stop", 0, "m") for k in range(4)]
        rows.append((Prompt(f"p{number}", ""), completions))
        truth |= {c.id: None if chance.random() < nonsense else chance.gauss(0, 1) for c in completions}
    return rows, truth


def judgements(
    there: World, labelers: Sequence[SimulatedLabeler], seed: int, overlap: int = 3, criterion: str = "helpfulness"
) -> list[Ranking]:
    rows, truth = there
    assignment = assign([prompt.id for prompt, _ in rows], [labeler.name for labeler in labelers], overlap, seed)
    return collect(rows, truth, labelers, assignment, CRITERIA[criterion], instructions_for(CRITERIA[criterion]), seed)


def accuracy(rankings: Sequence[Ranking], truth: dict[str, float | None], criterion: str = "helpfulness") -> float:
    """Share of strict preferences between sensible completions that are true."""
    right = []
    for row in rankings:
        for a, b in combinations(row.completion_ids, 2):
            qualities, wins = (truth[a], truth[b]), CRITERIA[criterion].preferred(row.rank_of(a), row.rank_of(b))
            if None not in qualities and wins is not None:
                right.append(wins == (qualities[0] > qualities[1]))  # type: ignore[operator]
    return sum(right) / len(right)


@pytest.mark.parametrize("criterion", ["helpfulness", "toxicity"])
@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_careful_labelers_are_right_as_often_as_promised(noise: float, criterion: str) -> None:
    there = world(0, 500, nonsense=0)
    rankings = judgements(there, [SimulatedLabeler("a", noise=noise)], 0, 1, criterion)
    assert accuracy(rankings, there[1], criterion) == pytest.approx(0.5 + math.atan(1 / noise) / math.pi, abs=0.02)


def test_the_other_kinds() -> None:
    there = world(0, 500, nonsense=0)
    upside_down = judgements(there, [SimulatedLabeler("a", "upside_down", 0.2)], 0, 1)
    assert accuracy(upside_down, there[1]) == pytest.approx(0.063, abs=0.02)
    assert accuracy(judgements(there, [SimulatedLabeler("a", "random")], 0, 1), there[1]) == pytest.approx(0.5, abs=0.03)
    assert {tuple(row.ranks) for row in judgements(there, [SimulatedLabeler("a", "first_position")], 0, 1)} == {(1, 2, 3, 4)}


def test_ties_and_fs() -> None:
    exact = SimulatedLabeler("a", noise=0.0, tie_width=0.1)
    assert exact.rank([0.5, 0.95, 1.0, 0.0], Random(0)) == [2, 1, 1, 3]
    # 0.0 ties with 0.1 but 0.2 not with 0.0: a tier holds what is near its best.
    assert exact.rank([0.0, 0.08, 0.16], Random(0)) == [2, 1, 1]
    fs = [exact.rank([None, 1.0, 0.0], Random(seed)) for seed in range(1000)]
    assert {tuple(ranks) for ranks in fs} == {(None, 1, 2), (2, 1, 2)}
    assert 860 < sum(ranks[0] is None for ranks in fs) < 940


def test_judgements_depend_on_seed_labeler_and_prompt_only() -> None:
    there, labelers = world(0, 12), panel()
    rankings = judgements(there, labelers, 5)
    assert rankings == judgements(there, labelers, 5) != judgements(there, labelers, 6)
    again = collect(
        there[0][5:6], lambda _, c: there[1][c.id], labelers, {"p5": ["ada"]}, HELPFULNESS, instructions_for(HELPFULNESS), seed=5
    )
    alone = collect(there[0], there[1], labelers, {"p5": ["ben", "ada"]}, HELPFULNESS, instructions_for(HELPFULNESS), seed=5)
    assert again[0] == alone[1]
    assert again[0].instructions_version == instructions_for(HELPFULNESS).version
    with pytest.raises(DataProblem, match="nobody"):
        collect(there[0], there[1], labelers, {"p5": ["nobody"]}, HELPFULNESS, instructions_for(HELPFULNESS), 5)
    with pytest.raises(DataProblem, match="no quality"):
        collect(there[0], {}, labelers, {"p5": ["ada"]}, HELPFULNESS, instructions_for(HELPFULNESS), 5)


@pytest.mark.parametrize("noises", [(0.2, 0.4, 0.6, 0.8), (0.16, 0.3, 0.9, 1.0), (1.0, 1.0, 1.0, 1.0)])
def test_exactly_the_two_bad_labelers_are_found(noises: tuple[float, ...]) -> None:
    for seed in range(5):
        reports = labeler_reports(judgements(world(seed), panel(noises), seed), HELPFULNESS)
        assert flagged(reports) == ["rory", "uma"], (seed, reports)
        assert [report.verdict for report in reports[:4]] == ["fine"] * 4
        assert reports[4].verdict in ("random", "careless")  # where careful ones hardly agree, only the time shows it
        assert reports[5].verdict == "upside_down"


def test_an_upside_down_reader_is_found_by_toxicity_and_among_much_nonsense() -> None:
    there = world(1, nonsense=0.4)
    reports = labeler_reports(judgements(there, panel(), 1, criterion="toxicity"), CRITERIA["toxicity"])
    assert [r.labeler for r in reports if r.verdict == "upside_down"] == ["uma"]


def test_who_always_prefers_the_first_is_named() -> None:
    labelers = [*panel()[:4], SimulatedLabeler("fay", "first_position")]
    report = {r.labeler: r for r in labeler_reports(judgements(world(2), labelers, 2), HELPFULNESS)}["fay"]
    assert report.verdict == "random"
    assert report.earlier_share == 1
    assert "shown earlier" in report.evidence


def test_too_little_to_tell_accuses_nobody() -> None:
    guessers = []
    for seed in range(10):
        reports = labeler_reports(judgements(world(seed, prompts=8), panel()[:4], seed), HELPFULNESS)
        assert flagged(reports) == []
        few = judgements(world(seed, prompts=24), [*panel()[:4], SimulatedLabeler("rory", "random")], seed)
        guessers.append(labeler_reports(few, HELPFULNESS)[-1].verdict)
    assert guessers.count("fine") <= 1  # fourteen tasks: by chance somebody guesses right
    two = judgements(world(0), [SimulatedLabeler("a"), SimulatedLabeler("b", "upside_down")], 0, 2)
    assert {r.verdict for r in labeler_reports(two, HELPFULNESS)} == {"unsure"}


def test_a_report_in_numbers_counted_by_hand() -> None:
    def row(labeler: str, ranks: list[int | None]) -> Ranking:
        return Ranking("p", labeler, ["a", "b", "c"], ranks, "helpfulness", "v")

    x, y, z = labeler_reports([row("x", [1, 2, 3]), row("y", [1, 2, 2]), row("z", [1, 2, None])], HELPFULNESS)
    # y decides ab and ac, and the others say the same; z decides ab only.
    assert (y.pairs, y.agreement, y.prompts_for, y.prompts_against, y.p_guessing) == (2, 1.0, 1, 0, 1.0)
    assert (y.tie_share, y.f_share, z.tie_share, z.f_share) == (pytest.approx(1 / 3), 0, 0, pytest.approx(1 / 3))
    assert (z.pairs, z.agreement) == (1, 1.0)
    # Beta(2, 1) has the distribution function q^2.
    assert (z.low, z.high) == (pytest.approx(math.sqrt(0.025)), pytest.approx(math.sqrt(0.975)))
    assert json.loads(json.dumps(x.to_dict()))["verdict"] == "unsure"


def test_all_ties_share_no_decision() -> None:
    rows = [Ranking("p", name, ["a", "b"], [1, 1], "helpfulness", "v") for name in "xyz"]
    assert {(r.verdict, r.pairs, r.tie_share) for r in labeler_reports(rows, HELPFULNESS)} == {("unsure", 0, 1.0)}
    assert panel_agreement(rows, HELPFULNESS).alpha is None


def test_panel_agreement_by_hand_at_random_and_without_the_bad() -> None:
    def row(labeler: str, ranks: list[int | None]) -> Ranking:
        return Ranking("p", labeler, ["a", "b", "c"], ranks, "helpfulness", "v")

    # Shared decisions: x-y agree on 3; x-z and y-z agree on ac and bc and differ on ab: 7 of 9.
    found = panel_agreement([row("x", [1, 2, 3]), row("y", [1, 2, 3]), row("z", [2, 1, 3])], HELPFULNESS)
    assert (found.pairs, found.agreement) == (9, pytest.approx(7 / 9))
    guesses = panel_agreement(judgements(world(3), [SimulatedLabeler(n, "random") for n in "abc"], 3), HELPFULNESS)
    assert guesses.low < 0.5 < guesses.high
    assert guesses.alpha == pytest.approx(0, abs=0.05)
    rankings = judgements(world(3), panel(), 3)
    with_all, without = panel_agreement(rankings, HELPFULNESS), panel_agreement(rankings, HELPFULNESS, exclude=["rory", "uma"])
    assert without.low > with_all.agreement + 0.1
    assert without.labelers == 4


def test_weighing_everybody_is_as_good_as_leaving_out_the_bad_and_better_than_a_majority() -> None:
    there = world(4)
    rankings = judgements(there, panel(), 4)
    bad = flagged(labeler_reports(rankings, HELPFULNESS))

    def right(agreed: Consensus) -> float:
        pairs = [(there[1][d.chosen_id], there[1][d.rejected_id]) for d in agreed.decided]
        sensible = [(a, b) for a, b in pairs if a is not None and b is not None]
        return sum(a > b for a, b in sensible) / len(sensible)

    everybody, without = consensus(rankings, HELPFULNESS), consensus(rankings, HELPFULNESS, exclude=bad)
    assert right(without) > right(consensus(rankings, HELPFULNESS, method="majority")) + 0.05
    assert right(everybody) > right(without) - 0.01
    assert everybody.reliability["uma"] < -0.3
    assert abs(everybody.reliability["rory"]) < 0.2


def test_the_interval_of_a_reliability_holds_what_the_simulated_labelers_are() -> None:
    """``2 p - 1`` of how often they are right, which is known from their noise; nothing of the panel's model is in it."""
    noises = {"a": 0.35, "b": 0.5, "c": 0.7, "d": 1.0, "e": 1.5}
    people = [*(SimulatedLabeler(name, noise=noise) for name, noise in noises.items()), SimulatedLabeler("rory", "random")]
    true = {name: 2 * math.atan(1 / noise) / math.pi for name, noise in noises.items()} | {"rory": 0.0}
    inside = []
    for seed in range(6):
        reports = labeler_reports(judgements(world(seed, 120, nonsense=0), people, seed), HELPFULNESS)
        assert all(r.reliability_low <= r.reliability <= r.reliability_high for r in reports)  # type: ignore[operator]
        inside += [r.reliability_low <= true[r.labeler] <= r.reliability_high for r in reports]  # type: ignore[operator]
    assert sum(inside) >= 31  # of 36


def test_a_reliability_is_over_all_versions_that_somebody_read() -> None:
    """Careful under the old instructions, upside down under the new ones, a quarter of the work: half of 0.81, a careful one's."""
    there = world(3, 120, nonsense=0)
    people = [
        *(SimulatedLabeler(name, noise=0.3) for name in "abcd"),
        SimulatedLabeler("mia", "misreads", 0.3, misread_version=NEW.version),
    ]
    old = 3 * len(there[0]) // 4
    said = [
        *judgements((there[0][:old], there[1]), people, 3, 5),
        *collect(there[0][old:], there[1], people, {p.id: [one.name for one in people] for p, _ in there[0][old:]}, HELPFULNESS, NEW, 3),
    ]
    mia = {r.labeler: r for r in labeler_reports(said, HELPFULNESS)}["mia"]
    assert mia.reliability == pytest.approx(0.41, abs=0.08)
    assert 0.2 < mia.reliability_low < mia.reliability < mia.reliability_high < 0.6  # type: ignore[operator]
