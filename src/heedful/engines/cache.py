"""Keys and values of rows that write one token at a time.

What a prompt left behind is kept once and read by all its completions; what the completions
write goes into tensors that are allocated once. A row that ends leaves: the last row moves into
its place, so that the rows that go on always stand in front.

``R`` rows at most and ``n`` now, ``U`` prompts, ``h`` heads, ``k`` heads of keys and values, ``d`` their width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from heedful.engines.attention import Packed
from heedful.engines.layout import Layout
from heedful.engines.padding import rounded

Kernel = Callable[..., tuple[Tensor, Tensor]]

LOWEST = torch.finfo(torch.float32).min
"""What is added to the score of a key that may not be seen: finite, since a row that sees nothing must not become NaN."""


@dataclass
class Prompts:
    """What prompts left behind: keys and values ``[U, k, P, d]`` of each layer, and their ``lengths [U]``."""

    keys: list[Tensor]
    values: list[Tensor]
    lengths: Tensor

    def and_also(self, others: Prompts) -> Prompts:
        """These prompts, and others behind them; the shorter ones padded."""
        return Prompts(
            [_below(a, b) for a, b in zip(self.keys, others.keys, strict=True)],
            [_below(a, b) for a, b in zip(self.values, others.values, strict=True)],
            torch.cat([self.lengths, others.lengths]),
        )

    def keep(self, used: Tensor) -> Tensor:
        """Only some prompts stay; the new number of each that does."""
        order, moved = _filled(used)
        for layers in (self.keys, self.values):
            for layer, cached in enumerate(layers):
                cached[moved] = cached[order[moved]]
                layers[layer] = cached[: len(order)]
        self.lengths = self.lengths[order]
        renamed = torch.zeros_like(used, dtype=torch.long)
        renamed[order] = torch.arange(len(order), device=used.device)
        return renamed


class PromptReader(Packed):
    """The plan of a first pass over prompts: packed attention that keeps what it sees, by prompt."""

    def __init__(self, layout: Layout, prompts: int) -> None:
        super().__init__(layout)
        lengths = torch.zeros(prompts, dtype=torch.long, device=layout.device)
        for part in layout.parts:
            lengths[part.rows] = part.mask.sum(1)
        self.width = self.reach = rounded(int(lengths.max()))
        self.prompts = Prompts([], [], lengths)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """As :class:`Packed`; keys and values are kept."""
        for kept, states in ((self.prompts.keys, key), (self.prompts.values, value)):
            by_prompt = states.new_zeros((len(self.prompts.lengths), len(states), self.width, states.shape[-1]))
            for part in self.layout.parts:
                by_prompt[part.rows, :, : part.places.shape[1]] = states[:, part.places].transpose(0, 1)
            kept.append(by_prompt)
        return super().attend(query, key, value, scale)


class Sharing:
    """Which rows go on from which prompt: ``owner [n]`` names each row's among ``prompts``.

    Queries of one prompt's rows stand together, so that its keys are read once for all of them.
    """

    def __init__(self, owner: Tensor, prompts: int) -> None:
        self.owner, here = owner, torch.arange(len(owner), device=owner.device)
        counts = torch.bincount(owner, minlength=prompts)
        order = torch.argsort(owner, stable=True)
        self.place = torch.empty_like(owner)
        self.place[order] = here - (counts.cumsum(0) - counts)[owner[order]]
        self.members = owner.new_zeros((prompts, int(counts.max()) if prompts else 0))
        self.members[owner, self.place] = here
        self.alone = len(owner) == prompts and bool((owner == here).all())
        """Has every row a prompt of its own, in the same order? Then nothing has to move."""

    def by_prompt(self, x: Tensor) -> Tensor:
        """``[n, k, g, *]`` -> ``[U, k, most * g, *]``: rows of one prompt together."""
        if self.alone:
            return x
        together = x[self.members].transpose(1, 2)  # [U, k, most, g, *]
        return together.reshape(*together.shape[:2], -1, *x.shape[3:])

    def by_row(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`by_prompt`."""
        if self.alone:
            return x
        apart = x.unflatten(2, (self.members.shape[1], -1)).transpose(1, 2)
        return apart[self.owner, self.place]


class Cache:
    """What ``R`` rows at most, of ``room`` tokens each, have read and written.

    ``owner [n]`` is the prompt of each of the ``n`` rows there are now, ``written [n]`` how many tokens it wrote.
    """

    def __init__(self, rows: int, room: int, device: torch.device) -> None:
        self.capacity, self.room, self.device = rows, rounded(room), device
        self.owner, self.written = (torch.zeros(0, dtype=torch.long, device=device) for _ in range(2))
        self.prompts: Prompts | None = None
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.owner)

    def admit(self, read: Prompts, owner: Sequence[int]) -> None:
        """New rows behind the others: ``owner`` names the prompt of each among those just read."""
        known = 0 if self.prompts is None else len(self.prompts.lengths)
        if not self.keys:
            self.keys, self.values = ([self._room_for(x) for x in layers] for layers in (read.keys, read.values))
        self.prompts = read if self.prompts is None else self.prompts.and_also(read)
        new = torch.tensor(list(owner), dtype=torch.long, device=self.device)
        self.owner = torch.cat([self.owner, new + known])
        self.written = torch.cat([self.written, torch.zeros_like(new)])
        self._arrange()

    def keep(self, staying: Tensor) -> Tensor:
        """Only the rows for which ``staying [n]`` is true go on; returns the order they stand in now, as former rows."""
        assert self.prompts is not None
        order, moved = _filled(staying)
        for cached in (*self.keys, *self.values):
            cached[moved] = cached[order[moved]]
        self.owner, self.written = self.owner[order], self.written[order]
        used = torch.zeros(len(self.prompts.lengths), dtype=torch.bool, device=self.device)
        used[self.owner] = True
        if not used.all():
            self.owner = self.prompts.keep(used)[self.owner]
        self._arrange()
        return order

    def turn_of_new(self, read: Prompts, owner: Sequence[int]) -> Turn:
        """The plan of the first token of those rows alone that came in last."""
        new = torch.tensor(list(owner), dtype=torch.long, device=self.device)
        return Turn(self, read, Sharing(new, len(read.lengths)), len(self) - len(new), _beyond(read))

    def turn(self, seen: int | None = None) -> Turn:
        """The plan of one more token for every row; ``seen``: no row has written more, so that the device need not be asked."""
        assert self.prompts is not None
        return Turn(self, self.prompts, self._sharing, 0, self._beyond, seen)

    def _arrange(self) -> None:
        assert self.prompts is not None
        self._sharing = Sharing(self.owner, len(self.prompts.lengths))
        self._beyond = _beyond(self.prompts)

    def _room_for(self, kept: Tensor) -> Tensor:
        return kept.new_zeros((self.capacity, kept.shape[1], self.room, kept.shape[3]))


class Turn:
    """The plan of one token for each of the rows from ``first`` on: attention to their prompts and to what they wrote.

    ``bias`` is what :meth:`own` adds to scores, ``[n, h, 1, seen]`` or a shape that broadcasts to it; no position of
    a token or key is as large as ``reach``.
    """

    wanted: Tensor | None = None
    trimmed = False

    def __init__(self, cache: Cache, prompts: Prompts, sharing: Sharing, first: int, beyond: Tensor, seen: int | None = None) -> None:
        self.sharing, self.beyond = sharing, beyond
        self.rows = slice(first, len(cache))
        self.written = cache.written[self.rows].clone()
        self.positions = prompts.lengths[sharing.owner] + self.written
        level, most = _level(self.written) if seen is None else (False, seen - 1)
        self.seen = min(rounded(most + 1), cache.room)
        self.reach = prompts.keys[0].shape[2] + self.seen
        keys = torch.arange(self.seen, device=cache.device)
        self.distance = self.written[:, None] - keys
        self.bias = _lowest_where(self.distance < 0)[:, None, None, :]
        # Rows that are as far as each other write into a slice, which is much quicker than into single places.
        self._rows = self.rows if level else torch.arange(first, len(cache), device=cache.device)
        self._column = most if level else self.written
        self._own = iter(list(zip(cache.keys, cache.values, strict=True)))
        self._prompts = iter(list(zip(prompts.keys, prompts.values, strict=True)))
        # A row that has ended and stays for a while goes on at its last place.
        cache.written[self.rows] = (self.written + 1).clamp(max=cache.room - 1)

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Every row's one query over its prompt and what it wrote so far, the token just read included."""
        query, key, value = (x.transpose(0, 1) for x in (query, key, value))
        own, own_sum = self._over_own(query, key, value, scale)
        prompt, prompt_sum = self._over_prompts(query, scale)
        # Both are means under their own exponentials: the mean of all weighs them by the two sums.
        return torch.lerp(prompt, own, torch.sigmoid(own_sum - prompt_sum)[..., None].to(own.dtype)).flatten(1, 2)

    def own(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Every row's one query ``[n, h, d]`` over what it wrote so far alone: ``[n, h, d]``."""
        return self._over_own(query, key, value, scale)[0].flatten(1, 2)

    def across(self, query: Tensor, scale: float) -> Tensor:
        """Every row's one query ``[n, h, d]`` over its prompt alone: ``[n, h, d]``."""
        return self._over_prompts(query, scale)[0].flatten(1, 2)

    def _over_own(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        keys, values = next(self._own)
        keys[self._rows, :, self._column], values[self._rows, :, self._column] = key, value
        seen = keys[self.rows, :, : self.seen], values[self.rows, :, : self.seen]
        return weighed(query.unflatten(1, (keys.shape[1], -1)), *seen, scale, self.bias)

    def _over_prompts(self, query: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        keys, values = next(self._prompts)
        together = self.sharing.by_prompt(query.unflatten(1, (keys.shape[1], -1)))
        out, total = weighed(together, keys, values, scale, self.beyond)
        return self.sharing.by_row(out), self.sharing.by_row(total)


def weighed(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor) -> tuple[Tensor, Tensor]:
    """``softmax(q k' * scale + bias) v`` and the log of the sum of the exponentials, ``[S, k, L, d]`` and ``[S, k, L]``, for
    ``q [S, k, L, d]``, ``k`` and ``v [S, k, M, d]`` and a ``bias`` in float32 that broadcasts to ``[S, k, L, M]``."""
    kernel = kernel_for(q.dtype) if q.device.type == "cpu" else None
    return kernel(q, k, v, attn_mask=bias, scale=scale) if kernel else plainly(q, k, v, scale, bias)


def plainly(q: Tensor, k: Tensor, v: Tensor, scale: float, bias: Tensor) -> tuple[Tensor, Tensor]:
    """:func:`weighed` with what every torch has."""
    scores = torch.matmul(q * scale, k.transpose(-1, -2)).float() + bias
    total = scores.logsumexp(-1)
    return torch.matmul((scores - total[..., None]).exp().to(v.dtype), v), total


@functools.cache
def kernel_for(dtype: torch.dtype, name: str = "_scaled_dot_product_flash_attention_for_cpu") -> Kernel | None:
    """torch's kernel of that name, which it promises to nobody: ``None`` where this torch lacks it, calls it otherwise, or means
    something else by it, as a small trial shows."""
    try:
        kernel: Kernel = getattr(torch.ops.aten, name)
        return kernel if _agrees(kernel, dtype) else None
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return None


def _agrees(kernel: Kernel, dtype: torch.dtype) -> bool:
    """Does it give what :func:`plainly` gives, for a bias that broadcasts and one that does not?"""
    q, k, v = (torch.linspace(-1.0, 1.0, 2 * 3 * n * 4).sin().view(2, 3, n, 4).to(dtype) for n in (2, 5, 5))
    bias = torch.where(torch.arange(5) < torch.tensor([[3], [4]]), 0.5, LOWEST)[:, None, None, :]
    tolerance = 8 * max(torch.finfo(kind).eps for kind in (dtype, torch.float32))
    return all(
        torch.allclose(found.float(), expected.float(), atol=tolerance, rtol=tolerance)
        for added in (bias, bias.expand(2, 3, 2, 5).contiguous())
        for found, expected in zip(kernel(q, k, v, attn_mask=added, scale=0.7), plainly(q, k, v, 0.7, added), strict=True)
    )


def _beyond(prompts: Prompts) -> Tensor:
    """``[U, 1, 1, P]`` the bias of keys behind the end of a prompt."""
    behind = torch.arange(prompts.keys[0].shape[2], device=prompts.lengths.device) >= prompts.lengths[:, None]
    return _lowest_where(behind)[:, None, None, :]


def _lowest_where(hidden: Tensor) -> Tensor:
    """What is added to scores: as little as there is where a key may not be seen, else 0."""
    return torch.zeros(hidden.shape, device=hidden.device).masked_fill_(hidden, LOWEST)


def _level(written: Tensor) -> tuple[bool, int]:
    """Have all rows written as much, and how much has the longest?"""
    fewest, most = (int(x) for x in written.aminmax())
    return fewest == most, most


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
