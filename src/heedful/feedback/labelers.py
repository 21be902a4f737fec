"""How well each labeler agrees with the others, and who guesses or reads the scale upside down.

How it is found, without knowing the truth:

1. Each ranking is a vote (+1 or -1) on every two completions; ties and Fs are left out, as an F
   is a judgement of another kind, which somebody who reads the scale upside down gives correctly.
2. How labelers agree two by two is explained by one reliability per labeler
   (:func:`heedful.maths.agreement.reliabilities`). With three labelers on a prompt, one bad
   colleague spoils a plain majority of the other two; this weighs them by all their work.
3. Each labeler is compared with the majority of the *others*, weighted by their log odds of
   being right, with reliabilities fitted without the labeler in question. Who is no better than
   guessing weighs nothing.
4. Judgements of one prompt repeat each other. Each prompt therefore gives one sign (more
   agreement than disagreement, or less) for an exact sign test against guessing, and the
   interval of the agreement is widened by the design effect.

Nobody is dropped here. ``flagged`` names whom a person should look at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from heedful.feedback.criteria import Criterion
from heedful.feedback.votes import latest, votes
from heedful.maths.agreement import design_effect, krippendorff_alpha, reliabilities
from heedful.records import Ranking, Record

Finding = Literal["fine", "random", "upside_down", "unsure"]
Array = NDArray[np.float64]

SIGNIFICANCE = 0.001
"""Chance that somebody who guesses is called fine, or is called upside down. Small, as a project has many labelers."""
EXPECTED_AGREEMENT = 0.65
"""Published labelers agree on 65 to 77 % of pairs. Who may still reach the lower end is not called a guesser."""
LEAST_RELIABILITY = 0.25
"""Right on 62.5 % of pairs. Who is surely better than guessing but below this is of hardly more use."""
SURE = 0.95
"""A labeler counts for no more than one who is right this much more often than wrong."""


@dataclass(frozen=True, slots=True)
class LabelerReport(Record):
    """One labeler against the weighted majority of the others.

    ``agreement`` with its 95 % interval ``low`` to ``high`` is over ``pairs`` that both decided;
    ``prompts_for`` and ``prompts_against`` count prompts with more agreement or more
    disagreement; ``p_guessing`` is how often guessing is as far from even. ``reliability``: 1
    always right, 0 guesses, below 0 upside down. ``earlier_share``: how often what was shown
    earlier is preferred.
    """

    labeler: str
    verdict: Finding
    evidence: str
    tasks: int
    pairs: int
    agreement: float
    low: float
    high: float
    prompts_for: int
    prompts_against: int
    p_guessing: float
    reliability: float
    tie_share: float
    f_share: float
    earlier_share: float

    @property
    def flagged(self) -> bool:
        """Whether a person should look at this labeler's work."""
        return self.verdict in ("random", "upside_down")


@dataclass(frozen=True, slots=True)
class PanelAgreement(Record):
    """How well labelers agree with each other: the ceiling to which a reward model is compared.

    ``agreement`` with its 95 % interval is the share of shared decisions that are the same, over
    ``pairs`` decisions; ``alpha`` is Krippendorff's, ordinal, on the ranks, ``None`` where undefined.
    """

    labelers: int
    pairs: int
    agreement: float
    low: float
    high: float
    alpha: float | None


@dataclass(frozen=True)
class _Votes:
    """Signed votes ``[labelers, pairs]``, 0 where none was cast, and each pair's prompt number ``[pairs]``."""

    labelers: list[str]
    signs: Any  # scipy.sparse.csr_array
    prompts: NDArray[np.int64]


def labeler_reports(rankings: Iterable[Ranking], criterion: Criterion) -> list[LabelerReport]:
    """A report for every labeler who ranked by this criterion, in order of name.

    Raises DataProblem where there are no rankings by this criterion.
    """
    rows = latest(rankings, criterion)
    table = _signed_votes(rows, criterion)
    products, counts = _shared(table.signs)
    everyone = reliabilities(products, counts)
    tasks: dict[str, list[Ranking]] = defaultdict(list)
    for row in rows:
        tasks[row.labeler].append(row)
    reports = []
    for number, name in enumerate(table.labelers):
        hits, sizes = _against_others(table, number, _weights_without(number, products, counts))
        reports.append(_report(name, tasks[name], criterion, hits, sizes, float(everyone[number]), len(table.labelers)))
    return reports


def panel_agreement(rankings: Iterable[Ranking], criterion: Criterion, exclude: Collection[str] = ()) -> PanelAgreement:
    """Agreement of all labelers but the excluded; raises DataProblem where nobody is left."""
    rows = latest((r for r in rankings if r.labeler not in exclude), criterion)
    table = _signed_votes(rows, criterion)
    positive, negative = (table.signs > 0).sum(axis=0), (table.signs < 0).sum(axis=0)
    same = (positive * (positive - 1) + negative * (negative - 1)) / 2
    shared = same + positive * negative
    hits, sizes = _by_prompt(table.prompts, same), _by_prompt(table.prompts, shared)
    share, low, high = _posterior(hits, sizes)
    alpha = _alpha(rows)
    return PanelAgreement(len(table.labelers), int(sizes.sum()), share, low, high, None if np.isnan(alpha) else alpha)


def flagged(reports: Iterable[LabelerReport]) -> list[str]:
    """The labelers whom a person should look at, who could be left out of the consensus."""
    return [report.labeler for report in reports if report.flagged]


def _signed_votes(rows: Sequence[Ranking], criterion: Criterion) -> _Votes:
    from scipy.sparse import csr_array

    names = sorted({row.labeler for row in rows})
    line = {name: number for number, name in enumerate(names)}
    column: dict[tuple[str, str, str], int] = {}
    prompts: dict[str, int] = {}
    entries: list[tuple[int, int, int]] = []
    for row in rows:
        prompts.setdefault(row.prompt_id, len(prompts))
        for two, vote in votes(row, criterion, with_flags=False).items():
            if vote:
                entries.append((vote, line[row.labeler], column.setdefault((row.prompt_id, *two), len(column))))
    data, lines, columns = np.array(entries, dtype=np.int64).reshape(-1, 3).T
    signs = csr_array((data.astype(float), (lines, columns)), shape=(len(names), len(column)))
    return _Votes(names, signs, np.array([prompts[key[0]] for key in column], dtype=np.int64))


def _shared(signs: Any) -> tuple[Array, Array]:
    """``[labelers, labelers]`` each: summed products of votes on shared pairs, and their number."""
    return (signs @ signs.T).toarray(), (abs(signs) @ abs(signs).T).toarray()


def _weights_without(number: int, products: Array, counts: Array) -> Array:
    """Log odds ``[labelers]`` of being right, fitted without one labeler, who gets 0.

    Source of the weights: Nitzan & Paroush (1982), "Optimal decision rules in uncertain
    dichotomous choice situations". Negative ones are cut off: nobody's vote is turned round.
    """
    others = np.arange(len(counts)) != number
    weights = np.zeros(len(counts))
    fitted = np.clip(reliabilities(products[np.ix_(others, others)], counts[np.ix_(others, others)]), 0, SURE)
    weights[others] = np.log((1 + fitted) / (1 - fitted))
    return weights


def _against_others(table: _Votes, number: int, weights: Array) -> tuple[Array, Array]:
    """Agreements with the weighted majority and decided pairs, ``[prompts]`` each, of prompts that have any."""
    own = table.signs[[number]].toarray()[0]
    decided = own * np.sign(np.round(weights @ table.signs, 9))
    hits, sizes = _by_prompt(table.prompts, decided > 0), _by_prompt(table.prompts, decided != 0)
    return hits[sizes > 0], sizes[sizes > 0]


def _by_prompt(prompts: NDArray[np.int64], values: Any) -> Array:
    return np.bincount(prompts, weights=np.asarray(values, dtype=float)).astype(float)


def _posterior(hits: Array, sizes: Array) -> tuple[float, float, float]:
    """Share and 95 % interval of a Beta posterior from a uniform prior, counts divided by the design effect."""
    from scipy.special import betaincinv

    effect = design_effect(hits, sizes)
    a, b = 1 + hits.sum() / effect, 1 + (sizes - hits).sum() / effect
    share = float(hits.sum() / sizes.sum()) if sizes.sum() else 0.5
    return share, float(betaincinv(a, b, 0.025)), float(betaincinv(a, b, 0.975))


def _report(
    name: str, tasks: Sequence[Ranking], criterion: Criterion, hits: Array, sizes: Array, reliability: float, panel: int
) -> LabelerReport:
    share, low, high = _posterior(hits, sizes)
    ahead, behind = int((2 * hits > sizes).sum()), int((2 * hits < sizes).sum())
    chance = _sign_test(ahead, behind)
    earlier, ties = _habits(tasks, criterion)
    ranks = [rank for task in tasks for rank in task.ranks]
    verdict = _verdict(ahead, behind, chance, high, reliability, panel)
    evidence = _evidence(verdict, share, low, high, int(sizes.sum()), ahead, behind, chance, panel, earlier)
    f_share = ranks.count(None) / len(ranks) if ranks else 0.0
    return LabelerReport(
        name, verdict, evidence, len(tasks), int(sizes.sum()), share, low, high, ahead, behind, chance, reliability, ties, f_share, earlier
    )


def _sign_test(ahead: int, behind: int) -> float:
    """Two-sided exact p-value that ahead and behind are equally likely; source: Conover (1999), 3.4."""
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(ahead, behind), ahead + behind, 0.5))) if ahead + behind else 1.0


def _verdict(ahead: int, behind: int, chance: float, high: float, reliability: float, panel: int) -> Finding:
    if panel < 3:
        return "unsure"  # of two who disagree, nobody can say which one is wrong
    if chance < SIGNIFICANCE and behind > ahead:
        return "upside_down"
    if reliability >= LEAST_RELIABILITY:  # weighs all colleagues' work, so it clears where a majority of weak ones cannot
        return "fine" if chance < SIGNIFICANCE else "unsure"
    return "random" if chance < SIGNIFICANCE or high < EXPECTED_AGREEMENT else "unsure"


def _evidence(
    verdict: Finding, share: float, low: float, high: float, pairs: int, ahead: int, behind: int, chance: float, panel: int, earlier: float
) -> str:
    if panel < 3:
        return "With fewer than three labelers nobody can be told right from wrong."
    if not pairs:
        return "Shares no decided pair with the others yet."
    meaning = {
        "fine": "which guessing would almost never reach",
        "random": "which can hardly be told from guessing",
        "upside_down": "which is less than guessing would reach: the scale seems to be read upside down",
        "unsure": "which is too little to tell",
    }[verdict]
    habit = f" Prefers what is shown earlier in {earlier:.0%} of pairs." if earlier > 0.75 else ""
    return (
        f"Agrees with the others' weighted majority on {share:.0%} of {pairs} pairs (95% interval {low:.0%} to {high:.0%}), "
        f"with more agreement than disagreement on {ahead} of {ahead + behind} prompts (p = {chance:.2g}), {meaning}.{habit}"
    )


def _habits(tasks: Sequence[Ranking], criterion: Criterion) -> tuple[float, float]:
    """Share of decided pairs in which the one shown earlier is preferred, and share of pairs tied."""
    earlier: list[bool] = []
    pairs = 0
    for task in tasks:
        place = {completion_id: number for number, completion_id in enumerate(task.completion_ids)}
        cast = votes(task, criterion, with_flags=False)
        pairs += len(cast)
        earlier += [(vote > 0) == (place[a] < place[b]) for (a, b), vote in cast.items() if vote]
    return (sum(earlier) / len(earlier) if earlier else 0.5), (1 - len(earlier) / pairs if pairs else 0.0)


def _alpha(rows: Sequence[Ranking]) -> float:
    """Krippendorff's ordinal alpha; a unit is one completion of one prompt, an F no rating."""
    labelers = {name: number for number, name in enumerate(sorted({row.labeler for row in rows}))}
    units: dict[tuple[str, str], int] = {}
    for row in rows:
        for completion_id in row.completion_ids:
            units.setdefault((row.prompt_id, completion_id), len(units))
    table = np.full((len(labelers), len(units)), np.nan)
    for row in rows:
        for completion_id, rank in zip(row.completion_ids, row.ranks, strict=True):
            if rank is not None:
                table[labelers[row.labeler], units[row.prompt_id, completion_id]] = rank
    return krippendorff_alpha(table, "ordinal")
