"""Random models of stated sizes; the same seed gives the same weights."""

from __future__ import annotations

from typing import Any

from benchmarks.texts import END, PAD, START

IDS = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}


def llama_config(hidden: int, intermediate: int, layers: int, heads: int, vocabulary: int, **more: Any) -> Any:
    """Llama's architecture with tied embeddings."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        **IDS,
        **more,
    )


def llama(seed: int = 0, **sizes: int) -> Any:
    """A causal language model in float32."""
    from transformers import LlamaForCausalLM

    with _seeded(seed):
        return LlamaForCausalLM(llama_config(**sizes))


def llama_classifier(seed: int = 0, **sizes: int) -> Any:
    """The same trunk with one score."""
    from transformers import LlamaForSequenceClassification

    with _seeded(seed):
        return LlamaForSequenceClassification(llama_config(num_labels=1, **sizes))


def t5(hidden: int, intermediate: int, layers: int, heads: int, vocabulary: int, seed: int = 0) -> Any:
    """An encoder-decoder in float32, with as many layers on either side. Its embeddings are tied, as transformers 5 ties every T5's."""
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=vocabulary,
        d_model=hidden,
        d_kv=hidden // heads,
        d_ff=intermediate,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
        decoder_start_token_id=PAD,
        feed_forward_proj="gated-gelu",
        pad_token_id=PAD,
        eos_token_id=END,
    )
    with _seeded(seed):
        return T5ForConditionalGeneration(config)


def qwen2(hidden: int, intermediate: int, layers: int, heads: int, kept: int, vocabulary: int, seed: int = 0, **more: Any) -> Any:
    """Qwen2's architecture with tied embeddings; ``kept`` heads of keys and values."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kept,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        **IDS,
    )
    with _seeded(seed), torch.device(more.get("device", "cpu")):
        return Qwen2ForCausalLM(config)


def nudge(model: Any, by: float = 0.003, seed: int = 1) -> Any:
    """Move every weight a little, as if the model had been trained: a policy that is not its own reference."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=draw)
    return model


def _seeded(seed: int) -> Any:
    from heedful.engines.seeding import seeded

    return seeded(seed)
