"""What a model and its tokenizer say of tokens: which ends, which pads, which begins, how many fit."""

from __future__ import annotations

from typing import Any

from heedful.errors import ModelProblem


def pad_id(tokenizer: Any) -> int:
    """An id to fill with. Which one is of no account: masks come from lengths."""
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every id that ends a completion: the tokenizer's, the model's and its generation settings'."""
    found: set[int] = set()
    for source in (tokenizer, model.config, getattr(model, "generation_config", None)):
        ids = getattr(source, "eos_token_id", None)
        found.update(ids if isinstance(ids, (list, tuple)) else [] if ids is None else [ids])
    if not found:
        raise ModelProblem("neither the tokenizer nor the model names an end token", "Set eos_token in the tokenizer's configuration.")
    return sorted(found)


def decoder_start_id(model: Any) -> int:
    """The id an encoder-decoder's decoder starts from."""
    for source in (model.config, getattr(model, "generation_config", None)):
        found = getattr(source, "decoder_start_token_id", None)
        if found is not None:
            return int(found)
    raise ModelProblem(
        "the encoder-decoder does not say which token its decoder starts from", "Set decoder_start_token_id in its config.json."
    )


def context_length(model: Any) -> int | None:
    """The longest input that the position embeddings allow, where there is such a limit."""
    config = getattr(model.config, "encoder", None) or model.config
    found = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(found) if found and getattr(config, "model_type", "") not in {"t5", "mt5", "umt5", "longt5"} else None


def same_tokens(one: Any, other: Any) -> bool:
    """Would an id mean the same to both tokenizers?"""
    return bool(one.get_vocab() == other.get_vocab())
