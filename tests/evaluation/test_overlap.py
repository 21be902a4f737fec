"""ROUGE by hand and over several references."""

from __future__ import annotations

import sys

import pytest

from heedful.errors import DataProblem, SettingProblem
from heedful.evaluation.overlap import rouge


def test_by_hand_and_over_all_references() -> None:
    pytest.importorskip("rouge_score")
    # Against "the cats sat": 3 of 4 and 3 of 3 words (cat = cats by stem): F = 6/7; bigrams 2 of 3 and 2 of 2: F = 4/5.
    # Against "a dog": nothing.
    found = rouge(["the cat sat down"], [["the cats sat", "a dog"]])
    assert found.best["rouge1"].tolist() == pytest.approx([6 / 7])
    assert found.best["rouge2"].tolist() == pytest.approx([4 / 5])
    assert found.mean["rouge1"].tolist() == pytest.approx([3 / 7])


def test_longest_common_subsequence_minds_the_order() -> None:
    pytest.importorskip("rouge_score")
    found = rouge(["down sat cat", "cat sat down"], [["cat sat down"], ["cat sat down"]])
    assert found.best["rouge1"].tolist() == pytest.approx([1, 1])
    assert found.best["rougeL"].tolist() == pytest.approx([1 / 3, 1])


def test_rows_without_references_are_named() -> None:
    with pytest.raises(DataProblem, match="completion 1"):
        rouge(["a", "b"], [["a"], []])
    with pytest.raises(DataProblem, match="completion 0"):
        rouge(["a"], ["a bare string"])
    with pytest.raises(DataProblem, match="2 completions but 1"):
        rouge(["a", "b"], [["a"]])


def test_a_missing_package_is_said_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rouge_score.rouge_scorer", None)
    with pytest.raises(SettingProblem, match="rouge-score"):
        rouge(["a"], [["a"]])
