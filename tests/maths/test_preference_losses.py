"""Preference losses: public numbers, numbers by hand, laws and finite differences."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heedful.maths import preference_losses as losses
from heedful.maths.preference_losses import bradley_terry, dpo, implicit_rewards, kto, kto_losses, kto_reference_point, orpo

FINITE = st.floats(-20, 20)
SMOOTHING = {"exo_pair": 0.001}


def t(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def golden(shared: Path, name: str) -> list[dict[str, Any]]:
    return json.loads((shared / "golden" / f"{name}.json").read_text())["cases"]


def close(got: Tensor, wanted: Any) -> bool:
    return torch.allclose(got, torch.tensor(wanted, dtype=torch.float64), atol=1e-6, rtol=1e-6)


def log_probabilities(case: dict[str, Any]) -> dict[str, Tensor]:
    return {k.removesuffix("_logps"): torch.tensor(v, dtype=torch.float64) for k, v in case["inputs"].items() if k.endswith("logps")}


def dpo_agrees(function, cases: list[dict[str, Any]]) -> bool:
    def one(case: dict[str, Any]) -> bool:
        x, i = log_probabilities(case), case["inputs"]
        got = function(x["chosen"], x["rejected"], x["ref_chosen"], x["ref_rejected"], i["beta"], i["label_smoothing"], i["loss_type"])
        return close(got, case["expected"]["losses"])

    return all(one(case) for case in cases)


def test_dpo_golden(shared) -> None:
    cases = golden(shared, "preference_pairs")
    assert len(cases) == 11
    assert {case["inputs"]["loss_type"] for case in cases} == set(losses.VARIANTS)
    assert dpo_agrees(dpo, cases)
    for case in cases:
        x, beta = log_probabilities(case), case["inputs"]["beta"]
        assert close(implicit_rewards(x["chosen"], x["ref_chosen"], beta), case["expected"]["chosen_rewards"])
        assert close(implicit_rewards(x["rejected"], x["ref_rejected"], beta), case["expected"]["rejected_rewards"])


@pytest.mark.parametrize(
    "mutant",
    [
        lambda c, r, rc, rr, *rest: torch.full_like(c, 0.7),
        lambda c, r, rc, rr, *rest: dpo(r, c, rr, rc, *rest),  # the wrong one first
        lambda c, r, rc, rr, *rest: dpo(c, r, 0 * rc, 0 * rr, *rest),  # no reference
        lambda c, r, rc, rr, beta, smoothing, variant: dpo(c, r, rc, rr, 1.01 * beta, smoothing, variant),
    ],
)
def test_the_golden_check_can_see(mutant, shared) -> None:
    for case in golden(shared, "preference_pairs"):
        assert not dpo_agrees(mutant, [case])


def test_kto_golden(shared) -> None:
    for case in golden(shared, "kto"):
        x, i, expected = log_probabilities(case), case["inputs"], case["expected"]
        got = kto(
            x["chosen"],
            x["rejected"],
            x["kl"],
            x["ref_chosen"],
            x["ref_rejected"],
            x["ref_kl"],
            i["beta"],
            i["desirable_weight"],
            i["undesirable_weight"],
        )
        assert all(close(getattr(got, name), expected[name]) for name in expected)
        assert set(expected) == set(got._fields)


def test_orpo_golden(shared) -> None:
    for case in golden(shared, "orpo"):
        x, expected = log_probabilities(case), case["expected"]
        got = orpo(x["chosen"], x["rejected"], case["inputs"]["beta"])
        assert close(got.bonus, expected["losses"])
        assert close(got.chosen_rewards, expected["chosen_rewards"])
        assert close(got.rejected_rewards, expected["rejected_rewards"])


def test_bradley_terry_by_hand() -> None:
    # a gap of log 3 is a probability of 3/4
    gap = t(math.log(3))
    assert bradley_terry(gap, t(0)).item() == pytest.approx(-math.log(3 / 4))
    assert bradley_terry(t(0), gap).item() == pytest.approx(-math.log(1 / 4))
    assert bradley_terry(gap, t(0), margin=math.log(3)).item() == pytest.approx(math.log(2))
    assert bradley_terry(gap, t(0), p=0.9).item() == pytest.approx(-(0.9 * math.log(3 / 4) + 0.1 * math.log(1 / 4)))
    per_row = bradley_terry(t(1, 1), t(0, 0), margin=t(0, 1), p=t(1, 0.5))
    assert per_row.tolist() == pytest.approx([math.log(1 + math.exp(-1)), math.log(2)])


@given(FINITE, FINITE, FINITE, st.floats(0, 1))
def test_swapping_a_pair_swaps_its_probability(chosen, rejected, shift, p) -> None:
    loss = bradley_terry(t(chosen), t(rejected), p=p)
    torch.testing.assert_close(loss, bradley_terry(t(rejected), t(chosen), p=1 - p))
    torch.testing.assert_close(loss, bradley_terry(t(chosen + shift), t(rejected + shift), p=p))  # only the gap matters


def test_soft_labels_are_least_where_the_gap_says_p() -> None:
    gaps = torch.linspace(-3, 3, 601, dtype=torch.float64)
    best = gaps[bradley_terry(gaps, torch.zeros_like(gaps), p=0.75).argmin()]
    assert best.item() == pytest.approx(math.log(3), abs=0.01)


def test_dpo_by_hand() -> None:
    # log-ratios 2 and -1, beta 0.5: implicit rewards 1 and -0.5, gap 1.5
    chosen, rejected, ref_chosen, ref_rejected = t(-8), t(-11), t(-10), t(-10)
    s, log_s = 1 / (1 + math.exp(-1.5)), -math.log(1 + math.exp(-1.5))

    def loss(variant: str, smoothing: float = 0.0) -> float:
        return dpo(chosen, rejected, ref_chosen, ref_rejected, 0.5, smoothing, variant).item()

    assert loss("sigmoid") == pytest.approx(-log_s)
    assert loss("sigmoid", 0.1) == pytest.approx(-0.9 * log_s - 0.1 * math.log(1 - s))
    assert loss("robust", 0.1) == pytest.approx((-0.9 * log_s + 0.1 * math.log(1 - s)) / 0.8)
    assert loss("hinge") == 0  # the gap is past 1
    assert loss("ipo") == pytest.approx((3 - 1) ** 2)
    assert loss("sppo_hard") == pytest.approx((2 - 1) ** 2 + (-1 + 1) ** 2)
    assert loss("apo_zero") == pytest.approx(1 / (1 + math.e) + 1 / (1 + math.exp(0.5)))
    assert loss("exo_pair", 0.1) == pytest.approx(s * math.log(s / 0.9) + (1 - s) * math.log((1 - s) / 0.1))


@pytest.mark.parametrize("variant", losses.VARIANTS)
def test_a_soft_label_is_a_pair_both_ways_round(variant) -> None:
    """At p = 0 the pair is turned round, at 1/2 both ways are alike; with the sigmoid p is 1 - label_smoothing."""
    pair, turned, smoothing = (t(-8), t(-11), t(-10), t(-10)), (t(-11), t(-8), t(-10), t(-10)), SMOOTHING.get(variant, 0.0)

    def loss(rows: tuple[Tensor, ...], p: Tensor | float) -> float:
        return dpo(*rows, 0.5, smoothing, variant, p).item()

    assert loss(pair, 1.0) == pytest.approx(dpo(*pair, 0.5, smoothing, variant).item())
    assert loss(pair, 0.0) == pytest.approx(loss(turned, 1.0))
    assert loss(pair, 0.5) == pytest.approx(loss(turned, 0.5))
    assert loss(pair, t(0.8)) == pytest.approx(0.8 * loss(pair, 1.0) + 0.2 * loss(turned, 1.0))
    if variant == "sigmoid":
        assert loss(pair, 0.9) == pytest.approx(dpo(*pair, 0.5, 0.1, variant).item())


@pytest.mark.parametrize("variant", losses.VARIANTS)
def test_dpo_gradients(variant) -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(5, dtype=torch.float64, generator=generator).requires_grad_() for _ in range(4)]
    smoothing = SMOOTHING.get(variant, 0.0)
    assert torch.autograd.gradcheck(lambda *x: dpo(*x, 0.3, smoothing, variant), inputs)
    at_reference = dpo(inputs[0], inputs[1], inputs[0].detach(), inputs[1].detach(), 0.3, smoothing, variant)
    slopes = torch.autograd.grad(at_reference.sum(), inputs[:2])
    assert (slopes[0] < slopes[1]).all(), "a step must raise chosen against rejected"


@pytest.mark.parametrize("variant", losses.VARIANTS)
def test_no_variant_overflows(variant) -> None:
    far = torch.tensor([-2000.0, 0.0], requires_grad=True)
    loss = dpo(far, far.flip(0), torch.zeros(2), torch.zeros(2), 1.0, SMOOTHING.get(variant, 0.0), variant)
    loss.sum().backward()
    assert loss.isfinite().all()
    assert far.grad.isfinite().all()


@pytest.mark.parametrize(
    ("variant", "smoothing", "words"),
    [
        ("simpo", 0.0, "simpo.*sigmoid, robust"),
        ("sigmoid", 0.5, "below 0.5"),
        ("sigmoid", -0.1, "at least 0"),
        ("hinge", 0.1, "does not smooth"),
        ("exo_pair", 0.0, "above 0"),
    ],
)
def test_dpo_refuses(variant, smoothing, words) -> None:
    with pytest.raises(ValueError, match=words):
        dpo(t(0), t(0), t(0), t(0), 0.1, smoothing, variant)


def test_kto_by_hand() -> None:
    # beta 1, log-ratios: chosen log 3, rejected log 3, reference point 0
    # thumb up: 1 - 3/4; thumb down: 1 - 1/4
    got = kto(t(math.log(3)), t(math.log(3)), t(-5), t(0), t(0), t(0), 1.0, desirable_weight=2.0, undesirable_weight=3.0)
    assert got.kl.item() == 0  # the estimate -5 is below 0
    assert got.losses.tolist() == pytest.approx([2 * 0.25, 3 * 0.75])
    assert kto_reference_point(t(1, 2), t(0, 0)).item() == 1.5
    # at the reference point itself both are undecided
    assert kto_losses(t(1.5, 1.5), torch.tensor([True, False]), t(1.5), 0.1).tolist() == [0.5, 0.5]


def test_kto_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    log_ratios = torch.randn(6, dtype=torch.float64, generator=generator).requires_grad_()
    desirable = torch.tensor([True, False, True, False, True, False])
    assert torch.autograd.gradcheck(lambda x: kto_losses(x, desirable, t(0.3), 0.5, 1.3, 0.8), log_ratios)
    slope = torch.autograd.grad(kto_losses(log_ratios, desirable, t(0.3), 0.5).sum(), log_ratios)[0]
    assert ((slope < 0) == desirable).all()
    mismatched = t(2.0).requires_grad_()
    assert not kto_reference_point(mismatched, t(0)).requires_grad


def test_kto_of_thumbs_of_one_kind() -> None:
    got = kto(t(1.0, 2.0), t(), t(0.5), t(0.0, 0.0), t(), t(0.0), 0.1)
    assert got.losses.shape == (2,)
    assert got.rejected_rewards.shape == (0,)


def test_orpo_by_hand() -> None:
    # probabilities per token 3/4 and 1/2: odds 3 and 1, odds ratio 3, sigmoid(log 3) = 3/4
    got = orpo(t(math.log(0.75)), t(math.log(0.5)), 0.2)
    assert got.bonus.item() == pytest.approx(0.2 * math.log(0.75))
    assert got.chosen_rewards.item() == pytest.approx(0.2 * math.log(0.75))


def test_orpo_gradients_also_where_the_model_is_certain() -> None:
    chosen, rejected = t(-0.5, -2.0).requires_grad_(), t(-1.0, -0.3).requires_grad_()
    assert torch.autograd.gradcheck(lambda c, r: orpo(c, r, 0.3).bonus, (chosen, rejected))
    certain, unlikely = torch.zeros(2, requires_grad=True), torch.tensor([-1e4, 0.0], requires_grad=True)
    bonus = orpo(certain, unlikely, 0.1).bonus
    bonus.sum().backward()
    assert bonus.isfinite().all()
    assert certain.grad.isfinite().all()
    assert unlikely.grad.isfinite().all()
