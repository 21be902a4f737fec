"""What the verdict says of the weights that are kept, and of who judged; what the report is told in words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from heedful.jobs.evaluation import SCORED_BY
from heedful.jobs.report import judge_run, write_report

NO_HACKING: dict[str, Any] = {"sentence": "No sign of reward hacking.", "evidence": ["the score rose"]}


def evaluation_of(kind: str = "learn") -> dict[str, Any]:
    share = {"estimate": 0.5, "low": 0.4, "high": 0.6}
    row = {"name": "score", "before": share, "after": share, "difference": {"estimate": 0.0, "low": -0.1, "high": 0.1}}
    return {"comparison": [row], "win_rate": {"judge": SCORED_BY[kind], **share}, "scored_by": SCORED_BY[kind]}


def verdict(policy: dict[str, Any], kind: str = "learn") -> Any:
    evaluation = evaluation_of(kind)
    summary = {"kl": 0.1, "steps": 6, "stopped_by": "max_steps"}
    return judge_run({"evaluation": evaluation, "policy": policy}, summary, NO_HACKING)


def test_the_verdict_names_the_step_that_is_kept() -> None:
    assert "The best is step 0, the model it began with: training did not help." in verdict({"best_step": 0}).sentence
    assert "of step 4, is what is kept" in verdict({"best_step": 4}).sentence
    assert "best" not in verdict({}).sentence, "DPO keeps its last weights"


@pytest.mark.parametrize(("kind", "judge"), [("classifier", "classifier"), ("function", "reward function"), ("pairs", "reward model")])
def test_the_verdict_names_the_reward_that_there_was(kind: str, judge: str) -> None:
    said = verdict({"best_step": 4}, kind).sentence
    assert f"judged by the {judge}." in said
    assert f"The {judge}'s score did not change" in said


def test_the_evidence_of_reward_hacking_stands_in_its_own_section_alone() -> None:
    assert verdict({}).evidence == []


def test_the_report_says_why_training_stopped_in_words_and_how_many_prompts_were_too_long(workspace: Any) -> None:
    ws = workspace("llama", "reward.kind=function", "reward.path=r.py:f")
    nothing: dict[str, Any] = {"toxicity": [], "phrases": [], "side_by_side": [], "kl": {"estimate": 0.1}}
    splits = {"train": {"sha256": "abc", "too_long": 7}, "test": {"sha256": "def", "too_long": 0}}
    policy = {"stopped_by": "kl_budget", "steps": 6, "best_step": 4}
    results = {"prompts": {"splits": splits}, "evaluation": {**evaluation_of(), **nothing}, "policy": policy}
    found = write_report(ws, results, seconds=1.0)
    page = (ws.run.folder / "report.html").read_text()
    assert "Training stopped because" in page
    assert "the KL budget was spent" in json.loads((ws.run.folder / "report.json").read_text())["summary"]["stopped_by"]
    assert found["stopped_by"] == "kl_budget", "summary.json keeps the word that programs know"
    assert json.loads((ws.run.folder / "report.json").read_text())["provenance"]["prompts too long"] == {"train": 7, "test": 0}
    assert "prompts too long.train" in page
    card = (ws.folder("policy") / "model/README.md").read_text()
    assert f"base_model: {json.dumps(ws.settings.model.path)}\n" in card, "the card says what the model was made from"
