"""Before against after: pairing, clustering, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from heedful.errors import DataProblem
from heedful.evaluation.compare import SideBySide, compare, side_by_side
from heedful.records import Completion


def completion(prompt: int, text: str) -> Completion:
    return Completion(f"{prompt}-{text}", f"p{prompt}", text, [1] * len(text), "stop", 0, "model")


def samples(*texts: list[str]) -> list[list[Completion]]:
    return [[completion(i, text) for text in row] for i, row in enumerate(texts)]


def length(completions: list[Completion]) -> list[float]:
    return [len(c.text) for c in completions]


def test_samples_are_averaged_inside_their_prompt() -> None:
    before, after = samples(["a", "aaa"], ["aaaaa"]), samples(["aaa"], ["a" * 6, "a" * 8])
    found = compare(before, after, {"length": length}, resamples=99)["length"]
    assert found.before.estimate == pytest.approx((2 + 5) / 2), "not the mean of completions, 3"
    assert found.difference.estimate == pytest.approx((1 + 2) / 2)
    assert found.prompts == 2


def test_arrays_and_functions_agree() -> None:
    rng = np.random.default_rng(0)
    texts = ["a" * int(n) for n in rng.integers(1, 40, 30)]
    before, after = samples(*[[t] for t in texts]), samples(*[[t + "bb"] for t in texts])
    arrays = ([float(len(t)) for t in texts], [[len(t) + 2.0] for t in texts])
    found = compare(before, after, {"function": length, "arrays": arrays}, higher_is={"arrays": "worse"}, resamples=199)
    assert found["function"] == found["arrays"]
    assert [row["higher_is"] for row in found.rows()] == ["better", "worse"]
    assert found["function"].difference.low == pytest.approx(2)


def test_a_percentage_never_stands_without_an_interval() -> None:
    rng = np.random.default_rng(1)
    one = samples(*[["x"]] * 40)
    around_zero = (rng.normal(0, 1, 40).tolist(), rng.normal(1, 1, 40).tolist())
    assert compare(one, one, {"score": around_zero}, resamples=199).rows()[0]["relative"] is None


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ([], [], "nothing to compare"),
        (samples(["a"], ["b"]), samples(["a"]), "2 prompts before and 1 after"),
        (samples(["a"]), [[]], "no completion after"),
        (samples(["a"], ["b"]), samples(["a"], ["b"])[::-1], "mixes the prompts"),
    ],
)
def test_other_prompts_are_refused(before: list[list[Completion]], after: list[list[Completion]], words: str) -> None:
    with pytest.raises(DataProblem, match=words):
        compare(before, after, {"length": length})


def test_bad_measures_are_named() -> None:
    one = samples(["a"], ["b"])
    with pytest.raises(DataProblem, match="'short' gave 1 values for 2"):
        compare(one, one, {"short": lambda completions: [1.0]})
    with pytest.raises(DataProblem, match="'nan' has no finite value for prompt 1"):
        compare(one, one, {"nan": lambda completions: [1.0, float("nan")]})
    with pytest.raises(DataProblem, match="'few' has 1 rows for 2"):
        compare(one, one, {"few": ([1.0], [1.0])})


def test_side_by_side_shows_both_ends() -> None:
    rows = [SideBySide(str(gain), "", "", 1.0, 1.0 + gain) for gain in (3, -7, 0, 5, -2, 1, 9)]
    assert [row.prompt for row in side_by_side(rows, n=4)] == ["9", "5", "-2", "-7"]
    assert [row.prompt for row in side_by_side(rows, n=3)] == ["9", "5", "-7"]
    assert len(side_by_side(rows)) == 7
