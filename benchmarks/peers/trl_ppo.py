"""PPO on trl 1.12.0, the last that had it. Run in its environment by ``benchmarks.peers``.

Policy, reference, reward and value are four models; the completions' length, temperature, KL and
learning rate are heedful's, everything else is TRL's default. It never clips gradients.
"""

from __future__ import annotations

import os
from typing import Any

from benchmarks.peers.work import Work


def trainer_of(work: Work, *, batch: int, micro_batch: int, iterations: int, epochs: int, policy: str, value: str) -> Any:
    """A trainer over as many prompts as it will need."""
    from datasets import Dataset
    from transformers import LlamaForCausalLM, LlamaForSequenceClassification
    from trl.experimental.ppo import PPOConfig, PPOTrainer

    settings = work.settings
    data = Dataset.from_dict({"input_ids": work.prompts[: batch * iterations]})
    arguments = PPOConfig(
        **work.trainer_settings(),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=batch // micro_batch,
        num_mini_batches=1,
        num_ppo_epochs=epochs,
        total_episodes=batch * iterations,
        response_length=settings["new_tokens"],
        temperature=settings["temperature"],
        kl_coef=settings["kl_coef"],
        learning_rate=settings["learning_rate"],
        local_rollout_forward_batch_size=batch,
        stop_token="eos",
        num_sample_generations=0,
    )
    return PPOTrainer(
        args=arguments,
        processing_class=work.tokenizer(padding_side="left"),
        model=LlamaForCausalLM.from_pretrained(work.model(policy)),
        ref_model=LlamaForCausalLM.from_pretrained(work.model("policy")),
        reward_model=LlamaForSequenceClassification.from_pretrained(work.model("reward")),
        value_model=LlamaForSequenceClassification.from_pretrained(work.model(value)),
        train_dataset=data,
        eval_dataset=data.select(range(batch)),
    )


def measure(work: Work) -> None:
    """The whole of training."""
    settings = work.settings
    sizes = {"batch": settings["batch"], "micro_batch": min(8, settings["batch"]), "iterations": settings["iterations"]}
    trainer = trainer_of(work, **sizes, epochs=settings["epochs"], policy="policy", value="value")
    with work.timed():
        trainer.train()
    work.finish(optimiser_steps=settings["epochs"] * settings["iterations"])


def check(work: Work) -> None:
    """One update on a given rollout: only the sampling is replaced, by fixed completions drawn from a policy a little off."""
    import torch
    from trl.experimental.ppo import ppo_trainer as trl

    completions = torch.tensor(work.rollout["completions"])
    rows = len(completions)
    trainer = trainer_of(work, batch=rows, micro_batch=rows, iterations=1, epochs=1, policy="nudged", value="nudged_value")
    pad, temperature, seen = 0, work.settings["temperature"], dict[str, Any]()

    def logprobs(model: Any, ids: torch.Tensor, noise: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
        logits = trl.forward(model, ids, pad).logits[:, -completions.shape[1] - 1 : -1] / (temperature + 1e-7)
        logits = logits + noise * torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
        return trl.selective_log_softmax(logits, completions), logits

    def fixed_rollout(policy: Any, queries: torch.Tensor, *_: Any) -> tuple[torch.Tensor, torch.Tensor]:
        ids, width = torch.cat([queries, completions], 1), queries.shape[1]
        old, logits = logprobs(policy, ids, noise=0.1)
        value = trl.get_reward(trainer.model.value_model, ids, pad, width)[0][:, width - 1 : -1, 0]
        score = trl.get_reward(trainer.reward_model, ids, pad, width)[1]
        seen.update(prompts=[row[row != pad].tolist() for row in queries], completions=completions.tolist(), old_logprobs=old.tolist())
        seen["expected"] = {
            "logprobs": logprobs(policy, ids)[0].tolist(),
            "reference logprobs": logprobs(trainer.ref_model, ids)[0].tolist(),
            "values": value.tolist(),
            "scores": score.tolist(),
        }
        return ids, logits

    trl.batch_generation = fixed_rollout
    trainer.train()
    logged = trainer.state.log_history[-1]
    seen["expected"] |= {"policy loss": logged["loss/policy_avg"], "value loss": logged["loss/value_avg"]}
    work.finish(**seen)


if __name__ == "__main__":
    chosen = Work.from_command_line()
    if chosen.variant == "tuned":
        os.environ["ACCELERATE_MIXED_PRECISION"] = "bf16"
    check(chosen) if chosen.variant == "check" else measure(chosen)
