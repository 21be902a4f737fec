"""The demo as a configuration: what ``heed demo`` would read from a ``heed.toml``."""

from __future__ import annotations

from typing import Any

from heedful.demo.architectures import ArchitectureName

ARCHITECTURE_NAMES: dict[str, ArchitectureName] = {"causal": "causal", "t5": "seq2seq"}
"""As users say it: ``heed demo --architecture t5``."""


def demo_settings(model: str, *, quick: bool = False) -> dict[str, Any]:
    """Everything that differs from the defaults. ``quick`` shows every stage in less than a minute and proves little."""
    return {
        "model": {"path": model},
        "lora": {"r": 16, "alpha": 32},
        "prompts": {"train": 100 if quick else 1000, "validation": 32 if quick else 200, "test": 40 if quick else 600},
        "completions": {"prompts": 60 if quick else 300, "per_prompt": 4, "max_new_tokens": 48},
        "feedback": {"source": "simulated", "labelers_per_prompt": 3},
        "reward": {"kind": "learn", "epochs": 1 if quick else 3, "batch_size": 4, "learning_rate": 5e-3},
        "ppo": {
            "max_steps": 3 if quick else 200,
            "batch_size": 64,
            "minibatch_size": 32,
            "epochs": 2,
            "learning_rate": 1e-3,
            "kl_coef": 0.3,
        },
        "stopping": {"metric": "toxicity", "direction": "below", "target": 0.015, "evaluate_every": 5, "kl_budget": 8.0},
        "evaluation": {"samples_per_prompt": 1},
    }
