"""Keys and values of rows that write one token at a time.

What a prompt left behind is kept once and read by all its completions; what the completions
write goes into tensors that are allocated once. A row that ends leaves: the last row moves into
its place, so that the rows that go on always stand in front.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from heedful.engines.attention import Packed
from heedful.engines.layout import Layout
from heedful.engines.padding import rounded


class PromptReader(Packed):
    """The plan of a first pass over prompts: packed attention that keeps what it sees, by prompt."""

    def __init__(self, layout: Layout, prompts: int) -> None:
        super().__init__(layout)
        self.lengths = torch.zeros(prompts, dtype=torch.long, device=layout.device)
        for part in layout.parts:
            self.lengths[part.rows] = part.mask.sum(1)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As :class:`Packed`; keys and values are kept as ``[U, k, P, d]``, one pair per layer."""
        for kept, states in ((self.keys, key), (self.values, value)):
            by_prompt = states.new_zeros((len(self.lengths), len(states), rounded(int(self.lengths.max())), states.shape[-1]))
            for part in self.layout.parts:
                by_prompt[part.rows, :, : part.places.shape[1]] = states[:, part.places].transpose(0, 1)
            kept.append(by_prompt)
        return super().attend(query, key, value, scale)


class Cache:
    """The plan of rows that write: ``R`` of them at most, ``room`` tokens each.

    ``owner [n]`` is the prompt of each of the ``n`` rows there are now, ``written [n]`` how many tokens it wrote.
    """

    wanted: Tensor | None = None

    def __init__(self, rows: int, room: int, device: torch.device) -> None:
        self.capacity, self.room, self.device = rows, rounded(room), device
        self.owner = torch.zeros(0, dtype=torch.long, device=device)
        self.written = torch.zeros(0, dtype=torch.long, device=device)
        self.lengths = torch.zeros(0, dtype=torch.long, device=device)
        self.prompt_keys: list[Tensor] = []
        self.prompt_values: list[Tensor] = []
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self._layer = 0
        self._arrange()

    def __len__(self) -> int:
        return len(self.owner)

    @property
    def positions(self) -> Tensor:
        """``[n]`` the position of the token that each row reads next."""
        return self.lengths[self.owner] + self.written

    def admit(self, read: PromptReader, owner: Sequence[int]) -> None:
        """New rows behind the others: ``owner`` names the prompt of each among those just read."""
        if not self.keys:
            shape = (self.capacity, read.keys[0].shape[1], self.room, read.keys[0].shape[3])
            self.keys = [torch.zeros(shape, dtype=k.dtype, device=self.device) for k in read.keys]
            self.values = [torch.zeros(shape, dtype=v.dtype, device=self.device) for v in read.values]
            self.prompt_keys, self.prompt_values = read.keys, read.values
        else:
            self.prompt_keys = [_below(a, b) for a, b in zip(self.prompt_keys, read.keys, strict=True)]
            self.prompt_values = [_below(a, b) for a, b in zip(self.prompt_values, read.values, strict=True)]
        new = torch.tensor(list(owner), dtype=torch.long, device=self.device) + len(self.lengths)
        self.owner, self.lengths = torch.cat([self.owner, new]), torch.cat([self.lengths, read.lengths])
        self.written = torch.cat([self.written, torch.zeros_like(new)])
        self._arrange()

    def keep(self, staying: Tensor) -> Tensor:
        """Only the rows for which ``staying [n]`` is true go on; returns the order they stand in now, as former rows."""
        order, moved = _filled(staying)
        for cached in (*self.keys, *self.values):
            cached[moved] = cached[order[moved]]
        self.owner, self.written = self.owner[order], self.written[order]
        used = torch.zeros(len(self.lengths), dtype=torch.bool, device=self.device)
        used[self.owner] = True
        if not used.all():
            self._keep_prompts(used)
        self._arrange()
        return order

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Every row's one query over its prompt and what it wrote so far, the token just read included."""
        keys, values = self.keys[self._layer], self.values[self._layer]
        prompt_keys, prompt_values = self.prompt_keys[self._layer], self.prompt_values[self._layer]
        self._layer = (self._layer + 1) % len(self.keys)
        n, kv, width = len(self), keys.shape[1], keys.shape[3]
        rows = torch.arange(n, device=self.device)
        keys[rows, :, self.written], values[rows, :, self.written] = key.transpose(0, 1), value.transpose(0, 1)
        seen = self._seen

        q = (query.transpose(0, 1) * scale).view(n, kv, -1, width)  # [n, k, group, d]
        own = torch.matmul(q, keys[:n, :, :seen].transpose(-1, -2)).masked_fill_(self._unwritten, torch.finfo(q.dtype).min)
        theirs = self._from_prompts(torch.matmul(self._by_prompt(q), prompt_keys.transpose(-1, -2)))
        scores = torch.cat([theirs.masked_fill_(self._beyond, torch.finfo(q.dtype).min), own], -1)
        p = torch.softmax(scores, -1, dtype=torch.float32).to(value.dtype)
        at = prompt_keys.shape[2]
        out = torch.matmul(p[..., at:], values[:n, :, :seen])
        out = out + self._from_prompts(torch.matmul(self._by_prompt(p[..., :at]), prompt_values))
        return out.reshape(n, -1, width)

    def advance(self) -> None:
        """Every row has read one more token."""
        self.written = self.written + 1
        self._measure()

    def _by_prompt(self, x: Tensor) -> Tensor:
        """``[n, k, group, *]`` -> ``[U, k, members * group, *]``: rows of one prompt together."""
        together = x[self._members].transpose(1, 2)  # [U, k, members, group, *]
        return together.reshape(*together.shape[:2], -1, x.shape[-1])

    def _from_prompts(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`_by_prompt`."""
        prompts, members = self._members.shape
        apart = x.view(prompts, x.shape[1], members, -1, x.shape[-1]).transpose(1, 2)
        return apart[self.owner, self._place]

    def _keep_prompts(self, used: Tensor) -> None:
        order, moved = _filled(used)
        for caches in (self.prompt_keys, self.prompt_values):
            for layer, cached in enumerate(caches):
                cached[moved] = cached[order[moved]]
                caches[layer] = cached[: len(order)]
        renamed = torch.empty(len(self.lengths), dtype=torch.long, device=self.device)
        renamed[order] = torch.arange(len(order), device=self.device)
        self.owner, self.lengths = renamed[self.owner], self.lengths[order]

    def _arrange(self) -> None:
        """Which rows belong to which prompt: ``_members [U, most]`` and each row's ``_place`` among them."""
        counts = torch.bincount(self.owner, minlength=len(self.lengths))
        order = torch.argsort(self.owner, stable=True)
        firsts = torch.cumsum(counts, 0) - counts
        self._place = torch.empty_like(self.owner)
        self._place[order] = torch.arange(len(order), device=self.device) - firsts[self.owner[order]]
        most = int(counts.max()) if len(counts) else 0
        self._members = torch.zeros((len(counts), most), dtype=torch.long, device=self.device)
        self._members[self.owner, self._place] = torch.arange(len(self.owner), device=self.device)
        width = self.prompt_keys[0].shape[2] if self.prompt_keys else 0
        beyond = torch.arange(width, device=self.device)[None, :] >= self.lengths[self.owner][:, None]
        self._beyond = beyond[:, None, None, :]
        self._measure()

    def _measure(self) -> None:
        longest = int(self.written.max()) if len(self.written) else 0
        self._seen = min(rounded(longest + 1), self.room)
        later = torch.arange(self._seen, device=self.device)[None, :] > self.written[:, None]
        self._unwritten = later[:, None, None, :]


def _filled(staying: Tensor) -> tuple[Tensor, Tensor]:
    """An order of those that stay in which as few as possible move, and the places whose content moves there.

    The last ones go where others left.
    """
    left = int(staying.sum())
    order, moved = torch.arange(left, device=staying.device), torch.nonzero(~staying[:left]).squeeze(1)
    order[moved] = torch.nonzero(staying[left:]).squeeze(1) + left
    return order, moved


def _below(a: Tensor, b: Tensor) -> Tensor:
    """``[U, k, P, d]`` one below the other, the shorter one padded."""
    width = max(a.shape[2], b.shape[2])
    return torch.cat([functional.pad(x, (0, 0, 0, width - x.shape[2])) for x in (a, b)])
