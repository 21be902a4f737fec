"""What labelers say together: a probability for every two completions of a prompt.

Two methods, and the result says which was used and why. The **model** weighs every labeler by how
well they predict the others (``heedful.maths.panel``), knows that three agreeing guessers prove
little, and turns round whoever reads the scale upside down. It needs enough judgements to see
that; until then the **majority** decides. Persons, AI judges and simulated labelers are all the same
to it: reliability is found, never assumed.

An F is a judgement of its own kind and has a binary consensus of its own, as some labelers give
it lightly and some hardly ever. With the probabilities ``f`` of deserving one and ``q`` that the
first is better if neither does::

    p = (1 - f1) f2 + (1 - f1) (1 - f2) q + f1 f2 / 2

The order of the input does not matter, and nothing is random: the same rankings give the same
consensus, named by their hash.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from heedful.errors import SettingProblem
from heedful.feedback import majority as by_majority
from heedful.feedback.agreed import DECIDED, LEAST_LABELERS, Consensus, ConsensusPair, Method, refuse_bad_exclusion
from heedful.feedback.criteria import Criterion
from heedful.feedback.panel import Fit, FittedPanel, fit_panel
from heedful.feedback.table import Part, Table, table
from heedful.feedback.votes import latest
from heedful.records import Ranking, settled

if TYPE_CHECKING:
    from heedful.maths.panel import PanelPrior

__all__ = ["Consensus", "ConsensusPair", "consensus"]

MODEL = "panel: Davidson pairs tempered by 2/n, labelers by MAP, F by Dawid-Skene, calibrated on held-out labelers"
VERSION = "1"
LEAST_RANKINGS = 20
"""Rankings per labeler, on average, from which the model's estimates of labelers are worth having."""


def consensus(
    rankings: Iterable[Ranking],
    criterion: Criterion,
    exclude: Collection[str] = (),
    method: Method | Literal["auto"] = "auto",
    least_rankings: float = LEAST_RANKINGS,
    assumed: PanelPrior | None = None,
    fit: Fit = fit_panel,
) -> Consensus:
    """How probable it is, of every two completions that somebody ranked together, that one is better than the other.

    Args:
        rankings: any order; of several by one labeler of one prompt the last counts, and a ruling settles its prompt.
        exclude: labelers whose votes do not count here. They are named in the result.
        method: ``auto`` takes the model where there are at least three labelers, ``least_rankings``
            rankings per labeler, and prompts that several labelers judged.
        assumed: what the model believes before anybody has judged.
        fit: a :class:`heedful.feedback.panel.FitOnce` shares the model's fit with whatever else reads these rankings.

    Raises:
        DataProblem: there are no rankings by this criterion.
        SettingProblem: the method is unknown, an excluded labeler has judged nothing, or nobody is left.
    """
    from heedful.maths.panel import PanelPrior

    rows = latest(rankings, criterion)
    if method not in ("auto", "model", "majority"):
        raise SettingProblem(f"the method of consensus is {method!r}", "Choose 'auto', 'model' or 'majority'.")
    refuse_bad_exclusion(exclude, {row.labeler for row in rows})
    rows = settled(row for row in rows if row.labeler not in exclude)
    judged = table(rows, criterion)
    lacking = _lacking(judged, least_rankings)
    chosen: Method = ("majority" if lacking else "model") if method == "auto" else method
    reason = lacking or _enough(judged)
    stamp = {"criterion": criterion.to_dict(), "exclude": sorted(exclude), "decided": DECIDED, "least_rankings": least_rankings}
    if chosen == "majority":
        pairs, completions_f = by_majority.majority(rows, criterion)
        parameters = {**stamp, "smoothing": by_majority.SMOOTHING}
        return Consensus(
            pairs,
            completions_f,
            judged.labelers,
            sorted(exclude),
            "majority",
            reason if method == "auto" else "The majority was asked for.",
            algorithm="majority",
            version=by_majority.VERSION,
            parameters=parameters,
            input_sha256=judged.sha256,
        )
    told = reason if method == "auto" else "The model was asked for."
    fitted = fit(judged) if assumed is None else fit_panel(judged, assumed)
    return _modelled(fitted, sorted(exclude), told, stamp, assumed or PanelPrior())


def _lacking(judged: Table, least_rankings: float) -> str:
    """Why the model cannot be used; empty where it can."""
    labelers, each = len(judged.labelers), judged.rankings / max(1, len(judged.labelers))
    if labelers < LEAST_LABELERS:
        return f"Majority: of {labelers} labeler(s) nobody can say who is to be believed; the model needs {LEAST_LABELERS}."
    if each < least_rankings:
        return f"Majority: {each:.3g} rankings per labeler are too few to say who is to be believed; the model needs {least_rankings:g}."
    if all(len(part.prompt) == len(part.prompt_ids) for part in judged.parts):
        return "Majority: no prompt was judged by two labelers, so nobody's judgement can be compared."
    return ""


def _enough(judged: Table) -> str:
    labelers = len(judged.labelers)
    return f"Model: {labelers} labelers with {judged.rankings / labelers:.3g} rankings each show whom to believe."


def _modelled(fitted: FittedPanel, excluded: list[str], reason: str, stamp: dict[str, Any], assumed: PanelPrior) -> Consensus:
    judged = fitted.table
    temperature, flags = fitted.temperature(), fitted.flag_probabilities()
    found = [_pairs(fitted, number, flags[number], temperature) for number in range(len(judged.parts))]
    parameters = {
        **stamp,
        "prior": {**dataclasses.asdict(assumed), "hypotheses": list(assumed.hypotheses)},
        "temperature": round(temperature, 6),
        "typical_log_reliability": round(float(fitted.panel.typical[0]), 6),
        "typical_log_tie": round(float(fitted.panel.typical[2]), 6),
        "rounds": fitted.panel.rounds,
        "converged": fitted.panel.converged,
    }
    return Consensus(
        sorted((pair for pairs in found for pair in pairs), key=lambda pair: pair.prompt_id),
        dict(sorted(found_f for part, f in zip(judged.parts, flags, strict=True) for found_f in _completions_f(part, f))),
        judged.labelers,
        excluded,
        "model",
        reason,
        {name: round(value, 6) for name, value in fitted.reliability().items()},
        MODEL,
        VERSION,
        parameters,
        judged.sha256,
    )


def _completions_f(part: Part, flags: Any) -> Iterator[tuple[str, list[str]]]:
    """Prompts with completions that probably deserve their F."""
    for prompt_id, ids, row in zip(part.prompt_ids, part.completion_ids, flags >= 0.5, strict=True):
        if row.any():
            yield prompt_id, [i for i, f in zip(ids, row, strict=True) if f]


def _pairs(fitted: FittedPanel, number: int, flags: Any, temperature: float) -> list[ConsensusPair]:
    """The pairs of one part's prompts, the one that is probably better first."""
    part = fitted.table.parts[number]
    margin, variance = fitted.panel.utilities[number].differences()
    first, second = np.triu_indices(part.size, 1)
    p = _with_flags(_calibrated(margin / np.sqrt(variance), temperature), flags[:, first], flags[:, second])
    p = np.round(p, 6)
    votes = part.votes(with_flags=True)
    counts = {side: np.add.reduceat((votes == side).astype(int), _starts(part)) for side in (1, -1, 0)}
    sure = (flags >= 0.5)[:, first].astype(int) + (flags >= 0.5)[:, second]
    turned = p < 0.5
    said = (counts[1] + counts[-1] + counts[0] > 0) & (sure < 2)
    prompts = np.nonzero(said)[0]
    cells = [
        array[said].tolist()
        for array in (
            np.where(turned, 1 - p, p),
            np.where(turned, counts[-1], counts[1]),
            np.where(turned, counts[1], counts[-1]),
            counts[0],
            sure == 1,
            np.where(turned, -margin, margin).round(6),
            np.sqrt(variance).round(6),
            np.where(turned, second, first),
            np.where(turned, first, second),
        )
    ]
    return [
        ConsensusPair(part.prompt_ids[at], part.completion_ids[at][better], part.completion_ids[at][worse], *row)
        for at, (*row, better, worse) in zip(prompts.tolist(), zip(*cells, strict=True), strict=True)
    ]


def _starts(part: Part) -> Any:
    return np.flatnonzero(np.r_[True, np.diff(part.prompt) > 0])


def _calibrated(z: Any, temperature: float) -> Any:
    """The posterior probability of being better, its logit divided by the temperature found on held-out labelers."""
    from scipy.special import expit, log_ndtr

    return expit((log_ndtr(z) - log_ndtr(-z)) / temperature)


def _with_flags(p: Any, first: Any, second: Any) -> Any:
    """The probability that the first is better, where each may deserve an F, which is below everything."""
    return (1 - first) * second + (1 - first) * (1 - second) * p + first * second / 2
