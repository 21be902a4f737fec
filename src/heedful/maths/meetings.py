"""Agreement as a sum over meetings, so that it can be resampled by prompt and by labeler at once.

A *meeting* is two labelers on one prompt. Every coefficient here is a function of sums over
meetings: so a resample of prompts and labelers is a weight per meeting, and thousands of them are
a matrix product.

Source of the interval: Owen & Eckles (2012), "Bootstrapping data arrays of arbitrary order": each
prompt and each labeler gets an exponential weight of mean 1, and a meeting the product of its
three. It never leaves a sample empty, as drawing three labelers of three with replacement would.
A labeler may meet themselves, on a prompt that they judged twice: then there are two weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.maths.agreement import alpha_of
from heedful.maths.statistics import Interval

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

NAMES = ("agreement", "alpha", "tau_b", "w")
SAME, DECIDED, TAU, TAUS, CROSS, OWN = range(6)
"""Columns of the sums: equal decisions, shared decisions, tau-b, meetings that have one, co-variation and own variation of ranks."""


@dataclass(frozen=True)
class Meetings:
    """Of each meeting: its prompt, its two labelers ``[meetings]``, its sums ``[meetings, 6]`` and coincidences of ranks.

    ``coincidences [meetings, values * values]`` (sparse) counts twice each completion's two ranks, divided by
    the number of others who ranked it; ``values`` are the ranks. ``labelers_per_prompt`` is a mean.
    """

    prompt: Numbers
    first: Numbers
    second: Numbers
    sums: Array
    coincidences: Any
    values: Array
    labelers_per_prompt: float


def centred(ranks: Array) -> tuple[Array, Array]:
    """Signs of all differences ``[rows, size, size]`` and midranks less their mean ``[rows, size]``; NaN ranks take no part."""
    with np.errstate(invalid="ignore"):
        signs = np.nan_to_num(np.sign(ranks[:, :, None] - ranks[:, None, :]))
    return signs, signs.sum(axis=2) / 2


def compare(ranks: Array, others: Array) -> Array:
    """The six sums ``[meetings, 6]`` of two labelers' ranks ``[meetings, size]``; NaN where one has none."""
    both = np.isfinite(ranks) & np.isfinite(others)
    left, left_middle = centred(np.where(both, ranks, np.nan))
    right, right_middle = centred(np.where(both, others, np.nan))
    product, squares = (left * right).sum(axis=(1, 2)), (left**2).sum(axis=(1, 2)) * (right**2).sum(axis=(1, 2))
    decided = np.abs(left * right).sum(axis=(1, 2)) / 2
    tau = np.where(squares > 0, product / np.sqrt(np.where(squares > 0, squares, 1)), 0.0)
    cross = (left_middle * right_middle).sum(axis=1)
    own = ((left_middle**2).sum(axis=1) + (right_middle**2).sum(axis=1)) / 2
    return np.stack([(decided + product / 2) / 2, decided, tau, (squares > 0).astype(float), cross, own], axis=1)


def coefficients(sums: Array, coincidences: Array, values: Array, labelers: float) -> dict[str, float]:
    """The four coefficients of ``sums [6]`` and ``coincidences [values, values]``; NaN where one is undefined.

    ``agreement``: share of shared decisions that are equal. ``alpha``: Krippendorff's, ordinal. ``tau_b``:
    mean over meetings. ``w``: Kendall's W for ``labelers`` labelers, ``(1 + (labelers - 1) r) / labelers`` with
    ``r`` the co-variation of two labelers' midranks over their own variation; of one prompt that all ranked it is
    W exactly, with its correction for ties.
    """
    r = _ratio(sums[CROSS], sums[OWN])
    return {
        "agreement": _ratio(sums[SAME], sums[DECIDED]),
        "alpha": alpha_of(coincidences, values, "ordinal"),
        "tau_b": _ratio(sums[TAU], sums[TAUS]),
        "w": (1 + (labelers - 1) * r) / labelers if labelers >= 2 else float("nan"),
    }


def intervals(meetings: Meetings, confidence: float = 0.95, resamples: int = 400, seed: int = 0) -> dict[str, Interval | None]:
    """Each coefficient and its two-way bootstrap interval; ``None`` where it is undefined.

    One meeting, one prompt or two labelers say nothing about spread in that direction; the interval is then too short.
    """
    values = len(meetings.values)
    total = float(meetings.coincidences.sum())  # alpha corrects for the number of ratings, which a resample leaves as it is
    random = np.random.default_rng(seed)
    prompts, labelers = _numbered(meetings)
    alone = meetings.first == meetings.second  # who meets themselves has one weight, not two
    drawn: list[dict[str, float]] = []
    for start in range(0, resamples + 1, 16):
        rows = min(16, resamples + 1 - start)
        by_prompt, by_labeler = random.exponential(size=(rows, prompts)), random.exponential(size=(rows, labelers))
        if start == 0:
            by_prompt[0], by_labeler[0] = 1, 1  # the sample itself
        weight = by_prompt[:, meetings.prompt] * by_labeler[:, meetings.first] * np.where(alone, 1, by_labeler[:, meetings.second])
        sums, coincidences = weight @ meetings.sums, weight @ meetings.coincidences
        coincidences *= total / np.maximum(coincidences.sum(axis=1, keepdims=True), 1e-300)
        drawn += [
            coefficients(s, c.reshape(values, values), meetings.values, meetings.labelers_per_prompt)
            for s, c in zip(sums, coincidences, strict=True)
        ]
    return {name: _interval([found[name] for found in drawn], confidence) for name in NAMES}


def _numbered(meetings: Meetings) -> tuple[int, int]:
    labelers = max(meetings.first.max(initial=-1), meetings.second.max(initial=-1)) + 1
    return int(meetings.prompt.max(initial=-1)) + 1, int(labelers)


def _interval(drawn: list[float], confidence: float) -> Interval | None:
    estimate, spread = drawn[0], np.array(drawn[1:])
    if np.isnan(estimate):
        return None
    low, high = np.nanquantile(spread, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(estimate, min(float(low), estimate), max(float(high), estimate))


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole > 0 else float("nan")
