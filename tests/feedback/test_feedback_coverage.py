"""Who was asked how often: counted by hand."""

from __future__ import annotations

from dataclasses import replace

from heedful.feedback.coverage import coverage
from heedful.records import Labeler, Ranking, Thumb

FIRST = Ranking("p", "ann", ["a", "b"], [1, 2], "helpfulness", "v1", judged_at="2026-03-01T23:00:00+00:00")
ROWS = [
    FIRST,
    replace(FIRST, labeler="ben", instructions_version="v2", judged_at="2026-03-02T01:00:00+00:00"),
    replace(FIRST, prompt_id="q", judged_at=""),
    replace(FIRST, purpose="repeat", judged_at="2026-03-02T02:00:00+00:00"),
]
PEOPLE = [Labeler("ann", strata={"age": "60+"}), Labeler("ben"), Labeler("who judged nothing", strata={"language": "native"})]


def test_judgements_are_counted() -> None:
    found = coverage(ROWS, PEOPLE)
    assert (found.prompts, found.labelers, found.judgements) == (2, 2, {"overlap": 3, "repeat": 1})
    assert found.overlap == {1: 1, 2: 1}, "a repeat is no further voice"
    assert found.per_labeler == {"least": 1, "median": 2, "most": 3}
    assert found.versions == {"v1": 3, "v2": 1}
    assert found.days == {"2026-03-01": 1, "2026-03-02": 2}
    assert found.strata == {"age": {"60+": 1, "not stated": 1}}


def test_the_thumbs_of_one_task_are_one_judgement() -> None:
    thumbs = [Thumb("p", name, completion, True) for name in ("ann", "ben") for completion in "abc"]
    found = coverage(thumbs)
    assert (found.judgements, found.per_labeler) == ({"overlap": 2}, {"least": 1, "median": 1, "most": 1})


def test_nothing_is_nothing() -> None:
    found = coverage([])
    assert (found.prompts, found.labelers, found.per_labeler, found.overlap) == (0, 0, {}, {})


def test_an_ai_judge_is_a_labeler_and_no_person_of_any_group() -> None:
    judge = replace(FIRST, labeler="hal")
    for strata in ({}, {"age": "60+"}):
        found = coverage([*ROWS, judge], [*PEOPLE, Labeler("hal", "ai", strata)])
        assert (found.labelers, found.strata) == (3, {"age": {"60+": 1, "not stated": 1}})
