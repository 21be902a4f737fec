"""PPO and GRPO on one GPU, and GRPO beside trl 1.16.0 without a server where that can be imported.

    python -m benchmarks.gpu [--models 0.5b,1.5b] [--contestants ppo,grpo,trl-defaults,trl-tuned]
    python -m benchmarks.gpu --tiny --device cpu     the same code in seconds

Models are random, of Qwen2's architecture, and compute in bfloat16; heedful's weights that learn
are float32, as are TRL's at its defaults. Contestants run one after the other, each as a process
of its own, on the same weights and prompts: one iteration to warm up, then those that are timed.
Printed: tokens a second while sampling and while scoring and learning, the share of the card's
measured matrix-product rate that scoring and learning reach (operations are counted as in
``flops.py``), peak memory, the card's name; last, one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks import flops, limits, models, trl_gpu
from benchmarks.meter import Meter, MeteredLearner
from benchmarks.peers.ours import DistinctWords
from benchmarks.peers.runs import processor
from benchmarks.texts import SPECIAL, open_tokenizer
from heedful.engines.base import Sampling
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
"""The sizes of Qwen2.5; tiny is for tests."""
OURS, THEIRS = ("ppo", "grpo"), ("trl-defaults", "trl-tuned")
LARGE = 8192


@dataclass(frozen=True)
class Task:
    """Each iteration: ``prompts`` of varied lengths, ``per_prompt`` completions of up to ``new_tokens``, one optimiser step."""

    prompts: int = 16
    per_prompt: int = 8
    shortest: int = 128
    longest: int = 512
    new_tokens: int = 256
    iterations: int = 3
    beta: float = 0.04

    def prompt_ids(self, vocabulary: int) -> list[list[int]]:
        """Random ids, for one iteration more: the first warms up."""
        draw, count = torch.Generator().manual_seed(0), self.prompts * (self.iterations + 1)
        lengths = torch.randint(self.shortest, self.longest + 1, (count,), generator=draw).tolist()
        return [torch.randint(len(SPECIAL), vocabulary, (n,), generator=draw).tolist() for n in lengths]


TINY = Task(prompts=2, per_prompt=2, shortest=4, longest=8, new_tokens=6, iterations=1)


@dataclass(frozen=True)
class Figures:
    """Of one contestant: seconds an iteration, tokens a second by phase, operations a second of scoring and learning, peak bytes."""

    contestant: str
    model: str
    seconds: float
    sampling: float
    learning: float
    operations: float
    memory: int


def contest(contestant: str, model: str, folder: Path, device: str, task: Task) -> Figures:
    """Run one contestant in this process."""
    prompts = task.prompt_ids(MODELS[model]["vocabulary"])
    run = ours if contestant in OURS else theirs
    found = run(contestant, folder, device, task, prompts)
    memory = torch.cuda.max_memory_allocated() if device.startswith("cuda") else 0
    return Figures(contestant, model, **found, memory=memory)


def ours(contestant: str, folder: Path, device: str, task: Task, prompts: Sequence[list[int]]) -> dict[str, float]:
    """heedful's PPO or GRPO, as a run does them, without checkpoints."""
    model, tokenizer, meter = load_language_model(str(folder), device=device), word_tokenizer(folder), Meter()
    shape = flops.shape_of(model)
    network = LanguageNetwork(model, tokenizer, with_value=contestant == "ppo", precision=torch.bfloat16)
    learner = MeteredLearner(LocalLearner(network, "policy", Optimiser(1e-5)), shape, meter)
    began = finished()
    for iteration in range(task.iterations + 1):
        if iteration == 1:  # the first warmed up
            meter.clear()
            began = finished()
        some = prompts[iteration * task.prompts : (iteration + 1) * task.prompts]
        improve(contestant, learner, tokenizer, [ids for ids in some for _ in range(task.per_prompt)], task, iteration)
    took, (operations, seconds) = finished() - began, meter.arithmetic
    return {
        "seconds": took / task.iterations,
        "sampling": meter.tokens["sampling"] / meter.seconds["sampling"],
        "learning": meter.tokens["learning"] / seconds,
        "operations": operations / seconds,
    }


def finished() -> float:
    """The time on the clock once everything that the accelerator was given is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def improve(contestant: str, learner: MeteredLearner, tokenizer: Any, prompts: Sequence[list[int]], task: Task, iteration: int) -> None:
    """One rollout and one optimiser step."""
    names, seeds = [Prompt(str(row), "") for row in range(len(prompts))], seeds_for(0, iteration, n=len(prompts))
    experience = collect(learner, tokenizer, DistinctWords(), names, prompts, Sampling(task.new_tokens), seeds)
    same: dict[str, Any] = {"batch_size": len(prompts), "minibatch_size": len(prompts), "epochs": 1, "kl_coef": task.beta}
    if contestant == "ppo":
        ppo_step(learner, experience, RewardScale(), FixedKL(task.beta), PpoSettings(**same), seed=iteration)
    else:
        settings = GrpoSettings(**same, completions_per_prompt=task.per_prompt, kl_estimator="k3")
        grpo_step(learner, experience, RewardScale(), FixedKL(task.beta), settings, seed=iteration)


def theirs(contestant: str, folder: Path, device: str, task: Task, prompts: Sequence[list[int]]) -> dict[str, float]:
    """TRL's GRPO: the same operations are counted, the policy learning and the reference scoring."""
    tokenizer = word_tokenizer(folder)
    texts = [tokenizer.decode(ids) for ids in prompts]
    watched = trl_gpu.grpo(
        str(folder),
        tokenizer,
        texts,
        tuned=contestant == "trl-tuned",
        cpu=device == "cpu",
        per_iteration=task.prompts,
        per_prompt=task.per_prompt,
        new_tokens=task.new_tokens,
        beta=task.beta,
    )
    shape = flops.shape_of(load_language_model(str(folder), device="cpu"))
    learning = watched.seconds - watched.sampling
    return {
        "seconds": watched.seconds / task.iterations,
        "sampling": sum(sum(completions) for _, completions in watched.rows) / watched.sampling,
        "learning": sum(p + sum(completions) for p, completions in watched.rows) / learning,
        "operations": (flops.training(shape, watched.rows) + flops.forward(shape, watched.rows)) / learning,
    }


def prepare(model: str, folder: Path, device: str) -> None:
    """Random weights and a tokenizer of one word per id, so that texts and ids are the same, as a Hugging Face folder."""
    from tokenizers import Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel

    made = models.qwen2(**MODELS[model], device=device)
    made.to(torch.bfloat16).save_pretrained(folder)
    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), MODELS[model]["vocabulary"]))]
    core = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token=SPECIAL[0]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.save(str(folder / "tokenizer.json"))


def word_tokenizer(folder: Path) -> Any:
    """The tokenizer that :func:`prepare` wrote."""
    return open_tokenizer(folder / "tokenizer.json", padding_side="left")


def in_own_process(contestant: str, model: str, folder: Path, device: str) -> Figures:
    """Run one contestant with a card to itself."""
    result = folder / f"{contestant}.json"
    words = ["--one", contestant, "--models", model, "--folder", str(folder), "--device", device, "--output", str(result)]
    subprocess.run([sys.executable, "-m", "benchmarks.gpu", *words], check=True)
    return Figures(**json.loads(result.read_text()))


def report(found: Sequence[Figures], rate: float, device: str) -> dict[str, Any]:
    """Print the table; what the last line holds."""
    print(f"{device_name(device)}, torch {torch.__version__}: matrix products at {rate / 1e12:.1f} TFLOP/s in bfloat16")
    print("| model | contestant | s per iteration | sampled tokens/s | scored and learnt tokens/s | utilisation | peak GiB |")
    print("|---|---|---|---|---|---|---|")
    for f in found:
        figures = f"{f.seconds:.2f} | {f.sampling:.0f} | {f.learning:.0f} | {f.operations / rate:.1%} | {f.memory / 2**30:.1f}"
        print(f"| {f.model} | {f.contestant} | {figures} |")
    ratios = {
        f"{f.model} {f.contestant}": f.seconds / mine.seconds
        for mine in found
        for f in found
        if mine.contestant == "grpo" and f.contestant in THEIRS and f.model == mine.model
    }
    for name, ratio in ratios.items():
        print(f"GRPO end to end: {ratio:.2f} times quicker than {name}")
    rows = [{**asdict(f), "utilisation": f.operations / rate} for f in found]
    return {"device": device_name(device), "rate": rate, "time_ratios": ratios, "contestants": rows}


def device_name(device: str) -> str:
    """The card's name, or the processor's."""
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()


def listed(text: str) -> list[str]:
    """Words between commas."""
    return text.split(",")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=listed, default=["0.5b", "1.5b"])
    parser.add_argument("--contestants", type=listed, default=[*OURS, *(THEIRS if find_spec("trl") else ())])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a small model in this process: proof that everything runs, no figures")
    parser.add_argument("--output", type=Path, help="a file for the JSON as well")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.one:
        figures = contest(chosen.one, chosen.models[0], chosen.folder, chosen.device, Task())
        chosen.output.write_text(json.dumps(asdict(figures)))
        return
    found = []
    for model in ["tiny"] if chosen.tiny else chosen.models:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            prepare(model, folder, chosen.device)
            for contestant in chosen.contestants:
                where = (contestant, model, folder, chosen.device)
                found.append(contest(*where, TINY) if chosen.tiny else in_own_process(*where))
    size = MODELS["tiny" if chosen.tiny else chosen.models[0]]
    shapes = (size["hidden"], size["intermediate"], size["vocabulary"])
    rate = max(limits.products(torch.bfloat16, *shapes, chosen.device, large=256 if chosen.tiny else LARGE).values())
    line = json.dumps(report(found, rate, chosen.device))
    if chosen.output:
        chosen.output.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
