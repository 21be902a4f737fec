"""Write what both sides of a row read: ``python -m benchmarks.peers.prepare ROW SIZE FOLDER``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from benchmarks import models, texts
from benchmarks.peers.rows import ROWS, SIZES

CHECKED = 8
"""Rows of the batch on which both sides must agree."""


def prepare(row: str, size: str, folder: Path) -> None:
    """Settings, tokenizer, prompts or pairs, weights, and a made-up rollout."""
    settings = ROWS[row].settings(size)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = texts.make_tokenizer(settings["model"]["vocabulary"])
    tokenizer.save(str(folder / "tokenizer.json"))
    write(folder, "settings", settings)
    if "pairs" in settings:
        write(folder, "pairs", texts.pairs(tokenizer, settings["pairs"], settings["longest"]))
    else:
        count = settings["prompts"] * settings["rollouts"] if "prompts" in settings else settings["batch"] * settings["iterations"]
        write(folder, "prompts", texts.prompts(tokenizer, max(count, CHECKED), settings["shortest"], settings["longest"]))
        write(folder, "rollout", made_up_rollout(settings["model"]["vocabulary"], settings["new_tokens"], even=row == "ppo"))
    save_models(row, settings["model"], folder)


def save_models(row: str, sizes: dict[str, int], folder: Path) -> None:
    """The policy, the same after some learning, and what else the row needs."""
    make = models.t5 if row == "encoder-decoder" else models.llama
    if row != "reward":
        policy = make(**sizes)
        policy.save_pretrained(folder / "policy")
        models.nudge(policy).save_pretrained(folder / "nudged")
    if row in ("ppo", "reward"):
        models.llama_classifier(seed=1, **sizes).save_pretrained(folder / "reward")
    if row == "ppo":  # whose value stands on the same trunk as the policy, to begin with
        for trunk, name in (("policy", "value"), ("nudged", "nudged_value")):
            value = models.llama_classifier(seed=2, **sizes)
            value.model.load_state_dict(type(policy).from_pretrained(folder / trunk).model.state_dict())
            value.save_pretrained(folder / name)


def made_up_rollout(vocabulary: int, length: int, *, even: bool) -> dict[str, list[Any]]:
    """Completions of random ids that hold no special token, of ``length`` tokens each or fewer, and advantages.

    ``even``: TRL's PPO puts the score one token too far where a completion ends early (its issue 3750), so there every one is full.
    """
    draw = torch.Generator().manual_seed(0)
    lengths = [length if even else length - row * length // (2 * CHECKED) for row in range(CHECKED)]
    completions = [torch.randint(len(texts.SPECIAL), vocabulary, (n,), generator=draw).tolist() for n in lengths]
    return {
        "completions": completions,
        "noise": [(0.1 * torch.randn(n, generator=draw)).tolist() for n in lengths],
        "advantages": torch.randn(CHECKED, generator=draw).tolist(),
    }


def write(folder: Path, name: str, content: Any) -> None:
    """One JSON file."""
    (folder / f"{name}.json").write_text(json.dumps(content))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("row", choices=list(ROWS))
    parser.add_argument("size", choices=SIZES)
    parser.add_argument("folder", type=Path)
    prepare(**vars(parser.parse_args()))
