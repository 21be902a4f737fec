"""What the judgements of a project say together: worked out when somebody asks for it, kept in the store, shown at once.

Judgements that a person set aside do not count. Where an adjudicator has judged a prompt that the
others left undecided, theirs decides it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from heedful.errors import DataProblem
from heedful.feedback.agreement import agreement_by_version, panel_agreement
from heedful.feedback.asking import ask_more
from heedful.feedback.consensus import ConsensusPair, consensus
from heedful.feedback.coverage import NOT_STATED, Coverage, coverage
from heedful.feedback.criteria import Criterion
from heedful.feedback.labelers import LabelerReport, labeler_reports
from heedful.records import Ranking, plain_text
from heedful.report import feedback_figures
from heedful.store import Store, derived, labelers, projects
from heedful.store.derived import DerivedLabeler, DerivedPair, DerivedRun
from heedful.store.reading import Judgement
from heedful.store.schema import prompt, slot

MOST_DAYS = 3660
MOST_UNDECIDED = 200


@dataclass(frozen=True, slots=True)
class Findings:
    """The newest run of a project and what it says of each labeler."""

    run: DerivedRun
    labelers: list[DerivedLabeler]

    @property
    def summary(self) -> Mapping[str, Any]:
        """What it says of the project as a whole."""
        return self.run.summary or {}


def newest(store: Store, project: str) -> Findings | None:
    """What was worked out last; ``None`` where nothing was. A consensus that was kept by itself has no summary to show."""
    run = store.read(lambda c: derived.latest(c, project, summarised=True))
    return Findings(run, store.read(lambda c: derived.reports(c, run.id))) if run else None


def work_out(store: Store, name: str, adjudicators: frozenset[str] = frozenset()) -> int:
    """Work out consensus, agreement and what there is to say of each labeler; returns the number of the run.

    Afterwards prompts that are left undecided are open to one more labeler. Raises DataProblem where nothing was judged yet.
    """
    _, asked = store.read(lambda c: projects.find(c, name))
    made_from = store.snapshot(name)
    rows = list(store.judgements(name, made_from.event))
    if not rows:
        raise DataProblem(f"nobody has judged anything in {name!r} yet", "Come back when there are judgements.")
    aside = frozenset(store.read(lambda c: labelers.quarantined(c, name)))
    work = _work(rows)
    rankings = [row for row in rows if isinstance(row, Ranking) and row.purpose != "repeat"]
    criterion = Criterion(asked.criterion, asked.question, asked.higher_is)
    counted = [row for row in rankings if row.labeler not in aside]
    agreed = consensus(settled(counted, adjudicators), criterion) if counted else None
    pairs = agreed.pairs if agreed else []
    reports = {report.labeler: report for report in (labeler_reports(rankings, criterion) if rankings else [])}
    found = [DerivedLabeler(who, _finding(reports.get(who)), _details(reports.get(who), work[who])) for who in work]
    summary = _panel(counted, criterion) | {
        "tasks": sum(one["tasks"] for one in work.values()),
        "set_aside": sorted(aside),
        "figures": _figures(found, coverage(rows, store.labelers())),
    }
    open_ones = _undecided(pairs, asked.decided, ruled_on(counted, adjudicators))
    summary["undecided"] = [{"prompt_id": prompt_id, "p": p} for prompt_id, p in list(open_ones.items())[:MOST_UNDECIDED]]
    # Only what ask_more needs: while all pairs of a large project were written, nobody could answer.
    drawn = [_derived(pair) for pair in pairs if pair.prompt_id in open_ones]
    algorithm, version = (agreed.algorithm, agreed.version) if agreed else ("none", "0")
    parameters = {**(agreed.parameters if agreed else {}), "adjudicators": sorted(adjudicators), "set_aside": sorted(aside)}
    number = store.write(lambda c: derived.save(c, name, made_from, algorithm, version, parameters, drawn, found, store.clock(), summary))
    if asked.task == "ranking":
        ask_more(store, name)
    return number


def settled(rankings: Iterable[Ranking], adjudicators: frozenset[str]) -> list[Ranking]:
    """The rankings that count: of a prompt that an adjudicator judged beyond the overlap, theirs alone."""
    rows = list(rankings)
    ruled = ruled_on(rows, adjudicators)
    return [row for row in rows if row.prompt_id not in ruled or _rules(row, adjudicators)]


def ruled_on(rankings: Iterable[Ranking], adjudicators: frozenset[str]) -> set[str]:
    """The prompts that an adjudicator has settled."""
    return {row.prompt_id for row in rankings if _rules(row, adjudicators)}


def _rules(row: Ranking, adjudicators: frozenset[str]) -> bool:
    return row.purpose == "extra" and row.labeler in adjudicators


def _derived(pair: ConsensusPair) -> DerivedPair:
    votes = {"votes_for": pair.votes_for, "votes_against": pair.votes_against, "ties": pair.ties, "by_flag": pair.by_flag}
    return DerivedPair(pair.prompt_id, pair.chosen_id, pair.rejected_id, pair.p, votes)


def _work(rows: Iterable[Judgement]) -> dict[str, dict[str, Any]]:
    """Tasks and the median of the active time on one, in seconds, by labeler; of several rows of one task one counts."""
    tasks: dict[str, dict[tuple[str, str], int | None]] = defaultdict(dict)
    for row in rows:
        tasks[row.labeler][row.prompt_id, row.purpose] = row.active_ms
    found = {}
    for who, times in tasks.items():
        known = [ms / 1000 for ms in times.values() if ms is not None]
        found[who] = {"tasks": len(times), "active_s": statistics.median(known) if known else None, "active_total_s": sum(known)}
    return found


def _finding(report: LabelerReport | None) -> str:
    return report.verdict if report else "unsure"


def _details(report: LabelerReport | None, work: Mapping[str, Any]) -> dict[str, Any]:
    return {**(report.to_dict() if report else {}), **work}


def _panel(rankings: list[Ranking], criterion: Criterion) -> dict[str, Any]:
    """Agreement of all, and by version of the instructions."""
    if not rankings:
        return {"panel": None, "versions": {}}
    everybody = panel_agreement(rankings, criterion)
    versions = {row.instructions_version for row in rankings}
    by_version = agreement_by_version(rankings, criterion) if len(versions) > 1 else dict.fromkeys(versions, everybody)
    return {"panel": everybody.to_dict(), "versions": {version: agreed.to_dict() for version, agreed in by_version.items()}}


def _figures(found: Sequence[DerivedLabeler], covered: Coverage) -> dict[str, str]:
    """Drawn now, as drawing takes longer than a page should."""
    rows = [
        {
            "labeler": one.labeler,
            "judgements": one.details["tasks"],
            "flagged": one.finding in ("random", "upside_down"),
        }
        | {key: one.details.get(key) for key in ("agreement", "low", "high")}
        for one in found
        if one.details.get("pairs")
    ]
    days = [{"day": day, "judgements": n} for day, n in list(covered.days.items())[-MOST_DAYS:]]
    people = ((stratum, group, n) for stratum, groups in covered.strata.items() for group, n in groups.items() if group != NOT_STATED)
    return {
        "agreement": feedback_figures.labeler_agreement(rows),
        "time": feedback_figures.judgements_over_time(days),
        "coverage": feedback_figures.coverage([{"stratum": stratum, "group": group, "people": n} for stratum, group, n in people]),
    }


def _undecided(pairs: Iterable[ConsensusPair], decided: float, ruled: set[str]) -> dict[str, float]:
    """Prompts of which no pair is sure and that nobody has settled, with the probability of their surest pair, the least sure first."""
    best: dict[str, float] = {}
    for pair in pairs:
        best[pair.prompt_id] = max(pair.p, best.get(pair.prompt_id, 0))
    order = sorted((p, prompt_id) for prompt_id, p in best.items() if p < decided and prompt_id not in ruled)
    return {prompt_id: p for p, prompt_id in order}


def to_settle(store: Store, project_id: int, findings: Findings, settled_by: Iterable[int]) -> list[dict[str, Any]]:
    """The prompts that the newest run left undecided and nobody of ``settled_by`` (labeler ids) has judged beyond the overlap since."""
    told = {row["prompt_id"]: row["p"] for row in findings.summary.get("undecided", [])}
    by_now = sa.exists().where(slot.c.prompt_id == prompt.c.id, slot.c.purpose == "extra", slot.c.state == "judged")
    by_now = by_now.where(slot.c.labeler_id.in_(list(settled_by)))
    which = (prompt.c.project_id == project_id, prompt.c.external_id.in_(list(told)), ~prompt.c.withdrawn, ~by_now)
    rows = store.read(lambda c: c.execute(sa.select(prompt.c.external_id, prompt.c.content).where(*which)).all())
    found = [{"prompt_id": row.external_id, "text": plain_text(row.content), "p": told[row.external_id]} for row in rows]
    return sorted(found, key=lambda row: (row["p"], row["prompt_id"]))
