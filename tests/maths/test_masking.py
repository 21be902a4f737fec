"""Masked means and scales: numpy as the oracle, laws, and rubbish off the mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heedful.maths.masking import at_least_float32, keep, masked_mean, masked_variance, scale_to_unit_variance, standardise

MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
X = torch.tensor([[1.0, 2.0, 3.0, 99.0], [6.0, 99.0, 99.0, 99.0]], dtype=torch.float64)  # on the mask: 1 2 3 6
RUBBISH = [float("nan"), float("inf"), float("-inf"), 1e30]


def spoil(x: Tensor, mask: Tensor, value: float) -> Tensor:
    return torch.where(mask.bool(), x, value)


def test_by_hand() -> None:
    # mean 12 / 4 = 3; deviations -2 -1 0 3, squares 14, unbiased variance 14 / 3
    assert masked_mean(X, MASK).item() == 3
    assert masked_mean(X, MASK).dim() == 0
    assert masked_variance(X, MASK).item() == pytest.approx(14 / 3)
    deviation = (14 / 3) ** 0.5
    assert standardise(X, MASK).tolist() == [pytest.approx([-2 / deviation, -1 / deviation, 0, 0]), pytest.approx([3 / deviation, 0, 0, 0])]
    assert scale_to_unit_variance(X, MASK)[0].tolist() == pytest.approx([3 - 2 / deviation, 3 - 1 / deviation, 3, 0])


@pytest.mark.parametrize("rubbish", RUBBISH)
@pytest.mark.parametrize("function", [masked_mean, masked_variance, standardise, scale_to_unit_variance, keep])
def test_nothing_off_the_mask_matters_nor_gets_a_gradient(function, rubbish) -> None:
    x = spoil(X, MASK, rubbish).requires_grad_()
    assert torch.equal(function(x, MASK), function(spoil(X, MASK, 0.0), MASK))
    weights = torch.linspace(1, 2, 8, dtype=torch.float64).view(2, 4)
    (function(x, MASK) * weights).sum().backward()
    assert x.grad.isfinite().all()
    assert (x.grad[MASK == 0] == 0).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-6, 1.0, 1e6]), offset=st.sampled_from([0.0, -3.0, 50.0]))
def test_standardise_agrees_with_numpy_at_every_scale(seed, scale, offset) -> None:
    random = np.random.default_rng(seed)
    x, mask = random.normal(size=(3, 5)) * scale + offset * scale, random.random((3, 5)) < 0.6
    mask.flat[:2] = True
    on = standardise(torch.tensor(x), torch.tensor(mask)).numpy()
    np.testing.assert_allclose(on[mask], (x[mask] - x[mask].mean()) / x[mask].std(ddof=1), atol=1e-9)
    assert (on[~mask] == 0).all()
    scaled = scale_to_unit_variance(torch.tensor(x), torch.tensor(mask)).numpy()
    assert scaled[mask].std(ddof=1) == pytest.approx(1)
    assert scaled[mask].mean() == pytest.approx(x[mask].mean(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 2, 7, 100_000])
def test_equal_values_have_no_deviation(dtype, size) -> None:
    x = torch.full((1, size), 0.1, dtype=dtype)
    assert (standardise(x, torch.ones(1, size)) == 0).all()  # rounding is not blown up to 1
    torch.testing.assert_close(scale_to_unit_variance(x, torch.ones(1, size)), x)


def test_one_token_and_none() -> None:
    one = torch.tensor([[1, 0], [0, 0]])
    x = torch.tensor([[5.0, 7.0], [8.0, 9.0]], requires_grad=True)
    assert standardise(x, one).tolist() == [[0, 0], [0, 0]]
    assert scale_to_unit_variance(x, one).tolist() == [[5, 0], [0, 0]]
    standardise(x, one).sum().backward()
    assert x.grad.isfinite().all()
    nothing = torch.zeros(2, 2)
    assert masked_mean(x, nothing).item() == masked_variance(x, nothing).item() == 0
    assert standardise(x, nothing).tolist() == [[0, 0], [0, 0]]
    assert standardise(torch.zeros(2, 0), torch.zeros(2, 0)).shape == (2, 0)


def test_bool_and_float_masks_are_one_mask() -> None:
    assert torch.equal(standardise(X, MASK.bool()), standardise(X, MASK.double()))


def test_half_precision_is_widened() -> None:
    x = torch.full((1, 4096), 100.0, dtype=torch.float16)  # the sum is beyond the largest float16
    assert masked_mean(x, torch.ones(1, 4096)).item() == 100
    assert at_least_float32(x).dtype == torch.float32
    assert at_least_float32(X) is X


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(2, 4\).*\(1, 4\)"):
        masked_mean(X, MASK[:1])


def test_gradients() -> None:
    x = X.clone().requires_grad_()
    for function in (masked_mean, masked_variance, standardise, scale_to_unit_variance):
        assert torch.autograd.gradcheck(lambda y, f=function: f(y, MASK), x)
