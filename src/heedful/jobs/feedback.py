"""What can be told of feedback outside a run: consensus, labelers, agreement, coverage; in rows, and in figures for people.

What is found is found by :mod:`heedful.feedback.findings`, as in the app.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from heedful.errors import SettingProblem
from heedful.feedback.said import Said
from heedful.records import write_atomically, write_jsonl

if TYPE_CHECKING:
    from heedful.feedback.agreed import Consensus
    from heedful.feedback.labels import LabelConsensus
    from heedful.feedback.panel import Fit
    from heedful.store import Snapshot


def agree(
    said: Said, exclude: Collection[str], method: Literal["auto", "model", "majority"], save_in: str, folder: Path | None
) -> dict[str, Any]:
    """The consensus in figures; of thumbs where nobody was asked for rankings.

    ``save_in``: a store to keep it in, where one more labeler is then asked about prompts on which it
    is undecided. ``folder``: gets all pairs as rows, and a figure of how its confidence comes true.

    Raises DataProblem where nothing was said, SettingProblem for labelers who said nothing.
    """
    from heedful.feedback import findings
    from heedful.feedback.panel import FitOnce
    from heedful.pairs.build import for_review

    if said.on_thumbs:
        return _agree_on_thumbs(said, exclude, method, save_in, folder)
    if save_in and not said.snapshot:
        raise SettingProblem(f"{said.name} is a file, and a consensus is kept in a store", "Leave --save out, or name a store.")
    fit = FitOnce()
    agreed = findings.agree(said, exclude, method, fit)
    facts = {
        **_name(said),
        **_how(agreed),
        "rankings": len(said.settled),
        "labelers": len(agreed.labelers),
        "excluded": agreed.excluded,
        "quarantined": sorted(said.quarantined),
        "prompts": len({row.prompt_id for row in said.settled}),
        "pairs": len(agreed.pairs),
        "decided": len(agreed.decided),
        "completions_F": sum(map(len, agreed.completions_f.values())),
        "prompts_for_review": len(for_review(said.settled, said.criterion)),
        "reliability": agreed.reliability,
        "input_sha256": agreed.input_sha256,
    }
    if folder:
        facts["written"] = _write_consensus(said, agreed, fit, folder)
    if save_in and said.snapshot:
        facts |= _save(save_in, said, said.snapshot, agreed, fit)
    return facts


def report_labelers(said: Said, folder: Path | None = None) -> list[dict[str, Any]]:
    """A report of every labeler, those in quarantine too; ``folder`` gets figures of their agreement and their reliability.

    Raises DataProblem where nothing was ranked.
    """
    from heedful.feedback import findings

    findings.refuse_without_rankings(said)
    reports = findings.report_all(said)
    if folder:
        from heedful.report.feedback_figures import labeler_agreement, labeler_reliability

        rows = findings.labeler_rows(reports)
        _draw(folder / "labelers.svg", labeler_agreement(rows))
        _draw(folder / "reliability.svg", labeler_reliability(rows))
    return [{**report.to_dict(), "flagged": report.flagged, "quarantined": said.quarantined.get(report.labeler, "")} for report in reports]


def agreements(said: Said, folder: Path | None = None) -> tuple[list[dict[str, Any]], str]:
    """Agreement of all who count, of groups and of labelers with themselves, and a sentence; ``folder`` gets a figure of all.

    Raises DataProblem where nothing was ranked, and no thumbs were given.
    """
    from heedful.feedback import findings

    if not said.on_thumbs:
        findings.refuse_without_rankings(said)
    rows, everybody = findings.agreement_rows(said)
    if folder:
        from heedful.report.feedback_figures import group_agreement

        _draw(folder / "agreement.svg", group_agreement(rows))
    return rows, everybody.sentence


def cover(said: Said, folder: Path | None = None) -> dict[str, Any]:
    """Who was asked how often, small groups hidden; ``folder`` gets figures of the groups and of the days."""
    from heedful.feedback import findings
    from heedful.maths.disclosure import SMALLEST, shown_cells

    found = findings.cover(said)
    cells = {name: shown_cells(groups) for name, groups in found.strata.items()}
    groups = {name: {**one.shown, **({f"groups below {SMALLEST}": one.hidden} if one.hidden_groups else {})} for name, one in cells.items()}
    if folder:
        from heedful.report.feedback_figures import coverage, judgements_over_time

        _draw(folder / "coverage.svg", coverage(findings.group_rows(found)))
        _draw(folder / "time.svg", judgements_over_time(findings.day_rows(found)))
    return {**_name(said), **found.to_dict(), "strata": groups}


def _name(said: Said) -> dict[str, Any]:
    facts: dict[str, Any] = {"of": said.name, "criterion": f"{said.criterion.name} (more is {said.criterion.higher_is})"}
    if said.snapshot:
        facts |= {"event": said.snapshot.event, "snapshot": said.snapshot.sha256}
    return facts


def _how(agreed: Consensus | LabelConsensus) -> dict[str, Any]:
    return {"method": agreed.method, "why": agreed.reason, "algorithm": f"{agreed.algorithm}, version {agreed.version}"}


def _agree_on_thumbs(
    said: Said, exclude: Collection[str], method: Literal["auto", "model", "majority"], save_in: str, folder: Path | None
) -> dict[str, Any]:
    from heedful.feedback import findings

    if save_in:
        raise SettingProblem(f"{said.name} holds thumbs, and only a consensus of rankings is kept in a store", "Leave --save out.")
    agreed = findings.agree_on_thumbs(said, method, exclude)
    labels = Counter(item.label or "undecided" for item in agreed.items)
    facts = {
        **_name(said),
        **_how(agreed),
        "thumbs": sum(sum(item.votes.values()) for item in agreed.items),
        "excluded": sorted(said.not_quarantined(exclude)),
        "quarantined": sorted(said.quarantined),
        "completions": len(agreed.items),
        **{name: labels[name] for name in ("up", "down", "undecided")},
        "right": agreed.right,
        "input_sha256": agreed.input_sha256,
    }
    if folder:
        write_jsonl(folder / "consensus.jsonl", agreed.items)
        facts["written"] = [str(folder / "consensus.jsonl")]
    return facts


def _save(where: str, said: Said, made_from: Snapshot, agreed: Consensus, fit: Fit) -> dict[str, Any]:
    """Keep a consensus in the store that it was made from, and open places where it is undecided."""
    from heedful.feedback.asking import ask_more
    from heedful.feedback.findings import report_all
    from heedful.jobs.judgements import save
    from heedful.store import Store

    reports = report_all(said, fit)
    # What opening the store has to say was said when it was read.
    with Store.open(where, actor="heed feedback", warn=lambda _: None) as store:
        run = save(store, made_from, agreed, reports)
        return {"derived_run": run, "asked_once_more": ask_more(store, said.name)}


def _write_consensus(said: Said, agreed: Consensus, fit: Fit, folder: Path) -> list[str]:
    from heedful.feedback.calibration import calibration
    from heedful.report.feedback_figures import consensus_calibration

    write_jsonl(folder / "consensus.jsonl", agreed.pairs)
    written = [str(folder / "consensus.jsonl")]
    if agreed.method == "model":  # a majority predicts nobody's votes
        counted = [row for row in said.settled if row.labeler not in agreed.excluded]
        _draw(folder / "calibration.svg", consensus_calibration(calibration(counted, said.criterion, fit)))
        written.append(str(folder / "calibration.svg"))
    return written


def _draw(path: Path, figure: str) -> None:
    """A figure as a file; where there is nothing to draw there is none."""
    if figure:
        write_atomically(path, figure.encode())
