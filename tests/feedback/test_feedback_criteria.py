"""Criteria, instructions and assignment."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import get_args

import pytest

from heedful.errors import DataProblem, SettingProblem
from heedful.feedback.assign import assign, shown_order
from heedful.feedback.criteria import CRITERIA, Criterion, criterion_named, usual_questions
from heedful.feedback.instructions import TIES, Instructions, instructions_for
from heedful.store.projects import TaskType, TiePolicy


@pytest.mark.parametrize(
    ("name", "rank_a", "rank_b", "expected"),
    [
        ("helpfulness", 1, 2, True),
        ("helpfulness", 3, 2, False),
        ("toxicity", 1, 2, False),
        ("toxicity", 3, 2, True),
        ("helpfulness", 2, 2, None),
        ("toxicity", 2, 2, None),
        ("helpfulness", None, 9, False),
        ("helpfulness", 9, None, True),
        ("toxicity", None, 1, False),
        ("toxicity", 1, None, True),
        ("toxicity", None, None, None),
    ],
)
def test_preferred(name: str, rank_a: int | None, rank_b: int | None, expected: bool | None) -> None:
    assert CRITERIA[name].preferred(rank_a, rank_b) is expected


def test_built_in_criteria_and_their_directions() -> None:
    assert {name: c.higher_is for name, c in CRITERIA.items()} == {
        "helpfulness": "better",
        "honesty": "better",
        "harmlessness": "better",
        "toxicity": "worse",
    }
    with pytest.raises(SettingProblem, match="'toxicity'"):
        criterion_named("toxicty")
    with pytest.raises(SettingProblem, match="higher_is"):
        Criterion("x", "Which?", "good")  # type: ignore[arg-type]
    with pytest.raises(SettingProblem, match="question"):
        Criterion("x", " ")


def test_instructions_say_what_the_method_asks_and_change_version_with_their_text() -> None:
    for criterion in CRITERIA.values():
        text = instructions_for(criterion).text
        for needed in (criterion.question, "own perception", "look facts up", "sparingly", "nonsensical, confusing or irrelevant", "an F"):
            assert needed in text
        assert ("rank 1 is the worst" in text) == (criterion.higher_is == "worse")
    # sha256("abc") starts with ba7816bf8f01 (FIPS 180-2, appendix B.1).
    assert Instructions("abc").version == "ba7816bf8f01"
    assert len({Instructions().version} | {instructions_for(c).version for c in CRITERIA.values()}) == 5


def test_instructions_say_of_ties_what_a_project_allows() -> None:
    told = {ties: instructions_for(CRITERIA["honesty"], ties).text for ties in TIES}
    assert list(told) == list(get_args(TiePolicy))
    assert told["sparing"] == instructions_for(CRITERIA["honesty"]).text
    assert {ties: ("share a rank" in text, "sparingly" in text) for ties, text in told.items()} == {
        "none": (False, False),
        "sparing": (True, True),
        "free": (True, False),
    }


@pytest.mark.parametrize(("prompts", "labelers", "overlap"), [(240, 6, 3), (100, 7, 2), (50, 40, 3), (9, 3, 3), (5, 4, 1)])
def test_assignment_is_balanced(prompts: int, labelers: int, overlap: int) -> None:
    names = [f"l{i}" for i in range(labelers)]
    given = assign([f"p{i}" for i in range(prompts)], names, overlap, seed=3)
    load = Counter(name for team in given.values() for name in team)
    assert len(given) == prompts
    assert all(len(set(team)) == len(team) == overlap for team in given.values())
    assert max(load[n] for n in names) - min(load[n] for n in names) <= 1


def test_assignment_mixes_all_pairs_and_follows_its_seed() -> None:
    prompts, names = [f"p{i}" for i in range(240)], ["a", "b", "c", "d", "e", "f"]
    given = assign(prompts, names, 3, seed=1)
    together = Counter(frozenset(two) for team in given.values() for two in combinations(team, 2))
    # 240 * 3 meetings over 15 pairs of labelers are 48 each.
    assert len(together) == 15
    assert min(together.values()) >= 44
    assert max(together.values()) <= 52
    assert given == assign(prompts, names, 3, seed=1)
    assert given != assign(prompts, names, 3, seed=2)


def test_assignment_refuses_the_impossible() -> None:
    for overlap in (0, 3):
        with pytest.raises(SettingProblem, match="labelers_per_prompt"):
            assign(["p"], ["a", "b"], overlap, 0)
    with pytest.raises(SettingProblem, match="twice"):
        assign(["p"], ["a", "a"], 1, 0)
    with pytest.raises(DataProblem, match="twice"):
        assign(["p", "p"], ["a"], 1, 0)


def test_shown_order_is_random_but_blind_to_the_stored_order() -> None:
    ids = ["a", "b", "c", "d"]
    assert shown_order(0, "ada", "p", ids) == shown_order(0, "ada", "p", ids[::-1])
    first = Counter(shown_order(0, f"l{j}", f"p{i}", ids)[0] for i in range(1000) for j in range(10))
    assert all(2325 < first[i] < 2675 for i in ids)  # 4 standard deviations around 2500
    for changed in [(1, "ada"), (0, "ben")]:
        assert any(shown_order(*changed, f"p{i}", ids) != shown_order(0, "ada", f"p{i}", ids) for i in range(20))


def test_a_usual_question_is_worded_for_its_task() -> None:
    for name, criterion in CRITERIA.items():
        asked = usual_questions(name)
        assert list(asked) == list(get_args(TaskType))
        assert asked["ranking"] == criterion.question
        assert [text.split()[0] for text in asked.values()][::2] == ["Which", "What"]
        assert asked["thumbs"].startswith(("Is this completion", "Does this completion")), "it can be answered by yes or no"
    assert "free of" in usual_questions("toxicity")["thumbs"], "a thumb up is for what is wanted"
    assert usual_questions("brevity") == {}
