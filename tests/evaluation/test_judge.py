"""Win rates, ties, and judges that read positions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from heedful.errors import DataProblem
from heedful.evaluation.judge import judge_both_orders, preferences_by_scores, win_rate, win_rate_by_scores

PROMPTS = [f"prompt {i}" for i in range(6)]
BEFORE, AFTER = ["short"] * 6, ["rather longer"] * 6


def test_win_rate_by_hand_and_its_width() -> None:
    preferences = [1.0] * 60 + [0.0] * 30 + [0.5] * 10
    found = win_rate(preferences)
    assert found.estimate == pytest.approx(0.65)
    standard_error = np.std(preferences, ddof=1) / 10
    assert found.high - found.low == pytest.approx(2 * 1.96 * standard_error, rel=0.1)


def test_winning_always_is_not_certainty() -> None:
    assert win_rate([1.0] * 10).low == pytest.approx(0.7225, abs=1e-4)


def test_scores_tie_within_the_width_and_samples_meet_all_others() -> None:
    assert preferences_by_scores([0.0, 0.0, 0.0], [0.1, 0.3, -0.3], tie_width=0.2).tolist() == [0.5, 1.0, 0.0]
    # 1 beats 0 and ties with 1; 2 beats both.
    assert preferences_by_scores([[0.0, 1.0]], [[1.0, 2.0]]).tolist() == [3.5 / 4]
    assert win_rate_by_scores([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]).estimate == 0.5


def test_swapping_the_models_mirrors_the_win_rate() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=50).tolist(), rng.normal(0.3, 1, 50).tolist()
    assert win_rate_by_scores(a, b).estimate == pytest.approx(1 - win_rate_by_scores(b, a).estimate)


def test_a_judge_of_positions_is_found_out_and_counts_nothing() -> None:
    def first_always(prompts: Sequence[object], first: Sequence[str], second: Sequence[str]) -> list[float]:
        return [0.9] * len(prompts)

    found = judge_both_orders(first_always, PROMPTS, BEFORE, AFTER)
    assert found.preferences == pytest.approx([0.5] * 6)
    assert found.same_position is not None
    assert found.same_position.estimate == 1.0


def test_a_judge_of_content_is_believed() -> None:
    def longer(prompts: Sequence[object], first: Sequence[str], second: Sequence[str]) -> list[float]:
        return [0.8 if len(a) > len(b) else 0.1 for a, b in zip(first, second, strict=True)]

    found = judge_both_orders(longer, PROMPTS, BEFORE, AFTER)
    assert found.preferences == pytest.approx([(0.8 + 0.9) / 2] * 6)
    assert found.same_position is not None
    assert found.same_position.estimate == 0.0


def test_abstentions_are_counted_and_left_out() -> None:
    def shy(prompts: Sequence[object], first: Sequence[str], second: Sequence[str]) -> list[float | None]:
        return [None if str(p).endswith("2") else 0.7 for p in prompts]

    found = judge_both_orders(shy, PROMPTS, BEFORE, AFTER)
    assert (found.abstained, found.rows) == (1, [0, 1, 3, 4, 5])
    nothing = judge_both_orders(lambda p, a, b: [None] * len(p), PROMPTS, BEFORE, AFTER)
    assert (nothing.preferences, nothing.same_position) == ([], None)


def test_mistakes_are_named() -> None:
    with pytest.raises(DataProblem, match=r"1\.5"):
        win_rate([0.5, 1.5])
    with pytest.raises(DataProblem, match="no preferences"):
        win_rate([])
    with pytest.raises(DataProblem, match="1 answers for 6"):
        judge_both_orders(lambda p, a, b: [0.5], PROMPTS, BEFORE, AFTER)
    with pytest.raises(DataProblem, match="answered 7"):
        judge_both_orders(lambda p, a, b: [7.0] * 6, PROMPTS, BEFORE, AFTER)
    with pytest.raises(DataProblem, match="2 prompts before"):
        win_rate_by_scores([1.0, 2.0], [1.0])
