"""What shows without anybody else's preference, and what is a population rather than an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest
from test_feedback_labelers import World, judgements, world

from heedful.feedback.assign import assign
from heedful.feedback.criteria import CRITERIA
from heedful.feedback.instructions import Instructions, instructions_for
from heedful.feedback.labelers import ACT_TASKS, LabelerReport, labeler_reports
from heedful.feedback.simulated import SimulatedLabeler, collect, panel
from heedful.records import Labeler, Ranking

HELPFULNESS = CRITERIA["helpfulness"]


@pytest.fixture(scope="module")
def there() -> World:
    return world(21, prompts=100)


def report_of(name: str, rankings: Sequence[Ranking], **known: object) -> LabelerReport:
    return {r.labeler: r for r in labeler_reports(rankings, HELPFULNESS, **known)}[name]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "sign"), [("first_position", "position"), ("first_position", "untouched"), ("all_ties", "ties"), ("all_f", "flags")]
)
def test_who_does_not_judge_is_seen_by_habit(there: World, kind: str, sign: str) -> None:
    rankings = judgements(there, [*panel()[:4], SimulatedLabeler("odd", kind)], 0)  # type: ignore[arg-type]
    report = report_of("odd", rankings)
    assert sign in report.signs
    assert report.flagged
    assert report.signs[sign] in report.evidence
    careful = [report_of(name, rankings) for name in ("ada", "ben", "cleo", "dan")]
    assert [r.signs for r in careful] == [{}] * 4


def test_haste_is_told_by_words_and_without_them_by_the_others_time(there: World) -> None:
    rankings = judgements(there, [*panel()[:4], SimulatedLabeler("hal", "hasty", 0.3)], 0)
    assert "of the others' time" in report_of("hal", rankings).signs["fast"]
    words = {i: 100 for r in rankings for i in r.completion_ids}
    assert "words per minute" in report_of("hal", rankings, words=words).signs["fast"]
    assert "fast" not in report_of("ada", [replace(r, active_ms=60_000) if r.labeler == "ada" else r for r in rankings], words=words).signs


def test_gold_prompts_and_repeats(there: World) -> None:
    rankings = judgements(there, [*panel()[:4], SimulatedLabeler("rory", "random")], 0)
    order = {p.id: sorted((c.id for c in cs if there[1][c.id] is not None), key=lambda i: -(there[1][i] or 0)) for p, cs in there[0]}
    gold = [Ranking(p, "gold", ids, list(range(1, len(ids) + 1)), "helpfulness", "v") for p, ids in order.items() if len(ids) > 1]
    assert "with a known answer" in report_of("rory", rankings, gold=gold).signs["gold"]
    assert "gold" not in report_of("ada", rankings, gold=gold).signs
    chance = Random(0)
    again = [replace(r, ranks=chance.sample(r.ranks, len(r.ranks)), purpose="repeat") for r in rankings if r.labeler == "rory"]
    same = [replace(r, purpose="repeat") for r in rankings if r.labeler == "ada"]
    reports = {r.labeler: r for r in labeler_reports([*rankings, *again, *same], HELPFULNESS)}
    assert reports["ada"].consistency == 1
    assert reports["rory"].consistency == pytest.approx(0.5, abs=0.15)
    assert "inconsistent" in reports["rory"].signs
    assert reports["ada"].tasks == sum(r.labeler == "ada" for r in rankings), "a repeat is no further voice"


def test_who_misreads_a_new_version_is_found_under_that_version(there: World) -> None:
    old, new = Instructions("Rank them."), Instructions("Rank them, the worst last.")
    labelers = [*panel()[:4], SimulatedLabeler("moe", "misreads", 0.4, misread_version=new.version)]
    teams = assign([p.id for p, _ in there[0]], [labeler.name for labeler in labelers], 3, 0)
    rankings = []
    for rows, instructions in ((there[0][:60], old), (there[0][60:], new)):
        rankings += collect(rows, there[1], labelers, teams, HELPFULNESS, instructions, 0)
    report = report_of("moe", rankings)
    assert [report.by_version[version]["verdict"] for version in (old.version, new.version)] == ["fine", "upside_down"]
    assert report.verdict == "upside_down"
    assert f"Under version {new.version} of the instructions" in report.evidence
    assert report_of("ada", rankings).verdict == "fine"


def test_a_minority_is_a_population_and_not_an_error(there: World) -> None:
    taste = {i: None if q is None else -q for i, q in there[1].items()}
    young = {"age": "18-29"}
    labelers = [SimulatedLabeler(f"old{n}", noise=0.4, strata={"age": "60+"}) for n in range(6)]
    labelers += [SimulatedLabeler(f"young{n}", "minority", 0.4, strata=young) for n in range(3)]
    teams = {p.id: [labeler.name for labeler in labelers] for p, _ in there[0][:60]}
    rows = there[0][:60]
    rankings = collect(rows, there[1], labelers, teams, HELPFULNESS, instructions_for(HELPFULNESS), 0, minority_quality=taste)
    known: list[Labeler] = [labeler.as_labeler() for labeler in labelers]
    reports = {r.labeler: r for r in labeler_reports(rankings, HELPFULNESS, known)}
    assert [reports[f"young{n}"].verdict for n in range(3)] == ["minority"] * 3
    assert not any(r.flagged for r in reports.values())
    assert "a difference between populations" in reports["young0"].evidence
    assert "Keep the work" in reports["young0"].recommendation
    # The same judgements by people of whom no stratum is known are an error until somebody looks.
    assert report_of("young0", rankings).verdict == "upside_down"


def test_one_of_a_minority_who_misreads_a_new_version_is_told_of_that(there: World) -> None:
    """Young people's taste is a little of their own; young0 reads the second version upside down besides."""
    chance = Random(3)
    taste = {i: None if q is None else 0.6 * q + 0.8 * chance.gauss(0, 1) for i, q in there[1].items()}
    labelers = [SimulatedLabeler(f"old{n}", noise=0.3, strata={"age": "60+"}) for n in range(5)]
    labelers += [SimulatedLabeler(f"young{n}", "minority", 0.2, strata={"age": "18-29"}) for n in range(3)]
    teams = {p.id: [labeler.name for labeler in labelers] for p, _ in there[0]}
    rankings: list[Ranking] = []
    for rows, text in ((there[0][:60], "Rank them."), (there[0][60:80], "Rank them, the worst last.")):
        rankings += collect(rows, there[1], labelers, teams, HELPFULNESS, Instructions(text), 0, minority_quality=taste)
    new = Instructions("Rank them, the worst last.").version
    turned = [
        replace(r, ranks=[rank and 5 - rank for rank in r.ranks]) if (r.labeler, r.instructions_version) == ("young0", new) else r
        for r in rankings
    ]
    known = [labeler.as_labeler() for labeler in labelers]
    report = report_of("young0", turned, labelers=known)
    assert report.verdict == "upside_down"
    assert f"Under version {new} of the instructions" in report.evidence
    assert "a difference between populations" not in report.evidence
    assert report_of("young1", turned, labelers=known).verdict in ("minority", "fine")


def test_a_recommendation_becomes_firm_with_evidence(there: World) -> None:
    many = report_of("uma", judgements(there, panel(), 0))
    assert many.shared_tasks >= ACT_TASKS
    assert many.verdict == "upside_down"
    assert "Quarantine the work until somebody has talked to them" in many.recommendation
    assert many.odds["upside_down"] > 0.99
    assert many.p_guessing < 0.001
