"""GRPO on trl 1.16.0, without a server. Run in its environment by ``benchmarks.peers``."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.work import Work, distinct_words


def trainer_of(work: Work, policy: str, **more: Any) -> Any:
    """A trainer; what is not heedful's setting is TRL's default (among others its loss, which like heedful's counts every token once)."""
    from datasets import Dataset
    from transformers import LlamaForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    settings, tokenizer = work.settings, work.tokenizer(padding_side="left")
    rows = settings["prompts"] * settings["per_prompt"]
    micro_batch = min(8, rows)
    arguments = GRPOConfig(
        **work.trainer_settings(),
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=rows // micro_batch,
        num_generations=settings["per_prompt"],
        max_completion_length=settings["new_tokens"],
        num_iterations=settings["iterations"],
        max_steps=settings["rollouts"] * settings["iterations"],
        beta=settings["beta"],
        epsilon=settings["clip"],
        learning_rate=settings["learning_rate"],
        **({"gradient_checkpointing": False} if work.variant != "defaults" else {}),
        **more,
    )
    return GRPOTrainer(
        model=LlamaForCausalLM.from_pretrained(work.model(policy)),
        args=arguments,
        processing_class=tokenizer,
        reward_funcs=distinct_words,
        train_dataset=Dataset.from_list([{"prompt": tokenizer.decode(ids)} for ids in work.prompts]),
    )


def measure(work: Work) -> None:
    """All rollouts and updates."""
    trainer = trainer_of(work, "policy")
    with work.timed():
        trainer.train()
    work.finish(optimiser_steps=trainer.state.global_step)


def check(work: Work) -> None:
    """The loss of one step on a given rollout, and the policy's log-probabilities."""
    import torch
    from transformers import LlamaForCausalLM
    from trl.trainer.utils import pad

    trainer = trainer_of(work, "nudged")
    trainer.model.eval()
    given = work.rollout
    completions, noise = ([torch.tensor(row) for row in given[name]] for name in ("completions", "noise"))
    prompts = [torch.tensor(row) for row in work.prompts[: len(completions)]]
    mask = pad([torch.ones_like(row) for row in completions], padding_value=0)
    inputs = {
        "prompt_ids": pad(prompts, padding_value=0, padding_side="left"),
        "prompt_mask": pad([torch.ones_like(row) for row in prompts], padding_value=0, padding_side="left"),
        "completion_ids": pad(completions, padding_value=0),
        "completion_mask": mask,
        "advantages": torch.tensor(given["advantages"]),
        "num_items_in_batch": mask.sum(),
    }

    def logprobs(model: Any) -> torch.Tensor:
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1)
        attention = torch.cat([inputs["prompt_mask"], mask], 1)
        return trainer._get_per_token_logps_and_entropies(model, ids, attention, mask.shape[1])[0] * mask

    with torch.no_grad():
        trainer.ref_model.load_state_dict(LlamaForCausalLM.from_pretrained(work.model("policy")).state_dict())
        policy, reference = logprobs(trainer.model), logprobs(trainer.ref_model)
        old = policy + pad(noise, padding_value=0.0)
        loss = trainer.compute_loss(trainer.model, {**inputs, "old_per_token_logps": old, "ref_per_token_logps": reference})
    rows = [len(row) for row in completions]
    work.finish(
        old_logprobs=[row[:n].tolist() for row, n in zip(old, rows, strict=True)],
        expected={
            "loss": loss.item(),
            "logprobs": [row[:n].tolist() for row, n in zip(policy, rows, strict=True)],
            "reference logprobs": [row[:n].tolist() for row, n in zip(reference, rows, strict=True)],
        },
    )


if __name__ == "__main__":
    chosen = Work.from_command_line()
    check(chosen) if chosen.variant == "check" else measure(chosen)
