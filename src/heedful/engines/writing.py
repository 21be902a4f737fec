"""Models that write token by token: what their rows have read, and the states their next tokens are drawn from.

``PackedWriter`` keeps prompts once for all their completions and lets waiting rows in at any
time. ``PaddedWriter`` uses the model's own cache: for encoder-decoders, and for causal models whose
attention needs more than ours knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from heedful.engines.attention import following
from heedful.engines.base import distinct_rows
from heedful.engines.cache import Cache, PromptReader
from heedful.engines.head import Head
from heedful.engines.layout import lay_out_texts
from heedful.engines.networks import LanguageNetwork
from heedful.engines.padding import pad_left, with_positions
from heedful.engines.tap import no_token, tapped_head


@dataclass(frozen=True)
class Frontier:
    """Where rows stand: the states ``hidden [n, H]`` that the next tokens are drawn from, and their ``logits [n, V]``."""

    hidden: Tensor
    logits: Tensor

    def __getitem__(self, rows: Any) -> Frontier:
        return Frontier(self.hidden[rows], self.logits[rows])

    def and_also(self, others: Frontier) -> Frontier:
        """These rows, and others behind them."""
        return Frontier(torch.cat([self.hidden, others.hidden]), torch.cat([self.logits, others.logits]))


class Writer(Protocol):
    """Rows that write together."""

    refills: bool
    """May rows come in while others write?"""

    head: Head | None
    """From states to logits, where that is one linear layer."""

    @property
    def frontier(self) -> Frontier:
        """Of all rows, in their order."""
        ...

    def admit(self, prompts: Sequence[Sequence[int]]) -> None:
        """New rows behind the others; equal prompts are read once."""
        ...

    def keep(self, staying: Tensor) -> Tensor:
        """Only some rows go on; their new order, as former rows."""
        ...

    def read(self, tokens: Tensor) -> None:
        """Every row reads one more token, ``[n]``."""
        ...


class _Base:
    def __init__(self, network: LanguageNetwork, model: Any, places: int, room: int) -> None:
        self.network, self.model, self.places, self.room = network, model, places, room
        self.head = network.head_of(model)
        width = model.get_output_embeddings().weight.shape
        self.frontier = Frontier(*(torch.zeros((0, n), device=network.device) for n in (width[1], width[0])))

    def _run(self, inputs: dict[str, Any], choose: Any) -> tuple[Frontier, Any]:
        """The states that ``choose`` picks, ``[n, H]``, and all that the model gave back."""
        with tapped_head(self.model, choose if self.head is None else no_token) as tap:
            outputs = self.model(**inputs)
        hidden = choose(tap.hidden)
        logits = outputs.logits[0].float() if self.head is None else self.head.logits(hidden, 1.0, self.network.precision)
        return Frontier(hidden, logits), outputs


class PackedWriter(_Base):
    """Rows with a cache of our own."""

    refills = True

    def __init__(self, network: LanguageNetwork, model: Any, places: int, room: int) -> None:
        super().__init__(network, model, places, room)
        self.cache = Cache(places, room, network.device)

    def admit(self, prompts: Sequence[Sequence[int]]) -> None:
        """Prompts are read packed; the state after its last token is where each of its rows begins."""
        distinct, owner = distinct_rows(prompts)
        layout = lay_out_texts(distinct, self.network.device)
        reader = PromptReader(layout, len(distinct))
        with following(reader):
            read, _ = self._run(
                {"input_ids": layout.ids, "position_ids": layout.positions, "use_cache": False}, lambda hidden: hidden[0][layout.last]
            )
        self.cache.admit(reader, owner)
        self.frontier = self.frontier.and_also(read[torch.tensor(owner, device=self.network.device)])

    def keep(self, staying: Tensor) -> Tensor:
        """See :meth:`Cache.keep`."""
        order = self.cache.keep(staying)
        self.frontier = self.frontier[order]
        return order

    def read(self, tokens: Tensor) -> None:
        """One row of ``n`` tokens, each at its own position."""
        inputs = {"input_ids": tokens[None], "position_ids": self.cache.positions[None], "use_cache": False}
        with following(self.cache):
            self.frontier, _ = self._run(inputs, lambda hidden: hidden[0])
        self.cache.advance()


class PaddedWriter(_Base):
    """Rows with the model's own cache, all as far as each other."""

    refills = False

    def admit(self, prompts: Sequence[Sequence[int]]) -> None:
        """A new batch; there are no other rows."""
        self.kept: Any = None
        if self.network.encoder_decoder:
            self.encoded, self.mask = self.network.encode(prompts, self.model)
            self.read(torch.full((len(prompts),), self.network.start_id or 0, device=self.network.device))
            return
        distinct, owner = distinct_rows(prompts)
        ids, self.mask = pad_left(distinct, self.network.pad_id, self.network.device)
        self._advance({"input_ids": ids, "attention_mask": self.mask})
        index = torch.tensor(owner, device=self.network.device)
        self._reorder(index)
        self.frontier = self.frontier[index]

    def keep(self, staying: Tensor) -> Tensor:
        """The caches of rows that go on move together."""
        order = torch.nonzero(staying).squeeze(1)
        if len(order) < len(staying):
            self._reorder(order)
        return order

    def read(self, tokens: Tensor) -> None:
        """One more token for every row."""
        if self.network.encoder_decoder:
            self._advance({"decoder_input_ids": tokens[:, None], "encoder_outputs": self.encoded, "attention_mask": self.mask})
        else:
            self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)
            self._advance({"input_ids": tokens[:, None], "attention_mask": self.mask})

    def _reorder(self, index: Tensor) -> None:
        self.kept.reorder_cache(index)
        self.mask = self.mask[index]
        if self.network.encoder_decoder:
            self.encoded.last_hidden_state = self.encoded.last_hidden_state[index]

    def _advance(self, inputs: dict[str, Any]) -> None:
        if not self.network.encoder_decoder:
            inputs = with_positions(self.model, inputs, self.mask)
        with following(None):
            self.frontier, outputs = self._run({**inputs, "past_key_values": self.kept, "use_cache": True}, lambda hidden: hidden[:, -1])
        self.kept = outputs.past_key_values
