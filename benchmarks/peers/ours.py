"""Every row on heedful. ``python -m benchmarks.peers.ours FOLDER RESULT VARIANT``: ``auto`` or ``float32`` is the
precision of the arithmetic, ``decoding`` measures a decoding step, ``check`` compares with what the peer wrote."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks import flops
from benchmarks.meter import Meter, MeteredLearner, decoding_step
from benchmarks.peers.work import Work, distinct_words
from heedful.engines.base import Batch, Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.models import choose_precision, load_language_model
from heedful.engines.networks import LanguageNetwork, Lora
from heedful.policy.dpo import DPOLoss, pair_batch, train_dpo, with_reference
from heedful.policy.grpo import grpo_step
from heedful.policy.kl_control import FixedKL
from heedful.policy.ppo import ppo_step
from heedful.policy.rollout import Experience, collect, seeds_for
from heedful.policy.shaping import RewardScale
from heedful.progress import SilentProgress
from heedful.records import Pair, Prompt
from heedful.reward.score import SharedRewardModel
from heedful.reward.train import PairSet, encode_pairs, train_reward
from heedful.settings import GrpoSettings, PpoSettings

CPU = torch.device("cpu")
DECODED = 32
"""Rows of the decoding step that is measured."""


class Side:
    """heedful's side of one row in one precision: learners over the row's weights, under one meter."""

    def __init__(self, work: Work, precision: torch.dtype) -> None:
        self.work, self.settings, self.precision = work, work.settings, precision
        self.tokenizer, self.meter = work.tokenizer(), Meter()

    def policy(self, name: str = "policy", value: str | None = None) -> MeteredLearner:
        """A learner of the policy. With all weights learning its reference is the row's ``policy`` always; adapters start at nothing,
        so that under them both are ``name``."""
        rank = self.settings.get("rank")
        lora = Lora(rank, rank, ("q", "v")) if rank else None
        model = load_language_model(self.work.model(name if lora else "policy"), device="cpu")
        self.shape = flops.shape_of(model)
        network = LanguageNetwork(
            model, self.tokenizer, roles=("policy", "reference"), lora=lora, with_value=self.with_value, precision=self.precision
        )
        if name != "policy" and lora is None:
            network.model.load_state_dict(load_language_model(self.work.model(name), device="cpu").state_dict())
        if value is not None:
            assert network.value_head is not None
            network.value_head.load_state_dict({"weight": score_weight(self.work.model(value)), "bias": torch.zeros(1)})
        return self.watched(LocalLearner(network, "policy", self.optimiser, temperature=self.settings.get("temperature", 1.0)))

    def reward(self) -> MeteredLearner:
        """A learner of the reward model: the trunk of the row's classifier, and its head."""
        model = AutoModelForCausalLM.from_pretrained(
            self.work.model("reward"), dtype=torch.float32
        )  # the trunk; heedful refuses classifiers
        self.shape = flops.shape_of(model)
        network = LanguageNetwork(model, self.tokenizer, roles=("reward",), precision=self.precision)
        network.score_heads["reward"].load_state_dict({"weight": score_weight(self.work.model("reward"))})
        return self.watched(LocalLearner(network, "reward", self.optimiser))

    def watched(self, learner: LocalLearner) -> MeteredLearner:
        """Under this side's meter."""
        return MeteredLearner(learner, self.shape, self.meter)

    @property
    def with_value(self) -> bool:
        """Does the row need a value?"""
        return self.settings["row"] in ("ppo", "encoder-decoder")

    @property
    def optimiser(self) -> Optimiser:
        """The row's learning rate; gradients are clipped, as heedful always does."""
        return Optimiser(self.settings["learning_rate"])

    def experience(self, learner: MeteredLearner, scorer: Any, prompts: Sequence[Sequence[int]], iteration: int) -> Experience:
        """One rollout, looked at twice in the first iteration, as in a run."""
        names = [Prompt(str(row), "") for row in range(len(prompts))]
        sampling = Sampling(self.settings["new_tokens"], self.settings.get("temperature", 1.0))
        seeds = seeds_for(0, iteration, n=len(prompts))
        return collect(learner, self.tokenizer, scorer, names, prompts, sampling, seeds, untrained=iteration == 0)


class DistinctTokens:
    """A score that costs nothing: the different tokens of a completion."""

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str], batch: Batch) -> list[float]:
        """One count per row."""
        return [float(len(set(ids))) for ids in batch.completion_ids]


class DistinctWords:
    """The different words of a completion: the score that the peer's GRPO gets, too."""

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str], batch: Batch) -> list[float]:
        """One count per row."""
        return distinct_words(texts)


def ppo(side: Side) -> int:
    """Both rows of PPO: with a reward model of the policy's size, or with LoRA on an encoder-decoder and a free score."""
    settings, batch = side.settings, side.settings["batch"]
    chosen = ppo_settings(settings, batch)
    scorer = SharedRewardModel(side.reward()) if settings["row"] == "ppo" else DistinctTokens()
    learner, scale = side.policy(value="value" if settings["row"] == "ppo" else None), None
    with side.work.timed():
        for i in range(settings["iterations"]):
            experience = side.experience(learner, scorer, side.work.prompts[i * batch : (i + 1) * batch], i)
            scale = scale or RewardScale.fit(experience.scores, normalise=True, clip=5.0, truncated_score=None)
            ppo_step(learner, experience, scale, FixedKL(chosen.kl_coef), chosen, seed=i)
    return learner.learner.steps


def ppo_settings(settings: dict[str, Any], batch: int) -> PpoSettings:
    """What differs from the peer's defaults is nothing but what the row says."""
    return PpoSettings(
        batch_size=batch, minibatch_size=settings.get("minibatch", batch), epochs=settings.get("epochs", 1), kl_coef=settings["kl_coef"]
    )


def grpo(side: Side) -> int:
    """Completions of one prompt stand together."""
    settings, count = side.settings, side.settings["prompts"]
    chosen, learner = grpo_settings(settings), side.policy()
    with side.work.timed():
        for i in range(settings["rollouts"]):
            prompts = [ids for ids in side.work.prompts[i * count : (i + 1) * count] for _ in range(settings["per_prompt"])]
            experience = side.experience(learner, DistinctWords(), prompts, i)
            grpo_step(learner, experience, RewardScale(), FixedKL(chosen.kl_coef), chosen, seed=i)
    return learner.learner.steps


def grpo_settings(settings: dict[str, Any]) -> GrpoSettings:
    """The KL by the tokens drawn, as the peer has it: heedful's own default is the exact sum."""
    rows = settings["prompts"] * settings["per_prompt"]
    return GrpoSettings(
        batch_size=rows,
        minibatch_size=rows,
        completions_per_prompt=settings["per_prompt"],
        epochs=settings["iterations"],
        kl_coef=settings["beta"],
        kl_estimator="k3",
        clip=settings["clip"],
    )


def reward(side: Side) -> int:
    """One epoch over the pairs."""
    learner, pairs = side.reward(), pair_set(side.work)
    with side.work.timed():
        train_reward(learner, pairs, epochs=1, batch_size=side.settings["batch"], seed=0, **quietly(side.work))
    return learner.learner.steps


def pair_set(work: Work) -> PairSet:
    """The row's pairs, by prompt."""
    rows = {pair["prompt"]: pair for pair in work.pairs}

    def encode(pair: Pair, chosen: bool) -> tuple[list[int], list[int]]:
        ids = rows[str(pair.prompt)]
        return ids["prompt_ids"], ids["chosen_ids" if chosen else "rejected_ids"]

    return encode_pairs([Pair(pair["prompt"], pair["chosen"], pair["rejected"]) for pair in work.pairs], encode)


def dpo(side: Side) -> int:
    """The reference's log-probabilities, then one epoch."""
    settings, learner, pairs = side.settings, side.policy(), dpo_pairs(side.work)
    with side.work.timed():
        known = with_reference(learner, pairs, fresh_folder(side.work) / "reference.safetensors")
        train_dpo(learner, known, DPOLoss(settings["beta"]), epochs=1, batch_size=settings["batch"], seed=0, **quietly(side.work))
    return learner.learner.steps


def dpo_pairs(work: Work) -> Batch:
    """The row's pairs, two rows each."""
    rows = [(pair["prompt_ids"], pair["chosen_ids"], pair["rejected_ids"]) for pair in work.pairs]
    return pair_batch(rows, [1.0] * len(rows))


def quietly(work: Work) -> dict[str, Any]:
    """A folder for checkpoints (too few steps are made for one), and nobody who listens."""
    return {"folder": fresh_folder(work), "log": lambda *_: None, "progress": SilentProgress()}


def fresh_folder(work: Work) -> Path:
    """An empty folder beside the result."""
    folder = work.result.with_suffix(".run")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def score_weight(folder: str) -> torch.Tensor:
    """The score head ``[1, H]`` of a saved classifier."""
    from safetensors.torch import load_file

    return load_file(f"{folder}/model.safetensors")["score.weight"]


def decoding(side: Side) -> dict[str, Any]:
    """One step of 32 rows; GRPO's share prompts."""
    settings, learner = side.settings, side.policy().learner
    per_prompt = settings.get("per_prompt", 1)
    prompts = [ids for ids in side.work.prompts[: DECODED // per_prompt] for _ in range(per_prompt)]
    return {"decoding": asdict(decoding_step(learner, side.shape, prompts, settings["new_tokens"]))}


ROWS = {"ppo": ppo, "encoder-decoder": ppo, "reward": reward, "dpo": dpo, "grpo": grpo}


def main() -> None:
    work = Work.from_command_line()
    if work.variant == "check":
        from benchmarks.peers.agreement import differences

        work.finish(differences=differences(work))
        return
    side = Side(work, choose_precision("auto" if work.variant == "decoding" else work.variant, CPU))
    more = decoding(side) if work.variant == "decoding" else {"optimiser_steps": ROWS[work.settings["row"]](side)}
    work.finish(precision=str(side.precision).removeprefix("torch."), **side.meter.report(), **more)


if __name__ == "__main__":
    main()
