"""From logits to logprobs and entropy, in float32 or wider whatever the model computes in.

``V`` is the size of the vocabulary; ``...`` is usually ``[B, T]``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from heedful.maths.masking import at_least_float32


def scale_logits(logits: Tensor, temperature: float) -> Tensor:
    """Logits of the distribution that sampling at this temperature draws from: ``logits / temperature``.

    The one place where a temperature is applied: sampling, policy, old policy and reference all
    pass through it, so that a ratio or a KL never compares two temperatures. ``[..., V]`` to ``[..., V]``.
    Raises ``ValueError`` unless the temperature is above 0 (greedy decoding has no logprobs to learn from).
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    wide = at_least_float32(logits)
    return wide if temperature == 1.0 else wide / temperature


def token_logprobs(logits: Tensor, ids: Tensor) -> Tensor:
    """``log softmax(logits)[ids]`` in nats: ``[..., V]`` and ``[...]`` to ``[...]``.

    The picked logit minus the log-sum-exp, so that no second ``[..., V]`` tensor is kept for the
    backward pass. Ids off the mask must be valid too (any token will do).
    """
    wide = at_least_float32(logits)
    return wide.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - wide.logsumexp(-1)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of ``softmax(logits)`` in nats: ``[..., V]`` to ``[...]``, between 0 and log V.

    A logit of minus infinity is a token that cannot be drawn; it adds nothing.
    """
    wide = at_least_float32(logits)
    probabilities = wide.softmax(-1)
    drawable = torch.where(probabilities > 0, wide, 0)
    return wide.logsumexp(-1) - (probabilities * drawable).sum(-1)
