"""Models as Hugging Face folders that open without heedful; safetensors only."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from torch import nn

AS_WRITTEN = "prompt, completion, end token"
"""What a reward model on a language model reads: not two texts as its tokenizer would join them."""


def save_language_model(network: Any, folder: Path) -> None:
    """The policy as plain Hugging Face folders: ``folder/model`` (adapter merged) and ``folder/adapter``.

    ``from_pretrained`` opens either without heedful. Merging works on a copy: the shared base stays as it was.
    """
    if network.lora is None:
        network.model.save_pretrained(folder / "model", safe_serialization=True)
    else:
        network.model.save_pretrained(folder / "adapter", selected_adapters=["policy"], safe_serialization=True)
        _flatten(folder / "adapter", "policy")
        merged = copy.deepcopy(network.model)
        merged.set_adapter("policy")
        merged.merge_and_unload(adapter_names=["policy"]).save_pretrained(folder / "model", safe_serialization=True)
    network.tokenizer.save_pretrained(folder / "model")


def save_reward_model(network: Any, role: str, folder: Path) -> None:
    """A reward model that lives on a language model, as a Hugging Face folder, which ``RewardModel.open`` reads.

    Causal: a sequence classifier with one logit, where the architecture has one; its configuration
    says in ``heedful_reads`` that it reads what a language model reads. Encoder-decoder: the language
    model itself, with the head beside it in ``score_head.safetensors``.
    """
    merged = copy.deepcopy(network.model)
    if network.lora is not None:
        merged.set_adapter(role)
        merged = merged.merge_and_unload(adapter_names=[role])
    head = network.score_heads[role]
    classifier = None if network.encoder_decoder else _as_classifier(merged, head.weight.detach().cpu(), network.pad_id)
    (classifier or merged).save_pretrained(folder, safe_serialization=True)
    if classifier is None:
        _save_head(head, folder / "score_head.safetensors")
    network.tokenizer.save_pretrained(folder)


def save_scalar_model(network: Any, folder: Path) -> None:
    """A sequence classifier; or a trunk whose score is read at the mean of the completion's states.

    The latter is saved as the bare trunk with its head beside it in ``mean_head.safetensors``: as a
    classifier, transformers would open it without complaint and read its score at the wrong place.
    """
    network.model.save_pretrained(folder, safe_serialization=True)
    if network.mean_head is not None:
        _save_head(network.mean_head, folder / "mean_head.safetensors")
    network.tokenizer.save_pretrained(folder)


def _save_head(head: nn.Linear, file: Path) -> None:
    from safetensors.torch import save_file

    save_file({"weight": head.weight.detach().cpu().contiguous()}, file)


def _as_classifier(model: Any, head: torch.Tensor, pad: int) -> Any | None:
    """The same trunk under ``AutoModelForSequenceClassification``, with ``head`` as its one logit."""
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(model.config)
    config.num_labels, config.heedful_reads = 1, AS_WRITTEN
    if config.pad_token_id is None:  # transformers asks for one as soon as there are two rows
        config.pad_token_id = pad
    try:
        classifier = AutoModelForSequenceClassification.from_config(config)
    except ValueError:
        return None  # this architecture has no classifier in transformers
    if not isinstance(getattr(classifier, "score", None), nn.Linear):
        return None
    classifier.base_model.load_state_dict(model.base_model.state_dict())
    classifier.score.weight.data.copy_(head)
    return classifier


def _flatten(folder: Path, name: str) -> None:
    """PEFT puts an adapter that is not called "default" into a folder of its name; users look one higher."""
    inner = folder / name
    if inner.is_dir():
        for file in inner.iterdir():
            file.replace(folder / file.name)
        inner.rmdir()
