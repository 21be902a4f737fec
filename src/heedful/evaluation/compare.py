"""Before against after on the same held-out prompts, for any number of measures.

    comparison = compare(before, after, {"score": scorer, "rougeL": (rouge_before, rouge_after)})

Samples of a prompt are averaged first; every difference is paired by prompt and has its interval.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from heedful.errors import DataProblem
from heedful.maths.statistics import PairedChange, paired_change
from heedful.records import Completion

HigherIs = Literal["better", "worse", "neither"]
Samples = Sequence[Sequence[Completion]]
"""``samples[prompt][sample]``."""

Values = Sequence[float] | Sequence[Sequence[float]]
"""Per prompt: one value, or one per sample."""

Measure = Callable[[list[Completion]], Sequence[float]] | tuple[Values, Values]
"""A function of completions (all of them at once, one number each), or the values before and after."""


@dataclass(frozen=True, slots=True)
class MeasureChange:
    """One measure before and after; ``higher_is`` says which direction one wants."""

    name: str
    higher_is: HigherIs
    change: PairedChange

    def to_dict(self) -> dict[str, Any]:
        """A row in plain types: name, higher_is, before, after, difference, relative, prompts, detectable."""
        return {"name": self.name, "higher_is": self.higher_is, **self.change.to_dict()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """All measures, in the order in which they were asked for."""

    measures: list[MeasureChange]

    def __getitem__(self, name: str) -> PairedChange:
        return next(m.change for m in self.measures if m.name == name)

    def rows(self) -> list[dict[str, Any]]:
        """One plain row per measure, as the report reads them."""
        return [measure.to_dict() for measure in self.measures]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One prompt with a completion of each model and what the reward model makes of them."""

    prompt: str
    before: str
    after: str
    before_score: float
    after_score: float

    @property
    def gain(self) -> float:
        """The score after minus the score before."""
        return self.after_score - self.before_score


def compare(
    before: Samples,
    after: Samples,
    measures: Mapping[str, Measure],
    higher_is: Mapping[str, HigherIs] | None = None,
    confidence: float = 0.95,
    resamples: int = 9999,
    seed: int = 0,
) -> Comparison:
    """Measure both models; ``higher_is`` (``"better"`` unless said) names measures that one wants to fall.

    Raises :class:`DataProblem` where the prompts differ, a prompt has no sample, or a measure gives
    the wrong number of values or one that is not finite.
    """
    _check_same_prompts(before, after)
    changes = []
    for name, measure in measures.items():
        first, second = _values(name, measure, before, after)
        change = paired_change(first, second, confidence, resamples, seed)
        changes.append(MeasureChange(name, (higher_is or {}).get(name, "better"), change))
    return Comparison(changes)


def prompt_means(name: str, values: Values) -> NDArray[np.float64]:
    """One mean per prompt ``[n]``; raises :class:`DataProblem` on an empty prompt or a value that is not finite."""
    rows = [np.atleast_1d(np.asarray(row, dtype=np.float64)) for row in values]
    for number, row in enumerate(rows):
        if not row.size or not np.isfinite(row).all():
            raise DataProblem(f"measure {name!r} has no finite value for prompt {number}", "Give at least one finite number per prompt.")
    return np.array([row.mean() for row in rows])


def side_by_side(rows: Sequence[SideBySide], n: int = 20) -> list[SideBySide]:
    """The ``n`` rows that say most: half of them the largest gains, half the largest losses, gains first."""
    ordered = sorted(rows, key=lambda row: row.gain, reverse=True)
    if len(ordered) <= n:
        return ordered
    losses = n // 2
    return ordered[: n - losses] + ordered[len(ordered) - losses :]


def _values(name: str, measure: Measure, before: Samples, after: Samples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    first: Values
    second: Values
    if callable(measure):
        first, second = _measured(name, measure, before), _measured(name, measure, after)
    else:
        first, second = measure
    for values, samples in ((first, before), (second, after)):
        if len(values) != len(samples):
            raise DataProblem(
                f"measure {name!r} has {len(values)} rows for {len(samples)} prompts", "Give one row per prompt, in the same order."
            )
    return prompt_means(name, first), prompt_means(name, second)


def _measured(name: str, measure: Callable[[list[Completion]], Sequence[float]], samples: Samples) -> list[list[float]]:
    flat = [completion for row in samples for completion in row]
    numbers = list(measure(flat))
    if len(numbers) != len(flat):
        raise DataProblem(
            f"measure {name!r} gave {len(numbers)} values for {len(flat)} completions", "It must give one number per completion."
        )
    source = iter(numbers)
    return [[float(next(source)) for _ in row] for row in samples]


def _check_same_prompts(before: Samples, after: Samples) -> None:
    if not before:
        raise DataProblem("there is nothing to compare", "Sample completions for at least one prompt from both models.")
    if len(before) != len(after):
        raise DataProblem(f"there are {len(before)} prompts before and {len(after)} after", "Let both models answer the same prompts.")
    for number, (first, second) in enumerate(zip(before, after, strict=True)):
        ids = {completion.prompt_id for completion in (*first, *second)}
        if not first or not second:
            raise DataProblem(f"prompt {number} has no completion {'after' if first else 'before'}", "Sample it with both models.")
        if len(ids) > 1:
            raise DataProblem(f"row {number} mixes the prompts {sorted(ids)}", "Let both models answer the same prompts in the same order.")
