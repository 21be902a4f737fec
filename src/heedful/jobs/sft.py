"""Supervised fine-tuning, wired: prompts with a reference become demonstrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heedful.errors import DataProblem
from heedful.jobs.workspace import Workspace
from heedful.records import Prompt


def fine_tune(ws: Workspace, folder: Path) -> dict[str, Any]:
    """Learn the first reference of every training prompt; held-out loss before and after, in nats per token."""
    from heedful.engines.export import save_language_model
    from heedful.engines.local import Optimiser
    from heedful.policy.sft import held_out_loss, train_sft

    chosen, splits = ws.settings.sft, ws.source.prompts()
    network = ws.open_network(["policy"])
    train, unseen = (_demonstrations(ws, splits[name], network) for name in ("train", "validation"))
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


def _demonstrations(ws: Workspace, prompts: list[Prompt], network: Any) -> tuple[list[list[int]], list[list[int]]]:
    from heedful.prompts.chat import encode_completion, encode_prompts

    rows = [p for p in prompts if p.reference]
    if not rows:
        raise DataProblem(
            f"none of the {len(prompts)} prompts has a reference to learn from", "Name its column with prompts.reference_column."
        )
    room = ws.settings.sft.max_tokens
    completions = [encode_completion((p.reference or [""])[0], ws.tokenizer)[:room] for p in rows]
    ids, _ = encode_prompts(rows, ws.tokenizer, network.encoder_decoder, room, "truncate")
    if not network.encoder_decoder:  # both share one context: the prompt gives way
        ids = [p[-max(1, room - len(c)) :] for p, c in zip(ids, completions, strict=True)]
    return ids, completions
