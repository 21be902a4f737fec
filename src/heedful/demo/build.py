"""Teach the two tiny models of the built-in world to summarise, with heedful's own SFT.

The wheel carries the results (``demo/models``); ``heed demo --from-scratch`` and
``make demo-models`` make them again with this module.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zlib import crc32

from heedful.checkpoints import damage, file_sha256, folder_checksums
from heedful.demo.architectures import ARCHITECTURES, ArchitectureName, new_model
from heedful.demo.tokenizer import build_tokenizer
from heedful.demo.world import Example, World
from heedful.errors import FileProblem
from heedful.progress import Progress
from heedful.records import write_atomically

SHIPPED = Path(__file__).parent / "models"
MADE = "instruct.json"
"""Says what an instruct model was made from, and the checksums of its files."""


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
    """An instruct model in ``folder``, a plain Hugging Face one: the one there where it is whole and of this architecture and seed."""
    if not _is_made(name, folder, seed):
        make_instruct(name, folder, progress, seed)
    return folder


def make_instruct(name: ArchitectureName, folder: Path, progress: Progress, seed: int = 0) -> None:
    """Random weights to an instruct model, resumable. ``folder`` is replaced when the new one is complete, and not before."""
    from heedful.engines.local import LocalLearner, Optimiser
    from heedful.engines.networks import LanguageNetwork
    from heedful.policy.sft import train_sft

    made = _made(name, seed)
    training = folder.with_name(f"{folder.name}.{name}-{seed}-{crc32(json.dumps(made).encode()):08x}.training")
    recipe, tokenizer = ARCHITECTURES[name].recipe, build_tokenizer()
    network = LanguageNetwork(new_model(name, seed), tokenizer, roles=("policy",))
    optimiser = Optimiser(recipe.learning_rate, warmup_steps=recipe.warmup_steps, schedule="linear", total_steps=recipe.steps)
    learner = LocalLearner(network, "policy", optimiser, say=progress.say)
    examples = World(seed, recipe.rude_share).examples(recipe.examples, "sft")
    prompts, completions = encode_examples(examples, tokenizer, network.encoder_decoder)
    train_sft(
        learner,
        prompts,
        completions,
        epochs=1,
        batch_size=recipe.batch_size,
        seed=seed,
        folder=training,
        log=lambda _step, _metrics: None,
        progress=progress,
    )
    _replace(folder, lambda new: _save_made(network, new, made))
    shutil.rmtree(training, ignore_errors=True)
    progress.say(f"instruct: {recipe.examples} examples learnt in {recipe.steps} steps, {folder}")


def _made(name: ArchitectureName, seed: int) -> dict[str, Any]:
    """What an instruct model follows from."""
    return {"architecture": name, "seed": seed, "recipe": asdict(ARCHITECTURES[name].recipe)}


def _is_made(name: ArchitectureName, folder: Path, seed: int) -> bool:
    """Whether ``folder`` holds the whole instruct model of this architecture, seed and recipe."""
    try:
        made = json.loads((folder / MADE).read_text())
        files = made.pop("files")
        return bool(made == _made(name, seed) and not damage(folder, files))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _save_made(network: Any, folder: Path, made: dict[str, Any]) -> None:
    save_instruct(network, folder)
    write_atomically(folder / MADE, json.dumps({**made, "files": folder_checksums(folder)}, indent=1).encode())


def _replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a new folder beside this one, and put it in its place once it is full."""
    new, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    write(new)
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


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
    """Train every model anew, whatever is there, and write the checksums that :func:`shipped_model` looks at."""
    checksums = {}
    for name in names:
        make_instruct(name, SHIPPED / name, progress)
        (SHIPPED / name / MADE).unlink()  # the list of checksums is all that is shipped of it
        checksums[name] = folder_checksums(SHIPPED / name)
    write_atomically(SHIPPED / "sha256.json", (json.dumps(checksums, indent=1) + "\n").encode())


def main() -> None:
    """``python -m heedful.demo.build``: make the shipped models again."""
    from heedful.progress import RichProgress

    ship(list(ARCHITECTURES), RichProgress())


if __name__ == "__main__":
    main()
