"""What the judgements of a project say together: worked out when somebody asks for it, kept in the store, shown at once.

What is found is found by :mod:`heedful.feedback.findings`, as from the command line. Judgements that a person
put into quarantine do not count. Where an adjudicator has ruled on a prompt that the others left undecided, that decides it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import sqlalchemy as sa

from heedful.feedback import findings
from heedful.feedback.agreed import Consensus, ConsensusPair
from heedful.feedback.asking import ask_more
from heedful.feedback.coverage import Coverage
from heedful.feedback.labelers import FLAGGED, LabelerReport
from heedful.feedback.labels import LabelConsensus
from heedful.feedback.panel import FitOnce
from heedful.feedback.said import Said, said_in
from heedful.records import plain_text
from heedful.report import feedback_figures
from heedful.store import Store, derived, projects, slots, status
from heedful.store.derived import DerivedLabeler, DerivedPair, DerivedRun
from heedful.store.reading import Judgement
from heedful.store.schema import prompt

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

    @property
    def undecided(self) -> dict[str, float]:
        """The prompts that it left undecided, up to ``MOST_UNDECIDED``, and how sure one is of each; the least sure first."""
        return {row["prompt_id"]: row["p"] for row in self.summary.get("undecided", [])}


def newest(store: Store, project: str) -> Findings | None:
    """What was worked out last; ``None`` where nothing was. A consensus that was kept by itself has no summary to show."""
    run = store.read(lambda c: derived.latest(c, project, summarised=True))
    return Findings(run, store.read(lambda c: derived.reports(c, run.id))) if run else None


def work_out(store: Store, name: str) -> int:
    """Work out consensus, agreement and what there is to say of each labeler; returns the number of the run.

    Afterwards prompts that are left undecided are open to one more labeler. Raises DataProblem where nothing was judged yet.
    """
    _, asked = store.read(lambda c: projects.find(c, name))
    said, fit = said_in(store, name), FitOnce()
    covered = findings.cover(said)
    agreed = _agree(said, fit)
    reports = findings.report_all(said, fit) if said.rankings else []
    found = _of_labelers(said, reports)
    agreements, everybody = findings.agreement_rows(said) if agreed else ([], None)
    undecided = _undecided(_sureness(said, agreed), asked.decided, said.ruled_on)
    summary = {
        "panel": everybody.to_dict() if everybody else None,
        "agreements": agreements,
        "judgements": sum(one.details["judgements"] for one in found),
        "quarantined": sorted(said.quarantined),
        "versions": covered.versions,
        "retired": store.read(lambda c: status.of_project(c, name)).retired,
        "undecided": [{"prompt_id": prompt_id, "p": p} for prompt_id, p in islice(undecided.items(), MOST_UNDECIDED)],
        "figures": _figures(agreements, reports, found, covered),
    }
    open_pairs = [pair for pair in agreed.pairs if pair.prompt_id in undecided] if isinstance(agreed, Consensus) else []
    number = _keep(store, said, agreed, open_pairs, found, summary)
    ask_more(store, name, None if isinstance(agreed, Consensus) else undecided)
    return number


def _agree(said: Said, fit: FitOnce) -> Consensus | LabelConsensus | None:
    """What those say together who count, of rankings or of thumbs; of corrections there is nothing to agree on."""
    if said.counted:
        return findings.agree(said, fit=fit)
    return findings.agree_on_thumbs(said) if said.on_thumbs and said.counting(said.thumbs) else None


def _of_labelers(said: Said, reports: Iterable[LabelerReport]) -> list[DerivedLabeler]:
    """What there is to say of each labeler, and how much they did; of who ranked nothing only that, and how well their thumbs agree."""
    known = {report.labeler: report for report in reports}
    alike = findings.agree_each_on_thumbs(said) if said.on_thumbs else {}
    return [
        DerivedLabeler(who, known[who].verdict, {**known[who].to_dict(), **done})
        if who in known
        else DerivedLabeler(who, "unsure", {**alike.get(who, {}), **done})
        for who, done in _work(said.judgements).items()
    ]


def _keep(
    store: Store,
    said: Said,
    agreed: Consensus | LabelConsensus | None,
    open_pairs: list[ConsensusPair],
    found: list[DerivedLabeler],
    summary: dict[str, Any],
) -> int:
    """A run in the store. Of its pairs only what ``ask_more`` needs: while all of a large project were written, nobody could answer."""
    assert said.snapshot is not None
    made_from, pairs = said.snapshot, [_derived(pair) for pair in open_pairs]
    algorithm, version = (agreed.algorithm, agreed.version) if agreed else ("none", "0")
    stamp = (algorithm, version, {**(agreed.parameters if agreed else {}), "quarantined": sorted(said.quarantined)})
    return store.write(lambda c: derived.save(c, said.name, made_from, *stamp, pairs, found, store.clock(), summary))


def _derived(pair: ConsensusPair) -> DerivedPair:
    votes = {"votes_for": pair.votes_for, "votes_against": pair.votes_against, "ties": pair.ties, "by_flag": pair.by_flag}
    return DerivedPair(pair.prompt_id, pair.chosen_id, pair.rejected_id, pair.p, votes)


def _work(rows: Iterable[Judgement]) -> dict[str, dict[str, Any]]:
    """Judgements and the median of the active time on one, in seconds, by labeler; of several rows of one task one counts."""
    tasks: dict[str, dict[tuple[str, str], int | None]] = defaultdict(dict)
    for row in rows:
        tasks[row.labeler][row.prompt_id, row.purpose] = row.active_ms
    found = {}
    for who, times in tasks.items():
        known = [ms / 1000 for ms in times.values() if ms is not None]
        found[who] = {"judgements": len(times), "active_s": statistics.median(known) if known else None, "active_total_s": sum(known)}
    return found


def _figures(
    agreements: list[dict[str, Any]], reports: Sequence[LabelerReport], found: Iterable[DerivedLabeler], covered: Coverage
) -> dict[str, str]:
    """Drawn now, as drawing takes longer than a page should."""
    labelers = findings.labeler_rows(reports)
    habits = [{"labeler": one.labeler, "flagged": one.verdict in FLAGGED, **one.details} for one in found]
    return {
        "groups": feedback_figures.group_agreement(agreements),
        "agreement": feedback_figures.labeler_agreement(labelers),
        "reliability": feedback_figures.labeler_reliability(labelers),
        "times": feedback_figures.labeler_times(habits),
        "rates": feedback_figures.labeler_rates(habits),
        "time": feedback_figures.judgements_over_time(findings.day_rows(covered)),
        "coverage": feedback_figures.coverage(findings.group_rows(covered)),
    }


def _sureness(said: Said, agreed: Consensus | LabelConsensus | None) -> dict[str, float]:
    """How sure one is of each prompt: of its surest pair, as some pairs are all but ties; of its least sure thumb, as each stands alone."""
    if agreed is None:
        return {}
    if isinstance(agreed, Consensus):
        return _by_prompt(max, ((pair.prompt_id, pair.p) for pair in agreed.pairs))
    prompt_of = {thumb.completion_id: thumb.prompt_id for thumb in said.thumbs}
    return _by_prompt(min, ((prompt_of[item.item], item.p) for item in agreed.items))


def _by_prompt(choose: Callable[[float, float], float], told: Iterable[tuple[str, float]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for prompt_id, p in told:
        found[prompt_id] = choose(p, found.get(prompt_id, p))
    return found


def _undecided(sureness: Mapping[str, float], decided: float, ruled: set[str]) -> dict[str, float]:
    """Prompts of which one is not sure and that nobody has settled, the least sure first."""
    order = sorted((p, prompt_id) for prompt_id, p in sureness.items() if p < decided and prompt_id not in ruled)
    return {prompt_id: p for p, prompt_id in order}


def to_settle(store: Store, project: str, findings: Findings, labeler_id: int) -> list[dict[str, Any]]:
    """The prompts that the newest run left undecided and nobody has ruled on since; ``met``: which this labeler cannot settle any more."""
    told = findings.undecided

    def work(connection: sa.Connection) -> Any:
        project_id, _ = projects.find(connection, project)
        which = (prompt.c.project_id == project_id, prompt.c.external_id.in_(list(told)), ~prompt.c.withdrawn)
        found = sa.select(prompt.c.external_id, prompt.c.content, slots.met(prompt.c.id, labeler_id).label("met")).where(
            *which, ~derived.ruled(connection, project)
        )
        return connection.execute(found).all()

    rows = store.read(work)
    found = [{"prompt_id": row.external_id, "text": plain_text(row.content), "p": told[row.external_id], "met": row.met} for row in rows]
    return sorted(found, key=lambda row: (row["p"], row["prompt_id"]))
