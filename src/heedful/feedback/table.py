"""Rankings as arrays: what the mathematics of consensus and agreement reads.

Prompts with the same number of completions stand together, in parts small enough for the
processor's cache. Everything is in order of prompt, labeler and version, so that results never
depend on the order in which judgements came in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from heedful.feedback.criteria import Criterion
from heedful.records import Ranking

if TYPE_CHECKING:
    from heedful.maths.utilities import Block

Array = NDArray[np.float64]
Numbers = NDArray[np.int64]

PART = 32_768
"""Comparisons in one part, about: 256 kB per array."""
F = np.inf
"""An F among ranks: below everything that is not F."""

Reader = tuple[str, str]
"""A labeler under one version of the instructions. Who misreads the new version may have read the old one well."""


@dataclass(frozen=True)
class Part:
    """Rankings of prompts with the same number of completions, in order of prompt.

    ``completion_ids [prompts][size]`` are in alphabetical order, and so are the columns of the arrays:
    ``ranks [rankings, size]``, the lower the more *preferred*, whatever the criterion's direction,
    ``F`` for an F, NaN where not shown; ``places [rankings, size]``, 0 for what was shown first.
    ``prompt [rankings]`` counts inside the part, ``reader [rankings]`` inside the table.
    """

    prompt_ids: list[str]
    completion_ids: list[list[str]]
    prompt: Numbers
    reader: Numbers
    ranks: Array
    places: Array

    @property
    def size(self) -> int:
        """Completions per prompt."""
        return self.ranks.shape[1]

    def votes(self, with_flags: bool) -> Array:
        """``[rankings, pairs]``: 1 and -1 where the first or second is preferred, 0 for a tie, NaN where nothing was said.

        Two Fs say nothing. Without flags every F says nothing: it is a judgement of another kind than the order of the rest.
        """
        first, second = np.triu_indices(self.size, 1)
        ranks = self.ranks if with_flags else np.where(np.isinf(self.ranks), np.nan, self.ranks)
        with np.errstate(invalid="ignore"):  # F less F is NaN, as it should be
            return np.sign(ranks[:, second] - ranks[:, first])

    def block(self) -> Block:
        """For the panel's model: comparisons without Fs, each worth 2 / (completions in its ranking's order)."""
        from heedful.maths.utilities import Block

        votes = self.votes(with_flags=False)
        first, second = np.triu_indices(self.size, 1)
        last = np.maximum(np.isfinite(self.places).sum(axis=1) - 1, 1)[:, None]
        lead = np.nan_to_num((self.places[:, second] - self.places[:, first]) / last)
        ordered = np.maximum(np.isfinite(self.ranks).sum(axis=1), 2)[:, None]
        weight = np.where(np.isnan(votes), 0.0, 2 / ordered)
        return Block(self.size, self.prompt, self.reader, np.nan_to_num(votes), lead, weight)


@dataclass(frozen=True)
class Table:
    """All rankings by one criterion, in parts; who read what (``readers``); the hash of all of it."""

    criterion: Criterion
    readers: list[Reader]
    parts: list[Part]
    sha256: str

    def holds_the_same(self, other: Table) -> bool:
        """Whether both hold the same rankings, read in the same direction."""
        return (self.sha256, self.criterion) == (other.sha256, other.criterion)

    @property
    def rankings(self) -> int:
        """How many there are."""
        return sum(len(part.prompt) for part in self.parts)

    @cached_property
    def labelers(self) -> list[str]:
        """Names, in alphabetical order."""
        return sorted({labeler for labeler, _ in self.readers})

    @cached_property
    def labeler_of(self) -> Numbers:
        """``[readers]``: the labeler's number."""
        number = {name: i for i, name in enumerate(self.labelers)}
        return np.array([number[labeler] for labeler, _ in self.readers], dtype=np.int64)

    @cached_property
    def blocks(self) -> list[Block]:
        """The parts as the panel's model reads them."""
        return [part.block() for part in self.parts]


def table(rankings: Iterable[Ranking], criterion: Criterion) -> Table:
    """Arrays of rankings that are all by this criterion, at most one per labeler and prompt."""
    rows = sorted(rankings, key=lambda r: (r.prompt_id, r.labeler, r.instructions_version))
    readers = sorted({(r.labeler, r.instructions_version) for r in rows})
    number = {reader: i for i, reader in enumerate(readers)}
    digest = hashlib.sha256()
    by_size: dict[int, list[list[Ranking]]] = {}
    for _, group in groupby(rows, key=lambda r: r.prompt_id):
        judged = list(group)
        for row in judged:
            digest.update(_canonical(row))
        by_size.setdefault(len({i for row in judged for i in row.completion_ids}), []).append(judged)
    parts = [_part(chunk, number, criterion) for size in sorted(by_size) for chunk in _chunks(by_size[size], size)]
    return Table(criterion, readers, parts, digest.hexdigest())


def _canonical(row: Ranking) -> bytes:
    """What a consensus depends on, as one line."""
    said: list[Any] = [row.prompt_id, row.labeler, row.completion_ids, row.ranks, row.criterion, row.instructions_version]
    return json.dumps(said, ensure_ascii=False).encode() + b"\n"


def _chunks(prompts: Sequence[list[Ranking]], size: int) -> Iterator[list[list[Ranking]]]:
    """The prompts in pieces of about ``PART`` comparisons."""
    chunk: list[list[Ranking]] = []
    filled = 0
    for judged in prompts:
        chunk.append(judged)
        filled += len(judged) * size * size // 2
        if filled >= PART:
            yield chunk
            chunk, filled = [], 0
    if chunk:
        yield chunk


def _part(prompts: Sequence[list[Ranking]], number: dict[Reader, int], criterion: Criterion) -> Part:
    ids = [sorted({i for row in judged for i in row.completion_ids}) for judged in prompts]
    rows = [(p, row) for p, judged in enumerate(prompts) for row in judged]
    ranks, places = (np.full((len(rows), len(ids[0])), np.nan) for _ in range(2))
    column = [{i: c for c, i in enumerate(known)} for known in ids]
    direction = 1 if criterion.higher_is == "better" else -1
    for line, (p, row) in enumerate(rows):
        columns = [column[p][i] for i in row.completion_ids]
        ranks[line, columns] = [F if rank is None else direction * rank for rank in row.ranks]
        places[line, columns] = range(len(columns))
    prompt = np.array([p for p, _ in rows], dtype=np.int64)
    reader = np.array([number[row.labeler, row.instructions_version] for _, row in rows], dtype=np.int64)
    return Part([judged[0].prompt_id for judged in prompts], ids, prompt, reader, ranks, places)
