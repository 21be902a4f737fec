"""Reward model and DPO on trl 1.16.0. Run in its environment by ``benchmarks.peers``."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.work import Work


def arguments_of(work: Work, **more: Any) -> dict[str, Any]:
    """What both trainers are told; everything else is TRL's default."""
    settings = work.settings
    return {
        **work.trainer_settings(),
        "per_device_train_batch_size": settings["batch"],
        "max_length": settings["longest"],
        "num_train_epochs": 1,
        "learning_rate": settings["learning_rate"],
        **({"gradient_checkpointing": False} if work.variant != "defaults" else {}),
        **more,
    }


def reward_trainer(work: Work) -> Any:
    """Pairs arrive as ids, so that both sides read the same tokens."""
    from datasets import Dataset
    from transformers import LlamaForSequenceClassification
    from trl import RewardConfig, RewardTrainer

    rows = [{side: pair["prompt_ids"] + pair[side] for side in ("chosen_ids", "rejected_ids")} for pair in work.pairs]
    model = LlamaForSequenceClassification.from_pretrained(work.model("reward"))
    arguments = RewardConfig(**arguments_of(work))
    return RewardTrainer(model=model, args=arguments, processing_class=work.tokenizer(), train_dataset=Dataset.from_list(rows))


def dpo_trainer(work: Work, policy: str) -> Any:
    """Pairs arrive as texts: TRL's DPO takes no ids. What it makes of them is compared with ours in the check."""
    from datasets import Dataset
    from transformers import LlamaForCausalLM
    from trl import DPOConfig, DPOTrainer

    class Timed(DPOTrainer):
        """Log-probabilities of the reference that are computed beforehand belong to the work."""

        def _precompute_ref_logps(self, *given: Any) -> Any:
            with work.timed():
                return super()._precompute_ref_logps(*given)

    rows = [{name: pair[name] for name in ("prompt", "chosen", "rejected")} for pair in work.pairs]
    beforehand = {"precompute_ref_log_probs": True} if work.variant == "tuned" else {}
    return Timed(
        model=LlamaForCausalLM.from_pretrained(work.model(policy)),
        ref_model=LlamaForCausalLM.from_pretrained(work.model("policy")) if policy != "policy" else None,
        args=DPOConfig(**arguments_of(work, beta=work.settings["beta"], **beforehand)),
        processing_class=work.tokenizer(),
        train_dataset=Dataset.from_list(rows),
    )


def measure(work: Work) -> None:
    """One epoch."""
    trainer = reward_trainer(work) if work.settings["row"] == "reward" else dpo_trainer(work, "policy")
    with work.timed():
        trainer.train()
    work.finish(optimiser_steps=trainer.state.global_step)


def check_reward(work: Work, rows: int) -> dict[str, Any]:
    """The loss and the scores of the first pairs: chosen ones first, then the rejected."""
    import torch

    trainer = reward_trainer(work)
    inputs = trainer.data_collator([trainer.train_dataset[row] for row in range(rows)])
    with torch.no_grad():
        loss, outputs = trainer.compute_loss(trainer.model, inputs, return_outputs=True)
    return {"loss": loss.item(), "scores": outputs.logits.squeeze(-1).tolist()}


def check_dpo(work: Work, rows: int) -> dict[str, Any]:
    """The loss, the implicit rewards, and the policy's log-probability of every completion token."""
    import torch

    trainer = dpo_trainer(work, "nudged")
    examples = [trainer.train_dataset[row] for row in range(rows)]
    for example, pair in zip(examples, work.pairs, strict=False):
        if any(example[name] != pair[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")):
            raise SystemExit(f"TRL reads other tokens than heedful: {example} {pair}")
    inputs, beta = trainer.data_collator(examples), work.settings["beta"]
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, dict(inputs))
        ours, theirs = (trainer.compute_ref_log_probs(model, dict(inputs)) for model in (trainer.model, trainer.ref_model))
        labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
        kwargs = {name: inputs[name] for name in ("input_ids", "attention_mask")}
        tokens = trainer.model(**kwargs, labels=labels, fused_lm_head=True, use_cache=False).log_probs
    mask = inputs["completion_mask"][:, 1:].bool()
    return {
        "loss": loss.item(),
        "chosen rewards": (beta * (ours[0] - theirs[0])).tolist(),
        "rejected rewards": (beta * (ours[1] - theirs[1])).tolist(),
        "logprobs": [row[keep].tolist() for row, keep in zip(tokens[:, -mask.shape[1] :], mask, strict=True)],
    }


if __name__ == "__main__":
    chosen = Work.from_command_line()
    if chosen.variant == "check":
        of_row = {"reward": check_reward, "dpo": check_dpo}[chosen.settings["row"]]
        chosen.finish(expected=of_row(chosen, min(8, chosen.settings["batch"])))
    else:
        measure(chosen)
