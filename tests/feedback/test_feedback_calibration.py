"""The consensus's confidence comes true on labelers that it has not heard, and is not measured on one voice."""

from __future__ import annotations

from random import Random

import numpy as np

from heedful.feedback.assign import assign
from heedful.feedback.calibration import _binned, calibration
from heedful.feedback.criteria import CRITERIA
from heedful.feedback.instructions import instructions_for
from heedful.feedback.panel import HeldOutVotes
from heedful.feedback.simulated import SimulatedLabeler, collect
from heedful.records import Ranking
from stores import items

HELPFUL = CRITERIA["helpfulness"]


def judged(prompts: int = 150) -> list[Ranking]:
    chance, rows = Random(1), items(prompts, completions=4)
    truth: dict[str, float | None] = {c.id: chance.gauss(0, 1) for _, shown in rows for c in shown}
    panel = [SimulatedLabeler(f"l{n}", noise=0.3 + 0.2 * n) for n in range(6)]
    assignment = assign([prompt.id for prompt, _ in rows], [one.name for one in panel], 3, 0)
    return collect(rows, truth, panel, assignment, HELPFUL, instructions_for(HELPFUL), 0)


def test_what_is_predicted_of_a_labeler_by_the_others_comes_true() -> None:
    bins = calibration(judged(), HELPFUL)
    assert len(bins) == 8
    assert sum(row["n"] for row in bins) == 150 * 3 * 6  # no ties: every pair of every ranking
    predicted = [row["predicted"] for row in bins]
    assert predicted == sorted(predicted)
    assert min(predicted) >= 0.5
    assert sum(row["n"] * abs(row["predicted"] - row["observed"]) for row in bins) / sum(row["n"] for row in bins) < 0.05
    assert all(row["low"] < row["observed"] < row["high"] for row in bins)
    assert bins[-1]["observed"] - bins[0]["observed"] > 0.25, "it tells easy pairs from hard ones"


def test_of_one_voice_nothing_is_known() -> None:
    alone = [row for row in judged(20) if row.labeler == "l0"]
    assert len(alone) == 10
    assert all(row["predicted"] < 0.6 for row in calibration(alone, HELPFUL))


def test_the_interval_knows_that_pairs_of_a_prompt_repeat_each_other() -> None:
    """One bin of 6 prompts with 6 votes each that are all the same: as wide as 6 judgements are, not as 36."""
    outcomes, prompts = np.repeat([1.0, 1, 1, 1, 0, 0], 6), np.repeat(np.arange(6.0), 6)
    [row] = _binned(HeldOutVotes(np.ones(36), outcomes, np.ones(36), prompts), 1.0)
    assert row["n"] == 36
    assert row["high"] - row["low"] > 0.5
