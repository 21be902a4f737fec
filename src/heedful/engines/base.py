"""The seam between algorithms and engines: the loss is an argument.

An algorithm decides *what* to optimise: it hands over a pure loss that returns one value per
token or per group, unreduced. An engine decides *how*: padding, micro-batches, precision,
devices, and the one denominator that makes 1 x 16, 4 x 4 and two ranks the same gradient.

Shapes: ``B`` rows, ``T`` completion tokens of the longest row, ``G`` groups.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from heedful.records import Prompt

Role = Literal["policy", "reference", "reward", "monitor"]
"""``monitor`` is a second reward model, of another seed and split, that nothing is optimised against."""


@dataclass(frozen=True)
class Batch:
    """Prompts and completions as token ids, with their true lengths.

    ``groups`` names the group of each row (a pair in DPO, a prompt's completions in the reward
    model); rows of a group stand next to each other and are never split over micro-batches.
    ``columns`` holds what else the loss needs, ``[B]`` or ``[B, T]``, sliced along with the rows, and maybe
    ``ref_states [B, T, H]``: see :class:`Outputs`.
    """

    prompt_ids: Sequence[Sequence[int]]
    completion_ids: Sequence[Sequence[int]]
    groups: Sequence[int] | None = None
    columns: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.prompt_ids) != len(self.completion_ids):
            raise ValueError(f"{len(self.prompt_ids)} prompts but {len(self.completion_ids)} completions")
        if self.groups is not None and len(self.groups) != len(self.prompt_ids):
            raise ValueError(f"{len(self.prompt_ids)} rows but {len(self.groups)} group ids")
        for name, column in self.columns.items():
            if len(column) != len(self.prompt_ids):
                raise ValueError(f"column {name!r} has {len(column)} rows, the batch {len(self.prompt_ids)}")

    def __len__(self) -> int:
        return len(self.prompt_ids)

    @property
    def lengths(self) -> list[int]:
        """Completion tokens per row, end token included."""
        return [len(ids) for ids in self.completion_ids]

    @property
    def width(self) -> int:
        """``T``: completion tokens of the longest row."""
        return max(self.lengths, default=0)

    @property
    def mask(self) -> Tensor:
        """``[B, T]`` float: 1 on completion tokens, end token included. Made from lengths alone."""
        return length_mask(self.lengths, self.width)

    @property
    def group_ids(self) -> list[int]:
        """The group of each row; every row its own group where none are given."""
        return list(self.groups) if self.groups is not None else list(range(len(self)))

    @property
    def rows_by_group(self) -> dict[int, list[int]]:
        """The rows of each group, in order of appearance."""
        found: dict[int, list[int]] = {}
        for row, group in enumerate(self.group_ids):
            found.setdefault(group, []).append(row)
        return found

    def select(self, rows: Sequence[int]) -> Batch:
        """The given rows, in that order; ``[B, T]`` columns are cut to the new width."""
        lengths = [len(self.completion_ids[r]) for r in rows]
        width, index = max(lengths, default=0), torch.as_tensor(list(rows), dtype=torch.long)
        columns = {k: v[index.to(v.device)] for k, v in self.columns.items()}
        columns = {k: v[:, :width] if v.dim() >= 2 and v.shape[1] == self.width else v for k, v in columns.items()}
        return Batch(
            [self.prompt_ids[r] for r in rows],
            [self.completion_ids[r] for r in rows],
            None if self.groups is None else [self.groups[r] for r in rows],
            columns,
        )

    def with_columns(self, **columns: Tensor) -> Batch:
        """The same rows with more columns."""
        return Batch(self.prompt_ids, self.completion_ids, self.groups, {**self.columns, **columns})


@dataclass(frozen=True)
class Outputs:
    """What a model says about a batch; only what its role has is there.

    ``logprobs``, ``entropy``, ``kl`` (exact, to the reference) and with it ``ref_logprobs`` (the reference's) are ``[B, T]``;
    ``values[:, t]`` is V of the state *before* token ``t``; ``scores`` is ``[B]``,
    ``class_logits`` ``[B, C]``. ``ref_states`` ``[B, T, H]`` are what the reference's head was given before each token: with
    them in a column of the batch, the exact KL needs no other pass of the reference. Positions off the mask hold 0.
    """

    logprobs: Tensor | None = None
    values: Tensor | None = None
    entropy: Tensor | None = None
    kl: Tensor | None = None
    ref_logprobs: Tensor | None = None
    scores: Tensor | None = None
    class_logits: Tensor | None = None
    ref_states: Tensor | None = None


Loss = Callable[[Outputs, Batch], tuple[Tensor, dict[str, Tensor]]]
"""Unreduced loss ``[B, T]`` (per token) or ``[G]`` (per group), and metrics of either shape; pure.

A loss asks for optional outputs by carrying ``needs = {"entropy", "kl"}`` as an attribute."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. Every call states it; a model's own defaults never leak in."""

    max_new_tokens: int = 64
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    greedy: bool = False

    @property
    def truncates(self) -> bool:
        """Can some tokens not be drawn?"""
        return self.top_k > 0 or self.top_p < 1.0


@dataclass(frozen=True)
class Sampled:
    """One drawn completion: ids (end token included where one was drawn), their logprobs under the
    distribution they were drawn from, and the value of the state before each where there is a value head."""

    token_ids: list[int]
    logprobs: list[float]
    finish_reason: Literal["stop", "length"]
    seed: int
    values: list[float] | None = None


class Sampler(Protocol):
    """Draws completions from the weights as they are now."""

    def sample(self, prompt_ids: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Sampled]:
        """One completion per row. The same seed gives the same completion whatever the batch."""
        ...


class Learner(Protocol):
    """Trains one role of a model; evaluates any role that shares its base."""

    @property
    def rounding(self) -> float:
        """How far two ways to compute one logprob (while sampling, and in one pass) may lie apart, in nats."""
        ...

    def evaluate(self, batch: Batch, role: Role, *, entropy: bool = False, exact_kl: bool = False, ref_states: bool = False) -> Outputs:
        """Logprobs (policy, reference), values (policy) or scores (reward); where the reference is computed, its states if they
        are asked for and there is room for them. No gradient."""
        ...

    def forward_backward(self, batch: Batch, loss: Loss) -> dict[str, float]:
        """Add the gradient of ``sum(loss) / (tokens or groups of the whole batch)``; metrics by the same mean."""
        ...

    def step(self) -> dict[str, float]:
        """Clip, update, zero. Returns ``grad_norm`` and ``lr``."""
        ...

    def sampler(self) -> Sampler:
        """A sampler of the weights as they are now, always."""
        ...

    def save(self, folder: Path) -> None:
        """Everything needed to go on bit-identically: weights, heads, optimiser, schedule."""
        ...

    def load(self, folder: Path) -> None:
        """The inverse of :meth:`save`."""
        ...


class Scorer(Protocol):
    """What a completion is worth: a reward model, a classifier, a function."""

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str], batch: Batch) -> list[float]:
        """One finite number per completion, more is better. ``batch`` holds the same rows as token ids."""
        ...


def distinct_rows(prompts: Sequence[Sequence[int]]) -> tuple[list[Sequence[int]], list[int]]:
    """The distinct prompts, and for each row the index of its own."""
    seen: dict[tuple[int, ...], int] = {}
    rows = [seen.setdefault(tuple(prompt), len(seen)) for prompt in prompts]
    return [list(prompt) for prompt in seen], rows


def decode(tokenizer: Any, completion_ids: Sequence[Sequence[int]]) -> list[str]:
    """The text of each completion, special tokens left out."""
    return [text.strip() for text in tokenizer.batch_decode([list(ids) for ids in completion_ids], skip_special_tokens=True)]


def length_mask(lengths: Sequence[int], width: int) -> Tensor:
    """``[B, width]`` float: 1 on the first ``lengths[b]`` positions of row ``b``."""
    return (torch.arange(width)[None, :] < torch.as_tensor(list(lengths), dtype=torch.long)[:, None]).float()
