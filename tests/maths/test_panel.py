"""Whom to believe: every gradient against finite differences, known labelers found again, and laws."""

from __future__ import annotations

import dataclasses
import tracemalloc

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from heedful.maths.davidson import probabilities
from heedful.maths.panel import (
    DRAWS,
    SIGNS,
    Panel,
    PanelPrior,
    accuracy,
    accuracy_draws,
    evidence_by_ranking,
    fit,
    log_posterior,
    predicted,
)
from heedful.maths.utilities import Block, Worth, pairs_of, posterior, prior

TRUE = Worth(np.array([3.0, 1.5, 1.5, 0.0, -2.0, 1.5, 2.0, 1.0]), np.array([0, 0, 0, 0, 0, 0, 1.5, 0]), np.full(8, -1.0))


def drawn(size: int = 4, prompts: int = 400, each: int = 3, seed: int = 0, true: Worth = TRUE) -> tuple[Block, np.ndarray]:
    """Votes drawn from the model itself, and the utilities behind them."""
    random = np.random.default_rng(seed)
    utilities = random.normal(size=(prompts, size))
    prompt = np.repeat(np.arange(prompts), each)
    labeler = np.concatenate([random.choice(len(true.reliability), each, replace=False) for _ in range(prompts)])
    first, second = pairs_of(size)
    place = random.permuted(np.tile(np.arange(size), (len(prompt), 1)), axis=1)
    lead = (place[:, second] - place[:, first]) / (size - 1)
    d = true.reliability[labeler, None] * (utilities[prompt][:, first] - utilities[prompt][:, second]) + true.habit[labeler, None] * lead
    win, lose, _ = probabilities(d, true.tie[labeler, None])
    chance = random.random(d.shape)
    outcome = np.where(chance < win, 1.0, np.where(chance < win + lose, -1.0, 0.0))
    return Block(size, prompt, labeler, outcome, lead, np.full(d.shape, 1.0 if size == 2 else 2 / size)), utilities


@pytest.mark.parametrize("sign", SIGNS)
def test_the_labelers_gradient_against_finite_differences(sign: float) -> None:
    blocks = [drawn(3, 12)[0], drawn(2, 9, seed=1)[0]]
    worth = Worth(np.full(8, 1.0), np.zeros(8), np.full(8, -1.0))
    others = [posterior(b.left_out, worth, prior(b.left_out)).differences() for b in blocks]
    assumed, typical = PanelPrior(), np.array([0.3, 0.0, -0.8])
    at = np.random.default_rng(2).normal(size=(8, 3))
    _, gradient, information = log_posterior(at, sign, blocks, others, typical, assumed)
    for column in range(3):
        step = np.zeros(3)
        step[column] = 1e-5
        above, below = (log_posterior(at + s, sign, blocks, others, typical, assumed)[0] for s in (step, -step))
        assert gradient[:, column] == pytest.approx((above - below) / 2e-5, abs=1e-7)
    assert np.linalg.eigvalsh(information).min() > 0


def test_evidence_is_the_sum_of_its_rankings_and_the_prior() -> None:
    block, _ = drawn(3, 60)
    panel = fit([block], 8)
    rows = evidence_by_ranking(panel, [block])[0]
    typical, assumed = panel.typical, PanelPrior()
    deviation = np.array([assumed.reliability_sd, assumed.habit_sd, assumed.tie_sd])
    for number in range(3):
        away = (panel.parameters[number] - typical) / deviation
        summed = np.bincount(block.labeler, rows[number], 8) - (away**2).sum(axis=1) / 2
        assert panel.evidence[number] == pytest.approx(summed, abs=0.2)  # the means moved once more after it was taken


def test_known_labelers_are_found_again() -> None:
    block, utilities = drawn(2, 3000)
    panel = fit([block], 8)
    assert panel.converged
    assert accuracy(panel.worth.reliability) == pytest.approx(accuracy(TRUE.reliability), abs=0.04)
    assert panel.worth.habit[6] == pytest.approx(1.5, abs=0.4)
    assert np.abs(np.delete(panel.worth.habit, 6)).max() < 0.3
    assert panel.odds.argmax(axis=0).tolist() == [0, 0, 0, 1, 2, 0, 0, 0]
    mean, variance = panel.utilities[0].differences()
    true = utilities[:, :1] - utilities[:, 1:]
    assert 0.87 < (np.abs(mean - true) < norm.ppf(0.95) * np.sqrt(variance)).mean() < 0.93


def test_an_upside_down_reader_counts_as_much_as_a_careful_one() -> None:
    """Turning all votes of one labeler round must change nothing but their sign."""
    block, _ = drawn(3, 300, true=TRUE._replace(habit=np.zeros(8)))
    block = Block(block.size, block.prompt, block.labeler, block.outcome, block.lead * 0, block.weight)
    turned = np.where(block.labeler[:, None] == 0, -block.outcome, block.outcome)
    panel = fit([block], 8)
    other = fit([Block(block.size, block.prompt, block.labeler, turned, block.lead, block.weight)], 8)
    assert other.worth.reliability[0] == pytest.approx(-panel.worth.reliability[0], rel=0.1)
    assert other.utilities[0].mean == pytest.approx(panel.utilities[0].mean, abs=0.1)


def test_nobody_is_turned_round_by_an_accident_of_the_start() -> None:
    """Three of four upside-down readers among eight careful ones are still found, whoever is numbered first."""
    true = Worth(np.array([-2.0, -2.0, -2.0] + [2.0] * 8), np.zeros(11), np.full(11, -1.0))
    for seed in range(3):
        panel = fit([drawn(4, 200, seed=seed, true=true)[0]], 11)
        assert panel.odds.argmax(axis=0).tolist() == [2] * 3 + [0] * 8


def test_who_has_not_voted_is_what_was_assumed() -> None:
    block, _ = drawn(3, 100)
    panel = fit([block], 9)
    assert panel.odds[:, 8] == pytest.approx([0.88, 0.08, 0.04])
    assert panel.parameters[0, 8] == pytest.approx(panel.typical, abs=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_few_noisy_labelers_do_not_confirm_themselves(seed: int) -> None:
    """Four who mostly guess, two to a prompt: nobody may come out as nearly always right, and nobody as surely upside down."""
    true = Worth(np.array([0.5, 0.5, 0.5, 0.0]), np.zeros(4), np.full(4, -2.0))
    panel = fit([drawn(4, 120, each=2, seed=seed, true=true)[0]], 4)
    assert panel.converged
    assert np.abs(panel.worth.reliability).max() < 1.5
    assert panel.odds[2].max() < 0.9


def test_the_order_of_labelers_and_blocks_does_not_matter() -> None:
    block, _ = drawn(3, 80)
    half = len(block.prompt) // 2
    parts = [
        Block(3, block.prompt[rows] - block.prompt[rows][0], block.labeler[rows], block.outcome[rows], block.lead[rows], block.weight[rows])
        for rows in (slice(0, half), slice(half, None))
    ]
    whole, parted = fit([block], 8), fit(parts[::-1], 8)
    assert parted.worth.reliability == pytest.approx(whole.worth.reliability, abs=1e-6)
    assert np.concatenate([u.mean for u in parted.utilities[::-1]]) == pytest.approx(whole.utilities[0].mean, abs=2e-4)  # steps end at 1e-4


def test_predictions_are_probabilities_and_come_true() -> None:
    block, _ = drawn(4, 600, seed=3)
    panel = fit([block], 8)
    first, second, tie = predicted(panel.worth, block, panel.others[0])
    assert first + second + tie == pytest.approx(np.ones_like(first))
    for chance, came in ((first, block.outcome > 0), (second, block.outcome < 0), (tie, block.outcome == 0)):
        for low, high in zip(*np.quantile(chance, [[0, 0.25, 0.5, 0.75], [0.25, 0.5, 0.75, 1]]), strict=True):
            among = (low <= chance) & (chance <= high)
            assert came[among].mean() == pytest.approx(chance[among].mean(), abs=0.04)


def test_accuracy_against_numerical_integration() -> None:
    assert accuracy(np.array(0.0)) == pytest.approx(0.5)
    for reliability in (0.5, 2.0, 6.0):
        exact, _ = quad(lambda d, r=reliability: norm.pdf(d, scale=2**0.5) / (1 + np.exp(-r * abs(d))), -12, 12)
        assert accuracy(np.array([reliability, -reliability])) == pytest.approx([exact, 1 - exact], abs=2e-3)


def all_draws(panel: Panel, at_once: int = 500_000) -> np.ndarray:
    return np.concatenate(list(accuracy_draws(panel, at_once)))


def test_what_an_accuracy_may_be_does_not_depend_on_the_lots_it_is_drawn_in() -> None:
    panel = fit([drawn(4, 20)[0]], 9)
    whole = all_draws(panel, DRAWS * 9)
    assert whole.shape == (DRAWS, 9)
    assert len(np.unique(whole[:, 8])) > 0.9 * DRAWS, "no number is drawn twice"
    for at_once in (1, 100, 1000 * 9):
        assert (all_draws(panel, at_once) == whole).all()


def test_how_far_an_accuracy_lies_is_drawn_apart_from_the_hypothesis() -> None:
    """Of labelers who surely guess: what comes after the numbers that choose the hypotheses, as one generator would give them all."""
    panel = fit([drawn(4, 20)[0]], 9)
    surely = dataclasses.replace(panel, odds=np.tile([[0.0], [1.0], [0.0]], 9))
    random = np.random.default_rng(0)
    random.random((DRAWS, 9))
    away = panel.spread[1] * random.standard_normal((DRAWS, 9))
    assert all_draws(surely, 1000) == pytest.approx(accuracy(away), abs=1e-3)


def test_what_an_accuracy_may_be_takes_little_memory_with_many_labelers() -> None:
    """A lot of 50,000 numbers at a time: 4 MiB at most, where all 4,000,000 at once took 156."""
    panel, many = fit([drawn(4, 20)[0]], 9), 2000
    crowd = dataclasses.replace(
        panel, odds=panel.odds[:, [8] * many], spread=panel.spread[:, [8] * many], parameters=panel.parameters[:, [8] * many]
    )
    tracemalloc.start()
    assert sum(len(lot) for lot in accuracy_draws(crowd, 50_000)) == DRAWS
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 4 * 2**20


def test_what_an_accuracy_may_be_holds_the_true_one() -> None:
    """Twelve panels drawn from what is assumed of one: of 96 labelers about 95 % lie between the outer quantiles of their draws."""
    random, assumed = np.random.default_rng(5), PanelPrior()
    inside = []
    for seed in range(12):
        sign = random.choice(SIGNS, 8, p=assumed.hypotheses)
        strength = np.exp(random.normal(assumed.reliability, assumed.reliability_sd, 8))
        true = Worth(sign * strength, np.zeros(8), np.full(8, -1.0))
        low, high = np.quantile(all_draws(fit([drawn(4, 60, seed=seed, true=true)[0]], 8)), [0.025, 0.975], axis=0)
        inside += ((low - 1e-9 <= accuracy(true.reliability)) & (accuracy(true.reliability) <= high + 1e-9)).tolist()
    assert 0.89 <= np.mean(inside) <= 0.99  # either side is passed by chance once in a hundred


def test_the_more_somebody_judged_the_less_their_accuracy_may_be_anything() -> None:
    widths = []
    for prompts in (40, 160, 640):
        low, high = np.quantile(all_draws(fit([drawn(4, prompts)[0]], 9)), [0.025, 0.975], axis=0)
        widths.append(high - low)
    few, some, many = (width[:8] for width in widths)
    assert (few > some).all()
    assert (some > many).all()
    assert few.mean() > 1.3 * some.mean() > 1.3 * 1.5 * many.mean()
    assert [width[8] for width in widths] == pytest.approx([widths[0][8]] * 3, abs=0.1)  # who has not voted
    assert widths[0][8] > 0.5
