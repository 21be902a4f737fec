"""What there is to say of judgements, worked out in one place: the command line and the app show the same, with the same evidence.

Where reports and consensus are made of the same rankings, a ``FitOnce`` that both are given fits the panel's model once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, Literal

from heedful.errors import DataProblem
from heedful.feedback.agreed import Consensus, Method
from heedful.feedback.agreement import PanelAgreement, agreement_by_stratum, agreement_by_version, panel_agreement, self_agreement
from heedful.feedback.consensus import consensus
from heedful.feedback.coverage import Coverage, coverage
from heedful.feedback.labelers import LabelerReport, labeler_reports
from heedful.feedback.labels import LabelConsensus, thumb_consensus
from heedful.feedback.panel import Fit, fit_panel
from heedful.feedback.said import Said
from heedful.feedback.thumbs import agreement_with_others, thumb_agreement
from heedful.records import Labeler

Row = dict[str, Any]
MOST_DAYS = 3660
"""Days of the figure of judgements over time, the last ones."""
AGAIN = "the same labeler again"


def refuse_without_rankings(said: Said) -> None:
    """Raises DataProblem where nothing was ranked."""
    if not said.rankings:
        kinds = [kind for kind, rows in (("thumbs", said.thumbs), ("corrections", said.corrections)) if rows]
        what = f"{' and '.join(kinds)} only" if kinds else "nothing by this criterion"
        raise DataProblem(f"{said.name} holds {what}, and no rankings by {said.criterion.name!r}", "Collect rankings first.")


def report_all(said: Said, fit: Fit = fit_panel) -> list[LabelerReport]:
    """A report of every labeler, those in quarantine too: strata, reading speed, known answers and repeats are looked at."""
    return labeler_reports(said.rankings, said.criterion, said.labelers, said.words, said.gold, fit)


def agree(said: Said, exclude: Collection[str] = (), method: Method | Literal["auto"] = "auto", fit: Fit = fit_panel) -> Consensus:
    """The consensus of those who count, with what was ruled on; raises as :func:`consensus`, and where everybody is in quarantine."""
    said.refuse_if_none_counts(said.rankings)
    return consensus(said.counted, said.criterion, said.not_quarantined(exclude), method, fit=fit)


def agree_on_thumbs(said: Said, method: Method | Literal["auto"] = "auto", exclude: Collection[str] = ()) -> LabelConsensus:
    """The same of thumbs; raises as :func:`thumb_consensus`, and where everybody is in quarantine."""
    said.refuse_if_none_counts(said.thumbs)
    return thumb_consensus(said.counting(said.thumbs), method, said.not_quarantined(exclude))


def agree_each_on_thumbs(said: Said) -> dict[str, Row]:
    """Of each labeler how well their thumbs agree with the others', those in quarantine too: ``{pairs, agreement, low, high}``."""
    each = agreement_with_others(said.thumbs)
    return {name: {"pairs": n, "agreement": share.estimate, "low": share.low, "high": share.high} for name, (share, n) in each.items()}


def agreement_rows(said: Said) -> tuple[list[Row], PanelAgreement]:
    """Agreement of all who count; by version of the instructions; within groups of at least five people; of labelers with themselves.

    Rows are ``{kind, of, labelers, prompts, decisions, agreement, alpha, tau-b, W}``, each measure with its two-way 95 % interval,
    ``None`` where it is undefined. ``kind`` is ``all``, ``version``, ``stratum`` or ``again``. Also the agreement of all, in full.
    Of thumbs there is one row, of all.
    """
    if said.on_thumbs:
        said.refuse_if_none_counts(said.thumbs)
        thumbs = thumb_agreement(said.counting(said.thumbs))
        return [_row("all", "all", thumbs)], thumbs
    rankings, criterion = said.counted, said.criterion
    said.refuse_if_none_counts(said.rankings)
    everybody = panel_agreement(rankings, criterion)
    rows = [_row("all", "all", everybody)]
    # What was retired still tells how well its instructions were understood; it comes first, as the last that somebody said holds.
    ever = [*said.counting(said.retired), *rankings]
    if len({row.instructions_version for row in ever if row.purpose != "repeat"}) > 1:
        rows += [_row("version", f"version {name}", found) for name, found in agreement_by_version(ever, criterion).items()]
    strata = agreement_by_stratum(rankings, criterion, _in_large_groups(said))
    rows += [_row("stratum", name, found) for name, found in strata.items()]
    with_themselves = self_agreement(rankings, criterion)
    rows += [_row("again", AGAIN, with_themselves)] if with_themselves else []
    return rows, everybody


def cover(said: Said) -> Coverage:
    """Who was asked how often. Raises DataProblem where nobody has judged anything."""
    if not said.judgements:
        raise DataProblem(f"nobody has judged anything in {said.name} yet", "Ask people first.")
    return coverage(said.judgements, said.labelers)


def group_rows(found: Coverage) -> list[Row]:
    """People by group of each stratum, those who say nothing of it as a group too; for ``report.feedback_figures.coverage``."""
    return [{"stratum": name, "group": group, "people": n} for name, groups in found.strata.items() for group, n in groups.items()]


def day_rows(found: Coverage) -> list[Row]:
    """Judgements by day; for ``report.feedback_figures.judgements_over_time``."""
    return [{"day": day, "judgements": n} for day, n in list(found.days.items())[-MOST_DAYS:]]


def labeler_rows(reports: Iterable[LabelerReport]) -> list[Row]:
    """Each labeler's agreement, unknown where nothing is shared, and reliability; for figures of ``report.feedback_figures``."""
    return [
        {"labeler": one.labeler, "judgements": one.tasks, "flagged": one.flagged, "agreement": one.agreement if one.pairs else None}
        | {"low": one.low, "high": one.high, "reliability": one.reliability}
        | {"reliability_low": one.reliability_low, "reliability_high": one.reliability_high}
        for one in reports
    ]


def _row(kind: str, of: str, found: PanelAgreement) -> Row:
    counts = {"kind": kind, "of": of, "labelers": found.labelers, "prompts": found.prompts, "decisions": found.pairs}
    return {**counts, **{measure: found.intervals[key] for key, measure in _MEASURES.items()}}


_MEASURES = {"agreement": "agreement", "alpha": "alpha", "tau_b": "tau-b", "w": "W"}
"""Krippendorff's alpha, ordinal; Kendall's tau-b and W."""


def _in_large_groups(said: Said) -> list[Labeler]:
    """Labelers with those of their strata that hold so many people that one may tell how well they agree."""
    from heedful.maths.disclosure import shown_cells

    told = {name: shown_cells(groups).shown for name, groups in coverage(said.counted, said.labelers).strata.items()}
    return [
        replace(one, strata={name: group for name, group in one.strata.items() if group in told.get(name, {})}) for one in said.labelers
    ]
