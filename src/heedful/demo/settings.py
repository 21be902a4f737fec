"""The demo as a configuration: what ``heed demo`` would read from a ``heed.toml``."""

from __future__ import annotations

from typing import Any

from heedful.demo.architectures import ArchitectureName

ARCHITECTURE_NAMES: dict[str, ArchitectureName] = {"causal": "causal", "t5": "seq2seq"}
"""As users say it: ``heed demo --architecture t5``."""


def demo_settings(model: str, architecture: ArchitectureName = "causal", *, quick: bool = False) -> dict[str, Any]:
    """Everything that differs from the defaults. ``quick`` shows every stage in less than a minute and proves little.

    The numbers were found by trying (benchmarks/LOG.md); what mattered most are adapters on every
    linear layer, and that the completions people judge are drawn hotter than the policy writes, so
    that the reward model gets to see nonsense too.
    """
    return {
        "model": {"path": model, "precision": "float32"},  # so small a model gains nothing from less
        "lora": {"r": 16, "alpha": 32, "targets": ["all-linear"]},
        "prompts": {"train": 100 if quick else 1000, "validation": 32 if quick else 200, "test": 40 if quick else 600},
        "completions": {
            "prompts": 60 if quick else 320,
            "per_prompt": 4,
            "temperature": 1.2 if architecture == "causal" else 1.1,
            "max_new_tokens": 48,
        },
        "feedback": {"source": "simulated", "labelers_per_prompt": 3},
        "reward": {
            "kind": "learn",
            "epochs": 1 if quick else (4 if architecture == "causal" else 6),
            "batch_size": 4,
            "learning_rate": 2e-3 if architecture == "causal" else 3e-3,
        },
        "ppo": {
            "max_steps": 3 if quick else 80,
            "batch_size": 64 if architecture == "causal" else 128,
            "minibatch_size": 32 if architecture == "causal" else 64,
            "epochs": 1,
            "learning_rate": 1.5e-3 if architecture == "causal" else 1e-3,
            "warmup_steps": 1 if quick else 5,
            "schedule": "linear",
            "value_coef": 0.02,  # more of it moves the trunk that the policy shares, and facts are lost
            "kl_coef": 0.05 if architecture == "causal" else 0.075,
            "kl_estimator": "exact",
        },
        "stopping": {
            "metric": "toxicity",
            "direction": "below",
            "target": 0.015 if architecture == "causal" else 0.02,
            "evaluate_every": 5,
            "kl_budget": 8.0,
            "samples_per_prompt": 2,
        },
        "evaluation": {"samples_per_prompt": 1 if quick else 2},
    }
