"""What is said of a row, from what its processes took."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from benchmarks.peers.report import Result, Taken, median_ratio, significant, spread
from benchmarks.peers.rows import ROWS

GIB = 2**30
RESULT = Result(
    "dpo",
    (7.2, 0.4),
    {
        "defaults": Taken([40, 44, 80], [30, 30, 30], [4 * GIB] * 3, [1, 1, 1]),
        "tuned": Taken([30, 33, 60], [21, 21, 21], [2 * GIB] * 3, [1, 3, 1]),
    },
    Taken([4, 4, 10], [3, 3, 3], [GIB] * 3, [1, 1, 2]),
    Taken([8, 8, 20], [6, 6, 6], [GIB] * 3, [1, 1, 1]),
    share=[0.5, 0.7, 0.6],
    decoding=[],
    differences={"float32": {"loss": 2e-6, "logprobs": 5e-5}, "bfloat16": {"loss": 1e-3, "logprobs": 2e-3}},
)


def test_a_ratio_is_the_median_over_repeats_of_which_each_is_paired():
    """10, 11 and 8; the ratio of the medians would be 44 / 4 = 11."""
    assert median_ratio([40, 44, 80], [4, 4, 10]) == 10
    with pytest.raises(ValueError, match="shorter"):
        median_ratio([1, 2], [1])


def test_the_line_is_against_the_best_that_the_peer_can_do():
    found = json.loads(RESULT.to_json())
    assert found["row"] == "dpo"
    assert found["time_ratio"] == 7.5
    assert found["memory_ratio"] == 0.5
    assert found["share_of_limit"] == 0.6
    assert found["max_difference"] == 5e-5
    assert found["max_difference_bfloat16"] == 2e-3
    assert found["cpu_ratio"] == 7
    assert found["cpu_ratios"] == {"defaults": 10, "tuned": 7}
    assert found["bar"] == 7.2
    assert found["load"] == 3
    assert found["time_ratios"] == {"defaults": 10.0, "tuned": 7.5}
    assert found["time_ratio_float32"] == 3.75
    assert found["share_of_limit_decoding"] is None
    assert found["counts"] is True


def test_a_row_whose_results_differ_does_not_count():
    for precision, gap in (("float32", 2e-4), ("bfloat16", 0.2)):
        other = replace(RESULT, differences={**RESULT.differences, precision: {"loss": 2e-6, "logprobs": gap}})
        assert json.loads(other.to_json())["counts"] is False
        assert "DOES NOT COUNT" in other.lines("trl", ROWS["dpo"].variants, "bfloat16")[-1]
    assert "DOES NOT COUNT" not in "".join(RESULT.lines("trl", ROWS["dpo"].variants, "bfloat16"))


def test_people_see_both_sides_with_their_spread():
    shown = "\n".join(RESULT.lines("trl 1.16.0", ROWS["dpo"].variants, "bfloat16"))
    assert "| trl 1.16.0, tuned | 33.00 (30.00-60.00) | 21.00 (21.00-21.00) | 2.00 (2.00-2.00) |" in shown
    assert "| heedful, bfloat16 | 4.00 (4.00-10.00) |" in shown
    assert "defaults: 10.00 times quicker (10.00 by seconds of a core; 5.00 in float32), bar 7.2: met; 0.25 of the memory" in shown
    assert "tuned: 7.50 times quicker (7.00 by seconds of a core; 3.75 in float32), bar 7.2: missed; 0.50 of the memory" in shown
    assert "0.25 of the memory, bar 0.4: met" in shown
    assert "0.50 of the memory, bar 0.4: missed" in shown
    assert "at 60% of the matrix-product rate" in shown
    assert "logprobs: 5.0e-05 in float32, 2.0e-03 in bfloat16 (allowed: 1e-04 and 1e-01)" in shown


def test_rounding():
    assert spread([3, 1, 2]) == "2.00 (1.00-3.00)"
    assert significant(0.00123456) == 0.00123
    assert significant(12345.0) == 12300
