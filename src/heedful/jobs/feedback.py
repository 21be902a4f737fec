"""What can be told of feedback outside a run: consensus, labelers, agreement, coverage; in rows, and in figures for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from heedful.errors import DataProblem, SettingProblem
from heedful.jobs.said import Said
from heedful.records import Ranking, write_atomically, write_jsonl

if TYPE_CHECKING:
    from heedful.feedback.agreed import Consensus
    from heedful.feedback.agreement import PanelAgreement
    from heedful.feedback.labelers import LabelerReport
    from heedful.feedback.labels import LabelConsensus


def agree(
    said: Said, exclude: Collection[str], method: Literal["auto", "model", "majority"], save_in: str, folder: Path | None
) -> dict[str, Any]:
    """The consensus in figures; of thumbs where nobody was asked for rankings.

    ``save_in``: a store to keep it in, where one more labeler is then asked about prompts on which it
    is undecided. ``folder``: gets all pairs as rows, and a figure of how its confidence comes true.

    Raises DataProblem where nothing was said, SettingProblem for labelers who said nothing.
    """
    from heedful.feedback.consensus import consensus
    from heedful.pairs.build import for_review

    if said.thumbs and not said.rankings:
        return _agree_on_thumbs(said, method, save_in, folder)
    agreed = consensus(said.counted, said.criterion, exclude, method)
    facts = {
        **_name(said),
        **_how(agreed),
        "rankings": len(said.counted),
        "labelers": len(agreed.labelers),
        "left_out": sorted({*agreed.excluded, *said.set_aside}),
        "prompts": len({row.prompt_id for row in said.counted}),
        "pairs": len(agreed.pairs),
        "decided": len(agreed.decided),
        "completions_F": sum(map(len, agreed.flagged.values())),
        "prompts_for_review": len(for_review(said.counted, said.criterion)),
        "reliability": agreed.reliability,
        "input_sha256": agreed.input_sha256,
    }
    if save_in:
        facts |= _save(save_in, said, agreed)
    if folder:
        facts["written"] = _write_consensus(said, agreed, folder)
    return facts


def report_labelers(said: Said, folder: Path | None = None) -> list[dict[str, Any]]:
    """A report of every labeler, those who are set aside too; ``folder`` gets a figure of their agreement.

    Raises DataProblem where nothing was ranked.
    """
    from heedful.feedback.labelers import labeler_reports

    _refuse_without_rankings(said)
    reports = labeler_reports(said.rankings, said.criterion, said.labelers, said.words)
    if folder:
        from heedful.report.feedback_figures import labeler_agreement

        _draw(folder / "labelers.svg", labeler_agreement([_figure_row(report) for report in reports]))
    return [{**report.to_dict(), "flagged": report.flagged, "set_aside": said.set_aside.get(report.labeler, "")} for report in reports]


def agreements(said: Said) -> tuple[list[dict[str, Any]], str]:
    """Agreement of all who are not set aside, by version of the instructions, and by group of at least five people; and a sentence.

    Raises DataProblem where nothing was ranked.
    """
    from heedful.feedback.agreement import agreement_by_stratum, agreement_by_version, panel_agreement

    _refuse_without_rankings(said)
    rankings = said.counted
    everybody = panel_agreement(rankings, said.criterion)
    rows = [_agreement_row("all", everybody)]
    versions = agreement_by_version(rankings, said.criterion)
    if len(versions) > 1:
        rows += [_agreement_row(f"version {name}", found) for name, found in versions.items()]
    told = _told(rankings, said)
    strata = agreement_by_stratum(rankings, said.criterion, said.labelers)
    rows += [_agreement_row(name, found) for name, found in strata.items() if name in told]
    return rows, everybody.sentence


def cover(said: Said, folder: Path | None = None) -> dict[str, Any]:
    """Who was asked how often, small groups hidden; ``folder`` gets figures of the groups and of the days."""
    from heedful.feedback.coverage import coverage
    from heedful.maths.disclosure import SMALLEST, shown_cells

    if not (said.rankings or said.thumbs):
        raise DataProblem(f"nobody has judged anything in {said.name} yet", "Ask people first.")
    found = coverage([*said.rankings, *said.thumbs], said.labelers)
    cells = {name: shown_cells(groups) for name, groups in found.strata.items()}
    groups = {name: {**one.shown, **({f"groups below {SMALLEST}": one.hidden} if one.hidden_groups else {})} for name, one in cells.items()}
    if folder:
        from heedful.report.feedback_figures import coverage as groups_drawn
        from heedful.report.feedback_figures import judgements_over_time

        rows = [{"stratum": name, "group": group, "people": n} for name, of in found.strata.items() for group, n in of.items()]
        _draw(folder / "coverage.svg", groups_drawn(rows))
        _draw(folder / "time.svg", judgements_over_time([{"day": day, "judgements": n} for day, n in found.days.items()]))
    return {**_name(said), **found.to_dict(), "strata": groups}


def _refuse_without_rankings(said: Said) -> None:
    if not said.rankings:
        what = "thumbs only" if said.thumbs else "nothing by this criterion"
        raise DataProblem(f"{said.name} holds {what}, and no rankings by {said.criterion.name!r}", "Collect rankings first.")


def _name(said: Said) -> dict[str, Any]:
    facts: dict[str, Any] = {"of": said.name, "criterion": f"{said.criterion.name} (more is {said.criterion.higher_is})"}
    if said.snapshot:
        facts |= {"event": said.snapshot.event, "snapshot": said.snapshot.sha256}
    return facts


def _how(agreed: Consensus | LabelConsensus) -> dict[str, Any]:
    return {"method": agreed.method, "why": agreed.reason, "algorithm": f"{agreed.algorithm}, version {agreed.version}"}


def _agree_on_thumbs(said: Said, method: Literal["auto", "model", "majority"], save_in: str, folder: Path | None) -> dict[str, Any]:
    from heedful.feedback.labels import thumb_consensus

    if save_in:
        raise SettingProblem(f"{said.name} holds thumbs, and only a consensus of rankings is kept in a store", "Leave --save out.")
    counted = [thumb for thumb in said.thumbs if thumb.labeler not in said.set_aside]
    agreed = thumb_consensus(counted, method)
    labels = Counter(item.label or "undecided" for item in agreed.items)
    facts = {
        **_name(said),
        **_how(agreed),
        "thumbs": len(counted),
        "completions": len(agreed.items),
        **{name: labels[name] for name in ("up", "down", "undecided")},
        "input_sha256": agreed.input_sha256,
    }
    if folder:
        write_jsonl(folder / "consensus.jsonl", agreed.items)
        facts["written"] = [str(folder / "consensus.jsonl")]
    return facts


def _save(where: str, said: Said, agreed: Consensus) -> dict[str, Any]:
    """Keep a consensus in the store that it was made from, and open places where it is undecided."""
    from heedful.feedback.asking import ask_more
    from heedful.feedback.labelers import labeler_reports
    from heedful.jobs.judgements import save
    from heedful.store import Store

    if said.snapshot is None:
        raise SettingProblem(f"{said.name} is a file, and a consensus is kept in a store", "Leave --save out, or name a store.")
    reports = labeler_reports(said.rankings, said.criterion, said.labelers, said.words)
    with Store.open(where, actor="heed feedback") as store:
        run = save(store, said.snapshot, agreed, reports)
        return {"derived_run": run, "asked_once_more": ask_more(store, said.name)}


def _write_consensus(said: Said, agreed: Consensus, folder: Path) -> list[str]:
    from heedful.feedback.calibration import calibration
    from heedful.report.feedback_figures import consensus_calibration

    write_jsonl(folder / "consensus.jsonl", agreed.pairs)
    written = [str(folder / "consensus.jsonl")]
    if agreed.method == "model":  # a majority predicts nobody's votes
        counted = [row for row in said.counted if row.labeler not in agreed.excluded]
        _draw(folder / "calibration.svg", consensus_calibration(calibration(counted, said.criterion)))
        written.append(str(folder / "calibration.svg"))
    return written


def _draw(path: Path, figure: str) -> None:
    """A figure as a file; where there is nothing to draw there is none."""
    if figure:
        write_atomically(path, figure.encode())


def _figure_row(report: LabelerReport) -> dict[str, Any]:
    named = {"labeler": report.labeler, "judgements": report.tasks, "flagged": report.flagged}
    return {**named, "agreement": report.agreement if report.pairs else None, "low": report.low, "high": report.high}


def _agreement_row(name: str, found: PanelAgreement) -> dict[str, Any]:
    intervals: Mapping[str, Any] = found.intervals
    counts = {"of": name, "labelers": found.labelers, "prompts": found.prompts, "decisions": found.pairs}
    return {**counts, **{measure: intervals[key] for key, measure in _MEASURES.items()}}


_MEASURES = {"agreement": "agreement", "alpha": "alpha", "tau_b": "tau-b", "w": "W"}
"""Krippendorff's alpha, ordinal; Kendall's tau-b and W."""


def _told(rankings: Sequence[Ranking], said: Said) -> set[str]:
    """The groups, like ``"age: 30-44"``, of so many people that one may tell how well they agree."""
    from heedful.feedback.coverage import coverage
    from heedful.maths.disclosure import shown_cells

    strata = coverage(rankings, said.labelers).strata
    return {f"{name}: {group}" for name, groups in strata.items() for group in shown_cells(groups).shown}
