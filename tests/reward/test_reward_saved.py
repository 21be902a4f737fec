"""A reward model on a language model, saved and opened again: the same texts get the same scores, whatever the architecture."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForSequenceClassification

import tiny
from heedful.engines.base import Batch
from heedful.engines.export import save_reward_model
from heedful.engines.local import LocalLearner
from heedful.errors import ModelProblem
from heedful.prompts.chat import encode_completion, render
from heedful.records import Prompt
from heedful.reward.score import RewardModel

PROMPTS = [Prompt("1", "w1 w2 w3"), Prompt("2", "w4"), Prompt("3", "w9 w8 w7 w6 w5 w4")]
TEXTS = ["w5 w6", "w7 w8 w9 w1", "w2"]
NO_BATCH = Batch([[7]] * 3, [[8]] * 3)


def saved(kind, lora, folder):
    """What the reward model says of the texts where it was trained; and its folder."""
    network = tiny.shake(tiny.network(kind, lora=lora), "reward", by=0.1 if lora else 0.02)
    learnt = Batch([render(p.prompt, network.tokenizer, network.encoder_decoder) for p in PROMPTS], [[*ids] for ids in encoded(network)])
    expected = LocalLearner(network, "reward").evaluate(learnt, "reward").scores
    save_reward_model(network, "reward", folder)
    return expected.tolist()


def encoded(network):
    return [encode_completion(text, network.tokenizer) for text in TEXTS]


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False])
def test_a_saved_reward_model_gives_the_scores_of_training(kind, lora, tmp_path):
    """Head beside the model (T5, BERT2BERT) or a sequence classifier (the causal ones): prompt, completion and end token are read."""
    expected = saved(kind, lora, tmp_path)
    assert max(expected) - min(expected) > 0.01, "else any constant would do"
    opened = RewardModel.open(str(tmp_path), device="cpu")
    assert opened.score(PROMPTS, TEXTS, NO_BATCH) == pytest.approx(expected, abs=1e-5)
    assert opened.labels in ([""], ["LABEL_0"])


@pytest.mark.parametrize("architecture", ["without a classifier"])
def test_a_causal_model_that_transformers_has_no_classifier_for(architecture, tmp_path, monkeypatch):
    def none(*_, **__):
        raise ValueError(f"Unrecognized configuration class: {architecture}")

    monkeypatch.setattr(AutoModelForSequenceClassification, "from_config", none)
    expected = saved("llama", True, tmp_path)
    assert (tmp_path / "score_head.safetensors").exists()
    assert RewardModel.open(str(tmp_path), device="cpu").score(PROMPTS, TEXTS, NO_BATCH) == pytest.approx(expected, abs=1e-5)


def test_what_is_too_long_together_loses_the_prompts_beginning(tmp_path):
    saved("llama", True, tmp_path)
    opened = RewardModel.open(str(tmp_path), device="cpu", max_tokens=6)
    whole, last = Prompt("a", "w1 w2 w3 w4 w5 w6"), Prompt("b", "w4 w5 w6")
    assert opened.score([whole], ["w7 w8"], NO_BATCH) == pytest.approx(opened.score([last], ["w7 w8"], NO_BATCH), abs=1e-6)


def test_a_head_of_another_model_or_half_a_file_is_refused(tmp_path):
    saved("t5", True, tmp_path)
    save_file({"weight": torch.zeros(1, tiny.WIDTH + 1)}, tmp_path / "score_head.safetensors")
    with pytest.raises(ModelProblem, match="states of width 17, but the model's have 16"):
        RewardModel.open(str(tmp_path))
    (tmp_path / "score_head.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelProblem, match="score_head"):
        RewardModel.open(str(tmp_path))


def test_a_label_is_no_use_where_there_are_no_classes(tmp_path):
    saved("t5", True, tmp_path)
    with pytest.raises(ModelProblem, match="no class 'nothate'"):
        RewardModel.open(str(tmp_path), label="nothate")
