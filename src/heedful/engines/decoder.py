"""Decoders written out: a few operations a layer, over weights that are laid out once for a whole rollout.

A step of decoding reads one token of each row. In transformers' modules that costs several times
what the arithmetic takes: conversions, copies, products of a few rows that are made one by one.
Here the layers of Llama's kin and of T5's decoders are written as what they compute, over
:class:`heedful.engines.narrow.Product`. Which model gets this is not decided by its name: its parts must be
called as theirs, and its states must come out the same when both are tried (:mod:`heedful.engines.writing`).

``n`` tokens, ``H`` the width of states, ``h`` heads, ``k`` heads of keys and values, ``d`` their width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from heedful.engines.cache import PromptReader, Prompts, Turn
from heedful.engines.narrow import Product
from heedful.engines.operations import ACTIVATIONS, eps_of
from heedful.engines.padding import rounded

LLAMA = (
    *(f"self_attn.{name}" for name in ("q_proj", "k_proj", "v_proj", "o_proj", "scaling", "head_dim")),
    *(f"mlp.{name}" for name in ("gate_proj", "up_proj", "down_proj", "act_fn")),
    *("input_layernorm.weight", "post_attention_layernorm.weight"),
)
T5 = (
    *(f"SelfAttention.{name}" for name in ("q", "k", "v", "o", "key_value_proj_dim", "scaling")),
    *("layer_norm.weight", "DenseReluDense.wo", "DenseReluDense.act"),
)
"""What the parts of a layer are called: Llama's kin, T5's decoder."""
CHANGING = ("dynamic", "longrope")
"""Rotations that depend on how long a text has become."""

Lay = Callable[..., Product]
"""From modules, and an order of their outputs or none, to the product of them side by side."""


class Norm:
    """``x / rms(x) * weight`` (Zhang & Sennrich 2019, eq. 4), given back in the precision of the products."""

    def __init__(self, module: Any, dtype: torch.dtype) -> None:
        self.weight, self.eps, self.dtype = module.weight.detach(), eps_of(module), dtype

    def __call__(self, x: Tensor) -> Tensor:
        """``[n, H]`` -> ``[n, H]``."""
        return torch.rms_norm(x, self.weight.shape, self.weight, self.eps).to(self.dtype)


@dataclass(frozen=True)
class Attention:
    """Its queries, keys and values are one product."""

    norm: Norm
    inner: Product
    out: Product
    heads: int
    width: int
    scale: float

    def split(self, x: Tensor) -> Tensor:
        """``[n, H]`` -> queries, keys and values ``[n, h + 2 k, d]``."""
        return self.inner(self.norm(x)).view(len(x), -1, self.width)


@dataclass(frozen=True)
class Across:
    """Attention over a prompt that an encoder has read."""

    norm: Norm
    queries: Product
    keys_values: Product
    out: Product
    width: int
    scale: float

    def __call__(self, x: Tensor, turn: Turn) -> Tensor:
        """``[n, H]`` -> ``[n, H]``."""
        queries = self.queries(self.norm(x)).view(len(x), -1, self.width)
        return self.out(turn.across(queries, self.scale).flatten(1))


@dataclass(frozen=True)
class Unit:
    """``down(act(gate) * up)`` (Shazeer 2020, eq. 6), or without a gate ``down(act(up))``."""

    norm: Norm
    inner: Product
    down: Product
    act: Callable[[Tensor], Tensor]
    gated: bool

    def __call__(self, x: Tensor) -> Tensor:
        """``[n, H]`` -> ``[n, H]``."""
        inner = self.inner(self.norm(x))
        if not self.gated:
            return self.down(self.act(inner))
        gate, up = inner.chunk(2, -1)
        return self.down(self.act(gate).mul_(up))


@dataclass(frozen=True)
class Layer:
    """One layer; ``across`` where there is an encoder."""

    attention: Attention
    unit: Unit
    across: Across | None = None


class Decoder:
    """What lies between ids and logits: see its two kinds below."""

    def __init__(self, model: Any, embed: Any, layers: Sequence[Layer], norm: Norm, lay: Lay) -> None:
        self.embed, self.layers, self.norm, self.dtype = embed, list(layers), norm, norm.dtype
        self.head = lay([model.get_output_embeddings()])

    def logits(self, hidden: Tensor) -> Tensor:
        """``[n, H]`` -> ``[n, V]`` in float32."""
        return self.head(hidden.to(self.dtype)).float()

    def _states(self, tokens: Tensor, attend: Callable[[Attention, Tensor], Tensor], turn: Turn | None = None) -> Tensor:
        x: Tensor = self.embed(tokens)
        for layer in self.layers:
            x += layer.attention.out(attend(layer.attention, x).flatten(1))
            if layer.across is not None and turn is not None:
                x += layer.across(x, turn)
            x += layer.unit(x)
        return self.norm(x)


class CausalDecoder(Decoder):
    """Of Llama's kin: queries and keys are rotated by their positions (Su et al. 2021)."""

    def __init__(self, model: Any, lay: Lay, dtype: torch.dtype) -> None:
        trunk = model.model
        layers = [Layer(_llama_attention(layer, lay, dtype), _llama_unit(layer, lay, dtype)) for layer in trunk.layers]
        super().__init__(model, trunk.embed_tokens, layers, Norm(trunk.norm, dtype), lay)
        self.rotary = trunk.rotary_emb
        self.rotations = self._rotations(1)

    def __call__(self, tokens: Tensor, positions: Tensor, plan: PromptReader | Turn) -> Tensor:
        """States that reach the head, ``[n, H]``, of tokens ``[n]`` at their positions."""
        if plan.reach > len(self.rotations):
            self.rotations = self._rotations(rounded(plan.reach, 256))
        rotations = self.rotations[positions]

        def attend(attention: Attention, x: Tensor) -> Tensor:
            found, keys = attention.split(x), attention.heads
            values = keys + (found.shape[1] - keys) // 2
            found[:, :values] = rotated(found[:, :values], rotations)
            by_head = found.transpose(0, 1)
            return plan.attend(by_head[:keys], by_head[keys:values], by_head[values:], attention.scale)

        return self._states(tokens, attend)

    def _rotations(self, length: int) -> Tensor:
        """``[length, 1, d / 2]``: the complex number that each pair is multiplied by at each position."""
        at = torch.arange(length, device=self.norm.weight.device)[None]
        cos, sin = (x[0].float() for x in self.rotary(torch.zeros(1, device=at.device), at))
        half = cos.shape[1] // 2
        return torch.complex(cos[:, None, :half], sin[:, None, :half])


class CrossDecoder(Decoder):
    """Of an encoder-decoder of T5's kind: scores know how far away a key is (Raffel et al. 2020)."""

    def __init__(self, model: Any, lay: Lay, dtype: torch.dtype) -> None:
        stack = model.decoder
        layers = [_t5_layer(block.layer, lay, dtype) for block in stack.block]
        super().__init__(model, stack.embed_tokens, layers, Norm(stack.final_layer_norm, dtype), lay)
        self.scale = model.model_dim**-0.5 if model.config.scale_decoder_outputs else 1.0
        self.biases = stack.block[0].layer[0].SelfAttention
        self.by_distance = self._by_distance(1)

    def __call__(self, tokens: Tensor, turn: Turn) -> Tensor:
        """States that reach the head, ``[n, H]``, of tokens ``[n]``."""
        if turn.seen > len(self.by_distance):
            self.by_distance = self._by_distance(rounded(turn.seen, 256))
        turn.bias = turn.bias + self.by_distance[turn.distance.clamp(min=0)].permute(0, 2, 1)[:, :, None]

        def attend(attention: Attention, x: Tensor) -> Tensor:
            queries, keys, values = attention.split(x).chunk(3, 1)
            return turn.own(queries, keys, values, attention.scale)

        return self._states(tokens, attend, turn) * self.scale

    def read(self, encoded: Tensor, lengths: Tensor) -> Prompts:
        """What an encoder made of prompts, ``[U, P, H]``, as keys and values of every layer."""
        keys, values = [], []
        for layer in self.layers:
            assert layer.across is not None
            found = layer.across.keys_values(encoded.to(self.dtype).flatten(0, 1))
            key, value = found.view(*encoded.shape[:2], -1, layer.across.width).transpose(1, 2).chunk(2, 1)
            keys.append(key.contiguous())
            values.append(value.contiguous())
        return Prompts(keys, values, lengths)

    def _by_distance(self, length: int) -> Tensor:
        """``[length, h]``: what is added to the score of a key that many tokens back."""
        found: Tensor = self.biases.compute_bias(1, length, past_seen_tokens=length - 1)[0, :, 0]
        return found.detach().float().flip(-1).T.contiguous()


def decoder_of(model: Any, adapter: str | None, dtype: torch.dtype, rows: int) -> Decoder | None:
    """The decoder of a model with an adapter merged, in a precision, for steps of at most ``rows`` rows; ``None`` where its parts are
    not called as those that are known. That it computes the same is for the caller to try."""
    lay = partial(Product, adapter=adapter, dtype=dtype, rows=rows)
    layers = getattr(getattr(model, "model", None), "layers", None)
    if layers is not None and all(_has(layer, name) for layer in layers for name in LLAMA) and hasattr(model.model, "rotary_emb"):
        rotary = model.model.rotary_emb
        at = torch.zeros((1, 1), device=rotary.inv_freq.device)
        whole = rotary(at, at)[0].shape[-1] == layers[0].self_attn.head_dim
        return CausalDecoder(model, lay, dtype) if whole and getattr(rotary, "rope_type", "default") not in CHANGING else None
    blocks = getattr(getattr(model, "decoder", None), "block", None)
    if blocks is not None and all(any(_has(part, name) for part in block.layer) for block in blocks for name in T5):
        return CrossDecoder(model, lay, dtype)
    return None


def rotated(x: Tensor, rotations: Tensor) -> Tensor:
    """``[n, *, d]``, whose neighbours are the parts of a complex number, times ``rotations [n, 1, d / 2]``, in float32."""
    return torch.view_as_real(torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * rotations).flatten(-2)


def _llama_attention(layer: Any, lay: Lay, dtype: torch.dtype) -> Attention:
    """Queries and keys come in another order of their width, which no score depends on: what is rotated together, Llama has half
    the width apart, and here it is neighbours, so that to rotate is one product of complex numbers."""
    own = layer.self_attn
    outputs = [module.out_features for module in (own.q_proj, own.k_proj, own.v_proj)]
    order, turned = torch.arange(sum(outputs)), sum(outputs[:2])
    order[:turned] = order[:turned].view(-1, 2, own.head_dim // 2).transpose(1, 2).flatten()
    inner = lay([own.q_proj, own.k_proj, own.v_proj], order.to(own.q_proj.weight.device))
    heads = outputs[0] // own.head_dim
    return Attention(Norm(layer.input_layernorm, dtype), inner, lay([own.o_proj]), heads, own.head_dim, own.scaling)


def _llama_unit(layer: Any, lay: Lay, dtype: torch.dtype) -> Unit:
    unit = layer.mlp
    norm = Norm(layer.post_attention_layernorm, dtype)
    return Unit(norm, lay([unit.gate_proj, unit.up_proj]), lay([unit.down_proj]), _quick(unit.act_fn), gated=True)


def _t5_layer(parts: Any, lay: Lay, dtype: torch.dtype) -> Layer:
    own, across, unit = parts[0].SelfAttention, parts[1].EncDecAttention, parts[2].DenseReluDense
    gated = hasattr(unit, "wi_0")
    inner = lay([unit.wi_0, unit.wi_1] if gated else [unit.wi])
    width = own.key_value_proj_dim
    return Layer(
        Attention(Norm(parts[0].layer_norm, dtype), lay([own.q, own.k, own.v]), lay([own.o]), own.n_heads, width, own.scaling),
        Unit(Norm(parts[2].layer_norm, dtype), inner, lay([unit.wo]), _quick(unit.act), gated),
        Across(Norm(parts[1].layer_norm, dtype), lay([across.q]), lay([across.k, across.v]), lay([across.o]), width, across.scaling),
    )


@torch.no_grad()
def _quick(act: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An activation as one operation, where we know it."""
    x = torch.linspace(-4, 4, 33)
    return next((known.of for known in ACTIVATIONS if torch.allclose(known.of(x), act(x), atol=1e-6)), act)


def _has(module: Any, path: str) -> bool:
    try:
        attrgetter(path)(module)
    except AttributeError:
        return False
    return True
