"""Phase 1 of reinforcement learning: experience.

A rollout is the prompts of one iteration, a sampled completion for each, and what every role says
about it. It is written beside the checkpoint, so that a run killed while learning does not sample
again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heedful.engines.base import Batch, Learner, Outputs, Sampled, Sampling, Scorer, decode
from heedful.maths import kl
from heedful.records import Prompt


@dataclass(frozen=True)
class Experience:
    """Everything recorded while sampling. Tensors are ``[B, T]`` on the CPU, 0 off the mask, unless said.

    ``scores [B]`` are raw; ``kl`` follows the chosen estimator and carries no gradient. The batch may carry ``ref_states``.
    """

    batch: Batch
    texts: list[str]
    finish_reasons: list[str]
    scores: Tensor
    logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    kl: Tensor
    drift: float
    """max |logprob while sampling - logprob recomputed| over the rows that were looked at twice."""

    def save(self, folder: Path) -> None:
        """Tensors as safetensors, the rest as JSON."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        names = ("scores", "logprobs", "ref_logprobs", "values", "kl")
        tensors = {name: getattr(self, name) for name in names} | self.batch.columns
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "rollout.safetensors")
        rest = {
            "prompt_ids": [list(p) for p in self.batch.prompt_ids],
            "completion_ids": [list(c) for c in self.batch.completion_ids],
            "texts": self.texts,
            "finish_reasons": self.finish_reasons,
            "drift": self.drift,
        }
        (folder / "rollout.json").write_text(json.dumps(rest))

    @classmethod
    def load(cls, folder: Path) -> Experience:
        """The inverse of :meth:`save`, bit for bit."""
        from safetensors.torch import load_file

        rest = json.loads((folder / "rollout.json").read_text())
        tensors = load_file(folder / "rollout.safetensors")
        columns = {name: tensors.pop(name) for name in ("ref_states",) if name in tensors}
        batch = Batch(rest.pop("prompt_ids"), rest.pop("completion_ids"), columns=columns)
        recorded: dict[str, Any] = {**rest, **tensors}
        return cls(batch=batch, **recorded)


def collect(
    learner: Learner,
    tokenizer: Any,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    sampling: Sampling,
    seeds: Sequence[int],
    estimator: str = "k1",
    *,
    untrained: bool = False,
    exact_kl: bool = False,
) -> Experience:
    """Sample with the current policy, then let every role judge the same token ids.

    The policy's logprobs and values are those recorded while sampling, and a few rows are computed
    once more to compare. ``untrained`` says that the policy still is its reference: then the reference's
    pass is the second look at every row, and its numbers are taken for both, so that KL is exactly 0.
    The exact KL, which needs every logit, computes every row again, too. ``exact_kl`` says that the loss will ask for it, so that the
    reference's states are kept where there is room.
    """
    drawn = learner.sampler().sample(prompt_ids, sampling, seeds)
    batch = Batch(list(prompt_ids), [d.token_ids for d in drawn])
    texts = decode(tokenizer, batch.completion_ids)
    policy, drift = _judged(learner, batch, drawn, estimator, untrained, exact_kl)
    assert policy.logprobs is not None
    assert policy.ref_logprobs is not None
    divergence = kl.estimate(estimator, policy.logprobs, policy.ref_logprobs) if policy.kl is None else policy.kl
    return Experience(
        batch=batch if policy.ref_states is None else batch.with_columns(ref_states=policy.ref_states),
        texts=texts,
        finish_reasons=[d.finish_reason for d in drawn],
        scores=torch.tensor(scorer.score(prompts, texts, batch), dtype=torch.float32),
        logprobs=policy.logprobs,
        ref_logprobs=policy.ref_logprobs,
        values=torch.zeros_like(policy.logprobs) if policy.values is None else policy.values,
        kl=divergence * batch.mask,
        drift=drift,
    )


def _judged(learner: Learner, batch: Batch, drawn: Sequence[Sampled], estimator: str, untrained: bool, keep: bool) -> tuple[Outputs, float]:
    """The policy's logprobs and values and the reference's logprobs; and the drift of what was recorded."""
    if estimator == "exact":
        policy = learner.evaluate(batch, "policy", exact_kl=True, ref_states=keep)
        return policy, logprob_drift(drawn, policy.logprobs)
    judged = learner.evaluate(batch, "reference", ref_states=keep)
    values = padded([d.values or [] for d in drawn]) if drawn[0].values is not None else None
    recorded = Outputs(padded([d.logprobs for d in drawn]), values, ref_states=judged.ref_states)
    reference = judged.logprobs
    assert reference is not None
    if untrained:
        drift = logprob_drift(drawn, reference)
        if drift <= learner.rounding:
            return replace(recorded, logprobs=reference.clone(), ref_logprobs=reference), drift
        policy = learner.evaluate(batch, "policy")  # is it the sampler, or is the reference another model?
        return replace(policy, ref_logprobs=reference, ref_states=judged.ref_states), logprob_drift(drawn, policy.logprobs)
    return replace(recorded, ref_logprobs=reference), spot_check(learner, batch, drawn)


def describe(experience: Experience, scores: Tensor) -> dict[str, float]:
    """What every iteration records about its rollout and the ``scores [B]`` that were learnt from; docs/algorithms/ppo.md explains each."""
    mask, logprobs, reference = experience.batch.mask, experience.logprobs, experience.ref_logprobs
    return {
        "objective/score": float(experience.scores.mean()),
        "objective/score_sd": float(experience.scores.std(unbiased=False)),
        "objective/reward": float(scores.mean()),
        "objective/kl": float(((logprobs - reference) * mask).sum(1).mean()),
        "objective/kl_k3": float((kl.k3(logprobs, reference) * mask).sum(1).mean()),
        "completions/length": float(mask.sum(1).mean()),
        "completions/ended": float(np.mean([reason == "stop" for reason in experience.finish_reasons])),
        "sampling/drift": experience.drift,
    }


def padded(rows: Sequence[Sequence[float]]) -> Tensor:
    """``[B, T]`` float32 with 0 behind the end of each row."""
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=torch.float32)


def spot_check(learner: Learner, batch: Batch, drawn: Sequence[Sampled], rows: int = 4) -> float:
    """The drift of a few rows, evenly spread: a second pass over all would cost what recording saved."""
    chosen = sorted({int(row) for row in np.linspace(0, len(batch) - 1, rows)})
    return logprob_drift([drawn[row] for row in chosen], learner.evaluate(batch.select(chosen), "policy").logprobs)


def logprob_drift(drawn: Sequence[Sampled], logprobs: Tensor | None) -> float:
    """max |d logprob| between sampling and scoring: above about 1e-3 the two run different functions."""
    assert logprobs is not None
    gaps = [abs(a - float(b)) for row, d in enumerate(drawn) for a, b in zip(d.logprobs, logprobs[row], strict=False)]
    return max(gaps, default=0.0)


def seeds_for(seed: int, *position: int, n: int) -> list[int]:
    """``n`` independent seeds for a place in a run, so that no generator has to be carried along."""
    return [int(s) for s in np.random.SeedSequence([seed, *position]).generate_state(n, np.uint64)]


def data_order(n_prompts: int, start: int, count: int, seed: int) -> list[int]:
    """Prompt indices of positions ``start .. start + count`` in an endless stream of shuffled passes."""
    positions = range(start, start + count)
    passes = {number: np.random.default_rng([seed, number]).permutation(n_prompts) for number in {p // n_prompts for p in positions}}
    return [int(passes[p // n_prompts][p % n_prompts]) for p in positions]
