"""PPO and GRPO on one GPU, and GRPO beside trl 1.16.0 without a server where that can be imported.

    python -m benchmarks.gpu [--models 0.5b,1.5b] [--contestants ppo,grpo,trl-defaults,trl-tuned]
    python -m benchmarks.gpu --tiny --device cpu     the same code in seconds

Models are random, of Qwen2's architecture, and compute in bfloat16; heedful's weights that learn
and TRL's by default are float32. Contestants run one after the other, each as a process of its
own, on the same weights and prompts: one iteration to warm up, then the ones that are timed.
Printed: tokens a second while sampling and while learning, the share of a matrix-product rate
measured in the same run that learning and scoring reach (operations counted as in ``flops.py``),
peak memory, the card's name; last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import flops, limits, models, watch_trl
from benchmarks.meter import Meter, MeteredLearner
from benchmarks.texts import SPECIAL
from heedful.engines.base import Batch, Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.models import load_language_model
from heedful.engines.networks import LanguageNetwork
from heedful.policy.grpo import grpo_step
from heedful.policy.kl_control import FixedKL
from heedful.policy.ppo import ppo_step
from heedful.policy.rollout import collect, seeds_for
from heedful.policy.shaping import RewardScale
from heedful.records import Prompt
from heedful.settings import GrpoSettings, PpoSettings

MODELS = {
    "0.5b": {"hidden": 896, "intermediate": 4864, "layers": 24, "heads": 14, "kept": 2, "vocabulary": 151936},
    "1.5b": {"hidden": 1536, "intermediate": 8960, "layers": 28, "heads": 12, "kept": 2, "vocabulary": 151936},
    "tiny": {"hidden": 32, "intermediate": 64, "layers": 2, "heads": 2, "kept": 1, "vocabulary": 256},
}
"""As Qwen2.5 of these sizes; tiny is for tests."""
OURS, THEIRS = ("ppo", "grpo"), ("trl-defaults", "trl-tuned")
RATE_1E5 = 1e-5


@dataclass(frozen=True)
class Task:
    """What is done: ``prompts`` of varied lengths, ``per_prompt`` completions each of up to ``new_tokens``, ``iterations`` times."""

    prompts: int = 16
    per_prompt: int = 8
    shortest: int = 128
    longest: int = 512
    new_tokens: int = 256
    iterations: int = 3
    beta: float = 0.04

    @property
    def rows(self) -> int:
        """Completions of an iteration."""
        return self.prompts * self.per_prompt

    def prompt_ids(self, vocabulary: int) -> list[list[int]]:
        """Random ids for all iterations and one to warm up."""
        generator = torch.Generator().manual_seed(0)
        count = self.prompts * (self.iterations + 1)
        lengths = torch.randint(self.shortest, self.longest + 1, (count,), generator=generator).tolist()
        return [torch.randint(len(SPECIAL), vocabulary, (n,), generator=generator).tolist() for n in lengths]


TINY = Task(prompts=2, per_prompt=2, shortest=4, longest=8, new_tokens=6, iterations=1)


@dataclass(frozen=True)
class Contest:
    """One contestant on one model."""

    contestant: str
    model: str
    folder: Path
    device: str
    task: Task

    def run(self) -> dict[str, Any]:
        """Its figures."""
        if self.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        found = self._ours() if self.contestant in OURS else self._theirs()
        memory = torch.cuda.max_memory_allocated() if self.device.startswith("cuda") else 0
        return {"contestant": self.contestant, "model": self.model, **found, "peak_memory": memory}

    def _ours(self) -> dict[str, Any]:
        model = load_language_model(str(self.folder), device=self.device)
        shape, meter, tokenizer = flops.shape_of(model), Meter(), word_tokenizer(self.folder)
        network = LanguageNetwork(model, tokenizer, with_value=self.contestant == "ppo", precision=torch.bfloat16)
        learner = MeteredLearner(LocalLearner(network, "policy", Optimiser(RATE_1E5)), shape, meter)
        prompts = self.task.prompt_ids(shape_vocabulary(model))
        for iteration in range(self.task.iterations + 1):
            if iteration == 1:  # the first was to warm up
                meter.clear()
            some = prompts[iteration * self.task.prompts : (iteration + 1) * self.task.prompts]
            self._iterate(learner, tokenizer, [ids for ids in some for _ in range(self.task.per_prompt)], iteration)
        operations, seconds = meter.arithmetic
        phases, tokens = meter.seconds, meter.tokens
        return {
            "seconds": sum(phases.values()) / self.task.iterations,
            "sampled_per_second": tokens["sampling"] / phases["sampling"],
            "learnt_per_second": tokens["learning"] / phases["learning"],
            "operations_per_second": operations / seconds,
            "phases": phases,
        }

    def _iterate(self, learner: MeteredLearner, tokenizer: Any, prompts: Sequence[Sequence[int]], iteration: int) -> None:
        names = [Prompt(str(row), "") for row in range(len(prompts))]
        seeds = seeds_for(0, iteration, n=len(prompts))
        experience = collect(learner, tokenizer, _DistinctWords(), names, prompts, Sampling(self.task.new_tokens), seeds)
        rows, beta = self.task.rows, self.task.beta
        same: dict[str, Any] = {"batch_size": rows, "minibatch_size": rows, "epochs": 1, "kl_coef": beta}
        if self.contestant == "ppo":
            ppo_step(learner, experience, RewardScale(), FixedKL(beta), PpoSettings(**same), seed=iteration)
            return
        settings = GrpoSettings(**same, completions_per_prompt=self.task.per_prompt, kl_estimator="k3")
        grpo_step(learner, experience, RewardScale(), FixedKL(beta), settings, seed=iteration)

    def _theirs(self) -> dict[str, Any]:
        tokenizer, task = word_tokenizer(self.folder), self.task
        shape = flops.shape_of(load_language_model(str(self.folder), device="cpu"))
        prompts = task.prompt_ids(shape.head // MODELS[self.model]["hidden"])
        watched = watch_trl.grpo(
            str(self.folder),
            tokenizer,
            [tokenizer.decode(ids) for ids in prompts],
            tuned=self.contestant == "trl-tuned",
            cpu=self.device == "cpu",
            **{name: getattr(task, name) for name in ("prompts", "per_prompt", "new_tokens", "iterations", "beta")},
        )
        rows = [(len(ids), [task.new_tokens] * task.per_prompt) for ids in prompts[: task.prompts * task.iterations]]
        learnt = sum(p + sum(completions) for p, completions in rows)
        # As ours: the policy learns, the reference scores.
        operations = flops.training(shape, rows) + flops.forward(shape, rows)
        learning = watched["seconds"] - watched["sampling"]
        return {
            "seconds": watched["seconds"] / task.iterations,
            "sampled_per_second": watched["sampled"] / watched["sampling"],
            "learnt_per_second": learnt / learning,
            "operations_per_second": operations / learning,
            "phases": {"sampling": watched["sampling"], "scoring and learning": learning},
        }


class _DistinctWords:
    def score(self, prompts: Sequence[Prompt], texts: Sequence[str], batch: Batch) -> list[float]:
        """The same score as TRL gets."""
        return watch_trl.distinct_words(list(texts))


def prepare(model: str, folder: Path, device: str) -> None:
    """Random weights in bfloat16 and a tokenizer of made-up words, as a Hugging Face folder."""
    made = models.qwen2(**MODELS[model], device=device)
    made.to(torch.bfloat16).save_pretrained(folder)
    words = {**{word: number for number, word in enumerate(SPECIAL)}}
    words |= {f"w{number}": number for number in range(len(SPECIAL), MODELS[model]["vocabulary"])}
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    core = Tokenizer(WordLevel(words, unk_token=SPECIAL[0]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.save(str(folder / "tokenizer.json"))


def word_tokenizer(folder: Path) -> Any:
    """One word per id, so that text and ids are the same thing."""
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": SPECIAL[0], "bos_token": SPECIAL[1], "eos_token": SPECIAL[2]}
    return PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), padding_side="left", **names)


def shape_vocabulary(model: Any) -> int:
    """Rows of the head."""
    return int(model.get_output_embeddings().weight.shape[0])
