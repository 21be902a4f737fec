"""The states that reach a language-model head: the one place where all architectures agree.

Whatever happens before or after (scaling in T5, soft caps in Gemma, BERT's transform) stays the
model's own business; what is before the head is all that logprobs, values and scores need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heedful.engines.attention import Packed, adopt, following, set_attention
from heedful.engines.base import Batch
from heedful.engines.layout import lay_out
from heedful.engines.padding import accepts


@dataclass
class Tap:
    """What the language-model head was about to be given, ``[B, L, H]``."""

    hidden: Tensor = None  # type: ignore[assignment]


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


@contextmanager
def tapped_head(model: Any, choose: Callable[[Tensor], Tensor]) -> Iterator[Tap]:
    """Keep the states that reach the head, and let it see only those ``[C, H]`` that ``choose`` picks."""
    tap = Tap()

    def before(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        tap.hidden = args[0]
        return (choose(args[0])[None], *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(before)
    try:
        yield tap
    finally:
        handle.remove()


def no_token(hidden: Tensor) -> Tensor:
    """``[B, L, H]`` -> ``[0, H]``: as little as a head can be given."""
    return hidden[0, :0]


@torch.no_grad()
def examine(model: Any) -> tuple[bool, bool]:
    """Can the model pack, and is its head plain? Gives it our attention where that changes nothing.

    All is tried out on two short rows that share a prompt. An architecture whose attention does more
    than ours, whose tokens know of each other outside attention, or whose logits are more than one
    linear layer, is found out here and computed the longer way.
    """
    if model.device.type == "meta":  # shapes without numbers: there is nothing to compare
        return False, True
    ids = [i % (model.config.get_text_config().vocab_size - 1) + 1 for i in (5, 6, 7)]
    batch = Batch([ids[:2], ids[:2]], [ids[1:], ids[:1]])

    def run(**inputs: Tensor) -> tuple[Tensor, Tensor]:
        with tapped_head(model, lambda hidden: hidden.flatten(0, 1)) as tap:
            logits = model(**{name: x.to(model.device) for name, x in inputs.items()}, use_cache=False).logits
        return tap.hidden.flatten(0, 1), logits[0]

    padded = _padded_inputs(model, ids)
    expected, logits = run(**padded)
    layer = model.get_output_embeddings()
    plain = type(layer) is nn.Linear and near(functional.linear(expected, layer.weight, layer.bias), logits, model)
    rows = [] if model.config.is_encoder_decoder or not accepts(model, "position_ids") else [[*ids[:2], *ids[1:]], [*ids[:2], *ids[:1]]]
    alone = [run(input_ids=torch.tensor([row]))[0] for row in rows]
    if not adopt_where_same(model, lambda: run(**padded)[0][_true_tokens(padded)]) or not rows:
        return False, plain
    layout = lay_out(batch, model.device)
    with following(Packed(layout)):
        packed, _ = run(input_ids=layout.ids, position_ids=layout.positions)
    # the states before each completion token: two of the first row, from its second token on, and one of the other
    wanted = torch.cat([alone[0][1:3], alone[1][1:2]])
    return near(packed[layout.before], wanted, model), plain


@torch.no_grad()
def adopt_where_same(model: Any, run: Callable[[], Tensor]) -> bool:
    """Give a model our attention if ``run`` finds the same numbers with it; else leave it as it was, ``False``."""
    before, expected = model.config._attn_implementation, run()
    if not adopt(model):
        return False
    with following(None):
        same = near(run(), expected, model)
    if not same:
        set_attention(model, before)
    return same


def near(a: Tensor, b: Tensor, model: Any) -> bool:
    """Are these the same numbers, whatever precision each is written in, up to what a model's own rounds?"""
    tolerance = 1e-3 if model.dtype == torch.float32 else 0.05
    return torch.allclose(a.float(), b.float(), atol=tolerance, rtol=tolerance)


def _padded_inputs(model: Any, ids: list[int]) -> dict[str, Tensor]:
    """Two rows of different lengths with their mask; causal models are padded in front."""
    if model.config.is_encoder_decoder:
        return {
            "input_ids": torch.tensor([ids, [*ids[:2], ids[0]]]),
            "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
            "decoder_input_ids": torch.tensor([ids, ids[::-1]]),
        }
    return {"input_ids": torch.tensor([ids, [ids[0], *ids[:2]]]), "attention_mask": torch.tensor([[1, 1, 1], [0, 1, 1]])}


def _true_tokens(inputs: dict[str, Tensor]) -> Tensor:
    """Which states, of all rows one behind the other, are those of true tokens."""
    if "decoder_input_ids" in inputs:
        return torch.ones(inputs["decoder_input_ids"].numel(), dtype=torch.bool)
    return inputs["attention_mask"].flatten().bool()
