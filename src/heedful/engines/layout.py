"""How the tokens of a batch lie in one row, with no padding between them.

A causal model computes every token apart from attention by itself, so the tokens of a batch can
stand one behind the other in a row of ``N``, and only attention needs to know which belong
together. A prompt that several rows share stands there once, whatever its number of completions:

    prompt A | completion A1 | completion A2 | prompt B | completion B1 | ...

Attention wants rectangles: sequences of similar length make up a :class:`Part`, padded to the
longest of them for the moment of the attention only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from heedful.engines.base import Batch, distinct_rows, length_mask
from heedful.engines.padding import rounded, spare

ALIKE = 0.75
"""Sequences this near in length share a rectangle: a higher share wastes less padding and makes more calls."""
WORTH = 0.1
"""Prompts are shared where that saves at least this share of all tokens; below, two kinds of parts cost more than they save."""


@dataclass(frozen=True)
class Prefix:
    """The shared beginnings of a part's sequences: ``places [U, P]`` of their tokens in the row,
    ``lengths [U]``, and for each sequence the beginning that it goes on from, ``owner [S]``."""

    places: Tensor
    lengths: Tensor
    owner: Tensor


@dataclass(frozen=True)
class Part:
    """Sequences of similar length: ``places [S, L]`` of their tokens in the row and ``mask [S, L]``, true on tokens.

    The tokens of a part stand one behind the other in the row, from ``start``; ``rows`` says which
    sequences they are of those that were laid out.
    """

    start: int
    rows: Tensor
    places: Tensor
    mask: Tensor
    prefix: Prefix | None = None

    @cached_property
    def flat(self) -> Tensor:
        """``[n]`` where the tokens stand in the rectangle, counted through its rows."""
        return self.mask.flatten().nonzero().squeeze(1)

    @cached_property
    def whole(self) -> Tensor:
        """``[S, P + L]`` the places of what each sequence goes on from, and of its own tokens."""
        return self.places if self.prefix is None else torch.cat([self.prefix.places[self.prefix.owner], self.places], 1)

    @property
    def end(self) -> int:
        """Where the part ends in the row."""
        return self.start + len(self.flat)


@dataclass(frozen=True)
class Layout:
    """A batch as one row of ``N`` tokens.

    ``ids`` and ``positions`` are ``[1, N]``; ``before [C]`` is the place of the state before each
    completion token, rows in order; ``last [B]`` that of the state after each row's last token.
    """

    ids: Tensor
    positions: Tensor
    parts: tuple[Part, ...]
    before: Tensor
    last: Tensor

    @property
    def spare(self) -> int:
        """How many places at the end of the row hold nothing: the row's length is rounded up."""
        return self.ids.shape[1] - (self.parts[-1].end if self.parts else 0)

    @property
    def device(self) -> torch.device:
        """Where the indices are."""
        return self.ids.device


def lay_out(batch: Batch, device: torch.device, *, share: bool = True) -> Layout:
    """The layout of prompts and completions for a causal model; equal prompts stand once where that pays, unless ``share`` is off."""
    prompts, owner = distinct_rows(batch.prompt_ids)
    saved = sum(len(p) for p in batch.prompt_ids) - sum(len(p) for p in prompts)
    row = _Row()
    if not share or saved < WORTH * sum(len(p) + n for p, n in zip(batch.prompt_ids, batch.lengths, strict=True)):
        ends = row.add([[*p, *c] for p, c in zip(batch.prompt_ids, batch.completion_ids, strict=True)])
        before: list[Iterable[int]] = [range(end - n, end) for end, n in zip(ends, batch.lengths, strict=True)]
        return row.finish(before, ends, device)
    prompt_ends = row.add(prompts)
    ends = row.add(batch.completion_ids, [len(p) for p in prompts], prompt_ends, owner)
    before = [[prompt_ends[o], *range(end - n + 1, end)] if n else [] for o, end, n in zip(owner, ends, batch.lengths, strict=True)]
    return row.finish(before, [end if n else prompt_ends[o] for o, end, n in zip(owner, ends, batch.lengths, strict=True)], device)


def lay_out_texts(rows: Sequence[Sequence[int]], device: torch.device) -> Layout:
    """The layout of whole texts, of which none shares its beginning with another."""
    row = _Row()
    ends = row.add(rows)
    return row.finish([[] for _ in rows], ends, device)


class _Row:
    """A row that grows by one kind of sequences after the other."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[int] = []
        self.parts: list[Part] = []

    def add(
        self,
        sequences: Sequence[Sequence[int]],
        prefix_lengths: Sequence[int] = (),
        prefix_ends: Sequence[int] = (),
        owner: Sequence[int] = (),
    ) -> list[int]:
        """Append sequences, those of similar length together; returns the place of the last token of each."""
        ends = [0] * len(sequences)
        for rows in similar([len(s) for s in sequences]):
            start = len(self.ids)
            for r in rows:
                first = prefix_lengths[owner[r]] if owner else 0
                self.ids.extend(sequences[r])
                self.positions.extend(range(first, first + len(sequences[r])))
                ends[r] = len(self.ids) - 1
            lengths = [len(sequences[r]) for r in rows]
            prefix = _prefix([owner[r] for r in rows], prefix_lengths, prefix_ends) if owner else None
            places = _places([ends[r] for r in rows], lengths)
            self.parts.append(Part(start, torch.tensor(rows), places, length_mask(lengths, places.shape[1]).bool(), prefix))
        return ends

    def finish(self, before: Iterable[Iterable[int]], last: Sequence[int], device: torch.device) -> Layout:
        flat = [place for row in before for place in row]
        nothing = [0] * spare(len(self.ids))
        return Layout(
            torch.tensor([self.ids + nothing], dtype=torch.long, device=device),
            torch.tensor([self.positions + nothing], dtype=torch.long, device=device),
            tuple(_to(part, device) for part in self.parts),
            torch.tensor(flat, dtype=torch.long, device=device),
            torch.tensor(list(last), dtype=torch.long, device=device),
        )


def similar(lengths: Sequence[int]) -> list[list[int]]:
    """Rows with at least one token, longest first, in parts in which none is shorter than ``ALIKE`` of the longest."""
    parts: list[list[int]] = []
    for row in sorted((r for r in range(len(lengths)) if lengths[r]), key=lambda r: -lengths[r]):
        if parts and lengths[row] >= ALIKE * lengths[parts[-1][0]]:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def _places(ends: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """``[S, L]`` places of the tokens of sequences that end at ``ends``, ``L`` rounded up; padding repeats the last place."""
    last, size = torch.tensor(list(ends)), torch.tensor(list(lengths))
    steps = torch.arange(rounded(int(size.max())))[None, :]
    return torch.minimum(last[:, None] - size[:, None] + 1 + steps, last[:, None])


def _prefix(owner: Sequence[int], lengths: Sequence[int], ends: Sequence[int]) -> Prefix:
    """The beginnings that some sequences go on from, each once."""
    used = sorted(set(owner))
    own_lengths = [lengths[u] for u in used]
    where = {u: i for i, u in enumerate(used)}
    return Prefix(_places([ends[u] for u in used], own_lengths), torch.tensor(own_lengths), torch.tensor([where[o] for o in owner]))


def _to(part: Part, device: torch.device) -> Part:
    prefix = part.prefix and Prefix(part.prefix.places.to(device), part.prefix.lengths.to(device), part.prefix.owner.to(device))
    return Part(part.start, part.rows.to(device), part.places.to(device), part.mask.to(device), prefix)
