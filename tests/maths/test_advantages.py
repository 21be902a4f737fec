"""Rewards and advantages: worked by hand, and against the double sum of the definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heedful.maths.advantages import explained_variance, gae, group_advantages, shaped_rewards

LENGTHS = [4, 1, 0, 3]
MASK = (torch.arange(4)[None] < torch.tensor(LENGTHS)[:, None]).double()
RUBBISH = [float("nan"), float("inf"), 1e30]


def random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def spoil(x: Tensor, value: float) -> Tensor:
    return torch.where(MASK.bool(), x, value)


def brute_force_gae(rewards: list[float], values: list[float], gamma: float, lam: float) -> list[float]:
    """Equation 16 of Schulman et al. 2016 as it is written: a double sum over one row of real tokens."""
    values = [*values, 0.0]
    delta = [r + gamma * values[t + 1] - values[t] for t, r in enumerate(rewards)]
    return [sum((gamma * lam) ** (later - t) * delta[later] for later in range(t, len(delta))) for t in range(len(delta))]


def agrees_with_the_double_sum(function, seed: int, gamma: float, lam: float) -> bool:
    rewards, values = random(seed, 4, 4), random(seed + 1, 4, 4)
    advantages, returns = function(rewards, values, MASK, gamma, lam)
    for row, length in enumerate(LENGTHS):
        wanted = brute_force_gae(rewards[row, :length].tolist(), values[row, :length].tolist(), gamma, lam)
        if advantages[row].tolist() != pytest.approx(wanted + [0.0] * (4 - length), abs=1e-10):
            return False
        if returns[row, :length].tolist() != pytest.approx([a + v for a, v in zip(wanted, values[row].tolist(), strict=False)], abs=1e-10):
            return False
    return True


def test_rewards_by_hand() -> None:
    kl = torch.tensor([[0.5, -1.0, 2.0], [3.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]])
    rewards = shaped_rewards(torch.tensor([1.0, -2.0, 7.0]), kl, mask, 0.1)
    # -0.1 * kl at every token; 1 added at the third, -2 at the first; the empty row gets nothing
    wanted = torch.tensor([[-0.05, 0.1, -0.2 + 1.0], [-0.3 - 2.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    torch.testing.assert_close(rewards, wanted)


def test_a_score_of_0_is_a_score() -> None:
    rewards = shaped_rewards(torch.tensor([0.0]), torch.tensor([[1.0, 1.0]]), torch.ones(1, 2), 0.1)
    assert rewards.tolist() == [pytest.approx([-0.1, -0.1])]


def test_gae_by_hand() -> None:
    # gamma 1/2, lambda 1/2; values 1 2 4, rewards 0 0 8
    # delta_2 = 8 - 4 = 4; delta_1 = 0 + 4/2 - 2 = 0; delta_0 = 0 + 2/2 - 1 = 0
    # A_2 = 4; A_1 = 0 + 4/4 = 1; A_0 = 0 + 1/4 = 1/4
    advantages, returns = gae(torch.tensor([[0.0, 0.0, 8.0]]), torch.tensor([[1.0, 2.0, 4.0]]), torch.ones(1, 3), 0.5, 0.5)
    assert advantages.tolist() == [[0.25, 1.0, 4.0]]
    assert returns.tolist() == [[1.25, 3.0, 8.0]]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), gamma=st.floats(0, 1), lam=st.floats(0, 1))
def test_gae_is_the_double_sum(seed, gamma, lam) -> None:
    assert agrees_with_the_double_sum(gae, seed, gamma, lam)


@pytest.mark.parametrize(
    "mutant",
    [
        lambda r, v, m, g, la: (torch.zeros_like(r), torch.zeros_like(r)),
        lambda r, v, m, g, la: gae(r, v, m, g, g * la),  # lambda twice discounted
        lambda r, v, m, g, la: gae(r, v, torch.ones_like(m), g, la),  # padding counted
        lambda r, v, m, g, la: (gae(r, v, m, g, la)[0], gae(r, v, m, g, la)[0]),  # V forgotten in the returns
        lambda r, v, m, g, la: (gae(r, v, m, g, la)[0] - 0.01, gae(r, v, m, g, la)[1]),
    ],
)
def test_the_check_can_see(mutant) -> None:
    assert not agrees_with_the_double_sum(mutant, 3, 0.9, 0.8)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_lambda_1_telescopes_to_the_sum_of_rewards(seed) -> None:
    rewards, values = random(seed, 4, 4), random(seed + 1, 4, 4)
    _, returns = gae(rewards, values, MASK, 1.0, 1.0)
    togo = (rewards * MASK).flip(1).cumsum(1).flip(1) * MASK
    torch.testing.assert_close(returns, togo)


def test_lambda_0_is_the_one_step_error() -> None:
    rewards, values = random(0, 4, 4), random(1, 4, 4) * MASK
    advantages, _ = gae(rewards, values, MASK, 0.9, 0.0)
    later = torch.cat([values[:, 1:], torch.zeros(4, 1)], 1)
    torch.testing.assert_close(advantages, (rewards + 0.9 * later - values) * MASK)


@pytest.mark.parametrize("rubbish", RUBBISH)
def test_padding_never_matters(rubbish) -> None:
    scores, kl, rewards, values = random(0, 4), random(1, 4, 4), random(2, 4, 4), random(3, 4, 4)
    clean, spoilt = shaped_rewards(scores, spoil(kl, 0.0), MASK, 0.1), shaped_rewards(scores, spoil(kl, rubbish), MASK, 0.1)
    assert torch.equal(clean, spoilt)
    clean_gae = gae(spoil(rewards, 0.0), spoil(values, 0.0), MASK, 0.99, 0.9)
    spoilt_gae = gae(spoil(rewards, rubbish), spoil(values, rubbish), MASK, 0.99, 0.9)
    assert all(torch.equal(a, b) for a, b in zip(clean_gae, spoilt_gae, strict=True))
    assert all((x[MASK == 0] == 0).all() for x in (spoilt, *spoilt_gae))
    assert explained_variance(spoil(values, rubbish), spoil(rewards, rubbish), MASK).isfinite()


def test_more_padding_changes_nothing() -> None:
    rewards, values = random(2, 4, 4), random(3, 4, 4)
    wide = [torch.cat([x, random(9, 4, 3)], 1) for x in (rewards, values)]
    advantages, returns = gae(*wide, torch.cat([MASK, torch.zeros(4, 3)], 1), 0.99, 0.9)
    narrow = gae(rewards, values, MASK, 0.99, 0.9)
    assert torch.equal(advantages[:, :4], narrow[0])
    assert torch.equal(returns[:, :4], narrow[1])


def test_bool_masks_and_no_tokens_at_all() -> None:
    rewards, values = random(2, 4, 4), random(3, 4, 4)
    assert torch.equal(gae(rewards, values, MASK.bool(), 1.0, 0.9)[0], gae(rewards, values, MASK, 1.0, 0.9)[0])
    assert torch.equal(shaped_rewards(values[:, 0], rewards, MASK.bool(), 1.0), shaped_rewards(values[:, 0], rewards, MASK, 1.0))
    assert gae(torch.zeros(2, 0), torch.zeros(2, 0), torch.zeros(2, 0), 1.0, 0.9)[0].shape == (2, 0)


def test_gradients() -> None:
    rewards, values = random(2, 4, 4).requires_grad_(), random(3, 4, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda r, v: gae(r, v, MASK, 0.9, 0.8), (rewards, values))
    assert torch.autograd.gradcheck(lambda s, k: shaped_rewards(s, k, MASK, 0.3), (random(1, 4).requires_grad_(), rewards))


def test_explained_variance() -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
    on = torch.ones(1, 4)
    assert explained_variance(returns + 5, returns, on).item() == 1  # a constant offset is not variance
    assert explained_variance(torch.zeros(1, 4), returns, on).item() == 0
    # V = -R: var(2R) / var(R) = 4
    assert explained_variance(-returns, returns, on).item() == pytest.approx(-3)
    assert explained_variance(returns, torch.ones(1, 4), on).item() == 0


def test_group_advantages_by_hand() -> None:
    # 1 2 3: mean 2, unbiased variance (1 + 0 + 1) / 2 = 1; 0 0 3: mean 1, variance (1 + 1 + 4) / 2 = 3
    scores, root = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 3.0]]), 3**-0.5
    torch.testing.assert_close(group_advantages(scores), torch.tensor([[-1, 0, 1], [-root, -root, 2 * root]]))
    assert group_advantages(scores, "none").tolist() == [[-1, 0, 1], [-1, -1, 2]]
    torch.testing.assert_close(group_advantages(torch.tensor([[5.0, 7.0]])), torch.tensor([[-(0.5**0.5), 0.5**0.5]]))


@pytest.mark.parametrize("scale", ["group", "none"])
@pytest.mark.parametrize("score", [0.0, 0.1, -7.3, 1e6])
def test_a_group_whose_scores_are_equal_gives_exactly_0(scale, score) -> None:
    """Three times 0.1 has a mean that is not 0.1; a last digit is no difference either."""
    equal = torch.full((1, 3), score)
    nearly = equal * torch.tensor([1.0, 1.0 + 2e-7, 1.0])
    assert not group_advantages(torch.cat([equal, nearly]), scale).any()
    told_apart = group_advantages(torch.cat([equal, torch.tensor([[score, score, 1.001 * score + 1]])]), scale)
    assert told_apart.abs().amin(1).bool().tolist() == [False, True]


@given(st.lists(st.lists(st.floats(-10, 10), min_size=4, max_size=4), min_size=1, max_size=5), st.floats(0.1, 9), st.floats(-5, 5))
def test_advantages_compare_within_a_group_and_know_no_unit(rows, unit, shift) -> None:
    scores = torch.tensor(rows, dtype=torch.float64)
    found = group_advantages(scores)
    torch.testing.assert_close(found.sum(1), torch.zeros(len(rows), dtype=torch.float64), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[:1], group_advantages(scores[:1]))
    if (scores.std(1) > 1e-3).all():
        torch.testing.assert_close(group_advantages(unit * scores + shift), found)
        torch.testing.assert_close(found.std(1), torch.ones(len(rows), dtype=torch.float64))
        torch.testing.assert_close(group_advantages(unit * scores + shift, "none"), unit * group_advantages(scores, "none"))


def test_group_advantages_refuse() -> None:
    with pytest.raises(ValueError, match=r"'batch'.*group, none"):
        group_advantages(torch.zeros(2, 3), "batch")
    with pytest.raises(ValueError, match="two completions or more to compare, got 1"):
        group_advantages(torch.zeros(3, 1))
