"""DPO, wired: the frozen pairs become token ids, and the policy learns from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.jobs.policy import held_out, policy_learner
from heedful.jobs.reward import open_reward, sampled_ids
from heedful.jobs.workspace import Workspace
from heedful.prompts.budget import Budget
from heedful.records import Pair, Prompt

if TYPE_CHECKING:
    from heedful.engines.base import Batch
    from heedful.engines.local import LocalLearner

Log = Callable[[int, dict[str, float]], None]


def learn_from_pairs(ws: Workspace, folder: Path, *, writes: bool = True) -> dict[str, Any]:
    """Learn from the pairs' training part; accuracy on its held-out part, and the policy as Hugging Face folders.

    With ``writes``, what the policy writes is measured on validation prompts, before and after each pass over the pairs.
    """
    from heedful.engines.export import save_language_model
    from heedful.engines.local import Optimiser
    from heedful.pairs.snapshot import open_snapshot
    from heedful.policy.dpo import DPOLoss, train_dpo, with_reference

    chosen, snapshot = ws.settings.dpo, open_snapshot(ws.folder("pairs"))
    train, unseen = snapshot.pairs["train"], snapshot.pairs["held_out"]
    per_pass = -(-len(train) // chosen.batch_size)
    steps = chosen.epochs * per_pass
    learner = policy_learner(ws, Optimiser(chosen.learning_rate, schedule="linear", total_steps=steps, warmup_steps=steps // 20))
    pairs, tested = (
        with_reference(learner, encode_pairs(ws, rows), folder / f"reference_{name}.safetensors")
        for name, rows in (("train", train), ("held_out", unseen))
    )
    train_dpo(
        learner,
        pairs,
        DPOLoss(chosen.beta, chosen.label_smoothing, chosen.variant),
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        seed=ws.settings.seed,
        folder=folder / "checkpoints",
        log=watched(ws, learner, folder, per_pass) if writes else ws.log("policy"),
        progress=ws.progress,
    )
    learner.save(folder / "state")
    save_language_model(ws.network, folder)
    figures = quality(learner, unseen, tested, chosen.beta)
    right, longer = (figures[name]["estimate"] for name in ("accuracy", "longer_wins"))
    line = f'{len(train)} pairs, right on {right:.1%} of held-out ones ("the longer one wins": {longer:.1%})'
    return {"line": line, "stopped_by": "epochs", "steps": steps, "snapshot": snapshot.sha256, **figures}


def watched(ws: Workspace, learner: LocalLearner, folder: Path, per_pass: int) -> Log:
    """A log that also measures what the policy writes on validation prompts: before the first step and after each pass.

    A run that goes on has measured before its first step already.
    """
    from heedful.run import Checkpoints

    record, measure = ws.log("policy"), held_out(ws, learner, open_reward(ws))

    def look(step: int) -> None:
        record(step, {f"held_out/{name}": value for name, value in measure(step).items()})

    def log(step: int, metrics: dict[str, float]) -> None:
        record(step, metrics)
        if step % per_pass == 0:
            look(step)

    if Checkpoints(folder / "checkpoints").newest() is None:
        look(0)
    return log


def quality(learner: LocalLearner, pairs: Sequence[Pair], batch: Batch, beta: float) -> dict[str, Any]:
    """How often the policy is right on held-out pairs.

    ``accuracy``, and what stands beside it, is that of implicit rewards. Before training these are all 0, so
    ``likelier_before`` and ``likelier_after`` count the pairs whose chosen completion is the likelier one.
    """
    from heedful.maths.preference_losses import implicit_rewards
    from heedful.policy.dpo import completion_logprobs
    from heedful.reward.quality import preferred, reward_quality

    reference, policy = batch.columns["reference"], completion_logprobs(learner, batch, "policy")
    rewards = implicit_rewards(policy, reference, beta).double().numpy()
    before, after = (preferred(x[::2].numpy(), x[1::2].numpy()).to_dict() for x in (reference, policy))
    return {**reward_quality(pairs, rewards[::2], rewards[1::2]), "likelier_before": before, "likelier_after": after}


def encode_pairs(ws: Workspace, pairs: Sequence[Pair]) -> Batch:
    """Pairs as token ids, two rows each; says how many had to be cut."""
    from heedful.policy.dpo import pair_batch
    from heedful.prompts.chat import encode_completion

    sampled, rows = sampled_ids(ws), []
    budget = Budget.of(ws.network, ws.settings.dpo.max_tokens, ws.max_prompt_tokens)
    for pair in pairs:
        chosen = sampled.get(pair.chosen_id) or encode_completion(pair.chosen, ws.tokenizer)
        rejected = sampled.get(pair.rejected_id) or encode_completion(pair.rejected, ws.tokenizer)
        prompt, room = budget.fit(Prompt(pair.prompt_id, pair.prompt), max(len(chosen), len(rejected)))
        rows.append((prompt, chosen[:room], rejected[:room]))
    if told := budget.too_long.sentence("pairs", "dpo.max_tokens"):
        ws.progress.say(told)
    return pair_batch(rows, [pair.p for pair in pairs])
