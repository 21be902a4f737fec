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
    from heedful.engines.networks import LanguageNetwork
    from heedful.evaluation.compare import HigherIs
    from heedful.progress import Bar

Reader = tuple[list[list[int]], Any, "Role"]
"""The prompts' ids, a learner and its role: who says how likely a completion is."""

SCORED_BY = {
    "learn": "reward model",
    "pairs": "reward model",
    "model": "reward model",
    "classifier": "classifier",
    "function": "reward function",
}
"""What gives the scores, by ``reward.kind``."""

HIGHER_IS: dict[str, HigherIs] = {"toxicity": "worse", "length": "neither"}
"""Of measures where more is not better."""

AT_ONCE = 64
"""Prompts measured between two signs of progress."""

PER_PROMPT = list[list[float]]
"""``[prompt][sample]``"""


def evaluate(ws: Workspace, folder: Path) -> dict[str, Any]:
    """Every measure before and after, paired by prompt, each with its interval."""
    learner = policy_learner(ws)
    learner.load(ws.folder("policy") / "state")
    prompts = ws.prompts("test")[: ws.settings.evaluation.max_prompts]
    before = draw(ws, ws.network, "reference", prompts, folder / "before.jsonl")
    after = draw(ws, ws.network, "policy", prompts, folder / "after.jsonl")
    found = compared(ws, open_reward(ws), prompts, before, after)
    ids = ws.encode(prompts)
    found["kl"] = nats(ws, after, (ids, learner, "policy"), (ids, learner, "reference"))
    return {**found, "line": line_of(found)}


def line_of(found: dict[str, Any]) -> str:
    """What came out, in a line."""
    changes = [f"{row['name']} {row['before']['estimate']:.3f} to {row['after']['estimate']:.3f}" for row in found["comparison"]]
    return f"{', '.join(changes)}, win rate {found['win_rate']['estimate']:.3f}"


def compared(ws: Workspace, scorer: Scorer, prompts: list[Prompt], before: list[Completion], after: list[Completion]) -> dict[str, Any]:
    """The measures that the settings ask for, and all that is said of the two models' texts."""
    wanted = ws.settings.evaluation.measures
    measures = {**_measures(ws, prompts), "score": _scored(ws, scorer)}
    asked = {name: measure for name, measure in measures.items() if not wanted or name in {*wanted, "score"}}
    with ws.progress.track(2 * len(asked) * len(prompts), "Measures") as bar:
        values = {name: (_per_prompt(m, prompts, before, bar), _per_prompt(m, prompts, after, bar)) for name, m in asked.items()}
    return _compared(ws, prompts, before, after, values)


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
    changes: list[dict[str, Any]] = []
    with ws.progress.track(len(measures), "Intervals") as bar:
        for name, both in measures.items():
            changes += compare(_grouped(before, samples), _grouped(after, samples), {name: both}, HIGHER_IS).rows()
            bar.advance()
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
        "comparison": changes,
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


def draw(ws: Workspace, network: LanguageNetwork, role: Role, prompts: list[Prompt], path: Path) -> list[Completion]:
    """What a model writes to the prompts: sampled once, kept in a file named ``before`` or ``after``."""
    from heedful.completions.sample import sample_completions
    from heedful.engines.sampling import LocalSampler

    if path.exists():
        return [Completion.from_dict(row) for row in read_jsonl(path)]
    chosen = ws.settings.evaluation
    found = sample_completions(
        LocalSampler(network, role, say=ws.progress.say),
        network.tokenizer,
        prompts,
        ws.encode(prompts, network),
        replace(ws.sampling, greedy=chosen.greedy),
        per_prompt=chosen.samples_per_prompt,
        seed=ws.settings.seed + 1,
        model="instruct" if path.stem == "before" else "aligned",
        progress=ws.progress,
        title=path.stem.capitalize(),
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


def _per_prompt(measure: Any, prompts: list[Prompt], rows: list[Completion], bar: Bar) -> PER_PROMPT:
    samples, found = len(rows) // len(prompts), []
    for start in range(0, len(prompts), AT_ONCE):
        part = prompts[start : start + AT_ONCE]
        found += list(measure([p for p in part for _ in range(samples)], rows[start * samples : (start + len(part)) * samples]))
        bar.advance(len(part))
    return _grouped(found, samples)


def nats(ws: Workspace, after: list[Completion], policy: Reader, reference: Reader) -> dict[str, Any]:
    """KL per completion from the reference, over the aligned policy's own completions, with an interval over prompts."""
    from heedful.engines.base import Batch
    from heedful.maths.statistics import paired_bootstrap

    prompts, found = len(policy[0]), []
    samples = len(after) // prompts
    with ws.progress.track(prompts, "KL") as bar:
        for start in range(0, prompts, AT_ONCE):
            part = range(start, min(start + AT_ONCE, prompts))
            completions = [c.token_ids for c in after[start * samples : (part.stop) * samples]]
            sums = []
            for ids, learner, role in (policy, reference):
                batch = Batch([ids[i] for i in part for _ in range(samples)], completions)
                sums.append((learner.evaluate(batch, role).logprobs * batch.mask).sum(1))
            found += (sums[0] - sums[1]).tolist()
            bar.advance(len(part))
    return paired_bootstrap(np.array(found).reshape(prompts, samples).mean(1)).to_dict()


def _grouped(values: Sequence[Any], size: int) -> list[list[Any]]:
    return [list(values[start : start + size]) for start in range(0, len(values), size)]
