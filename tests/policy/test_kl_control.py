"""The KL controllers: public numbers, numbers by hand, and what a checkpoint keeps."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import NotFinite, RunProblem, SettingProblem
from heedful.policy.kl_control import AdaptiveKL, FixedKL, KLControl


def test_golden(shared) -> None:
    for case in json.loads((shared / "golden" / "adaptive_kl.json").read_text())["cases"]:
        i = case["inputs"]
        controller = AdaptiveKL(i["initial"], i["target"], i["horizon"])
        assert [controller.update(kl, i["steps"]) for kl in i["kl"]] == pytest.approx(case["expected"], abs=1e-12)


def test_by_hand() -> None:
    controller = AdaptiveKL(0.1, 6.0, 100)
    # 6.6 is 10% above the target: 0.1 * (1 + 0.1 * 10 / 100)
    assert controller.update(6.6, 10) == pytest.approx(0.101)
    assert controller.coef == pytest.approx(0.101)
    # far above: clipped to 20%
    assert AdaptiveKL(0.1, 6.0, 100).update(600, 10) == pytest.approx(0.102)
    # below, and below 0 (a sampled KL can be): clipped to -20%
    assert AdaptiveKL(0.1, 6.0, 100).update(-3, 10) == pytest.approx(0.098)
    assert AdaptiveKL(0.1, 6.0, 100).update(6.0, 10) == 0.1


@given(st.lists(st.floats(-100, 100), max_size=30))
def test_the_coefficient_stays_positive_and_turns_the_right_way(kls) -> None:
    controller = AdaptiveKL(0.15, 6.0, 1000)
    for kl in kls:
        before = controller.coef
        after = controller.update(kl, 64)
        assert after > 0
        assert (after > before) == (kl > 6) or after == before


def test_fixed_never_changes() -> None:
    controller = FixedKL(0.05)
    assert controller.update(1e9, 64) == controller.coef == 0.05
    assert FixedKL(0).coef == 0


@pytest.mark.parametrize("make", [lambda: FixedKL(0.05), lambda: AdaptiveKL(0.2, 6.0, 500)])
def test_resumed_is_uninterrupted(make) -> None:
    whole: KLControl = make()
    for kl in (3.0, 9.0):
        whole.update(kl, 64)
    resumed: KLControl = make()
    resumed.load_state_dict(json.loads(json.dumps(whole.state_dict())))
    assert resumed.coef == whole.coef
    assert resumed.update(7.0, 64) == whole.update(7.0, 64)


def test_a_state_without_a_coefficient_is_refused() -> None:
    with pytest.raises(RunProblem, match="value"):
        FixedKL(0.1).load_state_dict({"value": 1.0})


@pytest.mark.parametrize("kl", [float("nan"), float("inf"), float("-inf")])
def test_a_kl_that_is_not_a_number_is_refused(kl) -> None:
    controller = AdaptiveKL(0.1, 6.0, 1000)
    with pytest.raises(NotFinite, match="KL"):
        controller.update(kl, 64)
    assert controller.coef == 0.1


@pytest.mark.parametrize("numbers", [(0, 6, 100), (-0.1, 6, 100), (0.1, 0, 100), (0.1, -6, 100), (0.1, 6, 0), (float("nan"), 6, 100)])
def test_impossible_settings_are_refused(numbers) -> None:
    with pytest.raises(SettingProblem):
        AdaptiveKL(*numbers)


@pytest.mark.parametrize("coef", [-0.1, float("nan"), float("inf")])
def test_impossible_coefficients_are_refused(coef) -> None:
    with pytest.raises(SettingProblem):
        FixedKL(coef)


def test_a_horizon_too_short_to_be_safe_is_refused() -> None:
    controller = AdaptiveKL(0.1, 6.0, 100)
    assert controller.update(0.0, 499) > 0
    with pytest.raises(SettingProblem, match="500 or more"):
        controller.update(0.0, 500)
