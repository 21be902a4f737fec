"""Drawing completions: prompts read once, finished rows leave, every row has its own randomness.

A row's draws depend on its seed and its own logits alone: batch size, order and neighbours never
change what is sampled (up to floating-point ties).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from heedful.engines.base import Role, Sampled, Sampling
from heedful.engines.networks import LanguageNetwork, accepts, lengths_mask, pad_left, pad_right, tapped_head
from heedful.maths.logprobs import scale_logits


class LocalSampler:
    """Samples from a network in one of its roles, with the weights as they are at each call."""

    def __init__(self, network: LanguageNetwork, role: Role = "policy", batch_tokens: int = 16384) -> None:
        self.network, self.role, self.batch_tokens = network, role, batch_tokens

    @torch.no_grad()
    def sample(self, prompt_ids: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Sampled]:
        """One completion per row; see :class:`heedful.engines.base.Sampler`."""
        if len(seeds) != len(prompt_ids):
            raise ValueError(f"{len(prompt_ids)} prompts but {len(seeds)} seeds")
        found: dict[int, Sampled] = {}
        for rows in batches_by_length([len(p) for p in prompt_ids], sampling.max_new_tokens, self.batch_tokens):
            drawn = self._sample_batch([prompt_ids[r] for r in rows], sampling, [seeds[r] for r in rows])
            found.update(zip(rows, drawn, strict=True))
        return [found[row] for row in range(len(prompt_ids))]

    def _sample_batch(self, prompts: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Sampled]:
        uniforms = torch.from_numpy(np.stack([row_uniforms(seed, sampling.max_new_tokens) for seed in seeds])).to(self.network.device)
        ids: list[list[int]] = [[] for _ in prompts]
        logprobs: list[list[float]] = [[] for _ in prompts]
        ends = torch.tensor(self.network.end_ids, device=self.network.device)
        alive = torch.arange(len(prompts), device=self.network.device)
        with self.network.as_role(self.role) as model:
            decoder = Decoder(self.network, model, prompts)
            for step in range(sampling.max_new_tokens):
                tokens, drawn = draw(decoder.logits, sampling, uniforms[alive, step])
                for row, token, logprob in zip(alive.tolist(), tokens.tolist(), drawn.tolist(), strict=True):
                    ids[row].append(token)
                    logprobs[row].append(logprob)
                going = (~torch.isin(tokens, ends)).nonzero().squeeze(-1)
                if not len(going) or step + 1 == sampling.max_new_tokens:
                    break
                if len(going) < len(alive):
                    decoder.keep(going)
                    alive, tokens = alive[going], tokens[going]
                decoder.read(tokens)
        stopped = set(self.network.end_ids)
        return [
            Sampled(ids[row], logprobs[row], "stop" if ids[row][-1] in stopped else "length", seeds[row])
            for row in range(len(prompts))
        ]  # fmt: skip


class Decoder:
    """A model's state while it writes: cache, mask, and the logits of each row's next token ``[B, V]``."""

    def __init__(self, network: LanguageNetwork, model: Any, prompts: Sequence[Sequence[int]]) -> None:
        self.network, self.model = network, model
        distinct, self.rows = distinct_rows(prompts)
        self.encoded: Any = None
        if network.encoder_decoder:
            self._encode(distinct)
            start = torch.full((len(prompts),), network.start_id or 0, device=network.device)
            self.cache: Any = None
            self.read(start)
        else:
            ids, mask = pad_left(distinct, network.pad_id, network.device)
            logits, self.cache = self._run({"input_ids": ids, "attention_mask": mask}, mask)
            index = torch.tensor(self.rows, device=network.device)
            if len(distinct) < len(prompts):
                self.cache.reorder_cache(index)  # each prompt is read once and shared by its completions
            self.mask, self.logits = mask[index], logits[index]

    def read(self, tokens: Tensor) -> None:
        """Each row reads one more token ``[B]``."""
        if self.network.encoder_decoder:
            inputs = {"decoder_input_ids": tokens[:, None], "encoder_outputs": self.encoded, "attention_mask": self.mask}
            self.logits, self.cache = self._run(inputs, None)
        else:
            self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)
            self.logits, self.cache = self._run({"input_ids": tokens[:, None], "attention_mask": self.mask}, self.mask)

    def keep(self, rows: Tensor) -> None:
        """Only these rows go on."""
        self.cache.reorder_cache(rows)
        self.mask = self.mask[rows]
        if self.encoded is not None:
            self.encoded.last_hidden_state = self.encoded.last_hidden_state[rows]

    def _encode(self, distinct: list[Sequence[int]]) -> None:
        ids, mask = pad_right(distinct, self.network.pad_id, self.network.device), lengths_mask(distinct, self.network.device)
        self.encoded = self.model.get_encoder()(input_ids=ids, attention_mask=mask)
        index = torch.tensor(self.rows, device=ids.device)
        self.encoded.last_hidden_state, self.mask = self.encoded.last_hidden_state[index], mask[index]

    def _run(self, inputs: dict[str, Any], positions_from: Tensor | None) -> tuple[Tensor, Any]:
        if positions_from is not None and accepts(self.model, "position_ids"):
            inputs["position_ids"] = (positions_from.cumsum(1) - 1).clamp(min=0)[:, -inputs["input_ids"].shape[1] :]
        with tapped_head(self.model, lambda hidden: hidden[:, -1:]):
            outputs = self.model(**inputs, past_key_values=getattr(self, "cache", None), use_cache=True)
        return outputs.logits[:, -1], outputs.past_key_values


def draw(logits: Tensor, sampling: Sampling, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """One token per row of ``[B, V]`` by inverting the cumulative distribution at ``uniforms [B]``; ids and logprobs ``[B]``."""
    logprobs = truncate(torch.log_softmax(scale_logits(logits, sampling.temperature).float(), -1), sampling.top_k, sampling.top_p)
    if sampling.greedy:
        tokens = logprobs.argmax(-1)
    else:
        cumulative = logprobs.exp().double().cumsum(-1)
        # right=True: a token of probability 0 is an empty interval and cannot be hit.
        tokens = (
            torch.searchsorted(cumulative, (uniforms * cumulative[:, -1])[:, None], right=True).squeeze(-1).clamp(max=logits.shape[-1] - 1)
        )
    return tokens, logprobs.gather(-1, tokens[:, None]).squeeze(-1)


def truncate(logprobs: Tensor, top_k: int, top_p: float) -> Tensor:
    """Keep the ``top_k`` likeliest tokens and the smallest set of mass ``top_p`` (Holtzman et al. 2020), renormalised."""
    if top_k <= 0 and top_p >= 1.0:
        return logprobs
    ranked, order = logprobs.sort(-1, descending=True)
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


def distinct_rows(prompts: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[int]]:
    """The distinct prompts, and for each row the index of its own."""
    seen: dict[tuple[int, ...], int] = {}
    rows = [seen.setdefault(tuple(prompt), len(seen)) for prompt in prompts]
    return [list(prompt) for prompt in seen], rows


def batches_by_length(lengths: Sequence[int], more: int, budget: int) -> Iterator[list[int]]:
    """Rows sorted by prompt length, in batches of at most ``budget`` tokens (prompt and completion, padded)."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda r: lengths[r]):
        if batch and (len(batch) + 1) * (lengths[row] + more) > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
