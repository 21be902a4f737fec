"""Projects, labelers and decisions about them."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.errors import AnswerProblem, DataProblem, HeedfulError, SettingProblem
from heedful.records import Labeler
from heedful.store import Store, instructions, labelers, projects
from stores import join, project, ready, work


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"task": "essay"}, "task of project 'helpful' is 'essay'"),
        ({"tie_policy": "some"}, "Choose one of none, sparing, free"),
        ({"random_share": 0.1}, "random_share of project 'helpful' is 0.1. Choose a number from 0.2 to 1"),
        ({"random_share": 0.5, "calibration_share": 0.4, "repeat_share": 0.2}, "adds up to at most 1"),
        ({"overlap": 0}, "Choose a number from 1 to 100"),
        ({"overlap": 4, "max_overlap": 3}, "It is at least the overlap, 4"),
        ({"lease": 0}, "lease of project"),
        ({"decided": 0.4}, "decided of project"),
        ({"coverage": {"age": {"18-29": 2, "30-44": 2}}}, "It keeps 4 places of an overlap of 3"),
        ({"coverage": {"age": {"18-29": 0}}}, "Keep at least one place"),
        ({"name": " "}, "the project is called ' '"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(HeedfulError) as caught:
        project(**settings)
    assert problem in str(caught.value)


def test_places_are_kept_in_a_fixed_order() -> None:
    kept = project(overlap=4, coverage={"language": {"second": 1, "native": 2}, "age": {"60+": 1}}).kept_places
    assert kept == [("age", "60+"), ("language", "native"), ("language", "native"), ("language", "second")]


def test_a_project_comes_back_and_some_of_it_can_change(store: Store) -> None:
    asked = project(coverage={"language": {"native": 1}}, seed=2**40, lease=60, repeat_after=5)
    store.create_project(asked)
    assert store.read(lambda c: projects.find(c, "helpful")) == (1, asked)
    assert store.read(lambda c: projects.get(c, 1)) == asked
    changed = store.write(lambda c: projects.change(c, "helpful", "ann", store.clock(), lease=120, random_share=0.4))
    assert (changed.lease, changed.random_share) == (120, 0.4)
    assert store.read(lambda c: projects.get(c, 1)) == changed
    with pytest.raises(SettingProblem, match="'overlap' of a project cannot be changed"):
        store.write(lambda c: projects.change(c, "helpful", "ann", store.clock(), overlap=5))
    with pytest.raises(SettingProblem, match="random_share"):
        store.write(lambda c: projects.change(c, "helpful", "ann", store.clock(), random_share=0.0))
    assert store.read(lambda c: projects.get(c, 1)) == changed
    with pytest.raises(SettingProblem, match="there is a project 'helpful' already"):
        store.create_project(asked)
    with pytest.raises(SettingProblem, match="Did you mean 'helpful'"):
        store.add_prompts("helpfull", [])


def test_projects_share_a_criterion_without_mixing(store: Store) -> None:
    store.create_project(project("one"))
    store.create_project(project("two", overlap=2))
    rows = store.read(lambda c: c.exec_driver_sql("SELECT count(*) FROM criterion").scalar())
    assert rows == 1


def test_labelers_are_added_once_and_under_a_decent_name(store: Store) -> None:
    store.add_labelers(Labeler("ann"))
    for bad, problem in (
        (Labeler("ann"), "a labeler 'ann' already"),
        (Labeler("x\ty"), "cannot be shown"),
        (Labeler("ben", "robot"), "is a 'robot'"),  # type: ignore[arg-type]
        (Labeler("ben", strata={"age": ""}), "the stratum is called ''"),
    ):
        with pytest.raises(DataProblem, match=problem):
            store.add_labelers(Labeler("cleo"), bad)
    assert [one.name for one in store.labelers()] == ["ann"]  # cleo neither: all or nothing


def test_strata_can_be_taken_back(store: Store) -> None:
    store.add_labelers(Labeler("ann", strata={"age": "30-44", "language": "native"}))
    store.write(lambda c: labelers.set_strata(c, "ann", {"age": "45-59"}, "ann", store.clock()))
    assert store.labelers() == [Labeler("ann", strata={"age": "45-59"})]
    store.write(lambda c: labelers.set_strata(c, "ann", {}, "ann", store.clock()))
    assert store.labelers() == [Labeler("ann")]


def test_nobody_is_deleted_and_what_they_said_stays(store: Store) -> None:
    ready(store, prompts=2, labelers=2)
    work(store, "l0")
    store.write(lambda c: labelers.set_state(c, "l0", "deactivated", "ann", store.clock()))
    store.write(lambda c: labelers.rename(c, "l0", "gone 1", "ann", store.clock()))
    assert {row.labeler for row in store.judgements("helpful")} == {"gone 1"}
    with pytest.raises(DataProblem, match="a labeler 'l1' already"):
        store.write(lambda c: labelers.rename(c, "gone 1", "l1", "ann", store.clock()))
    with pytest.raises(SettingProblem, match=r"cannot be .deleted.*deactivated"):
        store.write(lambda c: labelers.set_state(c, "l1", "deleted", "ann", store.clock()))  # type: ignore[arg-type]
    with pytest.raises(AnswerProblem, match="is deactivated"):
        store.write(lambda c: labelers.hold_active(c, "gone 1"))


def test_quarantine_is_a_decision_with_a_reason_and_can_be_taken_back(store: Store) -> None:
    version = ready(store, prompts=2, labelers=1)
    join(store, "uma", version)
    work(store, "uma")

    def decide(quarantined: bool, why: str) -> None:
        store.write(lambda c: labelers.decide(c, "helpful", "uma", quarantined, "manager 3", why, store.clock()))

    assert store.read(lambda c: labelers.quarantined(c, "helpful")) == {}
    decide(True, "reads the scale upside down")
    assert store.read(lambda c: labelers.quarantined(c, "helpful")) == {"uma": "reads the scale upside down"}
    assert len(list(store.judgements("helpful"))) == 2  # set aside by whoever uses them, never removed
    decide(False, "we talked")
    assert store.read(lambda c: labelers.quarantined(c, "helpful")) == {}
    with pytest.raises(SettingProblem, match="given no reason"):
        decide(True, " ")
    history = store.read(lambda c: labelers.decisions(c, "helpful"))
    assert [(one["labeler"], one["quarantined"]) for one in history] == [("uma", True), ("uma", False)]
    assert {one["decided_by"] for one in history} == {"manager 3"}


def test_what_changed_in_the_instructions_can_be_shown(store: Store) -> None:
    first = ready(store, prompts=0, labelers=1)
    second = store.publish("helpful", "Rank by how much it helps. Look facts up.")
    assert store.read(lambda c: instructions.last_acknowledged(c, "helpful", 1)) == (first, "Rank by how much it helps.")
    assert store.read(lambda c: instructions.current(c, "helpful")) == (second, "Rank by how much it helps. Look facts up.")
    assert store.read(lambda c: instructions.last_acknowledged(c, "helpful", 9)) is None


def test_a_version_is_that_of_the_feedback_stage(store: Store) -> None:
    from heedful.feedback.instructions import Instructions

    store.create_project(project())
    for text in ("abc", "naïve ✓"):
        assert store.publish("helpful", text) == Instructions(text).version
    assert store.publish("helpful", "abc") == "ba7816bf8f01"  # sha256("abc"), FIPS 180-2, appendix B.1


def test_there_is_nothing_to_acknowledge_before_there_are_instructions(store: Store) -> None:
    store.create_project(project())
    store.add_labelers(Labeler("ann"))
    with pytest.raises(AnswerProblem, match="no instructions yet"):
        store.acknowledge("helpful", "ann", "x")
    with pytest.raises(AnswerProblem, match="no instructions yet"):
        store.read(lambda c: instructions.current(c, "helpful"))
