"""TRL's GRPO without a server, with its sampling watched, for ``benchmarks.gpu``. Expects trl 1.16."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from benchmarks.peers.work import distinct_words

Rows = list[tuple[int, list[int]]]


@dataclass
class Watched:
    """From the second iteration on: seconds of all and of sampling, and the lengths of each prompt and its completions."""

    seconds: float = 0.0
    sampling: float = 0.0
    rows: Rows = field(default_factory=list)


def grpo(
    folder: str,
    tokenizer: Any,
    prompts: Sequence[str],
    *,
    tuned: bool,
    cpu: bool,
    per_iteration: int,
    per_prompt: int,
    new_tokens: int,
    beta: float,
) -> Watched:
    """As many iterations as the prompts allow, one optimiser step each.

    At its defaults TRL keeps float32 weights under bfloat16 autocast and computes layers twice to save
    memory. Tuned, weights are bfloat16 themselves, at the price of coarse updates, and nothing is computed twice.
    """
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    watched, marks = Watched(), list[float]()

    class Trainer(GRPOTrainer):
        def _generate(self, asked: list[Any]) -> Any:
            began = now()
            found = super()._generate(asked)
            if marks:
                watched.sampling += now() - began
                prompt_ids, completion_ids = found[:2]
                for start in range(0, len(prompt_ids), per_prompt):
                    lengths = [len(ids) for ids in completion_ids[start : start + per_prompt]]
                    watched.rows.append((len(prompt_ids[start]), lengths))
            return found

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            marks.append(now())

    rows = per_iteration * per_prompt
    micro_batch = min(8, rows)
    arguments = GRPOConfig(
        output_dir=tempfile.mkdtemp(prefix="trl-"),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=rows // micro_batch,
        num_generations=per_prompt,
        max_completion_length=new_tokens,
        max_steps=len(prompts) // per_iteration,
        beta=beta,
        learning_rate=1e-5,
        use_cpu=cpu,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        **({"gradient_checkpointing": False} if tuned else {}),
    )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16 if tuned else torch.float32)
    data = Dataset.from_list([{"prompt": text} for text in prompts])
    trainer = Trainer(model, distinct_words, args=arguments, train_dataset=data, processing_class=tokenizer, callbacks=[Clock()])
    trainer.train()
    watched.seconds = marks[-1] - marks[0]
    return watched


def now() -> float:
    """Seconds, when all that was asked of the card is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
