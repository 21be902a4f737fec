"""Does the consensus's confidence come true? Measured on votes that it has not seen: each labeler's, predicted from the others'."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from heedful.feedback.criteria import Criterion
from heedful.feedback.panel import Fit, HeldOutVotes, fit_panel
from heedful.feedback.table import table
from heedful.feedback.votes import latest
from heedful.records import Ranking

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 8
LEAST_VOTES = 20
"""Votes per bin below which there are fewer bins."""


def calibration(rankings: Iterable[Ranking], criterion: Criterion, fit: Fit = fit_panel) -> list[dict[str, float]]:
    """Bins of held-out votes by how probable the model thought them, lowest first: ``predicted``, ``observed``, ``low``, ``high``, ``n``.

    ``predicted`` is the mean probability, at least 0.5, of the completion that was expected to win;
    ``observed`` the share of votes for it, with a 95 % interval that counts votes on one prompt as
    the repetitions that they are. Nothing where no two labelers judged the same prompt. ``fit`` as of the consensus.

    Raises DataProblem where there are no rankings by this criterion.
    """
    fitted = fit(table(latest(rankings, criterion), criterion))
    votes = fitted.held_out_votes()
    if not len(votes.logits):
        return []
    return _binned(votes, fitted.temperature())


def _binned(votes: HeldOutVotes, temperature: float) -> list[dict[str, float]]:
    from scipy.special import expit

    predicted = expit(np.abs(votes.logits) / temperature)
    came_true = np.where(votes.logits >= 0, votes.outcomes, 1 - votes.outcomes)
    bins = max(1, min(BINS, len(predicted) // LEAST_VOTES))
    return [_bin(part, predicted, came_true, votes.prompts) for part in np.array_split(np.argsort(predicted, kind="stable"), bins)]


def _bin(
    part: NDArray[np.int64], predicted: NDArray[np.float64], came_true: NDArray[np.float64], prompts: NDArray[np.float64]
) -> dict[str, float]:
    from heedful.maths.agreement import clustered_share

    _, cluster = np.unique(prompts[part], return_inverse=True)
    share = clustered_share(np.bincount(cluster, came_true[part]), np.bincount(cluster))
    return {"predicted": float(predicted[part].mean()), "observed": share.estimate, "low": share.low, "high": share.high, "n": len(part)}
