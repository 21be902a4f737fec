"""What is an answer to what was asked, and what is not. Pure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import AnswerProblem
from heedful.store.answers import LONGEST_TEXT, Answer, from_row, refuse_bad_answer, to_row, warnings
from stores import project


@pytest.mark.parametrize(
    ("task", "answer"),
    [
        ("ranking", Answer(ranks=[1, 2, 3])),
        ("ranking", Answer(ranks=[1, 1, None], reasons={2: "off topic"}, corrections={0: "better"}, active_ms=0)),
        ("ranking", Answer(ranks=[None, None, None])),
        ("ranking", Answer(ranks=[1, 3, 3])),
        ("thumbs", Answer(thumbs=[True, False, True])),
        ("correction", Answer(corrections={1: "what it should say"})),
    ],
)
def test_answers_that_are_taken(task: str, answer: Answer) -> None:
    refuse_bad_answer(answer, 3, project(task=task, tie_policy="free"))


@pytest.mark.parametrize(
    ("task", "answer", "problem"),
    [
        ("ranking", Answer(), "3 completions were shown, and 0 have a rank"),
        ("ranking", Answer(ranks=[1, 2]), "and 2 have a rank"),
        ("ranking", Answer(ranks=[1, 2, 0]), "a rank is 0"),
        ("ranking", Answer(ranks=[1, 2, 4]), "a rank is 4; of 3 completions it is a whole number from 1 to 3"),
        ("ranking", Answer(ranks=[1, 2, True]), "a rank is True"),
        ("ranking", Answer(ranks=[1, 2, 2.5]), "a rank is 2.5"),  # type: ignore[list-item]
        ("ranking", Answer(ranks=[1, 2, None], reasons={1: "no"}), "position 1 has a reason for an F, but no F"),
        ("ranking", Answer(ranks=[1, 2, None], reasons={3: "no"}), "position 3 has a reason"),
        ("ranking", Answer(ranks=[1, 2, None], reasons={2: 5}), "a text is 5"),  # type: ignore[dict-item]
        ("ranking", Answer(ranks=[1, 2, 3], thumbs=[True] * 3), "answered with thumbs"),
        ("ranking", Answer(ranks=[1, 2, 3], corrections={-1: "x"}), "position -1 was corrected"),
        ("ranking", Answer(ranks=[1, 2, 3], corrections={0: "x" * (LONGEST_TEXT + 1)}), "a text has 100001 characters"),
        ("ranking", Answer(ranks=[1, 2, 3], active_ms=-1), "active_ms is -1"),
        ("thumbs", Answer(ranks=[1, 2, 3], thumbs=[True] * 3), "answered with ranks"),
        ("thumbs", Answer(thumbs=[True]), "and 1 have a thumb"),
        ("thumbs", Answer(thumbs=[1, 0, 1]), "each is true or false"),  # type: ignore[list-item]
        ("correction", Answer(), "nothing was corrected"),
        ("correction", Answer(corrections={0: "x"}, ranks=[1, 2, 3]), "answered with ranks"),
    ],
)
def test_answers_that_are_refused_in_words(task: str, answer: Answer, problem: str) -> None:
    with pytest.raises(AnswerProblem) as caught:
        refuse_bad_answer(answer, 3, project(task=task, tie_policy="free"))
    assert problem in str(caught.value)
    assert "the task stays yours" in str(caught.value)


def test_ties_are_refused_warned_of_or_welcome() -> None:
    tied, none = Answer(ranks=[1, 1, 2, 2, None, None]), Answer(ranks=[1, 2, 3, 4, None, None])
    with pytest.raises(AnswerProblem, match="4 completions share a rank"):
        refuse_bad_answer(tied, 6, project(tie_policy="none"))
    refuse_bad_answer(none, 6, project(tie_policy="none"))  # two Fs are no tie
    refuse_bad_answer(tied, 6, project(tie_policy="sparing"))
    assert warnings(tied, project(tie_policy="sparing")) == ["4 completions share a rank: only those that are truly equal should."]
    assert warnings(none, project(tie_policy="sparing")) == warnings(tied, project(tie_policy="free")) == []


@st.composite
def answers(draw: Any) -> tuple[Answer, list[int]]:
    shown = draw(st.lists(st.integers(1, 99), min_size=2, max_size=9, unique=True))
    ranks = draw(st.none() | st.lists(st.none() | st.integers(1, 9), min_size=len(shown), max_size=len(shown)))
    thumbs = draw(st.none() | st.lists(st.booleans(), min_size=len(shown), max_size=len(shown)))
    texts = st.dictionaries(st.integers(0, len(shown) - 1), st.text())
    return Answer(ranks, draw(texts), thumbs, draw(texts), draw(st.none() | st.integers(0, 10**9))), shown


@given(answers())
def test_an_answer_comes_back_as_it_went_in(case: tuple[Answer, list[int]]) -> None:
    answer, shown = case
    assert from_row(to_row(answer, shown), shown, answer.active_ms) == answer


@given(answers(), st.randoms())
def test_what_is_stored_means_the_same_in_any_order(case: tuple[Answer, list[int]], chance: Any) -> None:
    answer, shown = case
    row, turned = to_row(answer, shown), chance.sample(shown, len(shown))
    assert to_row(from_row(row, turned), turned) == row
