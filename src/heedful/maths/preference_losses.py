"""Losses that learn from preferences: the reward model's, and DPO, KTO and ORPO, which need none.

``chosen``, ``rejected`` and their ``ref_`` counterparts are ``[B]``: the log-probability of a whole
completion, summed over its tokens (averaged over them in ORPO), by the policy and by the reference.
The *implicit reward* of a completion is ``beta * (log policy - log reference)``; its log-ratio is
the same without beta. Everything is unreduced.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu


def bradley_terry(chosen_scores: Tensor, rejected_scores: Tensor, margin: Tensor | float = 0.0, p: Tensor | float = 1.0) -> Tensor:
    """``-(p log s + (1 - p) log(1 - s))`` with ``s = sigmoid(chosen - rejected - margin)``, ``[B]``.

    ``p`` is the probability that ``chosen`` is the better one, ``margin`` how much better it should
    score; numbers or ``[B]``. (Bradley and Terry 1952; Ouyang et al. 2022, equation 1; margin: Touvron
    et al. 2023, equation 2.)
    """
    return _soft_logistic(chosen_scores - rejected_scores - margin, 1 - p)


def wins(chosen: Tensor, rejected: Tensor) -> Tensor:
    """1 where ``chosen`` is the higher one, 1/2 at a tie, 0 where it is the lower one; any shape."""
    return (chosen > rejected).float() + 0.5 * (chosen == rejected).float()


def implicit_rewards(logprobs: Tensor, ref_logprobs: Tensor, beta: float) -> Tensor:
    """``beta * (log policy - log reference)`` of whole completions, ``[B]``."""
    return beta * (logprobs - ref_logprobs)


def dpo(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
    variant: str = "sigmoid",
    p: Tensor | float = 1.0,
) -> Tensor:
    """DPO (Rafailov et al. 2023, equation 7) or one of its ``VARIANTS``, ``[B]``.

    ``label_smoothing`` is the share of pairs believed to be the wrong way round, for the variants in
    ``SMOOTHED``. ``p`` is the probability that ``chosen`` is the better one, a number or ``[B]``: the loss
    is ``p`` times that of the pair plus ``1 - p`` times that of the pair turned round. Raises ``ValueError``
    for an unknown variant, or a smoothing outside [0, 0.5) or one that the variant cannot use.
    """
    _check_variant(variant, label_smoothing)
    loss, c, r = VARIANTS[variant], chosen - ref_chosen, rejected - ref_rejected
    return p * loss(c, r, beta, label_smoothing) + (1 - p) * loss(r, c, beta, label_smoothing)


class KTO(NamedTuple):
    """``losses`` are those of the chosen completions, then those of the rejected ones."""

    losses: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor
    kl: Tensor


def kto(
    chosen: Tensor,
    rejected: Tensor,
    mismatched: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    ref_mismatched: Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> KTO:
    """KTO, from thumbs up (``chosen``, ``[C]``) and thumbs down (``rejected``, ``[R]``).

    ``mismatched`` are completions beside prompts that they do not answer, any number of them: the
    reference point is estimated from these. (Ethayarajh et al. 2024.)
    """
    kl = kto_reference_point(mismatched, ref_mismatched)
    log_ratios = torch.cat([chosen - ref_chosen, rejected - ref_rejected])
    desirable = torch.arange(len(log_ratios), device=log_ratios.device) < len(chosen)
    losses = kto_losses(log_ratios, desirable, kl, beta, desirable_weight, undesirable_weight)
    return KTO(losses, implicit_rewards(chosen, ref_chosen, beta), implicit_rewards(rejected, ref_rejected, beta), kl)


def kto_reference_point(mismatched: Tensor, ref_mismatched: Tensor) -> Tensor:
    """KTO's estimate of KL(policy || reference) over the whole batch: 0-d, never below 0, without a gradient."""
    return (mismatched - ref_mismatched).mean().clamp(min=0).detach()


def kto_losses(
    log_ratios: Tensor,
    desirable: Tensor,
    kl: Tensor,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Tensor:
    """KTO's loss of each completion, ``[B]``, given ``desirable`` (True is a thumb up) and the reference point ``kl``.

    ``weight * (1 - sigmoid(beta * (log_ratio - kl)))`` where desirable, with the opposite sign inside
    where not.
    """
    gain = beta * (log_ratios - kl)
    return torch.where(desirable.bool(), desirable_weight * torch.sigmoid(-gain), undesirable_weight * torch.sigmoid(gain))


class ORPO(NamedTuple):
    """``bonus`` is *subtracted* from the negative log-likelihood of the chosen completion."""

    bonus: Tensor
    chosen_rewards: Tensor
    rejected_rewards: Tensor


def orpo(chosen: Tensor, rejected: Tensor, beta: float) -> ORPO:
    """ORPO's odds-ratio bonus, ``beta * log sigmoid(log odds of chosen - log odds of rejected)``, ``[B]``, at most 0.

    ``chosen`` and ``rejected`` are log-probabilities *per token* (means over the completion); no
    reference. The loss to minimise is ``-chosen - bonus``. (Hong et al. 2024, equations 6 and 7.)
    """
    bonus = beta * logsigmoid(_log_odds(chosen) - _log_odds(rejected))
    return ORPO(bonus, beta * chosen.detach(), beta * rejected.detach())


def _log_odds(logprobs: Tensor) -> Tensor:
    # Rounding can make a mean log-probability 0, whose odds are infinite.
    below_zero = logprobs.clamp(max=-torch.finfo(logprobs.dtype).eps)
    return below_zero - torch.log(-torch.expm1(below_zero))


def _soft_logistic(logits: Tensor, flipped: Tensor | float) -> Tensor:
    return -((1 - flipped) * logsigmoid(logits) + flipped * logsigmoid(-logits))


# The variants of DPO. ``c`` and ``r`` are the log-ratios of the chosen and the rejected completion.


def _sigmoid(c: Tensor, r: Tensor, beta: float, smoothing: float) -> Tensor:
    return _soft_logistic(beta * (c - r), smoothing)


def _robust(c: Tensor, r: Tensor, beta: float, smoothing: float) -> Tensor:
    """Unbiased under flipped labels (Chowdhury et al. 2024)."""
    logits = beta * (c - r)
    return (smoothing * logsigmoid(-logits) - (1 - smoothing) * logsigmoid(logits)) / (1 - 2 * smoothing)


def _hinge(c: Tensor, r: Tensor, beta: float, _: float) -> Tensor:
    """SLiC's margin on the implicit rewards (Zhao et al. 2023; Liu et al. 2024)."""
    return relu(1 - beta * (c - r))


def _ipo(c: Tensor, r: Tensor, beta: float, _: float) -> Tensor:
    """Regression to a gap of ``1 / (2 beta)`` (Azar et al. 2024, equation 17)."""
    return (c - r - 1 / (2 * beta)).square()


def _exo_pair(c: Tensor, r: Tensor, beta: float, smoothing: float) -> Tensor:
    """KL from the policy's preference to the smoothed label (Ji et al. 2024, equation 16)."""
    logits = beta * (c - r)
    agree = torch.sigmoid(logits) * (logsigmoid(logits) - math.log1p(-smoothing))
    return agree + torch.sigmoid(-logits) * (logsigmoid(-logits) - math.log(smoothing))


def _nca_pair(c: Tensor, r: Tensor, beta: float, _: float) -> Tensor:
    """Noise-contrastive alignment of a pair (Chen et al. 2024)."""
    return -logsigmoid(beta * c) - 0.5 * logsigmoid(-beta * c) - 0.5 * logsigmoid(-beta * r)


def _bco_pair(c: Tensor, r: Tensor, beta: float, _: float) -> Tensor:
    """A binary classifier with the implicit reward as its logit (Jung et al. 2024), its reward shift held at 0."""
    return -logsigmoid(beta * c) - logsigmoid(-beta * r)


def _sppo_hard(c: Tensor, r: Tensor, beta: float, _: float) -> Tensor:
    """Self-play preference optimisation with win probabilities 1 and 0 (Wu et al. 2024)."""
    return (c - 0.5 / beta).square() + (r + 0.5 / beta).square()


def _apo_zero(c: Tensor, r: Tensor, beta: float, _: float) -> Tensor:
    """Raise the chosen, lower the rejected (D'Oosterlinck et al. 2024): for pairs better than the model."""
    return torch.sigmoid(-beta * c) + torch.sigmoid(beta * r)


def _apo_down(c: Tensor, r: Tensor, beta: float, _: float) -> Tensor:
    """Lower both, the rejected more (D'Oosterlinck et al. 2024): for pairs worse than the model."""
    return torch.sigmoid(beta * c) + torch.sigmoid(-beta * (c - r))


VARIANTS: dict[str, Callable[[Tensor, Tensor, float, float], Tensor]] = {
    "sigmoid": _sigmoid,
    "robust": _robust,
    "hinge": _hinge,
    "ipo": _ipo,
    "exo_pair": _exo_pair,
    "nca_pair": _nca_pair,
    "bco_pair": _bco_pair,
    "sppo_hard": _sppo_hard,
    "apo_zero": _apo_zero,
    "apo_down": _apo_down,
}
SMOOTHED = ("sigmoid", "robust", "exo_pair")


def _check_variant(variant: str, smoothing: float) -> None:
    if variant not in VARIANTS:
        raise ValueError(f"no variant of DPO is called {variant!r}; there are {', '.join(VARIANTS)}")
    if not 0 <= smoothing < 0.5:
        raise ValueError(f"label_smoothing must be at least 0 and below 0.5, got {smoothing}")
    if smoothing and variant not in SMOOTHED:
        raise ValueError(f"{variant} does not smooth labels; label_smoothing must be 0, got {smoothing}")
    if variant == "exo_pair" and not smoothing:
        raise ValueError("exo_pair needs a label_smoothing above 0, for example 0.001: its loss is infinite without")
