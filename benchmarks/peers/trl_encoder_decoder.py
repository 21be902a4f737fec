"""PPO with LoRA on an encoder-decoder, on trl 0.11.4, the last that could. Run in its environment by ``benchmarks.peers``."""

from __future__ import annotations

from typing import Any

from benchmarks.peers.work import Work


def model_of(work: Work, folder: str) -> Any:
    """A T5 with adapters on query and value and a value head. Tuned, and to compare, it has no dropout."""
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import T5ForConditionalGeneration
    from trl import AutoModelForSeq2SeqLMWithValueHead

    quiet = work.variant != "defaults"
    rank = work.settings["rank"]
    base = T5ForConditionalGeneration.from_pretrained(work.model(folder), **({"dropout_rate": 0.0} if quiet else {}))
    lora = LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=["q", "v"],
        lora_dropout=0.0 if quiet else 0.05,
        bias="none",
        task_type=TaskType.SEQ_2_SEQ_LM,
    )
    return AutoModelForSeq2SeqLMWithValueHead.from_pretrained(get_peft_model(base, lora), is_trainable=True)


def trainer_of(work: Work, model: Any) -> Any:
    """A trainer over the row's prompts."""
    import torch
    from trl import PPOConfig, PPOTrainer, create_reference_model

    class Prompts(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(work.prompts)

        def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
            return {"input_ids": torch.tensor(work.prompts[row])}

    settings = work.settings
    config = PPOConfig(
        learning_rate=settings["learning_rate"],
        ppo_epochs=1,
        mini_batch_size=settings["minibatch"],
        batch_size=settings["batch"],
        init_kl_coef=settings["kl_coef"],
    )
    return PPOTrainer(
        config=config,
        model=model,
        ref_model=create_reference_model(model),
        tokenizer=work.tokenizer(),
        dataset=Prompts(),
        data_collator=lambda rows: {name: [row[name] for row in rows] for name in rows[0]},
    )


def measure(work: Work) -> None:
    """Sample and step, batch after batch. The score is the number of distinct tokens."""
    import torch

    trainer, settings = trainer_of(work, model_of(work, "policy")), work.settings
    sampling = {"min_length": 5, "top_k": 0, "top_p": 1.0, "do_sample": True, "max_new_tokens": settings["new_tokens"]}
    with work.timed():
        for batch in trainer.dataloader:
            queries = batch["input_ids"]
            if work.variant == "tuned":
                answers = trainer.generate(queries, batch_size=len(queries), return_prompt=False, **sampling)
            else:
                answers = [trainer.generate(query, **sampling).squeeze() for query in queries]
            trainer.step(queries, answers, [torch.tensor(float(len(set(answer.tolist())))) for answer in answers])
    work.finish(optimiser_steps=settings["iterations"] * settings["batch"] // settings["minibatch"])


def check(work: Work) -> None:
    """Log-probabilities and values of given completions."""
    import torch

    model = model_of(work, "nudged").eval()
    completions = work.rollout["completions"]
    work.settings.update(batch=len(completions), minibatch=len(completions))
    trainer = trainer_of(work, model)
    queries = [torch.tensor(ids) for ids in work.prompts[: len(completions)]]
    answers = [torch.tensor([0, *ids]) for ids in completions]  # a decoder's first token is padding
    inputs = trainer.prepare_model_inputs(queries, answers)
    with torch.no_grad():
        logprobs, _, values, _ = trainer.batched_forward_pass(trainer.model, queries, answers, inputs)
    head = model.v_head.summary
    work.finish(
        value_head={"weight": head.weight.flatten().tolist(), "bias": head.bias.item()},
        expected={
            "logprobs": [row[: len(ids)].tolist() for row, ids in zip(logprobs, completions, strict=True)],
            "values": [row[: len(ids)].tolist() for row, ids in zip(values, completions, strict=True)],
        },
    )


if __name__ == "__main__":
    chosen = Work.from_command_line()
    check(chosen) if chosen.variant == "check" else measure(chosen)
