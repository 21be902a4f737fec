"""The reward: learnt from pairs, or opened from where the user says."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from heedful.jobs.workspace import Workspace
from heedful.prompts.budget import Budget, TooLong
from heedful.records import Pair, Prompt, plain_text

if TYPE_CHECKING:
    from heedful.engines.base import Batch, Role, Scorer
    from heedful.engines.local import LocalLearner, Optimiser
    from heedful.engines.networks import ScalarNetwork
    from heedful.reward.train import PairSet

PairEncoder = Union["OnPolicyBase", "OnOtherBase"]
"""(pair, is it the chosen one?) -> (prompt ids, completion ids), and what had to be cut."""

SCALAR: tuple[Role, ...] = ("reward", "monitor")


def learn_reward(ws: Workspace, folder: Path, roles: Sequence[Role] = SCALAR) -> dict[str, Any]:
    """Train the reward model and, where RL will need it, a monitor of another seed and split; measure both on held-out pairs."""
    from heedful.pairs.snapshot import open_snapshot
    from heedful.reward.quality import reward_quality
    from heedful.reward.train import encode_pairs, score_pairs

    snapshot = open_snapshot(ws.folder("pairs"))
    train, held_out = snapshot.pairs["train"], snapshot.pairs["held_out"]
    figures: dict[str, Any] = {"snapshot": snapshot.sha256}
    for number, role in enumerate(roles):
        learner, encode = reward_learner(ws, role, steps_of(ws, train))
        rows = monitor_part(train) if role == "monitor" else train
        _fit(ws, learner, encode_pairs(with_margin(rows, ws.settings.reward.margin), encode), folder / role, seed=ws.settings.seed + number)
        unseen = encode_pairs(held_out, encode)
        figures[role] = reward_quality(unseen.pairs, *score_pairs(learner, unseen))
        learner.save(folder / role / "state")
        if role == "reward":
            save_for_others(ws, learner, folder / "model")
            figures["too_long"] = encode.too_long.over
            if told := encode.too_long.sentence("completions with their prompts", "reward.max_tokens"):
                ws.progress.say(told)
    right, longer = (figures["reward"][name]["estimate"] for name in ("accuracy", "longer_wins"))
    return {**figures, "line": f'right on {right:.1%} of held-out pairs ("the longer one wins": {longer:.1%})'}


def monitor_part(pairs: list[Pair]) -> list[Pair]:
    """The monitor learns from another draw of prompts: every fourth is left out."""
    from heedful.pairs.snapshot import prompt_key

    prompts = sorted({prompt_key(p) for p in pairs})
    left_out = set(prompts[::4])
    return [p for p in pairs if prompt_key(p) not in left_out]


def reward_learner(ws: Workspace, role: Role, steps: int = 0) -> tuple[LocalLearner, PairEncoder]:
    """A learner of a reward model on the base that the settings name, and how pairs become ids for it."""
    from heedful.engines.local import Optimiser

    chosen = ws.settings.reward
    optimiser = Optimiser(chosen.learning_rate, schedule="linear", total_steps=steps, warmup_steps=max(1, steps // 20))
    if chosen.base == "policy":
        network = ws.network if ws.shares_base else ws.open_network([role], adapters=False)
        return ws.learner(role, optimiser, network), OnPolicyBase(reward_budget(ws), sampled_ids(ws))
    return _other_base(ws, role, optimiser)


def _other_base(ws: Workspace, role: Role, optimiser: Optimiser) -> tuple[LocalLearner, PairEncoder]:
    from heedful.engines.models import freeze_lower, load_tokenizer
    from heedful.engines.seeding import seeded

    chosen = ws.settings.reward
    tokenizer = load_tokenizer(chosen.base, trust_remote_code=ws.settings.model.trust_remote_code)
    with seeded(ws.settings.seed + SCALAR.index(role)):
        network = _scalar_network(ws, tokenizer)
    freeze_lower(network.model, chosen.frozen_layers)

    limit = min(chosen.max_tokens, network.context or chosen.max_tokens)
    return ws.learner(role, optimiser, network), OnOtherBase(tokenizer, limit)


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


@dataclass
class OnPolicyBase:
    """Ids for a reward model on the policy's own base: the very tokens that were sampled, where they are known."""

    budget: Budget
    sampled: Mapping[str, list[int]]

    @property
    def too_long(self) -> TooLong:
        """What was cut so far."""
        return self.budget.too_long

    def __call__(self, pair: Pair, chosen_one: bool) -> tuple[list[int], list[int]]:
        from heedful.prompts.chat import encode_completion

        text, name = (pair.chosen, pair.chosen_id) if chosen_one else (pair.rejected, pair.rejected_id)
        return self.budget.row(
            Prompt(pair.prompt_id, pair.prompt), self.sampled.get(name) or encode_completion(text, self.budget.tokenizer)
        )


@dataclass
class OnOtherBase:
    """Ids for a reward model on a base of its own, from the texts."""

    tokenizer: Any
    limit: int
    too_long: TooLong = field(default_factory=TooLong)

    def __call__(self, pair: Pair, chosen_one: bool) -> tuple[list[int], list[int]]:
        from heedful.reward.score import encode_texts

        prompt, text = plain_text(pair.prompt), pair.chosen if chosen_one else pair.rejected
        batch = encode_texts(self.tokenizer, [(prompt, text)], self.limit)
        ids, completion = list(batch.prompt_ids[0]), list(batch.completion_ids[0])
        full = len(ids) + len(completion) >= self.limit  # only then can anything be missing
        self.too_long.count(full and len(self.tokenizer(prompt, text, verbose=False)["input_ids"]) > self.limit)
        return ids, completion


def reward_budget(ws: Workspace) -> Budget:
    """What a prompt and completion may have together before a reward model on the policy's base: in training, and when it scores."""
    return Budget.of(ws.network, ws.settings.reward.max_tokens, ws.max_prompt_tokens)


def sampled_ids(ws: Workspace) -> dict[str, list[int]]:
    """The very tokens of the completions that the run itself sampled, by their id."""
    return {c.id: c.token_ids for c in ws.completions()} if ws.settings.reward.kind == "learn" else {}


def steps_of(ws: Workspace, pairs: list[Pair]) -> int:
    """Optimiser steps that the settings ask for."""
    from heedful.pairs.snapshot import prompt_key

    prompts = len({prompt_key(p) for p in pairs})
    return ws.settings.reward.epochs * -(-prompts // ws.settings.reward.batch_size)


def with_margin(pairs: list[Pair], margin: float) -> list[Pair]:
    """The pairs with ``margin`` added to their own."""
    return [replace(p, margin=p.margin + margin) for p in pairs] if margin else pairs


def _fit(ws: Workspace, learner: LocalLearner, pairs: PairSet, folder: Path, seed: int) -> None:
    from heedful.reward.train import train_reward

    chosen = ws.settings.reward
    train_reward(
        learner,
        pairs,
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


def open_reward(ws: Workspace, role: Role = "reward", *, by_ids: bool = True) -> Scorer:
    """The scorer that RL optimises (``reward``) or is watched by (``monitor``).

    A reward model with the policy's own tokens scores the very ids that were drawn, unless ``by_ids`` is false.
    """
    from heedful.engines.networks import LanguageNetwork
    from heedful.reward.score import FunctionReward, RewardModel, SharedRewardModel

    chosen, model = ws.settings.reward, ws.settings.model
    if chosen.kind == "function":
        return FunctionReward(chosen.path)
    if chosen.kind in ("model", "classifier"):
        opened = RewardModel.open(
            chosen.path,
            label=chosen.label or None,
            completion_only=chosen.kind == "classifier",
            max_tokens=chosen.max_tokens,
            device=model.device,
            precision=model.precision,
            trust_remote_code=model.trust_remote_code,
        )
        budget = None if opened.completion_only or not by_ids else opened.budget
        if budget is not None and _reads_ids(ws, budget):
            return SharedRewardModel(opened.learner, fit=fitting(budget))
        return opened
    learner, _ = reward_learner(ws, role)
    learner.load(ws.folder("reward") / role / "state")
    return (
        SharedRewardModel(learner, role, fit=fitting(reward_budget(ws)))
        if isinstance(learner.network, LanguageNetwork)
        else RewardModel(learner, [""], max_tokens=chosen.max_tokens)
    )


def _reads_ids(ws: Workspace, budget: Budget) -> bool:
    """Would the policy's ids mean the same to this reward model?"""
    from heedful.engines.tokens import same_tokens

    return budget.encoder_decoder == ws.network.encoder_decoder and same_tokens(budget.tokenizer, ws.tokenizer)


def fitting(budget: Budget) -> Callable[[Sequence[Prompt], Batch], Batch]:
    """Rows as the reward model learnt them: where a prompt and its completion are too long together, the prompt gives way."""
    from heedful.engines.base import Batch

    def fit(prompts: Sequence[Prompt], batch: Batch) -> Batch:
        rows = list(zip(prompts, batch.prompt_ids, batch.completion_ids, strict=True))
        if all(budget.holds(len(p), len(c)) for _, p, c in rows):
            return batch
        found = [(p, c) if budget.holds(len(p), len(c)) else budget.row(prompt, list(c)) for prompt, p, c in rows]
        return Batch([p for p, _ in found], [c for _, c in found])

    return fit
