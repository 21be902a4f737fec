"""What is said of a file of completions, counted by hand."""

from __future__ import annotations

import pytest

from heedful.completions.describe import describe_completions
from heedful.maths.statistics import wilson
from heedful.records import Completion


def completion(prompt: str, text: str, tokens: int = 1, cut: bool = False, model: str = "m") -> Completion:
    return Completion(f"{prompt}:{text}:{tokens}", prompt, text, [7] * tokens, "length" if cut else "stop", 0, model)


def test_each_model_is_counted() -> None:
    rows = describe_completions(
        [
            completion("p", "four", 4, cut=True),
            completion("p", " four ", 2),
            completion("p", "", 0),
            completion("q", "four", 2),
            completion("q", "other", 1, model="n"),
        ]
    )
    first, second = rows
    assert first.pop("cut off") == wilson(1, 4).to_dict()
    assert first == {
        "model": "m",
        "completions": 4,
        "prompts": 2,
        "per prompt": {"least": 1, "median": 2, "most": 3},
        "empty": 1,
        "the same": 1,
        "mean characters": pytest.approx(14 / 4),
        "mean tokens": 2.0,
        "most tokens": 4,
    }
    assert (second["model"], second["completions"], second["the same"]) == ("n", 1, 0)
    assert describe_completions([]) == []
