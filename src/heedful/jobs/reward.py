"""The reward: learnt from pairs, or opened from where the user says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.jobs.workspace import Workspace
from heedful.records import Pair, plain_text

if TYPE_CHECKING:
    from heedful.engines.base import Role, Scorer
    from heedful.engines.local import LocalLearner, Optimiser
    from heedful.engines.networks import ScalarNetwork
    from heedful.reward.train import Encode, PairSet

SCALAR: tuple[Role, ...] = ("reward", "monitor")


def learn_reward(ws: Workspace, folder: Path, roles: Sequence[Role] = SCALAR) -> dict[str, Any]:
    """Train the reward model and, where RL will need it, a monitor of another seed and split; measure both on held-out pairs."""
    from heedful.pairs.snapshot import open_snapshot
    from heedful.reward.quality import reward_quality
    from heedful.reward.train import score_pairs

    snapshot = open_snapshot(ws.folder("pairs"))
    train, held_out = snapshot.pairs["train"], snapshot.pairs["held_out"]
    figures: dict[str, Any] = {"snapshot": snapshot.sha256}
    for number, role in enumerate(roles):
        learner, encode = reward_learner(ws, role, steps_of(ws, train))
        _fit(ws, learner, encode, monitor_part(train) if role == "monitor" else train, folder / role, seed=ws.settings.seed + number)
        unseen = encode_all(held_out, encode)
        figures[role] = reward_quality(unseen.pairs, *score_pairs(learner, unseen))
        learner.save(folder / role / "state")
        if role == "reward":
            save_for_others(ws, learner, folder / "model")
    right, longer = (figures["reward"][name]["estimate"] for name in ("accuracy", "longer_wins"))
    return {**figures, "line": f'right on {right:.1%} of held-out pairs ("the longer one wins": {longer:.1%})'}


def monitor_part(pairs: list[Pair]) -> list[Pair]:
    """The monitor learns from another draw of prompts: every fourth is left out."""
    from heedful.pairs.snapshot import prompt_key

    prompts = sorted({prompt_key(p) for p in pairs})
    left_out = set(prompts[::4])
    return [p for p in pairs if prompt_key(p) not in left_out]


def reward_learner(ws: Workspace, role: Role, steps: int = 0) -> tuple[LocalLearner, Encode]:
    """A learner of a reward model on the base that the settings name, and how pairs become ids for it."""
    from heedful.engines.local import Optimiser

    chosen = ws.settings.reward
    optimiser = Optimiser(chosen.learning_rate, schedule="linear", total_steps=steps, warmup_steps=max(1, steps // 20))
    if chosen.base == "policy":
        network = ws.network if ws.shares_base else ws.open_network([role], adapters=False)
        return ws.learner(role, optimiser, network), encode_for_policy(ws)
    return _other_base(ws, role, optimiser)


def _other_base(ws: Workspace, role: Role, optimiser: Optimiser) -> tuple[LocalLearner, Encode]:
    from heedful.engines.models import freeze_lower, load_tokenizer
    from heedful.engines.seeding import seeded
    from heedful.reward.score import encode_texts

    chosen = ws.settings.reward
    tokenizer = load_tokenizer(chosen.base, trust_remote_code=ws.settings.model.trust_remote_code)
    with seeded(ws.settings.seed + SCALAR.index(role)):
        network = _scalar_network(ws, tokenizer)
    freeze_lower(network.model, chosen.frozen_layers)

    def encode(pair: Pair, chosen_one: bool) -> tuple[list[int], list[int]]:
        text = pair.chosen if chosen_one else pair.rejected
        batch = encode_texts(tokenizer, [(plain_text(pair.prompt), text)], min(chosen.max_tokens, network.context or chosen.max_tokens))
        return list(batch.prompt_ids[0]), list(batch.completion_ids[0])

    return ws.learner(role, optimiser, network), encode


def _scalar_network(ws: Workspace, tokenizer: Any) -> ScalarNetwork:
    """A new score on ``reward.base``, read where ``reward.pooling`` says."""
    from heedful.engines.models import choose_precision, load_scalar_model, load_trunk
    from heedful.engines.networks import ScalarNetwork, mean_head

    chosen, model = ws.settings.reward, ws.settings.model
    if chosen.pooling == "mean":
        trunk = load_trunk(chosen.base, device=model.device, trust_remote_code=model.trust_remote_code)
        head = mean_head(trunk.config.hidden_size)
        return ScalarNetwork(trunk, tokenizer, mean_head=head, precision=choose_precision(model.precision, trunk.device))
    scalar = load_scalar_model(chosen.base, labels=[""], device=model.device, trust_remote_code=model.trust_remote_code)
    return ScalarNetwork(scalar, tokenizer, precision=choose_precision(model.precision, scalar.device))


def encode_for_policy(ws: Workspace) -> Encode:
    """Ids for a reward model on the policy's own base: the very tokens that were sampled, where they are known."""
    from heedful.prompts.chat import encode_completion, encode_prompts
    from heedful.records import Prompt

    sampled = sampled_ids(ws)
    known: dict[str, list[int]] = {}

    def encode(pair: Pair, chosen_one: bool) -> tuple[list[int], list[int]]:
        text, name = (pair.chosen, pair.chosen_id) if chosen_one else (pair.rejected, pair.rejected_id)
        key = pair.prompt_id or plain_text(pair.prompt)
        if key not in known:
            [known[key]], _ = encode_prompts(
                [Prompt(key, pair.prompt)], ws.tokenizer, ws.network.encoder_decoder, ws.max_prompt_tokens, "truncate"
            )
        ids = sampled.get(name) or shorten(encode_completion(text, ws.tokenizer), ws.settings.reward.max_tokens)
        return known[key], ids

    return encode


def sampled_ids(ws: Workspace) -> dict[str, list[int]]:
    """The very tokens of the completions that the run itself sampled, by their id."""
    return {c.id: c.token_ids for c in ws.completions()} if ws.settings.reward.kind == "learn" else {}


def shorten(ids: list[int], room: int) -> list[int]:
    """At most ``room`` ids; the end token, which the score is read at, stays."""
    return ids if len(ids) <= room else [*ids[: room - 1], ids[-1]]


def encode_all(pairs: list[Pair], encode: Encode) -> PairSet:
    """Pairs as ids, grouped by prompt."""
    from heedful.reward.train import encode_pairs

    return encode_pairs(pairs, encode)


def steps_of(ws: Workspace, pairs: list[Pair]) -> int:
    """Optimiser steps that the settings ask for."""
    from heedful.pairs.snapshot import prompt_key

    prompts = len({prompt_key(p) for p in pairs})
    return ws.settings.reward.epochs * -(-prompts // ws.settings.reward.batch_size)


def _fit(ws: Workspace, learner: LocalLearner, encode: Encode, pairs: list[Pair], folder: Path, seed: int) -> None:
    from dataclasses import replace

    from heedful.reward.train import train_reward

    margin = ws.settings.reward.margin
    rows = [replace(p, margin=p.margin + margin) for p in pairs] if margin else pairs
    chosen = ws.settings.reward
    train_reward(
        learner,
        encode_all(rows, encode),
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        seed=seed,
        folder=folder / "checkpoints",
        log=ws.log(folder.name),
        progress=ws.progress,
    )


def save_for_others(ws: Workspace, learner: LocalLearner, folder: Path) -> None:
    """The reward model as a Hugging Face folder."""
    from heedful.engines.export import save_reward_model, save_scalar_model
    from heedful.engines.networks import LanguageNetwork

    if isinstance(learner.network, LanguageNetwork):
        save_reward_model(learner.network, learner.trains, folder)
    else:
        save_scalar_model(learner.network, folder)


def open_reward(ws: Workspace, role: Role = "reward") -> Scorer:
    """The scorer that RL optimises (``reward``) or is watched by (``monitor``)."""
    from heedful.engines.networks import LanguageNetwork
    from heedful.reward.score import FunctionReward, RewardModel, SharedRewardModel

    chosen, model = ws.settings.reward, ws.settings.model
    if chosen.kind == "function":
        return FunctionReward(chosen.path)
    if chosen.kind in ("model", "classifier"):
        return RewardModel.open(
            chosen.path,
            label=chosen.label or None,
            completion_only=chosen.kind == "classifier",
            max_tokens=chosen.max_tokens,
            device=model.device,
            precision=model.precision,
            trust_remote_code=model.trust_remote_code,
        )
    learner, _ = reward_learner(ws, role)
    learner.load(ws.folder("reward") / role / "state")
    return (
        SharedRewardModel(learner, role)
        if isinstance(learner.network, LanguageNetwork)
        else RewardModel(learner, [""], max_tokens=chosen.max_tokens)
    )
