"""Models that write token by token: what their rows have read, and the states their next tokens are drawn from.

``DecoderWriter`` keeps prompts once for all their completions, lets waiting rows in at any time and
computes a step in the operations of :mod:`heedful.engines.decoder`. ``PackedWriter`` has the same cache under
transformers' modules, for causal models of other kinds. ``PaddedWriter`` uses the model's own cache: for models whose
attention needs more than ours knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from heedful.engines.attention import following
from heedful.engines.base import Batch, Role, distinct_rows
from heedful.engines.cache import Cache, PromptReader, Turn
from heedful.engines.copies import Copies
from heedful.engines.decoder import CausalDecoder, CrossDecoder, Decoder, decoder_of
from heedful.engines.head import Head
from heedful.engines.layout import lay_out_texts
from heedful.engines.narrow import computing
from heedful.engines.networks import LanguageNetwork
from heedful.engines.padding import pad_left, with_positions
from heedful.engines.replay import Recorder, Replay, recorder_for
from heedful.engines.tap import Frontier, near, no_token, tapped_head


class Writer(Protocol):
    """Rows that write together."""

    refills: bool
    """May rows come in while others write?"""

    @property
    def patience(self) -> float:
        """What share of the rows may have ended and yet stay: to let them go may cost more than to compute them for a while."""
        ...

    head: Head | None
    """From states to logits, where that is one linear layer."""

    def admit(self, prompts: Sequence[Sequence[int]]) -> Frontier:
        """New rows behind the others, and where they stand; equal prompts are read once."""
        ...

    def keep(self, staying: Tensor) -> Tensor:
        """Only some rows go on; their new order, as former rows."""
        ...

    def read(self, tokens: Tensor) -> Frontier:
        """Every row reads one more token, ``[n]``; where they all stand then."""
        ...


@contextmanager
def writer_of(network: LanguageNetwork, role: Role, places: int, room: int) -> Iterator[Writer]:
    """The quickest writer that a network's model allows, for at most ``places`` rows of ``room`` tokens each."""
    model, adapter = network.model_of(role)
    if network.written_out is None:
        network.written_out = written_out(network, model, adapter)
    if not network.written_out:
        with network.as_role(role) as whole:
            yield (PackedWriter if network.packs else PaddedWriter)(network, whole, places, room)
        return
    decoder = decoder_of(model, adapter, network.precision, places)
    assert decoder is not None
    recorder = recorder_for(network.device) if network.replays else None
    writer = DecoderWriter(network, model, adapter, decoder, places, room, recorder)  # its head is kept longer than the rollout
    try:
        with torch.inference_mode():
            yield writer
    finally:
        network.replays = network.replays and not (writer.replay and writer.replay.refused)
        writer.replay = None  # it refers to the writer, so that a GPU's memory would wait for Python to look for such circles


@torch.no_grad()
def written_out(network: LanguageNetwork, model: Any, adapter: str | None) -> bool:
    """Does :mod:`heedful.engines.decoder` compute what the model does? A few tokens are read by both."""
    rows, precision = Batch([[1, 2]], [[3, 1, 2]]), torch.float32
    decoder = decoder_of(model, adapter, precision, rows=1) if network.packs or network.encoder_decoder else None
    if decoder is None or not network.plain_head:
        return False
    with computing(model, Copies(precision), adapter), following(None), tapped_head(model, no_token) as tap:
        model(**network.inputs(rows, model), use_cache=False)
    writer = DecoderWriter(network, model, adapter, decoder, places=1, room=rows.width)
    found = [writer.admit(rows.prompt_ids), *(writer.read(torch.tensor([token], device=network.device)) for token in [3, 1, 2])]
    return near(torch.cat([frontier.hidden for frontier in found]), tap.hidden[0, -len(found) :], model)


class DecoderWriter:
    """Rows with a cache of our own and a decoder that is written out."""

    refills = True

    def __init__(
        self,
        network: LanguageNetwork,
        model: Any,
        adapter: str | None,
        decoder: Decoder,
        places: int,
        room: int,
        recorder: Recorder | None = None,
    ) -> None:
        self.network, self.model, self.adapter, self.decoder = network, model, adapter, decoder
        self.copies = network.copies if decoder.dtype == network.precision else Copies(decoder.dtype)
        self.head = network.head_of(model)
        self.cache = Cache(places, room, network.device)
        self.replay = Replay(self._step, self.cache, recorder) if recorder else None

    @property
    def patience(self) -> float:
        """See :class:`Writer`."""
        return self.replay.patience if self.replay else 0.0

    def admit(self, prompts: Sequence[Sequence[int]]) -> Frontier:
        """Causal: prompts are read packed; the state after its last token is where each of its rows begins.
        Encoder-decoder: keys and values of what the encoder made of them; then every new row reads the start token."""
        if self.replay:
            self.replay.forget()
        distinct, owner = distinct_rows(prompts)
        if isinstance(self.decoder, CrossDecoder):
            with computing(self.model.get_encoder(), self.copies, self.adapter), following(None):
                encoded, mask = self.network.encode(distinct, self.model)
            read = self.decoder.read(encoded.last_hidden_state, mask.sum(1))
            self.cache.admit(read, owner)
            start = torch.full((len(owner),), self.network.start_id or 0, device=self.network.device)
            return self._frontier(self.decoder(start, self.cache.turn_of_new(read, owner)))
        assert isinstance(self.decoder, CausalDecoder)
        layout = lay_out_texts(distinct, self.network.device)
        reader = PromptReader(layout, len(distinct))
        hidden = self.decoder(layout.ids[0], layout.positions[0], reader)
        self.cache.admit(reader.prompts, owner)
        return self._frontier(hidden[layout.last])[torch.tensor(owner, device=self.network.device)]

    def keep(self, staying: Tensor) -> Tensor:
        """See :meth:`Cache.keep`."""
        if self.replay:
            self.replay.forget()
        return self.cache.keep(staying)

    def read(self, tokens: Tensor) -> Frontier:
        """One step."""
        return self.replay(tokens) if self.replay else self._step(tokens, self.cache.turn())

    def _step(self, tokens: Tensor, turn: Turn) -> Frontier:
        if isinstance(self.decoder, CrossDecoder):
            return self._frontier(self.decoder(tokens, turn))
        assert isinstance(self.decoder, CausalDecoder)
        return self._frontier(self.decoder(tokens, turn.positions, turn))

    def _frontier(self, hidden: Tensor) -> Frontier:
        return Frontier(hidden, self.decoder.logits(hidden))


class _WithModules:
    """What writers under transformers' modules share."""

    def __init__(self, network: LanguageNetwork, model: Any, places: int, room: int) -> None:
        self.network, self.model, self.places, self.room = network, model, places, room
        self.head = network.head_of(model)

    def _run(self, inputs: dict[str, Any], choose: Any) -> tuple[Frontier, Any]:
        """The states that ``choose`` picks, ``[n, H]``, and all that the model gave back."""
        with tapped_head(self.model, choose if self.head is None else no_token) as tap:
            outputs = self.model(**inputs)
        hidden = choose(tap.hidden)
        logits = outputs.logits[0].float() if self.head is None else self.head.logits(hidden, 1.0, self.network.precision)
        return Frontier(hidden, logits), outputs


class PackedWriter(_WithModules):
    """Rows with a cache of our own."""

    refills = True
    patience = 0.0

    def __init__(self, network: LanguageNetwork, model: Any, places: int, room: int) -> None:
        super().__init__(network, model, places, room)
        self.cache = Cache(places, room, network.device)

    def admit(self, prompts: Sequence[Sequence[int]]) -> Frontier:
        """As :class:`DecoderWriter` reads a causal model's."""
        distinct, owner = distinct_rows(prompts)
        layout = lay_out_texts(distinct, self.network.device)
        reader = PromptReader(layout, len(distinct))
        with following(reader):
            read, _ = self._run(
                {"input_ids": layout.ids, "position_ids": layout.positions, "use_cache": False}, lambda hidden: hidden[0][layout.last]
            )
        self.cache.admit(reader.prompts, owner)
        return read[torch.tensor(owner, device=self.network.device)]

    def keep(self, staying: Tensor) -> Tensor:
        """See :meth:`Cache.keep`."""
        return self.cache.keep(staying)

    def read(self, tokens: Tensor) -> Frontier:
        """One row of ``n`` tokens, each at its own position."""
        turn = self.cache.turn()
        with following(turn):
            inputs = {"input_ids": tokens[None], "position_ids": turn.positions[None], "use_cache": False}
            return self._run(inputs, lambda hidden: hidden[0])[0]


class PaddedWriter(_WithModules):
    """Rows with the model's own cache, all as far as each other."""

    refills = False
    patience = 0.0

    def admit(self, prompts: Sequence[Sequence[int]]) -> Frontier:
        """A new batch; there are no other rows."""
        self.kept: Any = None
        if self.network.encoder_decoder:
            self.encoded, self.mask = self.network.encode(prompts, self.model)
            return self.read(torch.full((len(prompts),), self.network.start_id or 0, device=self.network.device))
        distinct, owner = distinct_rows(prompts)
        ids, self.mask = pad_left(distinct, self.network.pad_id, self.network.device)
        frontier = self._advance({"input_ids": ids, "attention_mask": self.mask})
        index = torch.tensor(owner, device=self.network.device)
        self._reorder(index)
        return frontier[index]

    def keep(self, staying: Tensor) -> Tensor:
        """The caches of rows that go on move together."""
        order = torch.nonzero(staying).squeeze(1)
        self._reorder(order)
        return order

    def read(self, tokens: Tensor) -> Frontier:
        """One more token for every row."""
        if self.network.encoder_decoder:
            return self._advance({"decoder_input_ids": tokens[:, None], "encoder_outputs": self.encoded, "attention_mask": self.mask})
        self.mask = torch.cat([self.mask, torch.ones_like(self.mask[:, :1])], 1)
        return self._advance({"input_ids": tokens[:, None], "attention_mask": self.mask})

    def _reorder(self, index: Tensor) -> None:
        self.kept.reorder_cache(index)
        self.mask = self.mask[index]
        if self.network.encoder_decoder:
            self.encoded.last_hidden_state = self.encoded.last_hidden_state[index]

    def _advance(self, inputs: dict[str, Any]) -> Frontier:
        if not self.network.encoder_decoder:
            inputs = with_positions(self.model, inputs, self.mask)
        with following(None):
            frontier, outputs = self._run({**inputs, "past_key_values": self.kept, "use_cache": True}, lambda hidden: hidden[:, -1])
        self.kept = outputs.past_key_values
        return frontier
