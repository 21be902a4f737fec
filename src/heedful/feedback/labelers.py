"""How well each labeler agrees with the others, and whose work a person should look at.

How it is found, without knowing the truth:

1. Each labeler's votes are compared with what the **others** say of the same pairs, weighted by
   how reliable they are (``heedful.maths.panel``, leave one labeler out). Ties and Fs are left
   out, as an F is a judgement of another kind, which somebody who reads the scale upside down gives
   correctly.
2. From how probable those votes are if the labeler is careful, guesses or reads the scale upside
   down, follow the odds. Few tasks shared with others may raise an alert; about twenty are needed to act.
3. Judgements of one prompt repeat each other: the interval of the agreement is widened by the
   design effect, and each prompt gives one sign (more agreement than disagreement, or less) for
   an exact sign test against guessing.
4. Instructions change. Each version is looked at alone, too: who misreads the new one shows there.
5. Time, position, ties, Fs, gold and repeated prompts (``heedful.feedback.behaviour``).
6. Who disagrees with the panel but agrees with their own stratum is shown as a population, not as
   an error (``heedful.feedback.population``).

Nobody is dropped here. A report ends in a recommendation with its evidence; to
quarantine somebody's work is a person's decision, and can be taken back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from heedful.feedback.agreed import LEAST_LABELERS
from heedful.feedback.agreement import meetings
from heedful.feedback.behaviour import CARELESS, Habits, Known, habits
from heedful.feedback.criteria import Criterion
from heedful.feedback.panel import Fit, FittedPanel, fit_panel
from heedful.feedback.population import Difference, differences
from heedful.feedback.table import table
from heedful.feedback.votes import latest
from heedful.records import Labeler, Ranking, Record

if TYPE_CHECKING:
    from heedful.maths.statistics import Interval

LabelerVerdict = Literal["fine", "unsure", "random", "upside_down", "careless", "minority"]
Array = NDArray[np.float64]

BAD: tuple[LabelerVerdict, ...] = ("random", "upside_down")
FLAGGED: tuple[LabelerVerdict, ...] = (*BAD, "careless")
"""At whose work a person should look."""
EARLY_TASKS, EARLY_UPSIDE_DOWN, EARLY_CAREFUL = 2, 3.0, 0.05
"""From so many shared tasks there is an alert if the votes are 20 times (``exp(3)``) as probable from an upside-down reader as
from a careful one, or the labeler is careful with at most this probability;"""
TASKS, UPSIDE_DOWN, CAREFUL = 10, 0.7, 0.2
"""from so many, if they are twice as probable (``exp(0.7)``), or with this one. Chosen for at most 1 % false alarms per good labeler
at any number of tasks, see docs/algorithms/consensus.md."""
RANDOM_CLEARLY = 2.0
"""By how much (nats) guessing must explain the votes better than reading upside down for the second not to be named."""
SOME_TASKS, EXPECTED_AGREEMENT = 4, 0.65
"""From so many, who is rather not careful and surely agrees less than this is an alert, too: published labelers agree on 65 to 77 %."""
CLEARED = 0.99
"""Somebody as probably careful as this or more is fine."""
SIGNIFICANCE = 0.001
"""Chance of the sign test from which an upside-down reader's work should be quarantined rather than only talked about."""
ACT_TASKS = 20
"""Shared tasks from which anybody's work may be quarantined."""


@dataclass(frozen=True, slots=True)
class LabelerReport(Record):
    """One labeler against what the others say.

    ``agreement`` with its 95 % interval ``low`` to ``high`` is over ``pairs`` that both decided, in ``shared_tasks``
    prompts; ``prompts_for`` and ``prompts_against`` count prompts with more agreement or more
    disagreement; ``p_guessing`` is how often guessing is as far from even. ``odds``: the probabilities of
    ``careful``, ``random`` and ``upside_down``. ``reliability``: 1 always right, 0 guesses, below 0 upside
    down; with 95 % probability it lies between ``reliability_low`` and ``reliability_high``. ``earlier_share``: how
    often what was shown earlier is preferred. ``consistency``: how often a prompt shown again is decided as the
    first time; ``gold``: how often pairs with a known answer are decided rightly; ``None`` where there are no such
    prompts. ``by_version``: agreement under each version of the instructions. ``signs``: habits worth a look, each a
    sentence.
    """

    labeler: str
    verdict: LabelerVerdict
    evidence: str
    recommendation: str
    tasks: int
    shared_tasks: int
    pairs: int
    agreement: float
    low: float
    high: float
    prompts_for: int
    prompts_against: int
    p_guessing: float
    odds: dict[str, float]
    reliability: float
    tie_share: float
    f_share: float
    earlier_share: float
    reliability_low: float | None = None
    reliability_high: float | None = None
    consistency: float | None = None
    gold: float | None = None
    by_version: dict[str, dict[str, Any]] = field(default_factory=dict)
    signs: dict[str, str] = field(default_factory=dict)

    @property
    def flagged(self) -> bool:
        """Whether a person should look at this labeler's work before it is used."""
        return self.verdict in FLAGGED


def labeler_reports(
    rankings: Iterable[Ranking],
    criterion: Criterion,
    labelers: Iterable[Labeler] = (),
    words: Mapping[str, int] | None = None,
    gold: Iterable[Ranking] = (),
    fit: Fit = fit_panel,
) -> list[LabelerReport]:
    """A report for every labeler who ranked by this criterion, in order of name.

    Args:
        rankings: of all labelers; those with purpose ``repeat`` say how consistent somebody is.
        labelers: whose strata are known.
        words: how many each completion has, by id, for judging whether somebody read them.
        gold: rankings whose answers are known to be right.
        fit: a :class:`heedful.feedback.panel.FitOnce` shares the model's fit with whatever else reads these rankings.

    Raises DataProblem where there are no rankings by this criterion.
    """
    everything = list(rankings)
    rows = latest(everything, criterion)
    judged = table(rows, criterion)
    compared = _Compared.of(fit(judged))
    tasks, repeats = _by_labeler(rows), _by_labeler(r for r in everything if _is_repeat(r, criterion))
    known = Known(words or {}, {r.prompt_id: r for r in gold if r.criterion == criterion.name}, repeats)
    seen = habits(tasks, criterion, known)
    people = differences(judged.labelers, meetings(judged), labelers)
    reliability = compared.fitted.reliability_intervals()
    return [
        _report(name, compared, number, len(tasks[name]), reliability[name], seen[name], people.get(name))
        for number, name in enumerate(judged.labelers)
    ]


def flagged(reports: Iterable[LabelerReport]) -> list[str]:
    """The labelers whom a person should look at, who could be excluded from the consensus."""
    return [report.labeler for report in reports if report.flagged]


@dataclass(frozen=True)
class _Compared:
    """Each ranking against the others': its reader, decisions that agree (``hits``) of those that both made (``sizes``), ``[rankings]``."""

    fitted: FittedPanel
    reader: NDArray[np.int64]
    hits: Array
    sizes: Array

    @classmethod
    def of(cls, fitted: FittedPanel) -> _Compared:
        """Of a decision the others made when they prefer one with a probability of at least 0.55."""
        hits, sizes = [], []
        for block, (mean, variance) in zip(fitted.table.blocks, fitted.panel.others, strict=True):
            others = np.where(np.abs(mean) >= 0.126 * np.sqrt(variance), np.sign(mean), 0)
            agree = np.where(block.weight > 0, block.outcome * others, 0)
            hits.append((agree > 0).sum(axis=1).astype(float))
            sizes.append((agree != 0).sum(axis=1).astype(float))
        reader = np.concatenate([block.labeler for block in fitted.table.blocks])
        return cls(fitted, reader, np.concatenate(hits), np.concatenate(sizes))

    def readings(self, labeler: int) -> list[_Reading]:
        """All of a labeler's work, then each version of the instructions alone where there are several."""
        own: list[int] = np.flatnonzero(self.fitted.table.labeler_of == labeler).tolist()
        versions = [(self.fitted.table.readers[reader][1], [reader]) for reader in own] if len(own) > 1 else []
        return [self._reading(version, readers) for version, readers in [("", own), *versions]]

    def _reading(self, version: str, readers: Sequence[int]) -> _Reading:
        rows = np.isin(self.reader, readers) & (self.sizes > 0)
        return _Reading(version, self.hits[rows], self.sizes[rows], self.fitted.panel.evidence[:, readers].sum(axis=1))


@dataclass(frozen=True)
class _Reading:
    """A labeler's shared tasks under one version of the instructions, or under all (``""``): agreement and evidence."""

    version: str
    hits: Array
    sizes: Array
    evidence: Array

    @property
    def tasks(self) -> int:
        return len(self.sizes)

    @property
    def ahead(self) -> int:
        return int((2 * self.hits > self.sizes).sum())

    @property
    def behind(self) -> int:
        return int((2 * self.hits < self.sizes).sum())

    @property
    def share(self) -> Interval:
        from heedful.maths.agreement import clustered_share

        return clustered_share(self.hits, self.sizes)

    @property
    def p_guessing(self) -> float:
        """Two-sided exact p-value that ahead and behind are equally likely; source: Conover (1999), 3.4."""
        from scipy.special import bdtr

        ahead, behind = self.ahead, self.behind
        return min(1.0, 2 * float(bdtr(min(ahead, behind), ahead + behind, 0.5))) if ahead + behind else 1.0

    @property
    def odds(self) -> Array:
        """The probabilities of careful, random and upside down."""
        from scipy.special import softmax

        from heedful.maths.panel import PanelPrior

        return np.asarray(softmax(self.evidence + np.log(PanelPrior().hypotheses)))

    def verdict(self) -> LabelerVerdict:
        """What agreement alone says."""
        if self.tasks < EARLY_TASKS:
            return "unsure"
        careful, random, upside_down = self.evidence
        least_upside_down, most_careful = (UPSIDE_DOWN, CAREFUL) if self.tasks >= TASKS else (EARLY_UPSIDE_DOWN, EARLY_CAREFUL)
        if upside_down - careful >= least_upside_down and random - upside_down < RANDOM_CLEARLY:
            return "upside_down"
        p_careful = self.odds[0]
        if p_careful <= most_careful or (p_careful < 0.5 and self.tasks >= SOME_TASKS and self.share.high < EXPECTED_AGREEMENT):
            return "random"
        return "fine" if p_careful >= CLEARED and self.tasks >= TASKS else "unsure"


def _by_labeler(rows: Iterable[Ranking]) -> dict[str, list[Ranking]]:
    found: dict[str, list[Ranking]] = defaultdict(list)
    for row in rows:
        found[row.labeler].append(row)
    return found


def _is_repeat(row: Ranking, criterion: Criterion) -> bool:
    return row.purpose == "repeat" and row.criterion == criterion.name


def _report(
    name: str, compared: _Compared, number: int, tasks: int, reliability: Interval, seen: Habits, people: Difference | None
) -> LabelerReport:
    panel = len(compared.fitted.table.labelers)
    whole, *versions = readings = compared.readings(number)
    worst = _worst(readings) if panel >= LEAST_LABELERS else whole
    verdict = _verdict(worst, panel, seen, people)
    odds = dict(zip(("careful", "random", "upside_down"), whole.odds.round(6).tolist(), strict=True))
    return LabelerReport(
        labeler=name,
        verdict=verdict,
        evidence=_evidence(verdict, worst, panel, seen, people),
        recommendation=_recommendation(verdict, worst, seen.signs),
        tasks=tasks,
        shared_tasks=whole.tasks,
        pairs=int(whole.sizes.sum()),
        agreement=whole.share.estimate,
        low=whole.share.low,
        high=whole.share.high,
        prompts_for=whole.ahead,
        prompts_against=whole.behind,
        p_guessing=whole.p_guessing,
        odds=odds,
        reliability=reliability.estimate,
        reliability_low=reliability.low,
        reliability_high=reliability.high,
        tie_share=seen.ties,
        f_share=seen.flags,
        earlier_share=seen.earlier,
        consistency=None if seen.consistency is None else seen.consistency.estimate,
        gold=None if seen.gold is None else seen.gold.estimate,
        by_version={r.version: {"tasks": r.tasks, "verdict": r.verdict(), **r.share.to_dict()} for r in versions},
        signs=seen.signs,
    )


def _worst(readings: Sequence[_Reading]) -> _Reading:
    """All of a labeler's work, or one version of the instructions where only that one is read badly."""
    whole, *versions = readings
    bad = [reading for reading in versions if reading.verdict() in BAD]
    if bad and (whole.verdict() not in BAD or any(reading.verdict() == "fine" for reading in versions)):
        return max(bad, key=lambda reading: reading.tasks)
    return whole


def _verdict(worst: _Reading, panel: int, seen: Habits, people: Difference | None) -> LabelerVerdict:
    agreement: LabelerVerdict = worst.verdict() if panel >= LEAST_LABELERS else "unsure"
    if agreement in BAD:
        return "minority" if people and not worst.version else agreement
    if any(sign in seen.signs for sign in CARELESS) or (agreement == "unsure" and "fast" in seen.signs):
        return "careless"  # faster than one can read, and nothing to show that they read all the same
    return agreement


def _evidence(verdict: LabelerVerdict, worst: _Reading, panel: int, seen: Habits, people: Difference | None) -> str:
    said = [_agreement(verdict, worst, panel)]
    if verdict == "minority" and people:
        said.append(people.sentence)
    if verdict == "random" and seen.earlier > 0.75:
        said.append(f"Prefers what is shown earlier in {seen.earlier:.0%} of pairs.")
    return " ".join([*said, *seen.signs.values()])


def _agreement(verdict: LabelerVerdict, reading: _Reading, panel: int) -> str:
    if panel < LEAST_LABELERS:
        return "With fewer than three labelers nobody can be told right from wrong."
    if not reading.tasks:
        return "Shares no decided pair with the others yet."
    meaning = {
        "fine": "as a careful labeler would",
        "random": "which can hardly be told from guessing",
        "upside_down": "which is less than guessing would reach: the scale seems to be read upside down",
        "unsure": "which is too little to tell",
        "careless": "which does not tell",
        "minority": "which is little",
    }[verdict]
    share, when = reading.share, f"Under version {reading.version} of the instructions, agrees" if reading.version else "Agrees"
    return (
        f"{when} with the others on {share.estimate:.0%} of {int(reading.sizes.sum())} pairs "
        f"(95% interval {share.low:.0%} to {share.high:.0%}), with more agreement than disagreement on {reading.ahead} of "
        f"{reading.ahead + reading.behind} prompts (p = {reading.p_guessing:.2g}), {meaning}."
    )


def _recommendation(verdict: LabelerVerdict, worst: _Reading, signs: Mapping[str, str]) -> str:
    """What a person might do. Nothing is done by itself."""
    act = worst.tasks >= ACT_TASKS or (worst.p_guessing < SIGNIFICANCE and worst.behind > worst.ahead)
    if verdict == "upside_down" and act:
        return "Quarantine the work until somebody has talked to them: read the other way round, it is full of information."
    if verdict == "upside_down":
        return "Ask them to read the instructions again, above all which end of the scale is which, and look at their next tasks."
    if verdict == "random":
        return "Talk to them, and quarantine the work meanwhile." if act else "Talk to them, and let them judge some known prompts."
    if verdict == "careless":
        return "Talk to them about how they work, and quarantine the work meanwhile."
    if verdict == "minority":
        return "Keep the work, and look at how the strata differ: a majority would overrule them."
    if signs:
        return "Have a word about how they work."
    return "Nothing to do." if verdict == "fine" else "Wait for more tasks that others judge too."
