"""How good each completion is, given what every labeler's judgement is worth.

A completion has a utility ``s ~ N(0, 1)``; labelers compare two at a time as in
:mod:`heedful.maths.davidson`, with ``d = reliability * (s[a] - s[b]) + habit * lead``. The
posterior of a prompt's utilities is approximated by a normal one whose mean and precision are the
slope and curvature of the log-likelihood **averaged over itself**. This is Laplace's
approximation freed of its bias: where a completion always wins the likelihood is skew, and its
mode lies too near to 0.

Source: Opper & Archambeau (2009), "The variational Gaussian approximation revisited", eq. 10 and 11.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from heedful.maths.davidson import NODE_WEIGHTS, NODES, curvature, probabilities, slope

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

STEP = 2 / 3
"""Of each step that is made. Where labelers are very reliable, mean and covariance would otherwise swing around each other."""


@lru_cache
def pairs_of(size: int) -> tuple[Numbers, Numbers]:
    """The places ``a < b`` of all pairs among ``size`` completions, ``[pairs]`` each."""
    first, second = np.triu_indices(size, 1)
    return first, second


@lru_cache
def _differences(size: int) -> tuple[Array, Array]:
    """``[pairs, size]``: what takes utilities to differences; ``[pairs, size * size]``: its outer products."""
    first, second = pairs_of(size)
    matrix = np.zeros((len(first), size))
    matrix[np.arange(len(first)), first] = 1
    matrix[np.arange(len(first)), second] = -1
    return matrix, (matrix[:, :, None] * matrix[:, None, :]).reshape(len(first), size * size)


@dataclass(frozen=True)
class Block:
    """Rankings of prompts that have the same number of completions, ``size``, in order of prompt.

    ``prompt [rankings]`` counts prompts from 0 inside the block, ``labeler [rankings]`` is the labeler's
    number. Of every pair of completions: ``outcome [rankings, pairs]`` is 1, -1 or 0 as the first, the
    second or neither is preferred; ``lead`` is by how much of the list the first was shown before the
    second (-1 to 1); ``weight`` is what the comparison counts, 0 where none was made.
    """

    size: int
    prompt: Numbers
    labeler: Numbers
    outcome: Array
    lead: Array
    weight: Array

    @cached_property
    def starts(self) -> Numbers:
        """``[prompts]``: the first ranking of each prompt."""
        return np.flatnonzero(np.r_[True, np.diff(self.prompt) > 0])

    def by_prompt(self, values: Array) -> Array:
        """Sums over the rankings of each prompt: ``[rankings, ...]`` to ``[prompts, ...]``."""
        return np.add.reduceat(values, self.starts, axis=0)

    @cached_property
    def left_out(self) -> Block:
        """For every ranking, as a prompt of its own, the other rankings of its prompt; itself, weighing nothing, where it is alone."""
        size = np.diff(np.r_[self.starts, len(self.prompt)])[self.prompt]  # [rankings]
        own = np.repeat(np.arange(len(self.prompt)), size)
        row = np.arange(len(own)) - np.repeat(np.cumsum(size) - size, size) + self.starts[self.prompt[own]]
        kept = (row != own) | (size[own] == 1)
        own, row = own[kept], row[kept]
        weight = np.where((row == own)[:, None], 0.0, self.weight[row])
        return Block(self.size, own, self.labeler[row], self.outcome[row], self.lead[row], weight)


@dataclass(frozen=True)
class Utilities:
    """Normal posterior of the utilities of each prompt: ``mean [prompts, size]``, ``covariance [prompts, size, size]``."""

    mean: Array
    covariance: Array

    def differences(self) -> tuple[Array, Array]:
        """Mean and variance ``[prompts, pairs]`` of the first's utility less the second's."""
        matrix, outer = _differences(self.mean.shape[1])
        return self.mean @ matrix.T, self.covariance.reshape(len(self.mean), -1) @ outer.T


class Worth(NamedTuple):
    """What each labeler's judgements are worth, ``[labelers]`` each: reliability, habit and log tie parameter."""

    reliability: Array
    habit: Array
    tie: Array


def prior(block: Block) -> Utilities:
    """The utilities of a block's prompts before anybody has judged."""
    n = len(block.starts)
    return Utilities(np.zeros((n, block.size)), np.tile(np.eye(block.size), (n, 1, 1)))


def posterior(block: Block, worth: Worth, start: Utilities, tolerance: float = 1e-4, rounds: int = 50) -> Utilities:
    """The utilities of a block's prompts, found from ``start`` by Newton's steps on the averaged slope."""
    matrix, outer = _differences(block.size)
    now = start
    for _ in range(rounds):
        slopes, curvatures = averaged(block, worth, now)
        gradient = block.by_prompt(slopes) @ matrix - now.mean
        precision = (block.by_prompt(curvatures) @ outer).reshape(now.covariance.shape) + np.eye(block.size)
        covariance = np.linalg.inv(precision)
        step = STEP * np.clip((covariance @ gradient[..., None])[..., 0], -1, 1)
        change = STEP * (covariance - now.covariance)
        now = Utilities(now.mean + step, now.covariance + change)
        if max(np.abs(step).max(initial=0.0), np.abs(change).max(initial=0.0)) < tolerance:
            break
    return now


def averaged(block: Block, worth: Worth, utilities: Utilities) -> tuple[Array, Array]:
    """Slope and curvature ``[rankings, pairs]`` of the log-likelihood by the difference of two utilities.

    Both are averaged over the posterior of that difference, times the weight of the comparison.
    """
    mean, variance = utilities.differences()
    reliability, tie = worth.reliability[block.labeler, None], worth.tie[block.labeler, None]
    centre = reliability * mean[block.prompt] + worth.habit[block.labeler, None] * block.lead
    spread = reliability * np.sqrt(variance)[block.prompt]
    slopes, curvatures = np.zeros_like(centre), np.zeros_like(centre)
    for node, node_weight in zip(NODES, NODE_WEIGHTS, strict=True):
        first, second, _ = probabilities(centre + spread * node, tie)
        slopes += node_weight * slope(block.outcome, first, second)
        curvatures += node_weight * curvature(first, second)
    return block.weight * reliability * slopes, block.weight * reliability**2 * curvatures
