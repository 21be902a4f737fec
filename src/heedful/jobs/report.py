"""The end of a run: a verdict in one paragraph, summary.json and report.html."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from heedful.jobs.policy import curves
from heedful.jobs.workspace import Workspace
from heedful.records import Verdict, read_jsonl, write_atomically
from heedful.run import peak_memory_gib

Results = dict[str, dict[str, Any]]
"""What each stage returned, by its name; stages that a run did not need are absent."""

REASONS = {
    "target": "the stated target was reached",
    "kl_budget": "the KL budget was spent",
    "turned_down": "held-out quality turned down",
    "max_steps": "max_steps were done",
    "epochs": "every pass over the pairs was made",
}


def summarise(results: Results, seconds: float, report: Path) -> dict[str, Any]:
    """The figures of ``summary.json``; ``None`` where a run has no such figure."""
    evaluation, reward = results["evaluation"], results.get("reward", {}).get("reward", {})
    rows = {row["name"]: row for row in evaluation["comparison"]}
    toxicity, task = rows.get("toxicity"), rows.get("task")
    return {
        "toxicity_before": toxicity and toxicity["before"]["estimate"],
        "toxicity_after": toxicity and toxicity["after"]["estimate"],
        "toxicity_difference_ci": toxicity and [toxicity["difference"]["low"], toxicity["difference"]["high"]],
        "task_before": task and task["before"]["estimate"],
        "task_after": task and task["after"]["estimate"],
        "score_before": rows["score"]["before"]["estimate"],
        "score_after": rows["score"]["after"]["estimate"],
        "kl": evaluation["kl"]["estimate"],
        "win_rate": evaluation["win_rate"]["estimate"],
        "reward_accuracy": reward.get("accuracy", {}).get("estimate"),
        "longer_wins_accuracy": reward.get("longer_wins", {}).get("estimate"),
        "labelers_flagged": results.get("feedback", {}).get("labelers_flagged", []),
        "stopped_by": results["policy"]["stopped_by"],
        "steps": results["policy"]["steps"],
        "seconds": round(seconds, 1),
        "peak_memory_gib": round(peak_memory_gib(), 3),
        "report": str(report),
    }


def judge_run(results: Results, summary: dict[str, Any], hacking: dict[str, Any]) -> Verdict:
    """One paragraph: what changed, what it cost, whether it can be trusted, and the evidence for each."""
    rows = {row["name"]: row for row in results["evaluation"]["comparison"]}
    words = {"toxicity": "Mean toxicity", "task": "The task's own metric", "score": f"The {results['evaluation']['scored_by']}'s score"}
    parts = [_change(rows[name], words[name]) for name in ("toxicity", "task", "score") if name in rows]
    evaluation = results["evaluation"]
    wins = evaluation["win_rate"]
    parts.append(
        f"The aligned model wins {_percent(wins['estimate'])} against the instruct model "
        f"(95 % interval {_range(wins, 100, ' %')}), judged by the {wins['judge']}."
    )
    parts.append(
        f"It is {summary['kl']:.2f} nats per completion from where it began; "
        f"training stopped after {summary['steps']} steps because {REASONS[summary['stopped_by']]}. {_kept(results['policy'])}"
    )
    parts.append(hacking["sentence"])
    return Verdict(" ".join(part.strip() for part in parts), _warnings(results))


def write_report(ws: Workspace, results: Results, seconds: float) -> dict[str, Any]:
    """``summary.json``, ``report.html`` and the model card; returns the summary."""
    with ws.progress.track(None, "report"):
        summary = _write(ws, results, seconds)
    ws.progress.say(f"report: {summary['report']}")
    return summary


def _write(ws: Workspace, results: Results, seconds: float) -> dict[str, Any]:
    from heedful.evaluation.overoptimisation import hacking_verdict
    from heedful.report.build import build_report
    from heedful.report.card import build_card
    from heedful.report.data import MeasureRow, ReportData

    history, evaluation, path = curves(ws), results["evaluation"], ws.run.folder / "report.html"
    found = hacking_verdict(history)
    hacking = {"level": found.level, "sentence": found.sentence, "evidence": found.evidence, "phrases": evaluation["phrases"]}
    summary = summarise(results, seconds, path)
    data = ReportData(
        title=f"heedful: {ws.run.folder.name}",
        verdict=judge_run(results, summary, hacking),
        summary=_shown_summary(summary),
        comparison=[MeasureRow.from_dict(row) for row in evaluation["comparison"]],
        toxicity=[MeasureRow.from_dict(row) for row in evaluation["toxicity"]],
        labelers=_labeler_rows(ws),
        agreement=_agreement(results),
        reward=_reward_rows(results),
        history=history,
        hacking=hacking,
        side_by_side=evaluation["side_by_side"],
        settings=ws.run.settings,
        provenance=_provenance(ws, results),
    )
    data.save(ws.run.folder / "report.json")
    build_report(data, path)
    build_card(data, ws.folder("policy") / "model" / "README.md")
    write_atomically(ws.run.folder / "summary.json", (json.dumps(summary, indent=1) + "\n").encode())
    return {**summary, "verdict": data.verdict.sentence}


def _change(row: dict[str, Any], words: str) -> str:
    """E.g. "Mean toxicity fell from 0.460 to 0.012 (difference -0.448, 95 % interval -0.500 to -0.400)"."""
    before, after, difference = row["before"]["estimate"], row["after"]["estimate"], row["difference"]
    certain = difference["low"] is not None and (difference["low"] > 0 or difference["high"] < 0)
    verb = "did not change for certain" if not certain else "rose" if difference["estimate"] > 0 else "fell"
    figures = f"difference {difference['estimate']:+.3f}, 95 % interval {_range(difference)}"
    return f"{words} {verb}: {before:.3f} before, {after:.3f} after ({figures})."


def _kept(policy: dict[str, Any]) -> str:
    """Which weights the aligned model has; DPO keeps its last."""
    if "best_step" not in policy:
        return ""
    if policy["best_step"] == 0:
        return "The best is step 0, the model it began with: training did not help."
    return f"The best on held-out prompts, of step {policy['best_step']}, is what is kept."


def _warnings(results: Results) -> list[str]:
    reward, feedback = results.get("reward", {}).get("reward"), results.get("feedback")
    found = []
    if feedback and feedback["labelers_flagged"]:
        found.append(f"Labelers to look at: {', '.join(feedback['labelers_flagged'])}.")
    if reward:
        right, longer = (_percent(reward[name]["estimate"]) for name in ("accuracy", "longer_wins"))
        warning = "" if reward["beats_longer_wins"] else "Warning: it does not clearly beat that baseline."
        found.append(f'The reward model is right on {right} of held-out pairs, "the longer one wins" on {longer}. {warning}'.strip())
    return found


def _labeler_rows(ws: Workspace) -> list[dict[str, Any]]:
    from heedful.feedback.labelers import LabelerReport

    path = ws.folder("feedback") / "labelers.jsonl"
    if not path.exists():
        return []
    reports = [LabelerReport.from_dict(row) for row in read_jsonl(path)]
    return [{**r.to_dict(), "judgements": r.tasks, "note": r.evidence, "flagged": r.flagged} for r in reports]


def _agreement(results: Results) -> dict[str, Any]:
    found = results.get("feedback", {}).get("agreement")
    if not found:
        return {}
    share = {"estimate": found["agreement"], "low": found["low"], "high": found["high"]}
    return {"Agreement between labelers": share, "Krippendorff's alpha": found.get("alpha"), "Shared judgements of pairs": found["pairs"]}


def _shown_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """The figures of the report's first table: what is an interval is shown as one, and lists and reasons in words."""
    shown = {**summary, "stopped_by": REASONS[summary["stopped_by"]], "labelers_flagged": ", ".join(summary["labelers_flagged"]) or "none"}
    if (low_high := summary["toxicity_difference_ci"]) is not None:
        change = summary["toxicity_after"] - summary["toxicity_before"]
        shown["toxicity_difference_ci"] = {"estimate": change, "low": low_high[0], "high": low_high[1]}
    return {name: value for name, value in shown.items() if value is not None and name != "report"}


def _reward_rows(results: Results) -> dict[str, Any]:
    """The reward model's figures as the report's figures want them."""
    reward = results.get("reward", {}).get("reward")
    if not reward:
        return {}
    shown = {name: value for name, value in reward.items() if name not in ("calibration", "calibrated")}
    margins = [{**row, "margin": "{:.2g} to {:.2g}".format(*row["margin"])} for row in reward["by_margin"]]
    scaled = {f"{name} after temperature scaling": value for name, value in reward["calibrated"].items() if name != "temperature"}
    return {**shown, "by_margin": margins, **reward["calibration"], **scaled, "temperature": reward["calibrated"]["temperature"]}


def _provenance(ws: Workspace, results: Results) -> dict[str, Any]:
    record = json.loads((ws.run.folder / "run.json").read_text())
    kept = {name: record[name] for name in ("command", "seed", "started", "versions", "python", "platform", "parents") if name in record}
    splits = results["prompts"]["splits"]
    return {
        **kept,
        "base_model": ws.settings.model.path,
        "prompts": {split: row["sha256"] for split, row in splits.items()},
        "prompts too long": {split: row["too_long"] for split, row in splits.items()},
        "judgements snapshot": results.get("feedback", {}).get("judgements", {}).get("sha256"),
        "pairs snapshot": results.get("pairs", {}).get("snapshot"),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _range(interval: dict[str, Any], scale: float = 1.0, unit: str = "") -> str:
    digits = 1 if scale == 100 else 3
    low, high = (("unknown" if interval[end] is None else f"{scale * interval[end]:.{digits}f}{unit}") for end in ("low", "high"))
    return f"{low} to {high}"
