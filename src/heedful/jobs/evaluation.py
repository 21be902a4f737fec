"""The proof: the instruct model and the aligned one on the same unseen prompts with the same seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heedful.jobs.policy import policy_learner
from heedful.jobs.reward import open_reward
from heedful.jobs.workspace import Workspace
from heedful.records import Completion, Prompt, plain_text, read_jsonl, write_jsonl

if TYPE_CHECKING:
    from heedful.engines.base import Role, Scorer

SCORED_BY = {
    "learn": "reward model",
    "pairs": "reward model",
    "model": "reward model",
    "classifier": "classifier",
    "function": "reward function",
}
"""What gives the scores, by ``reward.kind``."""

PER_PROMPT = list[list[float]]
"""``[prompt][sample]``"""


def evaluate(ws: Workspace, folder: Path) -> dict[str, Any]:
    """Every measure before and after, paired by prompt, each with its interval."""
    learner = policy_learner(ws)
    learner.load(ws.folder("policy") / "state")
    prompts = ws.prompts("test")[: ws.settings.evaluation.max_prompts]
    before = _completions(ws, prompts, "reference", folder / "before.jsonl")
    after = _completions(ws, prompts, "policy", folder / "after.jsonl")
    scorer, values = open_reward(ws), {}
    for name, measure in {**_measures(ws, prompts), "score": _scored(ws, scorer)}.items():
        if not ws.settings.evaluation.measures or name in {*ws.settings.evaluation.measures, "score"}:
            values[name] = (_per_prompt(measure, prompts, before), _per_prompt(measure, prompts, after))
    found = {**_compared(ws, prompts, before, after, values), "kl": _kl(ws, learner, prompts, after)}
    changes = [f"{row['name']} {row['before']['estimate']:.3f} to {row['after']['estimate']:.3f}" for row in found["comparison"]]
    return {**found, "line": f"{', '.join(changes)}, win rate {found['win_rate']['estimate']:.3f}"}


def _compared(
    ws: Workspace,
    prompts: list[Prompt],
    before: list[Completion],
    after: list[Completion],
    values: dict[str, tuple[PER_PROMPT, PER_PROMPT]],
) -> dict[str, Any]:
    from heedful.evaluation.compare import SideBySide, compare, side_by_side
    from heedful.evaluation.diversity import words
    from heedful.evaluation.overoptimisation import grown_phrases
    from heedful.evaluation.toxicity import compare_toxicity

    samples = ws.settings.evaluation.samples_per_prompt
    lengths = [_grouped([float(len(words(c.text))) for c in side], samples) for side in (before, after)]
    measures = {**values, "length": (lengths[0], lengths[1])}
    comparison = compare(_grouped(before, samples), _grouped(after, samples), measures, {"toxicity": "worse", "length": "neither"})
    rows = [
        SideBySide(
            plain_text(prompt.prompt), before[i * samples].text, after[i * samples].text, values["score"][0][i][0], values["score"][1][i][0]
        )
        for i, prompt in enumerate(prompts)
    ]
    return {
        "scored_by": SCORED_BY[ws.settings.reward.kind],
        "prompts": len(prompts),
        "samples_per_prompt": samples,
        "comparison": comparison.rows(),
        "toxicity": compare_toxicity(*values["toxicity"]).rows() if "toxicity" in values else [],
        "win_rate": _win_rate(ws, prompts, before, after, values["score"]),
        "phrases": [asdict(p) for p in grown_phrases([c.text for c in before], [c.text for c in after])],
        "side_by_side": [asdict(row) | {"gain": row.gain} for row in side_by_side(rows, ws.settings.evaluation.side_by_side)],
    }


def _win_rate(
    ws: Workspace, prompts: list[Prompt], before: list[Completion], after: list[Completion], scores: tuple[PER_PROMPT, PER_PROMPT]
) -> dict[str, Any]:
    """Judged by labelers where they can be asked, else by the reward's scores."""
    from heedful.evaluation.judge import preferences_by_scores, win_rate

    samples = ws.settings.evaluation.samples_per_prompt
    repeated = [p for p in prompts for _ in range(samples)]
    asked = ws.source.preferences(repeated, [c.text for c in before], [c.text for c in after])
    if asked is None:
        return {"judge": SCORED_BY[ws.settings.reward.kind], **win_rate([float(p) for p in preferences_by_scores(*scores)]).to_dict()}
    return {"judge": "labelers", **win_rate([float(np.mean(row)) for row in _grouped(asked, samples)]).to_dict()}


def _completions(ws: Workspace, prompts: list[Prompt], role: Role, path: Path) -> list[Completion]:
    """Sampled once, kept in the stage's folder."""
    from heedful.completions.sample import sample_completions
    from heedful.engines.sampling import LocalSampler

    if path.exists():
        return [Completion.from_dict(row) for row in read_jsonl(path)]
    chosen = ws.settings.evaluation
    found = sample_completions(
        LocalSampler(ws.network, role, say=ws.progress.say),
        ws.tokenizer,
        prompts,
        ws.encode(prompts),
        replace(ws.sampling, greedy=chosen.greedy),
        per_prompt=chosen.samples_per_prompt,
        seed=ws.settings.seed + 1,
        model="instruct" if role == "reference" else "aligned",
        progress=ws.progress,
        title="Before" if role == "reference" else "After",
    )
    write_jsonl(path, found)
    return found


def _measures(ws: Workspace, prompts: Sequence[Prompt]) -> dict[str, Any]:
    """The source's measures, as functions of prompts and completions."""
    return {name: lambda prompts, rows, f=f: f(prompts, [c.text for c in rows]) for name, f in ws.source.measures(prompts).items()}


def _scored(ws: Workspace, scorer: Scorer) -> Any:
    """The reward as a measure."""
    from heedful.engines.base import Batch

    def score(prompts: Sequence[Prompt], rows: Sequence[Completion]) -> list[float]:
        batch = Batch(ws.encode(prompts), [c.token_ids for c in rows])
        return scorer.score(prompts, [c.text for c in rows], batch)

    return score


def _per_prompt(measure: Any, prompts: list[Prompt], rows: list[Completion]) -> PER_PROMPT:
    samples = len(rows) // len(prompts)
    return _grouped(list(measure([p for p in prompts for _ in range(samples)], rows)), samples)


def _kl(ws: Workspace, learner: Any, prompts: list[Prompt], after: list[Completion]) -> dict[str, Any]:
    """Nats per completion from the reference, over the aligned policy's own completions, with an interval over prompts."""
    from heedful.engines.base import Batch
    from heedful.maths.statistics import paired_bootstrap

    samples = len(after) // len(prompts)
    batch = Batch([ids for ids in ws.encode(prompts) for _ in range(samples)], [c.token_ids for c in after])
    policy, reference = learner.evaluate(batch, "policy"), learner.evaluate(batch, "reference")
    per_completion = ((policy.logprobs - reference.logprobs) * batch.mask).sum(1).numpy()
    return paired_bootstrap(per_completion.reshape(len(prompts), samples).mean(1)).to_dict()


def _grouped(values: Sequence[Any], size: int) -> list[list[Any]]:
    return [list(values[start : start + size]) for start in range(0, len(values), size)]
