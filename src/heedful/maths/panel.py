"""Whom to believe: the reliability of every labeler of a panel, found together with the utilities.

Of every labeler there are three hypotheses: *careful*, reliability ``exp(l)``; *random*,
reliability 0, who guesses; *upside down*, reliability ``-exp(l)``, the scale read the wrong way round. Each has a prior
probability, so that nobody's sign is turned by an accident of the start: it takes evidence from
other people's judgements. Beside ``l`` a labeler has a habit ``h`` (to prefer what is shown
earlier) and a log tie parameter ``t``, all with normal priors; see :mod:`heedful.maths.utilities`.

Two steps take turns until reliabilities stand still.

1. Utilities, given what each labeler is worth: :func:`heedful.maths.utilities.posterior`.
2. Labelers, given the utilities **without the labeler's own votes**: the parameters that make the
   votes most probable (a MAP estimate), and from that probability the odds of the three
   hypotheses. As the others' votes do not depend on these parameters, each such step climbs the
   marginal likelihood. The others' posterior is computed for every ranking anew. To take the own
   part out of the common posterior would be cheaper, but leaks: where an own vote moved the
   posterior, the others' curvature is that of another place. Among few and noisy labelers
   everybody then confirms themselves, and reliabilities run away.

A ranking of ``n`` completions makes ``n (n - 1) / 2`` pairs that are not independent; the caller
weighs each ``2 / n``, which is exactly what they are worth together where errors of perception
are normal. The cost of a round is linear in the number of rankings, times the labelers per prompt;
nothing is random.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from heedful.maths.davidson import NODE_WEIGHTS, NODES, probabilities, slope, tie_slope
from heedful.maths.utilities import STEP, Block, Utilities, Worth, posterior, prior

Array = NDArray[np.float64]

CAREFUL, RANDOM, UPSIDE_DOWN = 0, 1, 2
SIGNS = (1.0, 0.0, -1.0)
"""The sign of the reliability under each hypothesis."""
LIMITS = ((-4.0, 1.8), (-5.0, 5.0), (-10.0, 7.0))
"""Of log reliability, habit and log tie parameter. Reliability 6 is right on 95 % of typical pairs: sharper cannot be told apart,
and up to there the quadrature is good to 0.02. The other limits are so wide that priors hold the parameters, not limits."""
DRAWS = 2000
"""Reliabilities that are drawn of each labeler to tell an interval of them."""
CLIMBS = 2
"""Steps of each labeler's parameters in one round."""
SWEEPS = 3
"""Steps of the utilities in one round; the last round takes as many as it needs."""


@dataclass(frozen=True, slots=True)
class PanelPrior:
    """What is assumed before anybody has judged. Reliabilities are slopes per standard deviation of utility.

    ``hypotheses``: prior probabilities of careful, random and upside down. ``reliability`` and ``tie``:
    means over the panel of log reliability and log tie parameter, which the panel's own work moves
    (``mean_sd`` says how easily); ``*_sd``: how far single labelers are from these means.
    """

    hypotheses: tuple[float, float, float] = (0.88, 0.08, 0.04)
    reliability: float = 0.4
    reliability_sd: float = 0.5
    habit_sd: float = 0.3
    tie: float = -1.0
    tie_sd: float = 1.0
    mean_sd: float = 0.5


Others = tuple[Array, Array]
"""What the others say of each pair a labeler compared: mean and variance ``[rankings, pairs]`` of the difference."""


@dataclass(frozen=True)
class Panel:
    """What was found.

    ``utilities`` and ``others`` are per block. ``parameters [hypotheses, labelers, 3]``: log reliability,
    habit, log tie parameter; ``spread [hypotheses, labelers]``: the standard deviation of the first, of who guesses that
    of reliability. ``evidence [hypotheses, labelers]``: log-probability of a labeler's votes given the others' under each
    hypothesis; ``odds``: the hypotheses' probabilities. ``typical [3]``: the panel's means.
    """

    utilities: list[Utilities]
    others: list[Others]
    parameters: Array
    spread: Array
    evidence: Array
    odds: Array
    worth: Worth
    typical: Array
    rounds: int
    converged: bool


def fit(blocks: Sequence[Block], labelers: int, assumed: PanelPrior | None = None, rounds: int = 40, tolerance: float = 0.02) -> Panel:
    """Utilities of all prompts and the reliability of all labelers; see the module for how.

    Args:
        blocks: all rankings; labelers are numbered from 0 to ``labelers - 1``.
        rounds: at most so many turns of the two steps.
        tolerance: stop when no reliability moved by more than this.
    """
    assumed = assumed or PanelPrior()
    typical = _assumed_means(assumed)
    parameters = np.tile(typical, (len(SIGNS), labelers, 1))
    worth = _worth(parameters, np.tile(np.array(assumed.hypotheses)[:, None], labelers))
    left_out = [prior(block.left_out) for block in blocks]
    converged, turn = False, 0
    while not converged and turn < rounds:
        turn += 1
        left_out = [posterior(block.left_out, worth, start, rounds=SWEEPS) for block, start in zip(blocks, left_out, strict=True)]
        others = [found.differences() for found in left_out]
        parameters, evidence = _labelers(blocks, others, parameters, typical, assumed)
        odds = _odds(evidence, assumed)
        typical = _means(parameters[CAREFUL], odds[CAREFUL], assumed)
        found = _worth(parameters, odds)
        converged = bool(np.abs(found.reliability - worth.reliability).max(initial=0.0) < tolerance)
        # Part of the way only: two labelers who share most of their work would otherwise swing around each other.
        worth = Worth(*(old + STEP * (new - old) for old, new in zip(worth, found, strict=True)))
    utilities = [posterior(block, worth, prior(block)) for block in blocks]
    spread = np.stack([_spread(number, parameters, blocks, others, typical, assumed) for number in (CAREFUL, RANDOM, UPSIDE_DOWN)])
    return Panel(utilities, others, parameters, spread, evidence, odds, worth, typical, turn, converged)


def _labelers(
    blocks: Sequence[Block], others: Sequence[Others], parameters: Array, typical: Array, assumed: PanelPrior
) -> tuple[Array, Array]:
    """Better parameters ``[hypotheses, labelers, 3]`` and the log-probability ``[hypotheses, labelers]`` of the votes."""
    climbed = [_climb(parameters[number], sign, blocks, others, typical, assumed) for number, sign in enumerate(SIGNS)]
    return np.stack([found for found, _ in climbed]), np.stack([value for _, value in climbed])


def _climb(
    here: Array, sign: float, blocks: Sequence[Block], others: Sequence[Others], typical: Array, assumed: PanelPrior
) -> tuple[Array, Array]:
    """Fisher's scoring, each labeler alone: a step that makes the votes less probable is tried again at a quarter."""
    low, high = np.array(LIMITS).T
    value, gradient, information = log_posterior(here, sign, blocks, others, typical, assumed)
    stride = np.ones(len(here))
    for _ in range(CLIMBS):
        step = np.linalg.solve(information, gradient[..., None])[..., 0]
        there = np.clip(here + stride[:, None] * np.clip(step, -1, 1), low, high)
        new_value, new_gradient, new_information = log_posterior(there, sign, blocks, others, typical, assumed)
        better = new_value >= value
        here, gradient = np.where(better[:, None], there, here), np.where(better[:, None], new_gradient, gradient)
        value, information = np.where(better, new_value, value), np.where(better[:, None, None], new_information, information)
        stride = np.where(better, 1.0, stride / 4)
    return here, value


def _spread(
    hypothesis: int, parameters: Array, blocks: Sequence[Block], others: Sequence[Others], typical: Array, assumed: PanelPrior
) -> Array:
    """The standard deviation ``[labelers]`` of log reliability that the information gives (Laplace); of who guesses, of reliability.

    Nobody guesses so perfectly that their reliability is 0 and not something near it.
    """
    if hypothesis == RANDOM:
        return np.asarray(_information_at_zero(parameters[hypothesis], blocks, others) ** -0.5)
    _, _, information = log_posterior(parameters[hypothesis], SIGNS[hypothesis], blocks, others, typical, assumed)
    return np.asarray(np.sqrt(np.linalg.inv(information)[:, 0, 0]))


def _information_at_zero(parameters: Array, blocks: Sequence[Block], others: Sequence[Others]) -> Array:
    """Of reliability where it is 0, ``[labelers]``: the squared gradients of single rankings, and a prior of standard deviation 1."""
    found = np.ones(len(parameters))
    for block, (mean, _) in zip(blocks, others, strict=True):
        habit, tie = (column[block.labeler, None] for column in (parameters[:, 1], parameters[:, 2]))
        first, second, _ = probabilities(habit * block.lead, tie)
        gradient = (block.weight * slope(block.outcome, first, second) * mean).sum(axis=1)
        found += np.bincount(block.labeler, gradient**2, len(parameters))
    return found


def log_posterior(
    parameters: Array, sign: float, blocks: Sequence[Block], others: Sequence[Others], typical: Array, assumed: PanelPrior
) -> tuple[Array, Array, Array]:
    """Of each labeler's ``parameters [labelers, 3]``: log-probability ``[labelers]``, gradient ``[labelers, 3]``, information.

    The information ``[labelers, 3, 3]`` is that of the prior and the squared gradients of single rankings (Berndt et al. 1974).
    """
    deviation = np.array([assumed.reliability_sd, assumed.habit_sd, assumed.tie_sd])
    away = (parameters - typical) / deviation
    value, gradient = -(away**2).sum(axis=1) / 2, -away / deviation
    information = np.tile(np.diag(deviation**-2), (len(parameters), 1, 1))
    for block, (mean, variance) in zip(blocks, others, strict=True):
        rows, slopes = _held_out(parameters, sign, block, mean, variance)
        value += np.bincount(block.labeler, rows, len(parameters))
        for i in range(3):
            gradient[:, i] += np.bincount(block.labeler, slopes[:, i], len(parameters))
            for j in range(3):
                information[:, i, j] += np.bincount(block.labeler, slopes[:, i] * slopes[:, j], len(parameters))
    return value, gradient, information


def _held_out(parameters: Array, sign: float, block: Block, mean: Array, variance: Array) -> tuple[Array, Array]:
    """Log-probability ``[rankings]`` of each ranking's votes given the others', and its gradient ``[rankings, 3]``."""
    scale, habit, tie = (column[block.labeler, None] for column in (np.exp(parameters[:, 0]), parameters[:, 1], parameters[:, 2]))
    spread = np.sqrt(variance)
    total, by_scale, by_habit, by_tie = (np.zeros_like(mean) for _ in range(4))
    for node, node_weight in zip(NODES, NODE_WEIGHTS, strict=True) if sign else [(0.0, 1.0)]:
        difference = sign * scale * (mean + spread * node)
        first, second, tied = probabilities(difference + habit * block.lead, tie)
        chance = node_weight * np.where(block.outcome == 0, tied, np.where(block.outcome > 0, first, second))
        steep = chance * slope(block.outcome, first, second)
        total += chance
        by_scale += steep * difference
        by_habit += steep * block.lead
        by_tie += chance * tie_slope(block.outcome, tied)
    share = block.weight / total
    return (block.weight * np.log(total)).sum(axis=1), np.stack([(share * by).sum(axis=1) for by in (by_scale, by_habit, by_tie)], axis=1)


def evidence_by_ranking(panel: Panel, blocks: Sequence[Block]) -> list[Array]:
    """Per block ``[hypotheses, rankings]``: the log-probability of each ranking's votes given the others'."""
    return [
        np.stack([_held_out(panel.parameters[number], sign, block, *others)[0] for number, sign in enumerate(SIGNS)])
        for block, others in zip(blocks, panel.others, strict=True)
    ]


def predicted(worth: Worth, block: Block, others: Others) -> tuple[Array, Array, Array]:
    """P(first), P(second) and P(tie), ``[rankings, pairs]`` each, of every vote, from what the others say of its pair."""
    reliability, habit, tie = (column[block.labeler, None] for column in worth)
    mean, spread = others[0], np.sqrt(others[1])
    found = np.zeros((3, *mean.shape))
    for node, node_weight in zip(NODES, NODE_WEIGHTS, strict=True):
        found += node_weight * np.stack(probabilities(reliability * (mean + spread * node) + habit * block.lead, tie))
    return found[0], found[1], found[2]


def accuracy(reliability: Array) -> Array:
    """How often a labeler of this ``reliability`` is right about two typical completions, where they prefer one; 0 to 1.

    The mean of ``sigmoid(reliability * |d|)`` over ``d ~ N(0, 2)``, taken at 200 quantiles.
    """
    difference = np.sqrt(2) * ndtri((np.arange(200) + 200.5) / 400)  # the upper half: its quantiles are those of |d|
    return np.asarray(expit(np.multiply.outer(reliability, difference)).mean(axis=-1))


def accuracy_draws(panel: Panel, at_once: int = 500_000) -> Iterator[Array]:
    """What :func:`accuracy` may be of each labeler: a hypothesis by its odds, under it a reliability.

    In lots ``[draws, labelers]`` of about ``at_once`` numbers, ``DRAWS`` draws in all. The same panel gives the same draws,
    whatever the lots.
    """
    labelers = np.arange(panel.odds.shape[1])
    which, how_far = (np.random.Generator(np.random.PCG64(0).advance(drawn)) for drawn in (0, DRAWS * len(labelers)))
    steps = np.linspace(-np.exp(LIMITS[0][1]), np.exp(LIMITS[0][1]), 401)  # close enough for a straight line between two
    right, below = accuracy(steps), np.cumsum(panel.odds, axis=0)[:-1]
    rows = max(1, at_once // max(1, len(labelers)))
    for first in range(0, DRAWS, rows):
        shape = min(rows, DRAWS - first), len(labelers)
        hypothesis = (which.random(shape)[:, None] > below).sum(axis=1)
        away = panel.spread[hypothesis, labelers] * how_far.standard_normal(shape)
        log_reliability = np.clip(panel.parameters[hypothesis, labelers, 0] + away, *LIMITS[0])
        drawn = np.where(hypothesis == RANDOM, away, np.array(SIGNS)[hypothesis] * np.exp(log_reliability))
        yield np.interp(drawn, steps, right)


def _odds(evidence: Array, assumed: PanelPrior) -> Array:
    """The probability of each hypothesis, ``[hypotheses, labelers]``."""
    log_odds = evidence + np.log(assumed.hypotheses)[:, None]
    weights = np.exp(log_odds - log_odds.max(axis=0))
    return np.asarray(weights / weights.sum(axis=0))


def _assumed_means(assumed: PanelPrior) -> Array:
    return np.array([assumed.reliability, 0.0, assumed.tie])


def _means(parameters: Array, careful: Array, assumed: PanelPrior) -> Array:
    """The panel's means ``[3]``: those of the careful labelers, shrunk towards what was assumed."""
    found = _assumed_means(assumed)
    for column, deviation in ((0, assumed.reliability_sd), (2, assumed.tie_sd)):
        pull = deviation**2 / assumed.mean_sd**2
        found[column] = (pull * found[column] + careful @ parameters[:, column]) / (pull + careful.sum())
    return found


def _worth(parameters: Array, odds: Array) -> Worth:
    """Parameters averaged over the hypotheses: who may as well read upside down counts nothing."""
    reliability = (odds * np.array(SIGNS)[:, None] * np.exp(parameters[:, :, 0])).sum(axis=0)
    return Worth(reliability, (odds * parameters[:, :, 1]).sum(axis=0), (odds * parameters[:, :, 2]).sum(axis=0))
