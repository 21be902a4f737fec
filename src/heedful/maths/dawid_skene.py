"""The true label of each item and how each labeler errs, from votes alone.

**Model.** Item ``i`` has one true label ``z_i``, drawn with the frequencies ``share``. Labeler ``j``
answers ``l`` where the truth is ``k`` with probability ``confusion[j, k, l]``. The rows of a
labeler's confusion matrix are drawn around those of all labelers together (a Dirichlet prior
whose mean is the pooled matrix), so that who has voted little is taken for an average labeler,
and votes whose labeler is unknown can all be given to one.

**Fit.** Expectation and maximisation in turn, from the shares of votes. Deterministic; a round is
linear in the number of votes. Without priors it is the algorithm of the source.

Source: Dawid & Skene (1979), "Maximum likelihood estimation of observer error-rates using the EM
algorithm"; priors as in Kim & Ghahramani (2012), "Bayesian classifier combination".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Votes:
    """Who said what of which item: three numbers per vote ``[votes]``, and how many items, labelers and labels there are."""

    item: Numbers
    labeler: Numbers
    label: Numbers
    items: int
    labelers: int
    labels: int

    def counts(self) -> Array:
        """``[items, labels]``: how often each label was given."""
        flat = np.bincount(self.item * self.labels + self.label, minlength=self.items * self.labels)
        return flat.reshape(self.items, self.labels).astype(float)


@dataclass(frozen=True, slots=True)
class LabelPrior:
    """What counts as if it had been seen before the first vote.

    ``share``: items of every label. ``error`` and ``right``: votes of the pooled confusion matrix, everywhere and in
    addition on its diagonal. ``labeler``: votes of the pooled matrix that each row of a labeler begins with.
    """

    share: float = 1.0
    error: float = 0.5
    right: float = 1.0
    labeler: float = 8.0


NO_PRIOR = LabelPrior(0.0, 0.0, 0.0, 0.0)
"""Maximum likelihood, as in the source."""


@dataclass(frozen=True)
class Truth:
    """What was found: ``truth [items, labels]`` probabilities, ``confusion [labelers, labels, labels]``, its pooled rows, ``share``."""

    truth: Array
    confusion: Array
    pooled: Array
    share: Array
    rounds: int


def fit(votes: Votes, assumed: LabelPrior | None = None, rounds: int = 500, tolerance: float = 1e-9) -> Truth:
    """True labels and confusion matrices; see the module.

    Stops when a round changes the log-likelihood by less than ``tolerance`` nats per vote, and after ``rounds`` at the latest.
    """
    assumed = assumed or LabelPrior()
    counts = votes.counts()
    truth = (counts + 1e-12) / (counts + 1e-12).sum(axis=1, keepdims=True)  # an item without votes: every label alike
    before, turn = -np.inf, 0
    while turn < rounds:
        turn += 1
        share, pooled, confusion = _parameters(votes, truth, assumed)
        logs = _logs(votes, share, confusion)
        truth = softmax(logs, axis=1)
        now = float(logsumexp(logs, axis=1).sum()) / max(1, len(votes.item))
        if abs(now - before) < tolerance:
            break
        before = now
    return Truth(truth, confusion, pooled, share, turn)


def _parameters(votes: Votes, truth: Array, assumed: LabelPrior) -> tuple[Array, Array, Array]:
    """Shares of labels, pooled confusion and each labeler's confusion, given the probabilities of truths."""
    size = votes.labels
    share = truth.sum(axis=0) + assumed.share
    cell = votes.labeler * size + votes.label
    rows = [np.bincount(cell, truth[votes.item, k], votes.labelers * size).reshape(votes.labelers, size) for k in range(size)]
    counted = np.stack(rows, axis=1)
    pooled = _normalised(counted.sum(axis=0) + assumed.error + assumed.right * np.eye(size))
    return share / share.sum(), pooled, _normalised(counted + assumed.labeler * pooled)


def _normalised(table: Array) -> Array:
    """Rows that sum to 1; an empty row knows nothing."""
    total = table.sum(axis=-1, keepdims=True)
    return np.where(total > 0, table / np.where(total > 0, total, 1), 1 / table.shape[-1])


def _logs(votes: Votes, share: Array, confusion: Array) -> Array:
    """``[items, labels]``: log-probability of each truth together with all votes on the item."""
    said = np.log(np.maximum(confusion, 1e-300))[votes.labeler, :, votes.label]  # [votes, truths]
    logs = np.stack([np.bincount(votes.item, said[:, k], votes.items) for k in range(votes.labels)], axis=1)
    return np.asarray(logs + np.log(np.maximum(share, 1e-300)))


def next_vote(votes: Votes, found: Truth) -> tuple[Array, float]:
    """What one more labeler would say of each item, ``[items, labels]``, and how many votes the model's word is worth.

    The true label does not explain everything: some items divide people more than others. So the
    model's prediction ``truth @ pooled`` is worth ``c`` votes beside the item's own. ``c`` makes each
    vote most probable given the others of its item, that is, it is fitted on held-out labelers.
    """
    counts = votes.counts()
    model, own = _without(votes, found), counts[votes.item]
    before = own[np.arange(len(own)), votes.label] - 1
    others = own.sum(axis=1) - 1
    said = model[np.arange(len(own)), votes.label]

    def loss(log_worth: float) -> float:
        worth = np.exp(log_worth)
        return -float(np.log((before + worth * said) / (others + worth)).sum())

    worth = float(np.exp(minimize_scalar(loss, bounds=(-2, 10), method="bounded", options={"xatol": 1e-6}).x))
    return (counts + worth * (found.truth @ found.pooled)) / (counts.sum(axis=1, keepdims=True) + worth), worth


def _without(votes: Votes, found: Truth) -> Array:
    """``[votes, labels]``: what an average labeler would say of the item of each vote, that vote taken out."""
    said = found.confusion[votes.labeler, :, votes.label]
    truth = found.truth[votes.item] / np.maximum(said, 1e-300)
    return np.asarray(truth / truth.sum(axis=1, keepdims=True) @ found.pooled)
