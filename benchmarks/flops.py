"""What the work must do, counted: operations of matrix products, and bytes that decoding must read.

Counted is the least that gives the result: every true token once, a prompt once however many
completions it has, no padding, no layer computed twice. A multiplication and an addition are two
operations. Norms, activations, softmax, the optimiser and adapters' own products (a few percent)
are left out, so that a share of the machine's limit is never flattered.

``P`` tokens of a prompt, ``C`` of a completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Rows = Sequence[tuple[int, Sequence[int]]]
"""Each distinct prompt's length, and the lengths of its completions."""


@dataclass(frozen=True)
class Stack:
    """A stack of transformer layers.

    ``weights`` parameters multiply each token (all layers together); ``width`` is heads x their
    width, of queries, and ``kept`` the same of the keys (and as much again of the values) that are kept.
    """

    layers: int
    weights: int
    width: int
    kept: int


@dataclass(frozen=True)
class Shape:
    """What a language model multiplies: ``head`` parameters once per logit row; with an encoder also ``cross``
    parameters of the decoder, which multiply each encoded token (keys and values of cross-attention). ``last``
    parameters of the last layer (all but those of keys and values) multiply only tokens whose state is looked at."""

    decoder: Stack
    head: int
    encoder: Stack | None = None
    cross: int = 0
    last: int = 0

    @property
    def decoded_weights(self) -> int:
        """Parameters that one decoded token is multiplied by."""
        return self.decoder.weights + self.head


def forward(shape: Shape, rows: Rows, *, logits: bool = True) -> int:
    """Operations of one pass over prompts and completions; ``logits`` on completion tokens alone, or on none (a score).

    Causal: ``2 W (P + C)`` for the weights and ``4 L w`` for every pair of a query and a key that it
    sees (one product for the score, one for the value), ``P (P + 1) / 2`` pairs in a prompt and
    ``P C + C (C + 1) / 2`` in a completion; less what the last layer need not do for tokens whose state nobody looks at.
    Encoder-decoder: ``P^2`` pairs in the encoder, ``C (C + 1) / 2``
    in the decoder, ``P C`` across.
    """
    completed = sum(c for _, completions in rows for c in completions)
    read = sum(p for p, _ in rows)
    own = sum(c * (c + 1) // 2 for _, completions in rows for c in completions)
    across = sum(p * c for p, completions in rows for c in completions)
    decoder, head = shape.decoder, 2 * shape.head * completed if logits else 0
    if shape.encoder is None:
        pairs = sum(p * (p + 1) // 2 for p, _ in rows) + across + own
        products = 2 * decoder.weights * (read + completed) - 2 * shape.last * (read + completed - states_needed(rows, logits))
        return products + 4 * decoder.layers * decoder.width * pairs + head
    encoder = shape.encoder
    encoding = 2 * (encoder.weights + shape.cross) * read + 4 * encoder.layers * encoder.width * sum(p * p for p, _ in rows)
    return encoding + 2 * decoder.weights * completed + 4 * decoder.layers * decoder.width * (own + across) + head


def states_needed(rows: Rows, logits: bool) -> int:
    """How many tokens' states are looked at: for logits those before each completion token (the prompt's last one is
    one state for all its completions), for a score one a completion."""
    if not logits:
        return sum(len(completions) for _, completions in rows)
    return sum(sum(completions) - len(completions) + bool(completions) for _, completions in rows)


def training(shape: Shape, rows: Rows, *, logits: bool = True, frozen: bool = False) -> int:
    """Operations of a pass and its gradient: twice the pass again, for the states and for the weights; where the
    weights are ``frozen`` under adapters, for the states alone."""
    return (2 if frozen else 3) * forward(shape, rows, logits=logits)


def decoding(shape: Shape, rows: Rows, width: int) -> tuple[float, float]:
    """(operations, bytes) of one decoding step, the mean over the ``C - 1`` steps that follow the prompt.

    Every step reads all weights once, and the keys and values of each prompt once and of each row's
    own tokens, ``width`` bytes each. With an encoder the prompt's are those of cross-attention.
    """
    count = sum(len(completions) for _, completions in rows)
    written = sum(c / 2 for _, completions in rows for c in completions)
    read = sum(p for p, _ in rows)
    seen = written + sum(p * len(completions) for p, completions in rows)
    decoder = shape.decoder
    operations = 2 * shape.decoded_weights * count + 4 * decoder.layers * decoder.width * seen
    return operations, width * (shape.decoded_weights + 2 * decoder.layers * decoder.kept * (read + written))


@dataclass(frozen=True)
class DecodingStep:
    """One decoding step, on average: seconds, and the operations and bytes that it must cost."""

    seconds: float
    operations: float
    bytes: float
    rows: int

    def share(self, rate: float, bandwidth: float) -> float:
        """Of the machine's limit: the longer of what bytes and what operations take, over what it took."""
        return max(self.bytes / bandwidth, self.operations / rate) / self.seconds


def rows_of(prompts: Sequence[Sequence[int]], completions: Sequence[Sequence[int]]) -> list[tuple[int, list[int]]]:
    """Equal prompts once, with the lengths of all their completions."""
    found: dict[tuple[int, ...], list[int]] = {}
    for prompt, completion in zip(prompts, completions, strict=True):
        found.setdefault(tuple(prompt), []).append(len(completion))
    return [(len(prompt), lengths) for prompt, lengths in found.items()]


def shape_of(model: Any) -> Shape:
    """The shape of a Hugging Face language model or classifier (Llama's and Qwen's kin, T5), read from its linear layers."""
    config = model.config
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    sizes = {
        name: module.weight.shape[0] * module.weight.shape[1]
        for name, module in model.named_modules()
        if type(module).__name__ == "Linear" and module is not head and not name.endswith("score")
    }
    output = 0 if head is None else head.weight.shape[0] * head.weight.shape[1]
    if config.is_encoder_decoder:
        inside = {name: size for name, size in sizes.items() if name.startswith("encoder.")}
        cross = {name: size for name, size in sizes.items() if name.endswith(("EncDecAttention.k", "EncDecAttention.v"))}
        width = config.num_heads * config.d_kv
        return Shape(
            Stack(config.num_decoder_layers, sum(sizes.values()) - sum(inside.values()) - sum(cross.values()), width, width),
            output,
            Stack(config.num_layers, sum(inside.values()), width, width),
            sum(cross.values()),
        )
    each = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    stack = Stack(config.num_hidden_layers, sum(sizes.values()), config.num_attention_heads * each, config.num_key_value_heads * each)
    last = sum(
        size
        for name, size in sizes.items()
        if f"layers.{config.num_hidden_layers - 1}." in name and not name.endswith(("k_proj", "v_proj"))
    )
    return Shape(stack, output, last=last)
