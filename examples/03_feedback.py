"""Feedback: six labelers rank completions; two of them should not be believed. No model is needed.

python examples/03_feedback.py
"""

from __future__ import annotations

from random import Random

from heedful.feedback.assign import assign
from heedful.feedback.consensus import consensus
from heedful.feedback.criteria import criterion_named
from heedful.feedback.instructions import instructions_for
from heedful.feedback.labelers import flagged, labeler_reports
from heedful.feedback.simulated import collect, panel
from heedful.pairs.build import from_consensus
from heedful.records import Completion, Prompt


def main() -> None:
    chance, criterion, labelers = Random(0), criterion_named("helpfulness"), panel()
    prompts = [Prompt(f"p{i}", f"question {i}") for i in range(200)]
    rows = [(p, [Completion(f"{p.id}:{k}", p.id, f"answer {k}", [], "stop", k, "instruct") for k in range(4)]) for p in prompts]
    quality = {c.id: chance.gauss(0, 1) for _, group in rows for c in group}

    assignment = assign([p.id for p in prompts], [labeler.name for labeler in labelers], 3, seed=0)
    rankings = collect(rows, quality, labelers, assignment, criterion, instructions_for(criterion), seed=0)
    reports = labeler_reports(rankings, criterion)
    for report in reports:
        print(f"{report.labeler:<5} {report.verdict:<12} agrees on {report.agreement:.0%} [{report.low:.0%}, {report.high:.0%}]")

    completions = [c for _, group in rows for c in group]
    for who, agreed in (
        ("the majority", consensus(rankings, criterion, method="majority")),
        ("the majority without the two", consensus(rankings, criterion, exclude=flagged(reports), method="majority")),
        ("the model of the panel", consensus(rankings, criterion)),
    ):
        pairs = from_consensus(agreed, prompts, completions)
        right = sum(quality[p.chosen_id] > quality[p.rejected_id] for p in pairs)
        print(f"{who}: {len(pairs)} pairs, {right / len(pairs):.1%} in the true order")


if __name__ == "__main__":
    main()
