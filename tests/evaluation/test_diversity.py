"""Diversity, repetition and length by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.evaluation.diversity import common_budget, distinct, lengths, repetition, truncated_share, words

SEQUENCES = st.lists(st.lists(st.integers(0, 4), max_size=8), max_size=6)


def test_distinct_by_hand() -> None:
    texts = [words("a b a b"), words("a b c")]
    assert distinct(texts, 1) == pytest.approx(3 / 7)
    assert distinct(texts, 2) == pytest.approx(3 / 5), "ab ba ab | ab bc: no bigram spans two texts"
    assert distinct(texts, 1, budget=5) == pytest.approx(2 / 5), "a b a b | a"
    assert distinct([["a"]], 2) is None


def test_a_constant_answer_has_no_diversity() -> None:
    assert distinct([words("I cannot help with that")] * 100, 2) == pytest.approx(4 / 400)


@given(SEQUENCES, st.integers(1, 3))
def test_distinct_is_a_share_and_order_of_labels_does_not_matter(sequences: list[list[int]], n: int) -> None:
    value = distinct(sequences, n)
    assert value is None or 0 < value <= 1
    assert value == distinct([[-token for token in row] for row in sequences], n)


def test_the_common_budget_is_the_shorter_total() -> None:
    assert common_budget([[1, 2], [3]], [[1]] * 9) == 3


def test_repetition_by_hand() -> None:
    assert repetition(words("most awesome most awesome most"), 2) == pytest.approx(1 - 2 / 4)
    assert repetition([1, 2, 3], 2) == 0
    assert repetition([1], 3) == 0


def test_words_lose_case_and_punctuation() -> None:
    assert words("It's FINE, isn’t it?") == ["it's", "fine", "isn’t", "it"]


def test_lengths_and_truncation() -> None:
    found = lengths([[0] * n for n in (1, 2, 3, 10)])
    assert (found.mean, found.median) == (4.0, 2.5)
    assert found.sd == pytest.approx((50 / 4) ** 0.5)
    with pytest.raises(ValueError, match="no sequences"):
        lengths([])
    assert truncated_share(["length", "stop", "stop", "stop"]).estimate == 0.25
