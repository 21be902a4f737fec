"""Agreement: golden numbers, numbers worked by hand, and laws."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import kendalltau

from heedful.maths.agreement import design_effect, kendall_tau_b, kendall_w, krippendorff_alpha


def test_krippendorff_golden(shared: Path) -> None:
    for case in json.loads((shared / "golden" / "krippendorff.json").read_text())["cases"]:
        for level, expected in case["expected"].items():
            assert krippendorff_alpha(case["inputs"]["ratings"], level) == pytest.approx(expected, abs=1e-6)


def test_krippendorff_by_hand() -> None:
    # Two labelers, units (1,1) (1,2) (2,2): n1 = 3, n2 = 3, observed 2/6, expected 2*9/30, alpha = 1 - (1/3)/(3/5).
    assert krippendorff_alpha([[1, 1, 2], [1, 2, 2]], "nominal") == pytest.approx(4 / 9)


def test_krippendorff_of_agreement_chance_and_nothing() -> None:
    generator = np.random.default_rng(0)
    row = generator.integers(1, 5, 3000).astype(float)
    assert krippendorff_alpha([row, row], "ordinal") == 1
    assert abs(krippendorff_alpha(generator.integers(1, 5, (3, 3000)), "ordinal")) < 0.03
    assert math.isnan(krippendorff_alpha([[1, 1], [1, 1]], "ordinal"))
    assert math.isnan(krippendorff_alpha([[1, None], [None, 2]], "nominal"))
    with pytest.raises(ValueError, match="level"):
        krippendorff_alpha([[1, 2], [2, 1]], "ratio")  # type: ignore[arg-type]


def test_ordinal_alpha_sees_only_order() -> None:
    table = np.random.default_rng(1).integers(1, 6, (3, 40)).astype(float)
    assert krippendorff_alpha(table, "ordinal") == pytest.approx(krippendorff_alpha(np.exp(table), "ordinal"))
    assert krippendorff_alpha(table, "interval") != pytest.approx(krippendorff_alpha(np.exp(table), "interval"))


def test_kendall_tau_golden_and_scipy(shared: Path) -> None:
    for case in json.loads((shared / "golden" / "kendall_tau_b.json").read_text())["cases"]:
        assert kendall_tau_b(**case["inputs"]) == pytest.approx(case["expected"], abs=1e-6)
    generator = np.random.default_rng(2)
    for _ in range(20):
        a, b = generator.integers(0, 4, (2, 9))
        assert kendall_tau_b(a, b) == pytest.approx(kendalltau(a, b).statistic)
    assert math.isnan(kendall_tau_b([1, 1], [1, 2]))
    with pytest.raises(ValueError, match="length"):
        kendall_tau_b([1, 2], [1, 2, 3])


def test_kendall_w_by_hand_and_at_its_ends() -> None:
    # Sums of ranks 4, 6, 8 around 6: S = 8; W = 12 * 8 / (9 * 24).
    assert kendall_w([[1, 2, 3], [1, 3, 2], [2, 1, 3]]) == pytest.approx(96 / 216)
    # A tie (1, 2.5, 2.5) and (1, 2, 3): sums 2, 4.5, 5.5, S = 6.5; W = 12 * 6.5 / (4 * 24 - 2 * 6).
    assert kendall_w([[1, 2, 2], [1, 2, 3]]) == pytest.approx(78 / 84)
    assert kendall_w([[1, 1, 2], [4, 4, 9]]) == pytest.approx(1)
    assert kendall_w([[1, 2, 3], [3, 2, 1]]) == 0
    assert math.isnan(kendall_w([[1, 1], [2, 2]]))
    with pytest.raises(ValueError, match="two"):
        kendall_w([[1, 2, 3]])


def test_design_effect_of_copies_and_of_independent_votes() -> None:
    coins = np.random.default_rng(3).random(4000) < 0.6
    assert design_effect(coins * 6, np.full(4000, 6)) == pytest.approx(6)
    assert design_effect(coins, np.ones(4000)) == pytest.approx(1)
    assert design_effect([3, 3], [3, 3]) == 1
