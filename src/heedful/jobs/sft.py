"""Supervised fine-tuning, wired: prompts with a reference become demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heedful.errors import DataProblem
from heedful.jobs.workspace import Workspace
from heedful.prompts.budget import Budget
from heedful.records import Prompt, write_jsonl

SPLITS = ("train", "validation")


def load_demonstrations(ws: Workspace, folder: Path) -> dict[str, Any]:
    """Read, split and freeze the prompts that have a reference; :func:`fine_tune` reads these files.

    Those that are too long together with their reference are counted, and cut, dropped or refused as prompts.too_long says.
    """
    found, said = {}, []
    for split, prompts in ((name, rows) for name, rows in ws.source.prompts().items() if name in SPLITS):
        rows = [p for p in prompts if p.reference]
        if not rows:
            raise DataProblem(
                f"none of the {len(prompts)} {split} prompts has a reference to learn from",
                "Name its column with prompts.reference_column, or give more prompts.",
            )
        kept, over = _within_budget(ws, rows, split)
        found[split] = {"demonstrations": len(kept), "too_long": over, "sha256": write_jsonl(folder / f"{split}.jsonl", kept)}
        said.append(f"{len(kept)} {split}" + (f" ({over} too long)" if over else ""))
    return {"splits": found, "line": ", ".join(said)}


def fine_tune(ws: Workspace, folder: Path) -> dict[str, Any]:
    """Learn the first reference of every training prompt; held-out loss before and after, in nats per token."""
    from heedful.engines.export import save_language_model
    from heedful.engines.local import Optimiser
    from heedful.policy.sft import held_out_loss, train_sft

    chosen, network = ws.settings.sft, ws.policy_alone
    train, unseen = (_encode(ws.prompts(name), _budget(ws)) for name in SPLITS)
    updates = chosen.epochs * -(-len(train[0]) // chosen.batch_size)
    learner = ws.learner(
        "policy", Optimiser(chosen.learning_rate, schedule="linear", total_steps=updates, warmup_steps=updates // 20), network
    )
    before = held_out_loss(learner, *unseen)
    steps = train_sft(
        learner,
        *train,
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        seed=ws.settings.seed,
        folder=folder / "checkpoints",
        log=ws.log("sft"),
        progress=ws.progress,
    )
    save_language_model(network, folder)
    after = held_out_loss(learner, *unseen)
    line = f"{len(train[0])} demonstrations, held-out loss {before:.3f} to {after:.3f} nats per token"
    return {
        "line": line,
        "demonstrations": len(train[0]),
        "steps": steps,
        "loss_before": before,
        "loss_after": after,
        "model": str(folder / "model"),
    }


def _within_budget(ws: Workspace, rows: list[Prompt], split: str) -> tuple[list[Prompt], int]:
    """The demonstrations to learn from, and how many were too long."""
    budget, kept, too_long = _budget(ws), [], ws.settings.prompts.too_long
    for row in rows:
        before = budget.too_long.over
        _encode([row], budget)
        over = budget.too_long.over > before
        if over and too_long == "refuse":
            raise DataProblem(
                f"the prompt {row.id!r} and its reference are longer than {budget.tokens} tokens",
                "Raise sft.max_tokens where the model's context allows it, or set prompts.too_long to 'truncate' or 'drop'.",
            )
        if not over or too_long == "truncate":
            kept.append(row)
    done = "left out" if too_long == "drop" else "cut"
    if told := budget.too_long.sentence(f"{split} demonstrations", "sft.max_tokens", done):
        ws.progress.say(told)
    if not kept:
        raise DataProblem(f"every one of the {len(rows)} {split} demonstrations is too long", "Raise sft.max_tokens, or cut them.")
    return kept, budget.too_long.over


def _budget(ws: Workspace) -> Budget:
    return Budget.of(ws.policy_alone, ws.settings.sft.max_tokens, ws.settings.model.max_prompt_tokens)


def _encode(rows: list[Prompt], budget: Budget) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and their first references as ids. A reference that is cut has no end token: half an answer is no place to stop."""
    from heedful.prompts.chat import encode_completion

    prompts, completions = [], []
    for row in rows:
        answer = encode_completion((row.reference or [""])[0], budget.tokenizer)
        ids, room = budget.fit(row, len(answer))
        prompts.append(ids)
        completions.append(answer[:room])
    return prompts, completions
