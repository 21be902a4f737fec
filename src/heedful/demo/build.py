"""Teach the two tiny models of the built-in world to summarise, with heedful's own SFT.

The wheel carries the results (``demo/models``); ``heed demo --from-scratch`` and
``make demo-models`` make them again with this module.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from heedful.checkpoints import file_sha256
from heedful.demo.architectures import ARCHITECTURES, ArchitectureName, new_model
from heedful.demo.tokenizer import build_tokenizer
from heedful.demo.world import Example, World
from heedful.errors import FileProblem
from heedful.progress import Progress
from heedful.records import write_atomically

SHIPPED = Path(__file__).parent / "models"


def shipped_model(name: ArchitectureName) -> Path:
    """The folder of a shipped model, once its files are found to be whole."""
    folder, list_of_files = SHIPPED / name, SHIPPED / "sha256.json"
    next_step = "Install heedful again, or use heed demo --from-scratch."
    try:
        known = json.loads(list_of_files.read_text())[name]
    except (OSError, ValueError, KeyError):
        raise FileProblem(f"{list_of_files}, which describes the demo's models, is missing or damaged", next_step) from None
    for file, expected in known.items():
        path = folder / file
        found = file_sha256(path) if path.exists() else "missing"
        if found != expected:
            raise FileProblem(f"the demo's model file {path} is damaged (sha256 {found[:12]})", next_step)
    return folder


def train_instruct(name: ArchitectureName, folder: Path, progress: Progress, seed: int = 0) -> Path:
    """Random weights to an instruct model in ``folder``, resumable; the folder is a plain Hugging Face one."""
    from heedful.engines.local import LocalLearner, Optimiser
    from heedful.engines.networks import LanguageNetwork
    from heedful.policy.sft import train_sft

    if (folder / "model.safetensors").exists():
        return folder
    recipe, tokenizer = ARCHITECTURES[name].recipe, build_tokenizer()
    network = LanguageNetwork(new_model(name, seed), tokenizer, roles=("policy",))
    optimiser = Optimiser(recipe.learning_rate, warmup_steps=recipe.warmup_steps, schedule="linear", total_steps=recipe.steps)
    learner = LocalLearner(network, "policy", optimiser)
    prompts, completions = encode_examples(World(seed).examples(recipe.examples, "sft"), tokenizer, network.encoder_decoder)
    train_sft(
        learner,
        prompts,
        completions,
        epochs=1,
        batch_size=recipe.batch_size,
        seed=seed,
        folder=folder / "training",
        log=lambda _step, _metrics: None,
        progress=progress,
    )
    save_instruct(network, folder)
    return folder


def encode_examples(examples: list[Example], tokenizer: Any, is_encoder_decoder: bool) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and reference summaries as ids."""
    from heedful.prompts.chat import encode_completion, render

    return [render(e.prompt, tokenizer, is_encoder_decoder) for e in examples], [encode_completion(e.summary, tokenizer) for e in examples]


def save_instruct(network: Any, folder: Path) -> None:
    """In bfloat16, which halves the size; what is trained later starts from these very numbers."""
    import torch

    network.tokenizer.save_pretrained(folder)
    network.model.to(torch.bfloat16).save_pretrained(folder, safe_serialization=True)


def ship(names: list[ArchitectureName], progress: Progress) -> None:
    """Train every model and write the checksums that :func:`shipped_model` looks at."""
    import shutil

    checksums = {}
    for name in names:
        folder = train_instruct(name, SHIPPED / name, progress)
        shutil.rmtree(folder / "training", ignore_errors=True)
        checksums[name] = {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(folder.iterdir())}
    write_atomically(SHIPPED / "sha256.json", (json.dumps(checksums, indent=1) + "\n").encode())


def main() -> None:
    """``python -m heedful.demo.build``: make the shipped models again."""
    from heedful.progress import RichProgress

    ship(list(ARCHITECTURES), RichProgress())


if __name__ == "__main__":
    main()
