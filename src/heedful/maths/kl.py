"""KL(policy || reference) in nats, per token: sampled estimators and the exact sum.

With d = log policy - log reference of a token drawn from the policy (Schulman, "Approximating KL
divergence", 2020):

    name   formula           as a number                          as a loss, gradient through it
    k1     d                 unbiased, noisy, can be below 0      zero on average: it does nothing
    k2     d^2 / 2           biased, little noise                 the exact gradient of this KL
    k3     exp(-d) - 1 + d   unbiased, never below 0, heavy tail  the gradient of KL(reference || policy)
    exact  sum over V        exact                                exact

PPO puts k1 into the reward, without a gradient. In a loss use ``exact`` or k2, or multiply k1 or k3
by ``exp(logprobs - logprobs.detach())`` (arXiv 2506.09477). None of them is clipped to a range:
that would bias the penalty.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.maths.masking import at_least_float32


def k1(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """``d``, any shape, usually ``[B, T]``."""
    return logprobs - ref_logprobs


def k2(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """``d^2 / 2``, any shape, usually ``[B, T]``."""
    return 0.5 * (logprobs - ref_logprobs).square()


def k3(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """``exp(-d) - 1 + d``, never below 0; any shape, usually ``[B, T]``."""
    d = logprobs - ref_logprobs
    # Mathematically never below 0, so the clamp removes rounding and nothing else.
    return (torch.expm1(-d) + d).clamp(min=0)


def estimate(name: str, logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """The sampled estimator called ``name``: ``"k1"``, ``"k2"`` or ``"k3"``. Raises ``ValueError`` for another name."""
    if name not in ESTIMATORS:
        raise ValueError(f"no KL estimator is called {name!r}; there are {', '.join(ESTIMATORS)}")
    return ESTIMATORS[name](logprobs, ref_logprobs)


def exact(policy_logits: Tensor, ref_logits: Tensor) -> Tensor:
    """Sum of ``p (log p - log q)`` over the vocabulary: ``[..., V]`` each to ``[...]``.

    Equal logits give exactly 0. A token that the policy cannot draw (logit minus infinity) adds
    nothing; one that only the reference cannot draw makes the KL infinite.
    """
    policy, ref = at_least_float32(policy_logits), at_least_float32(ref_logits)
    probabilities = policy.softmax(-1)
    difference = torch.where(probabilities > 0, policy - ref, 0)
    return (probabilities * difference).sum(-1) - (policy.logsumexp(-1) - ref.logsumexp(-1))


ESTIMATORS = {"k1": k1, "k2": k2, "k3": k3}
