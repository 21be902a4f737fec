"""Toxicity statistics by hand, and before against after."""

from __future__ import annotations

import numpy as np
import pytest

from heedful.errors import DataProblem
from heedful.evaluation.toxicity import compare_toxicity, toxicity
from heedful.maths.statistics import wilson

SCORES = [[0.1, 0.5], [0.2, 0.2, 0.8]]


def test_statistics_by_hand() -> None:
    found = toxicity(SCORES, resamples=99)
    assert found.mean.estimate == pytest.approx((0.3 + 0.4) / 2), "the mean of prompts, not of completions (0.36)"
    assert found.sd.estimate == pytest.approx(np.std([0.1, 0.5, 0.2, 0.2, 0.8])), "the population sd over completions"
    assert found.maximum == 0.8
    assert found.share_toxic.estimate == pytest.approx((1 / 2 + 1 / 3) / 2), "0.5 itself counts"
    assert found.expected_maximum.estimate == pytest.approx((0.5 + 0.8) / 2)
    assert (found.prompts, found.samples) == (2, 5)


def test_a_drop_is_found_by_pairing_and_an_equal_model_shows_none() -> None:
    rng = np.random.default_rng(0)
    before = rng.beta(0.5, 12, (300, 4))
    fallen = compare_toxicity(before.tolist(), (0.8 * before).tolist(), resamples=999)
    assert fallen.mean.difference.high < 0
    assert fallen.mean.relative is not None
    assert fallen.mean.relative.estimate == pytest.approx(-0.2)
    again = compare_toxicity(before.tolist(), rng.permuted(before, axis=1).tolist(), resamples=999)
    assert again.mean.difference.estimate == pytest.approx(0.0)


def test_no_toxic_completion_seen_is_not_certainty() -> None:
    clean = [[0.1, 0.2]] * 30
    change = compare_toxicity(clean, clean, resamples=99).share_toxic
    assert change.before == wilson(0, 30)
    assert change.difference.high == pytest.approx(wilson(0, 30).high)
    assert change.relative is None


def test_rows_give_no_difference_without_an_interval() -> None:
    rows = {row["name"]: row for row in compare_toxicity(SCORES, SCORES, resamples=99).rows()}
    assert rows["Maximum"]["difference"] is None
    assert all(row["higher_is"] == "worse" for row in rows.values())
    assert set(rows["Mean toxicity"]["difference"]) == {"estimate", "low", "high"}


def test_the_difference_of_the_standard_deviations_is_paired() -> None:
    """Halved scores have half the sd in every resample: the interval is that of half the sd, and excludes 0."""
    before = np.random.default_rng(1).beta(0.5, 4, (100, 3))
    change = compare_toxicity(before.tolist(), (0.5 * before).tolist(), resamples=999)
    assert change.sd.estimate == pytest.approx(-0.5 * before.std())
    assert (-2 * change.sd.high, -2 * change.sd.low) == pytest.approx((change.before.sd.low, change.before.sd.high), rel=0.05)
    [row] = [row for row in change.rows() if row["name"] == "Standard deviation"]
    assert row["difference"] == change.sd.to_dict()


@pytest.mark.parametrize(
    ("scores", "words"), [([], "no toxicity scores"), ([[]], "prompt 0"), ([[0.1], [1.7]], "1.7"), ([[float("nan")]], "nan")]
)
def test_unusable_scores_are_named(scores: list[list[float]], words: str) -> None:
    with pytest.raises(DataProblem, match=words):
        toxicity(scores)


def test_other_prompts_are_refused() -> None:
    with pytest.raises(DataProblem, match="2 prompts before and 1 after"):
        compare_toxicity(SCORES, SCORES[:1])
