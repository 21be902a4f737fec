"""Drawing completions: prompts read once, finished rows leave, waiting ones take their place.

A row's draws depend on its seed and its own logits alone: batch size, order and neighbours never
change what is sampled (up to floating-point ties). What is drawn comes with its logprob, and with
the value of the state before it where the network has a value head.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from heedful.engines.base import Role, Sampled, Sampling
from heedful.engines.head import Head
from heedful.engines.memory import give_back_free_memory, with_less
from heedful.engines.networks import LanguageNetwork
from heedful.engines.tap import Frontier
from heedful.engines.writing import writer_of
from heedful.maths.logprobs import scale_logits

REFILL = 0.75
"""Waiting rows come in when fewer than this share of the places are taken: reading prompts in company is cheaper."""
BLOCK = 64
"""A draw first finds the block of the vocabulary it falls into: summing blocks is cheaper than summing up everything."""


class LocalSampler:
    """Samples from a network in one of its roles, with the weights as they are at each call.

    At most ``batch_tokens`` tokens of prompts and completions are kept at once. When memory runs out
    they are halved for good, ``say`` hears of it, and all is drawn anew: the draws are the same.
    """

    def __init__(
        self,
        network: LanguageNetwork,
        role: Role = "policy",
        batch_tokens: int = 32768,
        *,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.network, self.role, self.batch_tokens, self.say = network, role, batch_tokens, say

    @torch.no_grad()
    def sample(self, prompt_ids: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Sampled]:
        """One completion per row; see :class:`heedful.engines.base.Sampler`."""
        if len(seeds) != len(prompt_ids):
            raise ValueError(f"{len(prompt_ids)} prompts but {len(seeds)} seeds")
        if not prompt_ids:
            return []
        room = max(map(len, prompt_ids)) + sampling.max_new_tokens  # of a row
        budget = max(room, min(self.batch_tokens, len(prompt_ids) * room))
        drawn, enough = with_less(lambda tokens: self._sample(prompt_ids, sampling, seeds, tokens // room), budget, room, self.say)
        if enough < budget:
            self.batch_tokens = enough
        give_back_free_memory()
        return drawn

    def _sample(self, prompt_ids: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int], places: int) -> list[Sampled]:
        """With at most so many rows at once."""
        self.network.copies.forget()  # what learnt has changed since, and writers lay weights out in their own way
        record = Record(self.network, self.role, sampling, seeds)
        # Completions of one prompt stand together, so that it is read once; long prompts come first.
        waiting = sorted(range(len(prompt_ids)), key=lambda r: (-len(prompt_ids[r]), tuple(prompt_ids[r])))
        with writer_of(self.network, self.role, places, sampling.max_new_tokens) as writer:
            frontier: Frontier | None = None
            while len(record) or waiting:
                if waiting and len(record) <= (REFILL * places if writer.refills else 0):
                    new, waiting = waiting[: places - len(record)], waiting[places - len(record) :]
                    record.admit(new)
                    fresh = writer.admit([prompt_ids[r] for r in new])
                    frontier = fresh if frontier is None else frontier.and_also(fresh)
                assert frontier is not None
                tokens = record.draw(frontier, writer.head)
                # Those who wait get the places of those who ended as soon as enough of them are free.
                patience = min(writer.patience, 1 - REFILL) if waiting else writer.patience
                if (ended := record.ended()) > patience * len(record) or ended == len(record):
                    order = writer.keep(record.writing)
                    record.keep(order)
                    tokens = tokens[order]
                frontier = writer.read(tokens) if len(tokens) else None
        return record.completions()


class Record:
    """What is drawn. ``rows [n]`` are those that are there, ``written [n]`` how many tokens each has, ``writing [n]`` whether it
    writes on or has ended."""

    def __init__(self, network: LanguageNetwork, role: Role, sampling: Sampling, seeds: Sequence[int]) -> None:
        self.network, self.sampling, self.seeds = network, sampling, [int(s) for s in seeds]
        shape = (len(seeds), sampling.max_new_tokens)
        uniforms = np.empty(shape) if sampling.greedy else np.stack([row_uniforms(s, shape[1]) for s in self.seeds])
        self.uniforms = torch.from_numpy(uniforms).to(network.device)
        self.rows, self.written = (torch.zeros(0, dtype=torch.long, device=network.device) for _ in range(2))
        self.writing = torch.zeros(0, dtype=torch.bool, device=network.device)
        self.ends = torch.tensor(network.end_ids, device=network.device)
        self.value_head = network.value_head if role == "policy" else None
        self.steps: list[tuple[Tensor, ...]] = []
        """Of each step: rows, whether they wrote, tokens, logprobs, and values where there is a value head, ``[n]`` each."""

    def __len__(self) -> int:
        return len(self.rows)

    def admit(self, rows: Sequence[int]) -> None:
        """New rows behind the others."""
        new = torch.tensor(list(rows), device=self.rows.device)
        self.rows, self.written = torch.cat([self.rows, new]), torch.cat([self.written, torch.zeros_like(new)])
        self.writing = torch.cat([self.writing, torch.ones_like(new, dtype=torch.bool)])

    def draw(self, frontier: Frontier, head: Head | None) -> Tensor:
        """The next token of every row, ``[n]``."""
        most = self.sampling.max_new_tokens
        tokens, logprobs = draw(frontier.logits, self.sampling, self.uniforms[self.rows, self.written.clamp(max=most - 1)])
        if head is not None and self.network.precision != torch.float32 and not self.sampling.truncates:
            logprobs = exact_logprobs(head, frontier, tokens, logprobs, self.sampling.temperature)
        step: tuple[Tensor, ...] = (self.rows, self.writing, tokens, logprobs)
        if self.value_head is not None:
            with torch.autocast(tokens.device.type, enabled=False):  # values stay in float32
                step = (*step, self.value_head(frontier.hidden.float()).squeeze(-1))
        self.steps.append(step)
        self.written = self.written + 1
        self.writing = self.writing & ~torch.isin(tokens, self.ends) & (self.written < most)
        return tokens

    def ended(self) -> int:
        """How many of the rows write no more."""
        return len(self) - int(self.writing.sum())

    def keep(self, order: Tensor) -> None:
        """Only some rows go on, in this order."""
        self.rows, self.written, self.writing = self.rows[order], self.written[order], self.writing[order]

    def completions(self) -> list[Sampled]:
        """Every row as what it wrote."""
        rows, wrote, *written = (torch.cat(column).tolist() for column in zip(*self.steps, strict=True))
        found: list[list[tuple[Any, ...]]] = [[] for _ in self.seeds]
        for row, true, *what in zip(rows, wrote, *written, strict=True):
            if true:
                found[row].append(tuple(what))
        return [self._completion(seed, *zip(*steps, strict=True)) for seed, steps in zip(self.seeds, found, strict=True)]

    def _completion(self, seed: int, ids: Sequence[int], logprobs: Sequence[float], values: Sequence[float] | None = None) -> Sampled:
        ended = ids[-1] in self.network.end_ids
        return Sampled(list(ids), list(logprobs), "stop" if ended else "length", seed, None if values is None else list(values))


def draw(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """One token per row of ``[n, V]`` by inverting the cumulative distribution at ``uniforms [n]``; ids and logprobs ``[n]``."""
    logits = scale_logits(logits, sampling.temperature)
    if sampling.truncates:
        logits = truncate(logits, sampling.top_k, sampling.top_p)
    p = torch.softmax(logits, -1)
    tokens = logits.argmax(-1) if sampling.greedy else invert(p, uniforms)
    return tokens, p.gather(-1, tokens[:, None]).squeeze(-1).log()


def invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The index at which the sum of ``weights [n, V]`` passes the share ``uniforms [n]`` of all; weights need not sum to 1.

    A weight of 0 is never hit. Blocks are summed up in float64: in float32 the tail of a large vocabulary would be lost.
    """
    n, vocabulary = weights.shape
    padded = weights if vocabulary % BLOCK == 0 else functional.pad(weights, (0, -vocabulary % BLOCK))
    blocks = padded.view(n, -1, BLOCK)
    sums = blocks.sum(-1).cumsum(-1, dtype=torch.float64)
    target = uniforms[:, None].double() * sums[:, -1:]
    block = torch.searchsorted(sums, target, right=True).clamp(max=sums.shape[1] - 1)
    before = torch.where(block > 0, sums.gather(1, (block - 1).clamp(min=0)), 0.0)
    inside = blocks[torch.arange(n, device=weights.device), block.squeeze(1)].double().cumsum(-1)
    # The remainder may pass the block's own sum by a rounding error.
    remainder = torch.minimum(target - before, inside[:, -1:] * (1 - 1e-12))
    return (block * BLOCK + torch.searchsorted(inside, remainder, right=True)).squeeze(1).clamp(max=vocabulary - 1)


def exact_logprobs(head: Head, frontier: Frontier, tokens: Tensor, logprobs: Tensor, temperature: float) -> Tensor:
    """Logprobs whose token's own logit is computed in float32, as :func:`heedful.engines.head.token_statistics` does."""
    gain = (head.exact_logits(frontier.hidden, tokens) - frontier.logits.gather(1, tokens[:, None]).squeeze(1)) / temperature
    # log p' = log p + gain - log(1 + p (e^gain - 1))
    return logprobs + gain - torch.log1p(logprobs.exp() * torch.expm1(gain))


def truncate(logits: Tensor, top_k: int, top_p: float) -> Tensor:
    """Keep the ``top_k`` likeliest tokens and the smallest set of mass ``top_p`` (Holtzman et al. 2020): their logprobs, renormalised.

    Tokens are ranked by their logits: two that differ may have one and the same logprob.
    """
    logprobs, order = torch.log_softmax(logits, -1), logits.argsort(-1, descending=True)
    ranked = logprobs.gather(-1, order)
    mass_before = ranked.exp().cumsum(-1) - ranked.exp()
    dropped = mass_before >= top_p
    if top_k > 0:
        dropped[..., top_k:] = True
    dropped[..., 0] = False
    kept = torch.empty_like(logprobs).scatter_(-1, order, ranked.masked_fill(dropped, -torch.inf))
    return kept - kept.logsumexp(-1, keepdim=True)


def row_uniforms(seed: int, n: int) -> np.ndarray:
    """The draws of one row: a counter-based stream of its own (Philox)."""
    return np.random.Generator(np.random.Philox(seed)).random(n)
