"""The built-in world's tokenizer and its two untrained models."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from heedful.demo import words
from heedful.demo.architectures import ARCHITECTURES, MAX_TOKENS, POSITION_BIAS_SPREAD, new_model
from heedful.demo.tokenizer import SPECIAL, build_tokenizer
from heedful.demo.world import World

OPENERS = {"causal": AutoModelForCausalLM, "seq2seq": AutoModelForSeq2SeqLM}


def test_decoding_gives_back_every_text_and_nothing_is_unknown():
    tokenizer = build_tokenizer()
    for example in World(seed=2).examples(1000, "feedback"):
        for text in (example.prompt, example.summary):
            ids = tokenizer(text)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert len(ids) == len(text.split())
            assert tokenizer.decode(ids) == text


def test_vocabulary_holds_each_word_once_and_every_special_first():
    tokenizer = build_tokenizer()
    assert 200 <= len(tokenizer) <= 350
    assert len(tokenizer) == len(SPECIAL) + len(set(words.vocabulary()))
    assert [tokenizer.convert_tokens_to_ids(token) for token in SPECIAL] == [0, 1, 2, 3]
    assert (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id) == (0, 1, 2, 3)
    assert tokenizer("anna zzz")["input_ids"][1] == 3
    assert tokenizer("anna.")["input_ids"] == [3], "only spaces separate words"


@pytest.mark.parametrize("name", ["causal", "seq2seq"])
def test_a_saved_folder_opens_with_the_auto_classes_alone(name, tmp_path):
    model, tokenizer = new_model(name), build_tokenizer()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    opened, reopened = OPENERS[name].from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    example = World().examples(1)[0]
    ids = torch.tensor([reopened(example.prompt)["input_ids"]])
    assert ids.tolist() == [tokenizer(example.prompt)["input_ids"]]
    assert reopened.decode(ids[0]) == example.prompt
    inputs = {"input_ids": ids} if name == "causal" else {"input_ids": ids, "labels": ids[:, :5]}
    with torch.no_grad():
        torch.testing.assert_close(opened(**inputs).logits, model.eval()(**inputs).logits)


@pytest.mark.parametrize("name", ["causal", "seq2seq"])
def test_a_new_model_depends_on_its_seed_alone_and_leaves_torchs_random_state(name):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = new_model(name, seed=1)
    assert torch.equal(torch.rand(3), expected)
    again, other = new_model(name, seed=1), new_model(name, seed=2)
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(first.get_input_embeddings().weight, other.get_input_embeddings().weight)


def test_new_models_start_with_sharp_attention():
    biases = [p for name, p in new_model("seq2seq").named_parameters() if "relative_attention_bias" in name]
    assert len(biases) == 2
    assert all(0.7 * POSITION_BIAS_SPREAD < float(bias.detach().std()) < 1.3 * POSITION_BIAS_SPREAD for bias in biases)
    assert float(new_model("causal").get_input_embeddings().weight.detach().std()) == pytest.approx(0.08, rel=0.1)


@pytest.mark.parametrize(("name", "millions"), [("causal", 1.1), ("seq2seq", 1.2)])
def test_models_are_small_enough_to_ship(name, millions):
    model = new_model(name)
    assert model.num_parameters() / 1e6 == pytest.approx(millions, abs=0.1)
    assert model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()
    assert getattr(model.config, "max_position_embeddings", MAX_TOKENS) == MAX_TOKENS


def test_recipes_count_their_examples():
    for architecture in ARCHITECTURES.values():
        assert architecture.recipe.examples == architecture.recipe.steps * architecture.recipe.batch_size
