"""Reinforcement learning, wired: the learner, the reward, held-out evaluation, and what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from heedful.jobs.reward import open_reward
from heedful.jobs.workspace import Measure, Workspace
from heedful.progress import Progress, SilentProgress
from heedful.records import Prompt
from heedful.run import read_metrics
from heedful.settings import ReinforcementSettings, Settings

if TYPE_CHECKING:
    from heedful.engines.base import Learner, Sampling, Scorer
    from heedful.engines.local import LocalLearner, Optimiser
    from heedful.policy.reinforce import Algorithm

FIGURES = ("score", "kl", "length", "repetition", "entropy")
"""What every held-out evaluation measures, whatever the source of prompts."""


def reinforce(ws: Workspace, folder: Path) -> dict[str, Any]:
    """PPO or GRPO until a stopping rule speaks; the best held-out policy as Hugging Face folders."""
    from heedful.engines.export import save_language_model
    from heedful.policy.reinforce import Reinforcement
    from heedful.policy.stopping import Stopping

    algorithm, stopping = open_algorithm(ws.settings), ws.settings.stopping
    chosen = algorithm.settings
    prompts, learner, scorer = ws.prompts("train"), policy_learner(ws, optimiser_of(chosen)), open_reward(ws)
    reinforcement = Reinforcement(
        learner=learner,
        tokenizer=ws.tokenizer,
        scorer=scorer,
        prompts=prompts,
        prompt_ids=ws.encode(prompts),
        sampling=ws.sampling,
        algorithm=algorithm,
        reward=ws.settings.reward,
        stopping=Stopping(stopping.metric, stopping.target, stopping.direction, stopping.kl_budget, stopping.patience, chosen.max_steps),
        evaluate_every=stopping.evaluate_every,
        evaluate=held_out(ws, learner, scorer),
        folder=folder,
        log=ws.log("policy"),
        progress=ws.progress,
        seed=ws.settings.seed,
    )
    stopped = reinforcement.train()
    learner.save(folder / "state")
    save_language_model(ws.network, folder)
    best = f"best {stopping.metric} {stopped.best:.4g} at step {stopped.best_step}"
    line = f"stopped by {stopped.reason} after {reinforcement.step} steps, {best}"
    figures = {"stopped_by": stopped.reason, "steps": reinforcement.step, "best_step": stopped.best_step, "best": stopped.best}
    return {"line": line, **figures, "history": stopped.history}


def reopen(ws: Workspace) -> None:
    """Where all steps were done and the settings now allow more, the stage goes on, though it had finished."""
    limit = getattr(ws.settings.algorithm, "max_steps", 0)  # DPO counts epochs
    ws.run.reopen("policy", lambda result: result["stopped_by"] == "max_steps" and result["steps"] < limit)


def open_algorithm(settings: Settings) -> Algorithm:
    """PPO or GRPO, as the settings say."""
    from heedful.policy.grpo import GRPO
    from heedful.policy.ppo import PPO

    return GRPO(settings.grpo) if settings.policy.algorithm == "grpo" else PPO(settings.ppo)


def optimiser_of(chosen: ReinforcementSettings) -> Optimiser:
    """The optimiser of PPO or GRPO: its schedule counts iterations, an optimiser counts its own steps."""
    from heedful.engines.local import Optimiser

    updates = chosen.epochs * -(-chosen.batch_size // chosen.minibatch_size)
    return Optimiser(
        chosen.learning_rate,
        weight_decay=chosen.weight_decay,
        max_grad_norm=chosen.max_grad_norm,
        warmup_steps=chosen.warmup_steps * updates,
        schedule=chosen.schedule,
        total_steps=chosen.max_steps * updates,
    )


def policy_learner(ws: Workspace, optimiser: Optimiser | None = None) -> LocalLearner:
    """The learner of the policy, and of its value where it has one, at the temperature that it writes with."""
    from heedful.engines.local import Optimiser

    return ws.learner("policy", optimiser or Optimiser(), temperature=ws.settings.algorithm.temperature)


def held_out(ws: Workspace, learner: Learner, scorer: Scorer) -> HeldOut:
    """The evaluation on validation prompts that decides when to stop."""
    stopping = ws.settings.stopping
    prompts = [p for p in ws.prompts("validation") for _ in range(stopping.samples_per_prompt)]
    monitor = open_reward(ws, "monitor") if ws.learns_reward else None
    measures, seed = ws.source.measures(prompts), ws.settings.seed
    return HeldOut(learner, ws.tokenizer, scorer, monitor, prompts, ws.encode(prompts), ws.sampling, measures, seed, ws.progress)


@dataclass
class HeldOut:
    """The policy as it is now, on the same held-out prompts with the same seeds each time."""

    learner: Learner
    tokenizer: Any
    scorer: Scorer
    monitor: Scorer | None
    prompts: Sequence[Prompt]
    prompt_ids: Sequence[Sequence[int]]
    sampling: Sampling
    measures: dict[str, Measure]
    seed: int
    progress: Progress = field(default_factory=SilentProgress)

    def __call__(self, step: int) -> dict[str, float]:
        """Score, KL, length, repetition, entropy, the monitor's score and every measure: means over completions."""
        with self.progress.track(None, "held out"):
            return self._measure()

    def _measure(self) -> dict[str, float]:
        from heedful.evaluation.diversity import repetition, words
        from heedful.policy.rollout import collect, seeds_for

        seeds = seeds_for(self.seed, 1 << 20, n=len(self.prompts))
        seen = collect(self.learner, self.tokenizer, self.scorer, self.prompts, self.prompt_ids, self.sampling, seeds)
        found: dict[str, Any] = {
            "score": seen.scores.numpy(),
            "kl": (seen.kl * seen.batch.mask).sum(1).numpy(),
            "length": seen.batch.mask.sum(1).numpy(),
            "repetition": [repetition(words(text), 3) for text in seen.texts],
            "entropy": self._entropy(seen),
        }
        if self.monitor is not None:
            found["held_out_score"] = self.monitor.score(self.prompts, seen.texts, seen.batch)
        for name, measure in self.measures.items():
            found[name] = measure(self.prompts, seen.texts)
        return {name: float(np.mean(values)) for name, values in found.items()} | {
            f"{name}_se": standard_error(values) for name, values in found.items()
        }

    def _entropy(self, seen: Any) -> list[float]:
        """Mean entropy per token of each completion, estimated by what was sampled: -log pi."""
        lengths = seen.batch.mask.sum(1).clamp(min=1)
        return (-(seen.logprobs * seen.batch.mask).sum(1) / lengths).tolist()


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; 0 for a single value."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else 0.0


def curves(ws: Workspace) -> list[dict[str, Any]]:
    """One row per held-out evaluation, with the training score of that step beside it, as the report draws it."""
    rows = read_metrics(ws.run.folder, "policy")
    training = {row["step"]: row["objective/score"] for row in rows if "objective/score" in row}
    found = []
    for row in rows:
        if "held_out/score" in row:
            held = {name.removeprefix("held_out/"): value for name, value in row.items() if name.startswith("held_out/")}
            found.append(
                {
                    "step": row["step"],
                    "train_score": training.get(row["step"]),
                    "task_metric": held.get("task"),
                    "task_metric_se": held.get("task_se"),
                    **held,
                }
            )
    return found
