"""From hidden states to logprobs, entropy and exact KL, without ever holding the logits of a batch.

``[C, V]`` logits of a batch are most of the memory of a large vocabulary and are needed only
to be summed up. Here they exist for a few rows at a time, in the forward pass and once more in
the backward pass, which knows by then what the loss wants of each row. ``C`` completion tokens,
``H`` the width of the states, ``V`` the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from heedful.engines.padding import spare

CHUNK_BYTES = 2 * 2**20
"""Logits held at once, in float32: little enough to stay in a processor's cache."""
BLOCK_BYTES = 32 * 2**20
"""Gradients of logits held at once, in the precision of the arithmetic: a product with the head's weight, which reads and
writes all of it, wants many rows."""


@dataclass(frozen=True)
class Head:
    """A plain linear language-model head: ``weight [V, H]`` and ``bias [V]`` or none, and a copy of the
    weight in the precision of the arithmetic where that is another and the head is used again and again."""

    weight: Tensor
    bias: Tensor | None
    narrow: Tensor | None = None

    def parts(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weight, weight in ``dtype``, bias."""
        return self.weight, self.weight.detach().to(dtype) if self.narrow is None else self.narrow, self.bias

    def logits(self, hidden: Tensor, temperature: float, dtype: torch.dtype) -> Tensor:
        """``[n, H]`` -> ``[n, V]`` in float32, divided by the temperature."""
        bias = None if self.bias is None else self.bias.to(dtype)
        weight = self.weight.to(dtype) if self.narrow is None else self.narrow
        found = functional.linear(hidden.to(dtype), weight, bias).float()
        return found if temperature == 1.0 else found.div_(temperature)

    def exact_logits(self, hidden: Tensor, tokens: Tensor) -> Tensor:
        """The logit of one token each, computed in float32 whatever the precision: ``[n, H]`` and ``[n]`` -> ``[n]``."""
        found = (hidden.float() * self.weight[tokens].float()).sum(-1)
        return found if self.bias is None else found + self.bias[tokens].float()


class TokenStatistics(NamedTuple):
    """``[C]`` each, float32, in nats; ``kl`` and ``ref_logprobs``, the targets' logprobs under the reference, where there is one."""

    logprobs: Tensor
    entropy: Tensor
    kl: Tensor | None = None
    ref_logprobs: Tensor | None = None


def token_statistics(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    *,
    temperature: float = 1.0,
    reference: tuple[Head, Tensor] | None = None,
    dtype: torch.dtype = torch.float32,
) -> TokenStatistics:
    """Of every target, with KL to a reference (a head and its states ``[C, H]``) where one is given.

    The products are computed in ``dtype``, the sums over the vocabulary in float32. The logit of
    the target itself is computed in float32 always: rounded to bfloat16, a logit of 10 is off by
    0.02, which would be noise in every ratio; in the sum over the vocabulary it averages out.
    """
    rows, more = len(hidden), spare(len(hidden))
    hidden, targets = functional.pad(hidden, (0, 0, 0, more)), functional.pad(targets, (0, more))
    other = (*reference[0].parts(dtype), functional.pad(reference[1], (0, 0, 0, more))) if reference else (None, None, None, None)
    found = _Statistics.apply(hidden, *head.parts(dtype), targets, temperature, dtype, *other)
    logprobs, entropy, kl, ref_logprobs = (x[:rows] for x in found)
    return TokenStatistics(logprobs, entropy, kl, ref_logprobs) if reference else TokenStatistics(logprobs, entropy)


class _Statistics(torch.autograd.Function):
    """See :func:`token_statistics`. The reference gets no gradient."""

    @staticmethod
    @torch.no_grad()
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        narrow: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        temperature: float,
        dtype: torch.dtype,
        other_weight: Tensor | None,
        other_narrow: Tensor | None,
        other_bias: Tensor | None,
        other_hidden: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """Row by row of a chunk: the log of the sum of exponentials, and means under the distribution."""
        logprobs, entropy, kl, ref_logprobs, normaliser = (hidden.new_empty(len(hidden), dtype=torch.float32) for _ in range(5))
        for rows in _chunks(len(hidden), 4 * len(weight)):
            logits, chosen = _logits(hidden[rows], Head(weight, bias, narrow), targets[rows], temperature, dtype)
            top = logits.amax(-1, keepdim=True)
            e = (logits - top).exp_()  # one exponential serves the sum and the means
            total = e.sum(-1)
            normaliser[rows] = top.squeeze(-1) + total.log()
            logprobs[rows] = chosen - normaliser[rows]
            entropy[rows] = normaliser[rows] - _dot(e, logits) / total
            if other_weight is not None and other_hidden is not None:
                other = Head(other_weight, other_bias, other_narrow)
                theirs, their_chosen = _logits(other_hidden[rows], other, targets[rows], temperature, dtype)
                their_normaliser = theirs.logsumexp(-1)
                ref_logprobs[rows] = their_chosen - their_normaliser
                # sum p (log p - log q), each with its own normaliser
                kl[rows] = their_normaliser - normaliser[rows] + _dot(e, logits.sub_(theirs)) / total
        ctx.mark_non_differentiable(ref_logprobs)
        ctx.temperature, ctx.dtype = temperature, dtype
        ctx.save_for_backward(
            hidden, weight, narrow, bias, targets, normaliser, entropy, kl, other_weight, other_narrow, other_bias, other_hidden
        )
        return logprobs, entropy, kl, ref_logprobs

    @staticmethod
    @torch.no_grad()
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """With ``p = softmax(z)``: ``d logprob = onehot - p``, ``dH = -p (log p + H)``, ``dKL = p (log p - log q - KL)``."""
        of_logprob, of_entropy, of_kl, _ = gradients
        hidden, weight, narrow, bias, targets, normaliser, entropy, kl, other_weight, other_narrow, other_bias, other_hidden = (
            ctx.saved_tensors
        )
        head, dtype, temperature = Head(weight, bias, narrow), ctx.dtype, ctx.temperature
        with_entropy, with_kl = bool(of_entropy.any()), other_weight is not None and bool(of_kl.any())
        dhidden, dweight = torch.empty_like(hidden), None
        dbias = torch.zeros_like(bias, dtype=torch.float32) if ctx.needs_input_grad[3] else None

        def dlogits_of(rows: slice) -> Tensor:
            logits, _ = _logits(hidden[rows], head, targets[rows], temperature, dtype)
            logp = logits.sub_(normaliser[rows, None])
            wanted = -of_logprob[rows, None]
            if with_entropy:
                wanted = wanted - of_entropy[rows, None] * (logp + entropy[rows, None])
            if with_kl:
                other = Head(other_weight, other_bias, other_narrow)
                theirs, _ = _logits(other_hidden[rows], other, targets[rows], temperature, dtype)
                wanted = wanted + of_kl[rows, None] * (logp - theirs.sub_(theirs.logsumexp(-1, keepdim=True)) - kl[rows, None])
            dlogits = logp.exp_().mul_(wanted).scatter_add_(1, targets[rows, None], of_logprob[rows, None])
            return dlogits if temperature == 1.0 else dlogits.div_(temperature)

        for block in _chunks(len(hidden), narrow.element_size() * len(weight), BLOCK_BYTES):
            states = hidden[block].to(dtype)
            dlogits = states.new_empty((len(states), len(weight)))
            for rows in _chunks(len(states), 4 * len(weight)):
                dlogits[rows] = dlogits_of(slice(block.start + rows.start, min(block.start + rows.stop, block.start + len(states))))
            torch.mm(dlogits, narrow, out=dhidden[block]) if dhidden.dtype == dtype else dhidden[block].copy_(dlogits @ narrow)
            if ctx.needs_input_grad[1]:
                product = (dlogits.T @ states).float()
                dweight = product if dweight is None else dweight.add_(product)
                del product  # as large as the weight
            if dbias is not None:
                dbias += dlogits.sum(0, dtype=torch.float32)
        dweight = None if dweight is None else dweight.to(weight.dtype)
        return dhidden, dweight, None, None if dbias is None else dbias.to(bias.dtype), *[None] * 7


def _logits(hidden: Tensor, head: Head, targets: Tensor, temperature: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits ``[n, V]`` of a chunk, and those of the targets ``[n]``, which are exact in both."""
    logits = head.logits(hidden, temperature, dtype)
    if dtype == torch.float32:
        return logits, logits.gather(1, targets[:, None]).squeeze(1)
    chosen = head.exact_logits(hidden, targets) / temperature
    return logits.scatter_(1, targets[:, None], chosen[:, None]), chosen


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Row-wise sum of products; a product of 0 and minus infinity (a token that cannot be drawn) is 0."""
    found = torch.linalg.vecdot(a, b)
    return (a * b).nan_to_num_(nan=0.0).sum(-1) if torch.isnan(found).any() else found


def _chunks(rows: int, row_bytes: int, budget: int = CHUNK_BYTES) -> Iterator[slice]:
    size = max(16, budget // row_bytes)
    return (slice(start, start + size) for start in range(0, rows, size))
