"""Drawing completions: prompts read once, finished rows leave, waiting ones take their place.

A row's draws depend on its seed and its own logits alone: batch size, order and neighbours never
change what is sampled (up to floating-point ties). What is drawn comes with its logprob, and with
the value of the state before it where the network has a value head.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from heedful.engines.base import Role, Sampled, Sampling
from heedful.engines.head import Head
from heedful.engines.memory import give_back_free_memory
from heedful.engines.networks import LanguageNetwork
from heedful.engines.writing import Frontier, PackedWriter, PaddedWriter, Writer
from heedful.maths.logprobs import scale_logits

REFILL = 0.75
"""Waiting rows come in when fewer than this share of the places are taken: reading prompts in company is cheaper."""
BLOCK = 64
"""A draw first finds the block of the vocabulary it falls into: summing blocks is cheaper than summing up everything."""


class LocalSampler:
    """Samples from a network in one of its roles, with the weights as they are at each call.

    At most ``batch_tokens`` tokens of prompts and completions are kept at once.
    """

    def __init__(self, network: LanguageNetwork, role: Role = "policy", batch_tokens: int = 32768) -> None:
        self.network, self.role, self.batch_tokens = network, role, batch_tokens

    @torch.no_grad()
    def sample(self, prompt_ids: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Sampled]:
        """One completion per row; see :class:`heedful.engines.base.Sampler`."""
        if len(seeds) != len(prompt_ids):
            raise ValueError(f"{len(prompt_ids)} prompts but {len(seeds)} seeds")
        if not prompt_ids:
            return []
        record = Record(self.network, self.role, sampling, seeds)
        # Completions of one prompt stand together, so that it is read once; long prompts come first.
        waiting = sorted(range(len(prompt_ids)), key=lambda r: (-len(prompt_ids[r]), tuple(prompt_ids[r])))
        places = min(len(waiting), max(1, self.batch_tokens // (len(prompt_ids[waiting[0]]) + sampling.max_new_tokens)))
        with self.network.as_role(self.role) as model:
            kind = PackedWriter if self.network.packs else PaddedWriter
            writer: Writer = kind(self.network, model, places, sampling.max_new_tokens)
            rows = torch.zeros(0, dtype=torch.long, device=self.network.device)
            while len(rows) or waiting:
                if waiting and len(rows) <= (REFILL * places if writer.refills else 0):
                    new, waiting = waiting[: places - len(rows)], waiting[places - len(rows) :]
                    writer.admit([prompt_ids[r] for r in new])
                    rows = torch.cat([rows, torch.tensor(new, device=rows.device)])
                tokens, staying = record.draw(rows, writer)
                order = writer.keep(staying)
                rows = rows[order]
                if len(rows):
                    writer.read(tokens[order])
        give_back_free_memory()
        return record.completions()


class Record:
    """What is drawn: ids, logprobs and values of every row, ``[B, T]``."""

    def __init__(self, network: LanguageNetwork, role: Role, sampling: Sampling, seeds: Sequence[int]) -> None:
        self.network, self.sampling, self.seeds = network, sampling, [int(s) for s in seeds]
        device, shape = network.device, (len(seeds), sampling.max_new_tokens)
        uniforms = np.empty(shape) if sampling.greedy else np.stack([row_uniforms(s, shape[1]) for s in self.seeds])
        self.uniforms = torch.from_numpy(uniforms).to(device)
        self.ids = torch.zeros(shape, dtype=torch.long, device=device)
        self.logprobs, self.values = (torch.zeros(shape, dtype=torch.float32, device=device) for _ in range(2))
        self.lengths = torch.zeros(len(seeds), dtype=torch.long, device=device)
        self.ends = torch.tensor(network.end_ids, device=device)
        self.value_head = network.value_head if role == "policy" else None

    def draw(self, rows: Tensor, writer: Writer) -> tuple[Tensor, Tensor]:
        """The next token of some rows, and which of them go on: ``[n]`` each."""
        at, frontier = self.lengths[rows], writer.frontier
        tokens, logprobs = draw(frontier.logits, self.sampling, self.uniforms[rows, at])
        if writer.head is not None and self.network.precision != torch.float32 and not self.sampling.truncates:
            logprobs = exact_logprobs(writer.head, frontier, tokens, logprobs, self.sampling.temperature)
        self.ids[rows, at], self.logprobs[rows, at] = tokens, logprobs
        if self.value_head is not None:
            with torch.autocast(rows.device.type, enabled=False):  # values stay in float32
                self.values[rows, at] = self.value_head(frontier.hidden.float()).squeeze(-1)
        self.lengths[rows] = at + 1
        return tokens, ~torch.isin(tokens, self.ends) & (at + 1 < self.sampling.max_new_tokens)

    def completions(self) -> list[Sampled]:
        """Every row as what it wrote."""
        ends = set(self.network.end_ids)
        ids, logprobs, values, lengths = (x.tolist() for x in (self.ids, self.logprobs, self.values, self.lengths))
        return [
            Sampled(
                ids[row][:n],
                logprobs[row][:n],
                "stop" if ids[row][n - 1] in ends else "length",
                self.seeds[row],
                values[row][:n] if self.value_head is not None else None,
            )
            for row, n in enumerate(lengths)
        ]


def draw(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """One token per row of ``[n, V]`` by inverting the cumulative distribution at ``uniforms [n]``; ids and logprobs ``[n]``."""
    logits = scale_logits(logits, sampling.temperature)
    if sampling.truncates:
        logits = truncate(logits, sampling.top_k, sampling.top_p)
    top = logits.amax(-1, keepdim=True)
    weights = (logits - top).exp_()
    tokens = logits.argmax(-1) if sampling.greedy else invert(weights, uniforms)
    logprobs = (logits.gather(-1, tokens[:, None]) - top).squeeze(-1) - weights.sum(-1).log()
    return tokens, logprobs


def invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The index at which the sum of ``weights [n, V]`` passes the share ``uniforms [n]`` of all; weights need not sum to 1.

    A weight of 0 is never hit. Sums are float64: in float32 the tail of a large vocabulary would be lost.
    """
    n, vocabulary = weights.shape
    blocks = torch.nn.functional.pad(weights, (0, -vocabulary % BLOCK)).view(n, -1, BLOCK)
    sums = blocks.sum(-1, dtype=torch.float64).cumsum(-1)
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
