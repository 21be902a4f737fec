"""The numbers that the lab prints, on its architecture, without any weights (torch's meta device)."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration

from heedful.engines.local import LocalLearner
from heedful.engines.models import count_parameters
from heedful.engines.networks import LanguageNetwork, Lora

# google/flan-t5-base, config.json
FLAN_T5_BASE = {
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 12,
    "num_decoder_layers": 12,
    "num_heads": 12,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,  # of no effect in transformers 5, see below
    "decoder_start_token_id": 0,
}
TOKENIZER = SimpleNamespace(pad_token_id=0, eos_token_id=1)


def flan_t5_base() -> T5ForConditionalGeneration:
    """As ``from_pretrained`` gives it: the checkpoint holds an output layer of its own, so transformers does not tie it."""
    with torch.device("meta"):
        model = T5ForConditionalGeneration(T5Config(**FLAN_T5_BASE))
        model.lm_head.weight = torch.nn.Parameter(torch.empty(32128, 768))
    return model


def counts(lora: Lora | None, with_value: bool) -> tuple[int, int]:
    """(trainable, all) of a policy that is about to learn."""
    with torch.device("meta"):
        network = LanguageNetwork(flan_t5_base(), TOKENIZER, roles=("policy",), lora=lora, with_value=with_value)
        LocalLearner(network, "policy")
    return count_parameters(network)


def test_flan_t5_base_alone() -> None:
    assert count_parameters(flan_t5_base()) == (247_577_856, 247_577_856)


@pytest.mark.parametrize(
    ("with_value", "trainable", "every"),
    [(False, 3_538_944, 251_116_800), (True, 3_539_713, 251_117_569)],
    ids=["adapters", "adapters and value head"],
)
def test_adapters_and_value_head(with_value: bool, trainable: int, every: int) -> None:
    """36 attention layers x 2 projections x 2 matrices x 768 x 32, and 768 + 1 for the head."""
    assert counts(Lora(32, 32, ("q", "v")), with_value) == (trainable, every)
    assert trainable - 769 * with_value == 36 * 2 * 2 * 768 * 32


def test_full_fine_tuning_learns_everything() -> None:
    assert counts(None, with_value=True) == (247_577_856 + 769, 247_577_856 + 769)
