"""How good is a reward model? Accuracy beside "the longer one wins", by margin, and calibration.

A reward model that does not beat "the longer one wins" has learnt length, and RL will lengthen.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from heedful.maths.calibration import brier, ece, nll, reliability_curve, temperature_scale
from heedful.maths.statistics import Interval, paired_bootstrap, wilson
from heedful.records import Pair, plain_text


def reward_quality(pairs: Sequence[Pair], chosen: np.ndarray, rejected: np.ndarray, *, margin_bins: int = 4) -> dict[str, Any]:
    """Held-out figures of a reward model; every share carries a 95 % Wilson interval.

    ``chosen`` and ``rejected`` are scores ``[n]``; calibrated figures are cross-fitted over prompts. A rule
    of length is beaten where the paired interval of the difference, on the same pairs, lies above 0.
    """
    gap = chosen - rejected
    scaled = cross_fitted(pairs, gap)
    right = won(gap)
    length = np.array([np.sign(len(p.chosen.split()) - len(p.rejected.split())) for p in pairs], dtype=float)
    longer = (length + 1) / 2
    accuracy, longer_wins, shorter_wins = share(right), share(longer), share(1 - longer)
    above_longer, above_shorter = paired_bootstrap(right - longer), paired_bootstrap(right - (1 - longer))
    return {
        "pairs": len(pairs),
        "accuracy": _row(accuracy),
        "longer_wins": _row(longer_wins),
        "shorter_wins": _row(shorter_wins),
        "above_longer_wins": _row(above_longer),
        "above_shorter_wins": _row(above_shorter),
        "beats_longer_wins": above_longer.low > 0,
        "beats_length": min(above_longer.low, above_shorter.low) > 0,
        "by_margin": accuracy_by_margin(gap, right, longer, margin_bins),
        "calibration": calibration_figures(gap, 1.0),
        "calibrated": {"temperature": calibrate(chosen, rejected), **calibration_figures(scaled, 1.0)},
        "reliability": [asdict(part) for part in reliability_curve(*both_sides(scaled))],
    }


def cross_fitted(pairs: Sequence[Pair], gap: np.ndarray) -> np.ndarray:
    """Score differences over a temperature that was fitted on the *other* half of the prompts, so that
    "after temperature scaling" is as unseen as "before"."""
    half = np.array([zlib.crc32((p.prompt_id or plain_text(p.prompt)).encode()) % 2 == 0 for p in pairs])
    if half.all() or not half.any():
        return gap
    scaled = gap.copy()
    for part in (half, ~half):
        scaled[part] /= calibrate(gap[~part], np.zeros((~part).sum()))
    return scaled


def preferred(chosen: np.ndarray, rejected: np.ndarray) -> Interval:
    """The share of pairs whose chosen completion has the higher number; a tie counts half."""
    return share(won(chosen - rejected))


def won(gap: np.ndarray) -> np.ndarray:
    """1, 1/2 or 0 for a gap above, at or below 0."""
    return np.where(gap > 0, 1.0, np.where(gap == 0, 0.5, 0.0))


def share(values: np.ndarray) -> Interval:
    """A mean of 0, 1/2 and 1 with its Wilson interval (a tie counts one half)."""
    return wilson(float(values.sum()), len(values))


def accuracy_by_margin(gap: np.ndarray, right: np.ndarray, longer: np.ndarray, bins: int) -> list[dict[str, Any]]:
    """Accuracy in bins of equal size by |score difference|, the surest last, beside "the longer one wins" on the same pairs."""
    order = np.argsort(np.abs(gap), kind="stable")
    return [
        {
            "margin": [float(np.abs(gap[part]).min()), float(np.abs(gap[part]).max())],
            "pairs": len(part),
            **_row(share(right[part]), "accuracy"),
            "longer_wins": float(longer[part].mean()),
        }
        for part in np.array_split(order, min(bins, len(order)))
        if len(part)
    ]


def calibration_figures(gap: np.ndarray, temperature: float) -> dict[str, float]:
    """Negative log-likelihood, Brier score and calibration error of ``p = sigmoid(gap / temperature)``.

    Each pair is looked at from both sides: "chosen first" alone would make every outcome a 1.
    """
    p, outcome = both_sides(gap / temperature)
    return {
        "nll": nll(p, outcome),
        "brier": brier(p, outcome),
        "ece": ece(p, outcome),
    }


def calibrate(chosen: np.ndarray, rejected: np.ndarray) -> float:
    """The temperature that makes the probabilities of these pairs most likely (Guo et al. 2017)."""
    gap = chosen - rejected
    return float(temperature_scale(np.concatenate([gap, -gap]), np.concatenate([np.ones_like(gap), np.zeros_like(gap)])))


def both_sides(logit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and outcomes of pairs and of the same pairs turned round."""
    p = 1 / (1 + np.exp(-np.clip(logit, -60, 60)))
    return np.concatenate([p, 1 - p]), np.concatenate([np.ones_like(p), np.zeros_like(p)])


def _row(interval: Interval, name: str = "estimate") -> dict[str, float]:
    return {name: interval.estimate, "low": interval.low, "high": interval.high}
