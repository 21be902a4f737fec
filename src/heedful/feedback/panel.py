"""The panel's model on rankings: one fit, which consensus and labelers' reports both read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heedful.feedback.table import Part, Table

if TYPE_CHECKING:
    from heedful.maths.panel import Panel, PanelPrior
    from heedful.maths.statistics import Interval

Array = NDArray[np.float64]

TEMPERATURE_SD = 0.2
"""Of the prior on the log of the calibration's temperature: as firm as some 50 votes."""


Fit = Callable[[Table], "FittedPanel"]
"""How the model is fitted to rankings: :func:`fit_panel`, or :class:`FitOnce`."""


@dataclass(frozen=True)
class HeldOutVotes:
    """Votes, ``[votes]`` each: log odds that the first is preferred, whether it was, how many votes each is worth, and its prompt."""

    logits: Array
    outcomes: Array
    weights: Array
    prompts: Array


@dataclass(frozen=True)
class FittedPanel:
    """Rankings as arrays, and what the model found in them. ``panel``'s labelers are the table's readers."""

    table: Table
    panel: Panel

    def reliability(self) -> dict[str, float]:
        """Per labeler: 1 is always right, 0 guesses, below 0 is upside down; a mean over the versions that they read."""
        from heedful.maths.panel import accuracy

        found = self._by_labeler(2 * accuracy(self.panel.worth.reliability) - 1)
        return dict(zip(self.table.labelers, found.tolist(), strict=True))

    def reliability_intervals(self) -> dict[str, Interval]:
        """The same, and between which two numbers it lies with 95 % probability, after what was judged so far."""
        from heedful.maths.panel import DRAWS, accuracy_draws
        from heedful.maths.statistics import Interval

        draws, done = np.empty((DRAWS, len(self.table.labelers))), 0
        for lot in accuracy_draws(self.panel):
            draws[done : done + len(lot)] = self._by_labeler(2 * lot - 1)
            done += len(lot)
        low, high = np.quantile(draws, [0.025, 0.975], axis=0, overwrite_input=True).tolist()
        return {name: Interval(found, *ends) for (name, found), *ends in zip(self.reliability().items(), low, high, strict=True)}

    def _by_labeler(self, values: Array) -> Array:
        """Means over the versions that each labeler read, by how much they judged under each: ``[..., readers]`` to ``[..., labelers]``."""
        from scipy.sparse import csr_array

        judged = np.bincount(np.concatenate([part.reader for part in self.table.parts]), minlength=values.shape[-1])
        share = judged / np.bincount(self.table.labeler_of, judged)[self.table.labeler_of]
        shape = (len(share), len(self.table.labelers))
        return np.asarray(values @ csr_array((share, (np.arange(len(share)), self.table.labeler_of)), shape=shape))

    def temperature(self) -> float:
        """How far held-out votes follow what was predicted of them: above 1 the model was too sure of itself."""
        from heedful.maths.calibration import temperature_scale

        votes = self.held_out_votes()
        if not len(votes.logits):
            return 1.0
        return temperature_scale(votes.logits, votes.outcomes, votes.weights, TEMPERATURE_SD)

    def held_out_votes(self) -> HeldOutVotes:
        """Each labeler's decided votes, predicted from the others' (leave one labeler out)."""
        from heedful.maths.panel import predicted

        columns: list[list[Array]] = [[np.zeros(0)] for _ in range(4)]
        start = 0
        for part, block, others in zip(self.table.parts, self.table.blocks, self.panel.others, strict=True):
            first, second, _ = predicted(self.panel.worth, block, others)
            cast = (block.outcome != 0) & (block.weight > 0)
            prompt = np.broadcast_to(start + block.prompt[:, None], cast.shape)
            found = np.log(first[cast]) - np.log(second[cast]), (block.outcome[cast] > 0).astype(float), block.weight[cast], prompt[cast]
            for column, values in zip(columns, found, strict=True):
                column.append(values)
            start += len(part.prompt_ids)
        return HeldOutVotes(*(np.concatenate(column) for column in columns))

    def flag_probabilities(self) -> list[Array]:
        """Per part ``[prompts, size]``: how probable it is that a completion deserves its F; 0 where nobody gave one.

        The binary consensus of Dawid and Skene: some labelers give an F lightly, some hardly ever.
        """
        from heedful.maths import dawid_skene

        empty = [np.zeros((len(part.prompt_ids), part.size)) for part in self.table.parts]
        given = [_flags(part) for part in self.table.parts]
        if not any(flags.any() for flags in given):
            return empty
        truth = dawid_skene.fit(self._flag_votes()).truth[:, 1]
        cuts = np.cumsum([part.size for part in empty])[:-1]
        found = [part.reshape(shape.shape) for part, shape in zip(np.split(truth, cuts), empty, strict=True)]
        return [np.where(flags > 0, part, 0.0) for part, flags in zip(found, given, strict=True)]

    def _flag_votes(self) -> Any:
        from heedful.maths.dawid_skene import Votes

        items, labelers, labels, start = [], [], [], 0
        for part in self.table.parts:
            row, column = np.nonzero(~np.isnan(part.ranks))
            items.append(start + part.prompt[row] * part.size + column)
            labelers.append(self.table.labeler_of[part.reader[row]])
            labels.append(np.isinf(part.ranks[row, column]).astype(np.int64))
            start += len(part.prompt_ids) * part.size
        return Votes(np.concatenate(items), np.concatenate(labelers), np.concatenate(labels), start, len(self.table.labelers), 2)


def fit_panel(judged: Table, assumed: PanelPrior | None = None) -> FittedPanel:
    """Fit the model to a table of rankings."""
    from heedful.maths import panel

    return FittedPanel(judged, panel.fit(judged.blocks, len(judged.readers), assumed))


class FitOnce:
    """Fits the model as :func:`fit_panel` does, but the same rankings only once: for several calculations on them in a row."""

    def __init__(self) -> None:
        self._last: FittedPanel | None = None

    def __call__(self, judged: Table) -> FittedPanel:
        """The model of these rankings, fitted now or the last time."""
        if self._last is None or not self._last.table.holds_the_same(judged):
            self._last = fit_panel(judged)
        return self._last


def _flags(part: Part) -> Array:
    """``[prompts, size]``: how many labelers gave each completion an F."""
    found = np.zeros((len(part.prompt_ids), part.size))
    np.add.at(found, part.prompt, np.isinf(part.ranks).astype(float))
    return found
