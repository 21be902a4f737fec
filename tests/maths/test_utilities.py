"""Utilities of completions: against numerical integration, finite differences, and laws."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from scipy.stats import norm

from heedful.maths.davidson import NODE_WEIGHTS, NODES, log_probability
from heedful.maths.utilities import Block, Utilities, Worth, averaged, pairs_of, posterior, prior


def worth(*reliabilities: float, habit: float = 0.0, tie: float = -1.0) -> Worth:
    n = len(reliabilities)
    return Worth(np.array(reliabilities), np.full(n, habit), np.full(n, tie))


def block(size: int, prompt: Sequence[int], labeler: Sequence[int], outcome: Sequence[Sequence[float]], seed: int = 0) -> Block:
    said = np.array(outcome, dtype=float)
    lead = np.random.default_rng(seed).uniform(-1, 1, said.shape)
    return Block(size, np.array(prompt), np.array(labeler), said, lead, np.full(said.shape, 2 / size))


def random_block(size: int = 3, prompts: int = 4, labelers: int = 3, seed: int = 0) -> Block:
    random = np.random.default_rng(seed)
    outcome = random.integers(-1, 2, (prompts * labelers, len(pairs_of(size)[0])))
    return block(size, np.repeat(np.arange(prompts), labelers).tolist(), np.tile(np.arange(labelers), prompts).tolist(), outcome.tolist())


@pytest.mark.parametrize(("votes", "reliability"), [([1], 1.0), ([1, 1, 1], 2.0), ([1, 0, 1], 3.0), ([0], 1.0), ([1, -1], 2.0)])
def test_two_completions_against_numerical_integration(votes: list[int], reliability: float) -> None:
    said = Block(2, np.zeros(len(votes), int), np.zeros(len(votes), int), np.array(votes, float)[:, None], *_nothing(len(votes)))
    mean, variance = posterior(said, worth(reliability), prior(said)).differences()
    d = np.linspace(-12, 12, 40001)
    density = norm.pdf(d, scale=np.sqrt(2)) * np.exp(sum(log_probability(np.array(v), reliability * d, np.array(-1.0)) for v in votes))
    density /= density.sum()
    exact = float(d @ density)
    assert mean[0, 0] == pytest.approx(exact, abs=0.03)
    assert np.sqrt(variance[0, 0]) == pytest.approx(np.sqrt(d**2 @ density - exact**2), rel=0.07)


def _nothing(rankings: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((rankings, 1)), np.ones((rankings, 1))


def test_averaged_slope_and_curvature_against_finite_differences() -> None:
    said, reliable = random_block(), worth(1.5, -0.7, 0.4, habit=0.3, tie=-0.4)
    found = posterior(said, reliable, prior(said))
    mean, variance = found.differences()

    def mean_log_probability(shift: float) -> np.ndarray:
        d = (mean + shift)[said.prompt][..., None] + np.sqrt(variance)[said.prompt][..., None] * NODES
        of = said.labeler[:, None, None]
        values = log_probability(
            said.outcome[..., None], reliable.reliability[of] * d + reliable.habit[of] * said.lead[..., None], reliable.tie[of]
        )
        return said.weight * (values @ NODE_WEIGHTS)

    step = 1e-3
    below, here, above = (mean_log_probability(shift) for shift in (-step, 0, step))
    slopes, curvatures = averaged(said, reliable, found)
    assert slopes == pytest.approx((above - below) / (2 * step), abs=1e-6)
    assert curvatures == pytest.approx(-(above - 2 * here + below) / step**2, abs=1e-5)


def test_at_the_posterior_the_slope_balances_the_prior() -> None:
    said, reliable = random_block(4, 20, 3), worth(2.0, 5.0, -1.0)
    found = posterior(said, reliable, prior(said))
    slopes, curvatures = averaged(said, reliable, found)
    first, second = pairs_of(4)
    gradient, precision = -found.mean, np.tile(np.eye(4), (20, 1, 1))
    for row in range(len(said.prompt)):
        for pair, (a, b) in enumerate(zip(first, second, strict=True)):
            p, apart = said.prompt[row], np.eye(4)[a] - np.eye(4)[b]
            gradient[p] += slopes[row, pair] * apart
            precision[p] += curvatures[row, pair] * np.outer(apart, apart)
    assert np.abs(gradient).max() < 1e-2
    assert np.linalg.inv(precision) == pytest.approx(found.covariance, abs=2e-3)


def test_who_reads_upside_down_says_the_opposite_and_who_guesses_nothing() -> None:
    said, turned = random_block(), random_block()
    turned = Block(turned.size, turned.prompt, turned.labeler, -turned.outcome, turned.lead * 0, turned.weight)
    said = Block(said.size, said.prompt, said.labeler, said.outcome, said.lead * 0, said.weight)
    straight, upside_down = posterior(said, worth(1.0, 2.0, 3.0), prior(said)), posterior(turned, worth(-1.0, -2.0, -3.0), prior(turned))
    assert straight.mean == pytest.approx(upside_down.mean)
    silent = posterior(said, worth(0.0, 0.0, 0.0), prior(said))
    assert np.abs(silent.mean).max() == 0
    assert silent.covariance == pytest.approx(np.tile(np.eye(3), (4, 1, 1)))


def test_without_their_own_votes_a_single_labeler_leaves_the_prior() -> None:
    said = block(3, [0, 1], [0, 0], [[1, 1, 0], [-1, 0, 1]]).left_out
    mean, variance = posterior(said, worth(2.0), prior(said)).differences()
    assert np.abs(mean).max() == 0
    assert variance == pytest.approx(np.full((2, 3), 2.0))


def test_left_out_is_what_the_others_alone_say() -> None:
    said, reliable = random_block(4, 30, 3, seed=1), worth(1.0, 1.5, 0.7)
    mean, variance = posterior(said.left_out, reliable, prior(said.left_out)).differences()
    others = said.labeler != 0
    rest = Block(4, said.prompt[others], said.labeler[others], said.outcome[others], said.lead[others], said.weight[others])
    alone_mean, alone_variance = posterior(rest, reliable, prior(rest)).differences()
    assert mean[~others] == pytest.approx(alone_mean, abs=1e-3)
    assert variance[~others] == pytest.approx(alone_variance, abs=1e-3)


def test_differences_by_hand() -> None:
    found = Utilities(np.array([[1.0, 0.25, -1.0]]), np.diag([1.0, 2.0, 3.0])[None])
    mean, variance = found.differences()
    assert mean.tolist() == [[0.75, 2.0, 1.25]]
    assert variance.tolist() == [[3.0, 4.0, 5.0]]
