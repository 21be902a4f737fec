"""Do both sides compute the same? One batch, the same weights: losses, log-probabilities, values and scores side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from benchmarks.peers import ours
from benchmarks.peers.work import Work
from heedful.engines.base import Batch
from heedful.policy.dpo import DPOLoss, completion_logprobs
from heedful.policy.grpo import GRPOLoss
from heedful.policy.kl_control import FixedKL
from heedful.policy.ppo import ppo_step
from heedful.policy.rollout import Experience, padded
from heedful.policy.shaping import RewardScale

Found = dict[str, Any]
PRECISIONS = (torch.float32, torch.bfloat16)


def differences(work: Work) -> dict[str, dict[str, float]]:
    """The largest difference of each quantity to what the peer wrote, by precision of our arithmetic."""
    given = json.loads((work.folder / "check.json").read_text())
    observe = {"ppo": ppo, "encoder-decoder": encoder_decoder, "reward": reward, "dpo": dpo, "grpo": grpo}[work.settings["row"]]
    return {
        str(precision).removeprefix("torch."): largest_gaps(given["expected"], observe(ours.Side(work, precision), given))
        for precision in PRECISIONS
    }


def largest_gaps(expected: Found, found: Found) -> dict[str, float]:
    """By name. Both must hold the same names and, below them, as many numbers."""
    if expected.keys() != found.keys():
        raise SystemExit(f"the peer computed {sorted(expected)}, heedful {sorted(found)}")
    return {name: max(abs(a - b) for a, b in zip(numbers(expected[name]), numbers(found[name]), strict=True)) for name in expected}


def numbers(value: Any) -> Iterable[float]:
    """Every number of nested lists, in order."""
    return [number for part in value for number in numbers(part)] if isinstance(value, list) else [float(value)]


def ppo(side: ours.Side, given: Found) -> Found:
    """One update on a given rollout: rewards, advantages, both losses."""
    learner, batch = side.policy("nudged", "nudged_value"), Batch(given["prompts"], given["completions"])
    policy, old = learner.evaluate(batch, "policy"), torch.tensor(given["old_logprobs"])
    reference, scores = learner.evaluate(batch, "reference").logprobs, side.reward().evaluate(batch, "reward").scores
    assert policy.logprobs is not None
    assert policy.values is not None
    assert reference is not None
    assert scores is not None
    experience = Experience(
        batch, [""] * len(batch), ["length"] * len(batch), scores, old, reference, policy.values, (old - reference) * batch.mask, 0.0
    )
    chosen = ours.ppo_settings({**side.settings, "epochs": 1}, len(batch))
    metrics = ppo_step(learner, experience, RewardScale(), FixedKL(chosen.kl_coef), chosen, seed=0)
    return {
        "logprobs": by_row(policy.logprobs, batch),
        "reference logprobs": by_row(reference, batch),
        "values": by_row(policy.values, batch),
        "scores": scores.tolist(),
        "policy loss": metrics["loss/policy"],
        "value loss": metrics["loss/value"],
    }


def encoder_decoder(side: ours.Side, given: Found) -> Found:
    """Log-probabilities and values of given completions."""
    learner, completions = side.policy("nudged"), side.work.rollout["completions"]
    head = learner.learner.network.value_head
    assert isinstance(head, torch.nn.Linear)
    with torch.no_grad():
        # T5 divides states by the root of their width on the way to its head; the peer's value reads them before, ours after.
        head.weight.copy_(torch.tensor([given["value_head"]["weight"]]) * head.in_features**0.5)
        head.bias.fill_(given["value_head"]["bias"])
    batch = Batch(side.work.prompts[: len(completions)], completions)  # type: ignore[arg-type]
    found = learner.evaluate(batch, "policy")
    assert found.logprobs is not None
    assert found.values is not None
    return {"logprobs": by_row(found.logprobs, batch), "values": by_row(found.values, batch)}


def reward(side: ours.Side, given: Found) -> Found:
    """The pairwise loss; the peer's scores are those of all chosen completions, then of all rejected."""
    learner, pairs = side.reward(), ours.pair_set(side.work)
    batch = pairs.batch(range(len(given["expected"]["scores"]) // 2))
    scores = learner.evaluate(batch, "reward").scores
    assert scores is not None
    return {"loss": learner.forward_backward(batch, pairs.loss)["loss"], "scores": [*scores[::2].tolist(), *scores[1::2].tolist()]}


def dpo(side: ours.Side, given: Found) -> Found:
    """The loss and the implicit rewards; log-probabilities of all chosen completions, then of all rejected."""
    learner, beta = side.policy("nudged"), side.settings["beta"]
    batch = ours.dpo_pairs(side.work).select(range(len(given["expected"]["logprobs"])))
    batch = batch.with_columns(reference=completion_logprobs(learner, batch, "reference"))
    logprobs = learner.evaluate(batch, "policy").logprobs
    assert logprobs is not None
    rewards, rows = beta * (logprobs.sum(1) - batch.columns["reference"]), by_row(logprobs, batch)
    return {
        "loss": learner.forward_backward(batch, DPOLoss(beta))["loss"],
        "chosen rewards": rewards[::2].tolist(),
        "rejected rewards": rewards[1::2].tolist(),
        "logprobs": [*rows[::2], *rows[1::2]],
    }


def grpo(side: ours.Side, given: Found) -> Found:
    """The loss of one step on a given rollout."""
    learner, rollout, chosen = side.policy("nudged"), side.work.rollout, ours.grpo_settings(side.settings)
    batch = Batch(side.work.prompts[: len(rollout["completions"])], rollout["completions"])  # type: ignore[arg-type]
    policy, reference = (learner.evaluate(batch, role).logprobs for role in ("policy", "reference"))
    assert policy is not None
    assert reference is not None
    columns = {"logprobs": padded(given["old_logprobs"]), "ref_logprobs": reference, "advantages": torch.tensor(rollout["advantages"])}
    loss = GRPOLoss(chosen.clip, chosen.clip_high, chosen.kl_coef, chosen.kl_estimator)
    return {
        "loss": learner.forward_backward(batch.with_columns(**columns), loss)["loss"],
        "logprobs": by_row(policy, batch),
        "reference logprobs": by_row(reference, batch),
    }


def by_row(values: Tensor, batch: Batch) -> list[list[float]]:
    """``[B, T]`` without its padding."""
    return [row[:n].tolist() for row, n in zip(values, batch.lengths, strict=True)]
