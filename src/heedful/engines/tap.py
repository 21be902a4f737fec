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

from heedful.engines.attention import Packed, adopt, following
from heedful.engines.base import Batch
from heedful.engines.layout import lay_out
from heedful.engines.padding import accepts


@dataclass
class Tap:
    """What the language-model head was about to be given, ``[B, L, H]``."""

    hidden: Tensor = None  # type: ignore[assignment]


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


def first_token(hidden: Tensor) -> Tensor:
    """``[B, L, H]`` -> ``[1, H]``: as little as a head can be given."""
    return hidden[0, :1]


@torch.no_grad()
def examine(model: Any) -> tuple[bool, bool]:
    """Can the model pack, and is its head plain? Both are tried out on two short rows that share a prompt.

    An architecture whose tokens know of each other outside attention, or whose logits are more than
    one linear layer, is found out here and computed the longer way.
    """
    if model.device.type == "meta":  # shapes without numbers: there is nothing to compare
        return False, True
    ids = [i % (model.config.get_text_config().vocab_size - 1) + 1 for i in (5, 6, 7)]
    batch = Batch([ids[:2], ids[:2]], [ids[1:], ids[:1]])
    rows = [torch.tensor([[*p, *c]], device=model.device) for p, c in zip(batch.prompt_ids, batch.completion_ids, strict=True)]
    near = 1e-3 if model.dtype == torch.float32 else 0.05

    def states_and_logits(**inputs: Tensor) -> tuple[Tensor, Tensor]:
        with tapped_head(model, lambda hidden: hidden[0]) as tap:
            logits = model(**inputs, use_cache=False).logits[0]
        return tap.hidden[0], logits

    if model.config.is_encoder_decoder:
        states, logits = states_and_logits(input_ids=rows[0], decoder_input_ids=rows[1])
    else:
        states, logits = states_and_logits(input_ids=rows[0])
    layer = model.get_output_embeddings()
    plain = type(layer) is nn.Linear and torch.allclose(functional.linear(states, layer.weight, layer.bias), logits, atol=near, rtol=near)
    expected = None if model.config.is_encoder_decoder else torch.cat([states_and_logits(input_ids=row)[0] for row in rows])
    if not adopt(model) or expected is None or not accepts(model, "position_ids"):
        return False, plain
    layout = lay_out(batch, model.device)
    with following(Packed(layout)):
        packed, _ = states_and_logits(input_ids=layout.ids, position_ids=layout.positions)
    # the states before each completion token: of the first row from its second token on, of the other one state
    found, wanted = packed[layout.before], torch.cat([expected[1:3], expected[5:6]])
    return torch.allclose(found, wanted, atol=near, rtol=near), plain
