"""The loop of reinforcement learning: experience, improvement, held-out evaluation, checkpoint.

An :class:`Algorithm` says what a rollout is and how the policy improves by it; PPO and GRPO are two.
A run killed at any moment goes on from the last completed unit of work: the checkpoint of the
last iteration, and the rollout of the next one where sampling had finished.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from heedful.engines.base import Learner, Sampling, Scorer
from heedful.errors import HeedfulError, ModelProblem
from heedful.policy.kl_control import KLControl
from heedful.policy.reference import check_neutral_start
from heedful.policy.rollout import Experience, collect, data_order, seeds_for
from heedful.policy.shaping import RewardScale
from heedful.policy.stopping import Stopping
from heedful.policy.updates import Metrics
from heedful.progress import Progress
from heedful.records import Prompt
from heedful.run import Checkpoints
from heedful.settings import ReinforcementSettings, RewardSettings


class Algorithm(Protocol):
    """What a rollout is, and how the policy improves by one."""

    @property
    def name(self) -> str:
        """As people say it."""
        ...

    @property
    def settings(self) -> ReinforcementSettings:
        """Its section of the settings."""
        ...

    @property
    def completions_per_prompt(self) -> int:
        """Rows of a rollout that answer the same prompt; they stand next to each other."""
        ...

    @property
    def kl_estimator(self) -> str:
        """How the KL of a rollout is measured: ``k1``, ``k3`` or ``exact``."""
        ...

    @property
    def exact_kl(self) -> bool:
        """Does the loss ask for the exact KL?"""
        ...

    @property
    def kl_control(self) -> KLControl:
        """The price of leaving the reference; all that an algorithm remembers from one rollout to the next."""
        ...

    def improve(self, learner: Learner, experience: Experience, scale: RewardScale, seed: int) -> Metrics:
        """Learn from one rollout; metrics, among them ``policy/first_ratio``."""
        ...


@dataclass
class Reinforcement:
    """Everything an RL run works with; ``train`` does the work."""

    learner: Learner
    tokenizer: Any
    scorer: Scorer
    prompts: Sequence[Prompt]
    prompt_ids: Sequence[Sequence[int]]
    sampling: Sampling
    algorithm: Algorithm
    reward: RewardSettings
    stopping: Stopping
    evaluate_every: int
    evaluate: Callable[[int], Metrics]
    folder: Path
    log: Callable[[int, Metrics], None]
    progress: Progress
    seed: int = 0

    def __post_init__(self) -> None:
        warn = self.progress.say
        self.checkpoints = Checkpoints(self.folder / "checkpoints", keep=2, warn=warn)
        self.rollouts = Checkpoints(self.folder / "rollouts", keep=1, warn=warn)
        self.best = Checkpoints(self.folder / "best", keep=1, warn=warn)
        self.settings = self.algorithm.settings
        self.scale: RewardScale | None = None
        self.step = 0

    def train(self) -> Stopping:
        """Iterate until a stopping rule speaks; the learner ends with the best held-out weights."""
        self._resume()
        if not self.stopping.history:
            self._hold_out()
            self.checkpoints.save(0, self._save)
        if self.step >= self.settings.max_steps and self.stopping.reason is None:  # fewer are wanted now than were to be made
            self._hold_out()
        with self.progress.track(self.settings.max_steps, self.algorithm.name) as bar:
            bar.advance(self.step)
            while self.stopping.reason is None:
                metrics = self._iterate()
                self.log(self.step, metrics)
                if self.step % self.evaluate_every == 0 or self.step >= self.settings.max_steps:
                    self._hold_out()
                if self.step % self.settings.checkpoint_every == 0 or self.stopping.reason:
                    self.checkpoints.save(self.step, self._save)
                bar.advance(1, score=metrics["objective/score"], kl=metrics["objective/kl"])
        self.rollouts.clear()  # all are learnt from
        self._load_best()
        return self.stopping

    def _iterate(self) -> Metrics:
        experience = self._experience()
        if self.scale is None:
            cut = self.reward.truncated_penalty if self.reward.truncated == "penalty" else None
            self.scale = RewardScale.fit(experience.scores, normalise=self.reward.normalise, clip=self.reward.clip, truncated_score=cut)
        if self.step == 0:
            check_neutral_start(self.learner, experience.batch)
        [seed] = seeds_for(self.seed, self.step, 1, n=1)
        try:
            metrics = self.algorithm.improve(self.learner, experience, self.scale, seed)
        except HeedfulError as error:
            raise type(error)(f"{self.algorithm.name} iteration {self.step + 1}: {error.what}", error.next_step) from None
        if self.step == 0 and abs(metrics["policy/first_ratio"] - 1) > self.learner.rounding:
            raise ModelProblem(
                f"the first ratio is {metrics['policy/first_ratio']:.6f}, not 1",
                "The model gives different numbers for the same input; is there dropout or noise in it?",
            )
        self.step += 1
        return metrics

    def _experience(self) -> Experience:
        """This iteration's rollout: the one on disk where sampling had finished before a kill."""
        kept = self.rollouts.newest()
        if kept and kept[0] == self.step:
            return Experience.load(kept[1])
        size, each = self.settings.batch_size, self.algorithm.completions_per_prompt
        order = data_order(len(self.prompts), self.step * (size // each), size // each, self.seed)
        rows = [row for row in order for _ in range(each)]
        experience = collect(
            self.learner,
            self.tokenizer,
            self.scorer,
            [self.prompts[r] for r in rows],
            [self.prompt_ids[r] for r in rows],
            self.sampling,
            seeds_for(self.seed, self.step, 0, n=size),
            self.algorithm.kl_estimator,
            untrained=self.step == 0,
            exact_kl=self.algorithm.exact_kl,
        )
        self.rollouts.save(self.step, experience.save)
        return experience

    def _hold_out(self) -> None:
        figures = self.evaluate(self.step)
        self.log(self.step, {f"held_out/{name}": value for name, value in figures.items()})
        if self.stopping.update(self.step, figures):
            self.best.save(self.step, self.learner.save)

    def _save(self, folder: Path) -> None:
        self.learner.save(folder)
        state = {
            "step": self.step,
            "stopping": self.stopping.state_dict(),
            "kl_control": self.algorithm.kl_control.state_dict(),
            "scale": None if self.scale is None else asdict(self.scale),
        }
        (folder / "reinforcement.json").write_text(json.dumps(state, indent=1))

    def _resume(self) -> None:
        newest = self.checkpoints.newest()
        if newest is None:
            return
        self.learner.load(newest[1])
        state = json.loads((newest[1] / "reinforcement.json").read_text())
        self.step = state["step"]
        self.stopping.load_state_dict(state["stopping"], self.step)
        self.algorithm.kl_control.load_state_dict(state["kl_control"])
        self.scale = None if state["scale"] is None else RewardScale(**state["scale"])
        self.progress.say(f"Going on from {self.algorithm.name} step {self.step}.")

    def _load_best(self) -> None:
        if self.stopping.best is None:
            return
        newest = self.best.newest()
        if newest and newest[0] == self.stopping.best_step:
            self.learner.load(newest[1])
            return
        self.progress.say(
            f"Warning: the best weights, of step {self.stopping.best_step}, cannot be read in {self.best.folder}; "
            f"those of the last step, {self.step}, are kept instead."
        )
        self.stopping.best, self.stopping.best_step = self.stopping.history[-1][self.stopping.metric], self.step
