"""The lab's screen on small random models of the lab's architectures: FLAN-T5 and a RoBERTa classifier."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification, T5Config, T5ForConditionalGeneration

from heedful.engines.base import Batch, Sampled
from heedful.records import Prompt, write_jsonl
from heedful.reward.score import RewardModel

DIALOGUE = "#Person1#: Did you see the film? #Person2#: I did, and it was long. " * 4
TEXTS = ["Summarize the following conversation.", DIALOGUE, "#Person 1# tells Tommy that he didn't like the movie."]


@pytest.fixture(scope="module")
def lab(repository: Path) -> ModuleType:
    place = repository / "examples" / "detoxify" / "lab.py"
    spec = importlib.util.spec_from_file_location("detoxify_lab", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def save_tokenizer(folder: Path, *, start: bool) -> int:
    """A byte-level tokenizer; T5's adds </s> behind a text, RoBERTa's <s> before it, too."""
    specials = ["<pad>", "</s>", "<unk>", "<s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet))
    before = "<s> " if start else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{before}$A </s>", pair=f"{before}$A </s> $B </s>", special_tokens=[("</s>", 1), ("<s>", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=512,
        **({"bos_token": "<s>"} if start else {}),
    )
    fast.save_pretrained(folder)
    return len(fast)


@pytest.fixture(scope="module")
def settings(lab: ModuleType, tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Any:
    """The lab's own settings file, with small models and 60 dialogues in place of the hub's."""
    folder = tmp_path_factory.mktemp("lab")
    torch.manual_seed(0)
    vocabulary = save_tokenizer(folder / "t5", start=False)
    T5ForConditionalGeneration(
        T5Config(
            vocab_size=vocabulary, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu",
            tie_word_embeddings=False, decoder_start_token_id=0,
        )
    ).save_pretrained(folder / "t5")  # fmt: skip
    vocabulary = save_tokenizer(folder / "roberta", start=True)
    RobertaForSequenceClassification(
        RobertaConfig(
            vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
            max_position_embeddings=514, pad_token_id=0, id2label={0: "nothate", 1: "hate"}, label2id={"nothate": 0, "hate": 1},
        )
    ).save_pretrained(folder / "roberta")  # fmt: skip
    write_jsonl(folder / "rows.jsonl", [{"id": str(i), "dialogue": f"{i} {DIALOGUE}", "summary": "A film."} for i in range(60)])
    small = [
        "ppo.max_steps=2",
        "completions.max_new_tokens=8",
        "model.device=cpu",
        "prompts.format=jsonl",
        f"prompts.path={folder}/rows.jsonl",
    ]
    models_ = [f"model.path={folder}/t5", f"reward.path={folder}/roberta"]
    return lab.load_settings(repository / "examples" / "detoxify" / "flan_t5.toml", [*small, *models_])


def test_the_screen(lab: ModuleType, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of the lab, in its order, with as many steps and samples as it should have.

    Adapters: 6 attention layers x 2 projections x 2 matrices x 32 x 32 = 24,576; the head 32 + 1.
    """
    monkeypatch.setattr(lab, "LENGTHS", range(3, 9))
    opened = lab.open_lab(settings)
    assert (len(opened.train), len(opened.test)) == (48, 12)
    text = "\n".join(lab.screen(opened))
    wanted = [
        r"PEFT model parameters to be updated:\n\ntrainable model parameters: 24576\n",
        r"PPO model parameters to be updated \(ValueHead \+ 33 params\):\n\ntrainable model parameters: 24609\n",
        r"Linear\(in_features=32, out_features=1, bias=True\)",
        r"trainable model parameters: 0\n",
        r"\{0: 'nothate', 1: 'hate'\}",
        r"logits \[not hate, hate\]: \[-?\d",
        r"reward \(high\): \[-?\d",
        r"reward \(low\): \[-?\d",
        r"toxicity \[mean, std\] before detox: \[0\.\d",
        r"objective/kl: -?0\.0\n",
        r"ppo/returns/mean: ",
        r"ppo/policy/advantages_mean: -?\d\S*\n-{99}\n",
        r"toxicity \[mean, std\] after detox: \[0\.\d",
        r"Percentage improvement of toxicity score after detoxification:\nmean: -?\d+\.\d\d%.*11 samples.*\nstd: -?\d+\.\d\d%",
        r"reward_diff: ",
    ]
    place = 0
    for pattern in wanted:
        found = re.compile(pattern).search(text, place)
        assert found, f"{pattern} does not follow in:\n{text[place : place + 1500]}"
        place = found.end()
    assert text.count("objective/kl: ") == 2
    gains = [float(found) for found in re.findall(r"reward_diff: (\S+)", text)]
    assert len(gains) == 12
    assert gains == sorted(gains, reverse=True)


def test_the_reward_is_the_logit_of_the_label_even_where_the_other_class_wins(lab: ModuleType, settings: Any) -> None:
    """The lab takes position 0 of a list sorted by score: for a hateful text that is the logit of "hate"."""
    opened = lab.open_lab(settings)
    tokenizer = opened.network.tokenizer
    batch = Batch([tokenizer("one")["input_ids"]], [tokenizer("two")["input_ids"]])
    with torch.no_grad():
        opened.reward.classifier.learner.network.model.classifier.out_proj.bias.copy_(torch.tensor([-5.0, 5.0]))
    [score] = opened.reward.score([Prompt("a", "one")], ["two"], batch)
    [logits] = opened.reward.classifier.raw(["one</s>two</s>"])
    assert score == pytest.approx(float(logits[0]))
    assert score < 0 < float(logits[1])
    by_other_name = RewardModel.open(settings.reward.path, label="hate", max_tokens=512, device="cpu")
    assert by_other_name.index == 1


def test_lengths_are_drawn_by_seed_and_cut_what_is_longer(lab: ModuleType) -> None:
    drawn = [lab.shortened(Sampled(list(range(500)), [0.0] * 500, "length", seed)) for seed in range(400)]
    lengths = [len(one.token_ids) for one in drawn]
    assert 100 <= min(lengths) < 110
    assert 390 < max(lengths) <= 399
    assert abs(np.mean(lengths) - 249.5) < 15  # sd 86.6 / sqrt(400) = 4.3
    whole = Sampled([5, 1], [0.0, 0.0], "stop", 3)
    assert lab.shortened(whole) is whole
    [cut] = [lab.shortened(Sampled(list(range(500)), [-0.5] * 500, "length", 0, [float(n) for n in range(500)]))]
    assert cut.values == [float(n) for n in range(len(cut.token_ids))], "the value of every state that is left"
