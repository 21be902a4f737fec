"""The rows of the comparison: what is done, by which peer, in which ways, at which size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.environments import CURRENT, LAST_WITH_ENCODER_DECODER, LAST_WITH_PPO, REQUIREMENTS, Environment

CAUSAL = {"hidden": 384, "intermediate": 1024, "layers": 6, "heads": 6, "vocabulary": 8192}
ENCODER_DECODER = {"hidden": 256, "intermediate": 1024, "layers": 4, "heads": 4, "vocabulary": 8192}
TINY = {"hidden": 64, "intermediate": 128, "layers": 2, "heads": 2, "vocabulary": 512}

CHECK = "check"
SIZES = ("full", "part", "smoke")
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1}
"""Losses and log-probabilities (nats), values and scores of the two sides may differ by this: the peer in float32, ours in either
precision. bfloat16 keeps 8 bits, so that a logit of 10 is rounded by up to 0.03."""


@dataclass(frozen=True)
class Row:
    """One kind of work. ``variants`` are the ways in which the peer is run, with what each means; ``smoke`` overrides
    ``full``, for a run that only proves that the row works, ``part`` for one of the same shapes that stops early.
    ``bar`` is how many times quicker heedful shall be, ``memory_bar`` what share of the peer's memory it may take."""

    name: str
    work: str
    peer: str
    environment: Environment
    script: str
    variants: Mapping[str, str]
    full: Mapping[str, Any]
    part: Mapping[str, Any]
    smoke: Mapping[str, Any]
    bar: float
    memory_bar: float | None = None

    @property
    def code(self) -> list[Path]:
        """What runs the peer, and the pins of its environment."""
        names = [name for name in (self.environment.name, self.environment.overlay) if name]
        return [Path(__file__).parent / f"{self.script}.py", *(REQUIREMENTS / f"{name}.txt" for name in names)]

    def settings(self, size: str) -> dict[str, Any]:
        """What both sides are told."""
        return {"row": self.name, **self.full, **self.changes(size)}

    def changes(self, size: str) -> Mapping[str, Any]:
        """What a size changes of the full row."""
        return {"full": {}, "part": self.part, "smoke": self.smoke}[size]


ROWS = {
    row.name: row
    for row in (
        Row(
            "ppo",
            "PPO, all weights: 32 prompts of 24-160 tokens, 48 new tokens, 4 epochs x 1 minibatch, 3 iterations",
            "trl 1.12.0",
            LAST_WITH_PPO,
            "trl_ppo",
            {
                "defaults": "its defaults, float32, 4 micro-batches of 8",
                "tuned": "the same under bfloat16 autocast, which it takes from accelerate's environment alone",
            },
            {
                "model": CAUSAL,
                "batch": 32,
                "iterations": 3,
                "new_tokens": 48,
                "epochs": 4,
                "shortest": 24,
                "longest": 160,
                "learning_rate": 1e-5,
                "temperature": 0.7,
                "kl_coef": 0.05,
            },
            {"iterations": 1},
            {"model": TINY, "batch": 8, "iterations": 2, "new_tokens": 12, "longest": 40},
            bar=7,
            memory_bar=0.5,
        ),
        Row(
            "reward",
            "reward model, all weights: 256 pairs of up to 512 tokens, batch 8, 1 epoch",
            "trl 1.16.0",
            CURRENT,
            "trl_pairs",
            {"defaults": "its defaults (activation checkpointing), float32", "tuned": "no checkpointing"},
            {"model": CAUSAL, "pairs": 256, "longest": 512, "batch": 8, "learning_rate": 1e-5},
            {"pairs": 32},
            {"model": TINY, "pairs": 16, "longest": 96, "batch": 8},
            bar=4,
        ),
        Row(
            "dpo",
            "DPO, all weights: 256 pairs of up to 512 tokens, batch 8, 1 epoch, reference log-probabilities included",
            "trl 1.16.0",
            CURRENT,
            "trl_pairs",
            {"defaults": "its defaults (activation checkpointing), float32", "tuned": "no checkpointing, reference computed before"},
            {"model": CAUSAL, "pairs": 256, "longest": 512, "batch": 8, "learning_rate": 1e-5, "beta": 0.1},
            {"pairs": 32},
            {"model": TINY, "pairs": 16, "longest": 96, "batch": 8},
            bar=5,
        ),
        Row(
            "grpo",
            "GRPO, all weights: 2 rollouts of 4 prompts x 8 completions, 48 new tokens, 4 iterations, beta 0.04",
            "trl 1.16.0",
            CURRENT,
            "trl_grpo",
            {"defaults": "its defaults (activation checkpointing), float32, 4 micro-batches of 8", "tuned": "no checkpointing"},
            {
                "model": CAUSAL,
                "prompts": 4,
                "per_prompt": 8,
                "rollouts": 2,
                "iterations": 4,
                "new_tokens": 48,
                "shortest": 24,
                "longest": 160,
                "learning_rate": 1e-5,
                "beta": 0.04,
                "clip": 0.2,
            },
            {"rollouts": 1},
            {"model": TINY, "new_tokens": 12, "longest": 40, "iterations": 2},
            bar=5,
        ),
        Row(
            "encoder-decoder",
            "PPO with LoRA (r=32 on q, v) on a T5: 16 prompts of 80-200 tokens, up to 100 new tokens, 1 epoch of 4 minibatches, 2 steps",
            "trl 0.11.4",
            LAST_WITH_ENCODER_DECODER,
            "trl_encoder_decoder",
            {
                "defaults": "as in its tutorials: one prompt at a time, dropout on",
                "tuned": "all prompts of the batch generated together, no dropout",
            },
            {
                "model": ENCODER_DECODER,
                "batch": 16,
                "minibatch": 4,
                "iterations": 2,
                "new_tokens": 100,
                "shortest": 80,
                "longest": 200,
                "learning_rate": 1.41e-5,
                "rank": 32,
                "kl_coef": 0.2,
                "temperature": 1.0,
            },
            {"iterations": 1},
            {"model": TINY, "new_tokens": 12, "shortest": 20, "longest": 60},
            bar=5,
        ),
    )
}
