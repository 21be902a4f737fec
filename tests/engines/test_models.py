"""Opening and saving: Hugging Face folders in and out, and a sentence for everything that can be wrong with one."""

from __future__ import annotations

import json
import re

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

import tiny
from heedful.engines.export import save_language_model, save_reward_model
from heedful.engines.local import LocalLearner
from heedful.engines.models import (
    adapter_targets,
    choose_device,
    count_parameters,
    load_language_model,
    load_scalar_model,
    load_tokenizer,
    set_dropout,
)
from heedful.engines.networks import LanguageNetwork, Lora, ScalarNetwork
from heedful.engines.tokens import context_length, decoder_start_id, end_ids, pad_id
from heedful.errors import DeviceProblem, ModelProblem

OPENERS = {kind: AutoModelForCausalLM if kind in tiny.CAUSAL else AutoModelForSeq2SeqLM for kind in tiny.KINDS}


@pytest.fixture(params=tiny.KINDS)
def kind(request):
    return request.param


def save_base(kind, folder, **more):
    """A starting model as a folder, as a user would have it."""
    tiny.language_model(kind, **more).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)
    return str(folder)


def logprobs(network, role="policy", batch=None):
    return LocalLearner(network).evaluate(batch or tiny.batch(), role).logprobs


def opened_network(model):
    return LanguageNetwork(model.eval(), tiny.tokenizer(), roles=("policy",))


@pytest.mark.parametrize("lora", [True, False])
def test_an_exported_policy_opens_without_heedful_and_says_the_same(kind, lora, tmp_path):
    base = save_base(kind, tmp_path / "base")
    network = LanguageNetwork(load_language_model(base), load_tokenizer(base), lora=Lora(4, 8) if lora else None, with_value=True)
    tiny.shake(network)
    expected, reference = logprobs(network), logprobs(network, "reference")
    save_language_model(network, tmp_path / "out")
    assert torch.equal(logprobs(network), expected), "saving changed the policy"
    assert torch.equal(logprobs(network, "reference"), reference), "saving changed the reference"
    model, info = OPENERS[kind].from_pretrained(tmp_path / "out/model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(logprobs(opened_network(model)), expected, atol=1e-5, rtol=1e-5)
    assert AutoTokenizer.from_pretrained(tmp_path / "out/model")("w3 w4")["input_ids"] == [9, 10]
    if lora:
        adapted = PeftModel.from_pretrained(OPENERS[kind].from_pretrained(base), tmp_path / "out/adapter").merge_and_unload()
        torch.testing.assert_close(logprobs(opened_network(adapted)), expected, atol=1e-5, rtol=1e-5)
        assert not list((tmp_path / "out").rglob("*.bin"))


def test_an_adapter_that_the_model_carries_is_part_of_the_reference(kind, tmp_path):
    """The lab's own mistake: LoRA on top of an SFT adapter, with the raw base as the reference."""
    base = save_base(kind, tmp_path / "base")
    sft = tiny.shake(LanguageNetwork(load_language_model(base), load_tokenizer(base), lora=Lora(4, 8)))
    save_language_model(sft, tmp_path / "sft")
    network = LanguageNetwork(load_language_model(str(tmp_path / "sft/adapter")), tiny.tokenizer(), lora=Lora(4, 8))
    torch.testing.assert_close(logprobs(network, "reference"), logprobs(sft), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logprobs(network, "reference"), logprobs(sft, "reference"), atol=1e-3)
    assert torch.equal(logprobs(network), logprobs(network, "reference"))


def test_an_adapter_learnt_on_top_of_another_names_what_it_stands_on(kind, tmp_path):
    """Its folder alone must give the policy again: raw base + first adapter + second adapter."""
    base = save_base(kind, tmp_path / "base")
    sft = tiny.shake(LanguageNetwork(load_language_model(base), load_tokenizer(base), lora=Lora(4, 8)))
    save_language_model(sft, tmp_path / "sft")
    network = LanguageNetwork(load_language_model(str(tmp_path / "sft/adapter")), tiny.tokenizer(), lora=Lora(4, 8))
    tiny.shake(network, seed=8)
    save_language_model(network, tmp_path / "rl")
    for folder in ("rl/model", "rl/adapter"):
        opened = opened_network(load_language_model(str(tmp_path / folder)))
        torch.testing.assert_close(logprobs(opened), logprobs(network), atol=1e-5, rtol=1e-5, msg=folder)


@pytest.mark.parametrize("name", tiny.CAUSAL)
@pytest.mark.parametrize("lora", [True, False])
def test_an_exported_causal_reward_model_is_a_classifier_with_one_logit(name, lora, tmp_path):
    network = tiny.network(name, lora=lora)
    tiny.shake(network, "reward", by=0.1 if lora else 0.02)
    batch = tiny.batch()
    expected = LocalLearner(network, "reward").evaluate(batch, "reward").scores
    save_reward_model(network, "reward", tmp_path)
    assert torch.equal(LocalLearner(network, "reward").evaluate(batch, "reward").scores, expected), "saving changed it"
    model, info = AutoModelForSequenceClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    for row in range(len(batch)):
        ids = torch.tensor([[*batch.prompt_ids[row], *batch.completion_ids[row]]])
        torch.testing.assert_close(model(ids).logits[0, 0], expected[row], atol=1e-5, rtol=1e-5)
    scores = ScalarNetwork(load_scalar_model(str(tmp_path)), load_tokenizer(str(tmp_path)))(batch, "reward").scores
    torch.testing.assert_close(scores, expected, atol=1e-5, rtol=1e-5)


def test_an_exported_classifier_can_be_called_on_several_rows_though_the_base_names_no_pad_token(tmp_path):
    network = tiny.shake(tiny.network("gpt2"), "reward")
    batch = tiny.batch()
    save_reward_model(network, "reward", tmp_path)
    rows = [torch.tensor([*p, *c]) for p, c in zip(batch.prompt_ids, batch.completion_ids, strict=True)]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tiny.PAD)
    logits = AutoModelForSequenceClassification.from_pretrained(tmp_path)(ids, attention_mask=(ids != tiny.PAD).long()).logits
    expected = LocalLearner(network, "reward").evaluate(batch, "reward").scores
    torch.testing.assert_close(logits[:, 0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["t5", "bert2bert"])
def test_an_exported_encoder_decoder_reward_model_has_its_head_beside_it(name, tmp_path):

    network = tiny.shake(tiny.network(name), "reward")
    batch = tiny.batch()
    save_reward_model(network, "reward", tmp_path)
    again = LanguageNetwork(load_language_model(str(tmp_path)), load_tokenizer(str(tmp_path)), roles=("reward",))
    again.score_heads["reward"].weight.data.copy_(load_file(tmp_path / "score_head.safetensors")["weight"])
    expected = LocalLearner(network, "reward").evaluate(batch, "reward").scores
    torch.testing.assert_close(LocalLearner(again, "reward").evaluate(batch, "reward").scores, expected, atol=1e-5, rtol=1e-5)


def test_a_cuda_that_is_not_there_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    base = save_base("llama", tmp_path)
    with pytest.raises(DeviceProblem, match=r"'cuda' was asked for, but torch sees no GPU\. Set model.device"):
        load_language_model(base, device="cuda")


@pytest.mark.parametrize("opener", [load_language_model, load_scalar_model, load_tokenizer])
def test_a_folder_that_is_not_there_is_named(opener, tmp_path):
    with pytest.raises(ModelProblem, match=f"there is no model folder {tmp_path}/nowhere. Check the path"):
        opener(str(tmp_path / "nowhere"))


def test_a_folder_without_a_model_and_one_without_weights(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelProblem, match=r"holds no model: config\.json is missing"):
        load_language_model(str(tmp_path / "empty"))
    tiny.language_model("llama").config.save_pretrained(tmp_path / "config")
    with pytest.raises(ModelProblem, match=r"holds no weights: there is no \*\.safetensors file"):
        load_language_model(str(tmp_path / "config"))


def test_pickled_weights_are_not_opened(tmp_path):
    model = tiny.language_model("llama")
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelProblem, match="pickled weights are not opened"):
        load_language_model(str(tmp_path))


def test_pickled_adapters_are_not_opened(tmp_path):
    base = save_base("llama", tmp_path / "base")
    network = LanguageNetwork(load_language_model(base), load_tokenizer(base), lora=Lora(4, 8))
    save_language_model(network, tmp_path / "out")
    adapter = tmp_path / "out/adapter"

    torch.save(load_file(adapter / "adapter_model.safetensors"), adapter / "adapter_model.bin")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelProblem, match=r"no \*\.safetensors file"):
        load_language_model(str(adapter))


@pytest.mark.parametrize("text", ["{broken", "{}", '{"base_model_name_or_path": null}'])
def test_a_damaged_adapter_is_a_sentence(text, tmp_path):
    (tmp_path / "adapter_config.json").write_text(text)
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelProblem, match=f"the adapter in {tmp_path} does not say which model it was learnt on"):
        load_language_model(str(tmp_path))


def test_truncated_weights_are_a_sentence(tmp_path):
    base = save_base("llama", tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(ModelProblem, match=r"cannot be opened: .* Check that the folder is complete"):
        load_language_model(base)


def change_weight(folder, name, change):
    """Leave one tensor out of a model's file (``change`` gives ``None``), or put another in its place."""
    weights = load_file(folder / "model.safetensors")
    changed = {**weights, name: change(weights[name])}
    save_file({key: value for key, value in changed.items() if value is not None}, folder / "model.safetensors", metadata={"format": "pt"})


FIRST_NORM = {
    "llama": "model.layers.0.input_layernorm.weight",
    "gpt2": "transformer.h.0.ln_1.weight",
    "t5": "decoder.block.0.layer.0.layer_norm.weight",
    "bert2bert": "decoder.bert.encoder.layer.0.output.LayerNorm.weight",
    "bart": "model.decoder.layers.0.final_layer_norm.weight",
}


def test_a_missing_weight_is_named_and_never_drawn_at_random(kind, tmp_path):
    base = save_base(kind, tmp_path)
    load_language_model(base)
    change_weight(tmp_path, FIRST_NORM[kind], lambda _: None)
    with pytest.raises(ModelProblem, match=rf"the weight {FIRST_NORM[kind]} of the \w+ in {base} is missing"):
        load_language_model(base)


def test_a_weight_of_another_shape_is_named_with_both_shapes(kind, tmp_path):
    base = save_base(kind, tmp_path)
    change_weight(tmp_path, FIRST_NORM[kind], lambda old: old[:-1].clone())
    with pytest.raises(
        ModelProblem, match=rf"the weight {FIRST_NORM[kind]} in .* has the shape \[15\], but its config.json asks for \[16\]"
    ):
        load_language_model(base)


def test_an_untied_head_may_not_be_missing(tmp_path):
    base = save_base("llama", tmp_path, tie_word_embeddings=False)
    change_weight(tmp_path, "lm_head.weight", lambda _: None)
    with pytest.raises(ModelProblem, match=r"the weight lm_head\.weight of the LlamaForCausalLM"):
        load_language_model(base)


def test_a_classifier_may_lack_only_the_head_that_is_made_for_it(tmp_path):
    tiny.bert_classifier(2).save_pretrained(tmp_path)
    change_weight(tmp_path, "classifier.weight", lambda _: None)
    with pytest.raises(ModelProblem, match=r"the weight classifier\.weight of the BertForSequenceClassification"):
        load_scalar_model(str(tmp_path))
    assert load_scalar_model(str(tmp_path), labels=["nothate", "hate"]).config.num_labels == 2
    change_weight(tmp_path, "bert.encoder.layer.1.output.LayerNorm.weight", lambda _: None)
    with pytest.raises(ModelProblem, match=r"the weight bert\.encoder\.layer\.1\.output\.LayerNorm\.weight"):
        load_scalar_model(str(tmp_path), labels=["nothate", "hate"])


def test_an_adapter_that_lacks_a_weight_is_refused(tmp_path):
    base = save_base("llama", tmp_path / "base")
    save_language_model(LanguageNetwork(load_language_model(base), tiny.tokenizer(), lora=Lora(4, 8)), tmp_path)
    file = tmp_path / "adapter/adapter_model.safetensors"
    weights = load_file(file)
    gone = min(weights)
    save_file({name: weight for name, weight in weights.items() if name != gone}, file)
    with pytest.raises(ModelProblem, match=f"the weight {gone} of the adapter"):
        load_language_model(str(tmp_path / "adapter"))


def test_an_encoder_or_a_classifier_is_no_policy(tmp_path):
    tiny.bert_classifier(2).save_pretrained(tmp_path / "bert")
    tiny.llama_classifier(1).save_pretrained(tmp_path / "llama")
    tiny.bert_classifier(2).bert.save_pretrained(tmp_path / "encoder")
    for name, kind in (("bert", "a classifier (bert)"), ("llama", "a classifier (llama)"), ("encoder", "an encoder (bert)")):
        with pytest.raises(ModelProblem, match=rf"{re.escape(kind)}, not a language model: .* reward\.path or reward\.base"):
            load_language_model(str(tmp_path / name))


def test_a_bert_that_is_a_decoder_is_a_policy(tmp_path):
    tiny.language_model("bert2bert").decoder.save_pretrained(tmp_path)
    assert load_language_model(str(tmp_path)).config.is_decoder


def test_a_broken_tokenizer_says_what_is_missing(tmp_path):
    base = save_base("llama", tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelProblem, match=r"the tokenizer in .* cannot be opened: it has no entry 'added_tokens'"):
        load_tokenizer(base)


def test_a_name_that_is_nowhere_says_where_it_was_looked_for():
    with pytest.raises(ModelProblem, match="'no-such-owner/no-such-model' is neither a folder here nor"):
        load_language_model("no-such-owner/no-such-model")


def test_code_that_comes_with_a_model_is_not_run_unasked(tmp_path):
    base = save_base("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelProblem, match=r"wants to run its own code\. Set model\.trust_remote_code = true only if"):
        load_language_model(base)
    assert not (tmp_path / "ran").exists()


def test_the_architecture_is_read_from_the_folder(tmp_path):
    assert load_language_model(save_base("t5", tmp_path / "t5")).config.is_encoder_decoder
    assert not load_language_model(save_base("llama", tmp_path / "llama")).config.is_encoder_decoder


def test_bfloat16_is_kept_and_numbers_stay_wide(tmp_path):
    model = load_language_model(save_base("llama", tmp_path), dtype="bfloat16")
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    found = LocalLearner(LanguageNetwork(model, tiny.tokenizer(), lora=Lora(4, 8), with_value=True)).evaluate(tiny.batch(), "policy")
    assert found.logprobs.dtype == found.values.dtype == torch.float32


def test_lora_finds_query_and_value_or_says_what_there_is():
    model = tiny.language_model("llama")
    assert adapter_targets(model, ["auto"]) == ["q_proj", "v_proj"]
    assert adapter_targets(tiny.language_model("gpt2"), ["auto"]) == ["c_attn"]
    assert adapter_targets(tiny.language_model("t5"), ["auto"]) == ["q", "v"]
    assert adapter_targets(tiny.language_model("bert2bert"), ["auto"]) == ["query", "value"]
    with pytest.raises(ModelProblem, match=r"no projection named \['q_prj'\] in LlamaForCausalLM.*q_proj"):
        adapter_targets(model, ["q_prj"])


HEAD = {"llama": "lm_head", "gpt2": "lm_head", "t5": "lm_head", "bert2bert": "decoder", "bart": "lm_head"}


def test_an_adapter_on_the_head_is_refused_rather_than_without_effect(kind):
    model = tiny.language_model(kind)
    assert HEAD[kind] not in adapter_targets(model, ["all-linear"])
    with pytest.raises(
        ModelProblem, match=rf"lora\.targets names '{HEAD[kind]}', the language-model head, which gets no adapter\. Leave it out"
    ):
        LanguageNetwork(model, tiny.tokenizer(), lora=Lora(4, 8, (*adapter_targets(model, ["auto"]), HEAD[kind])))


def test_all_adapters_share_one_base_and_only_they_are_trained():
    network, plain = tiny.network("llama"), tiny.language_model("llama")
    _, base = count_parameters(plain)
    for role in ("policy", "reward", "monitor"):
        names = set(network.trainable(role))
        assert all(f".{role}." in name or name.startswith("head.") for name in names)
        assert any(name.startswith("head.") for name in names)
    _, every = count_parameters(network)
    adapters = sum(p.numel() for role in ("policy", "reward", "monitor") for p in network.trainable(role).values())
    assert every == base + adapters


def test_dropout_is_gone_from_every_role():
    noisy = {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}
    for model in (tiny.language_model("gpt2", **noisy), tiny.language_model("t5", dropout_rate=0.5)):
        network = LanguageNetwork(model, tiny.tokenizer(), lora=Lora(4, 8))
        assert torch.equal(logprobs(network), logprobs(network))
        assert not network.training
    set_dropout(model, 0.25)
    assert {m.p for m in model.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}


def test_a_network_without_a_reference_has_none_rather_than_the_policy():
    network = tiny.network("llama", lora=False, roles=("policy",))
    with pytest.raises(AssertionError, match="no reference"):
        LocalLearner(network).evaluate(tiny.batch(), "reference")


def test_end_pad_and_start_tokens_and_the_context():
    llama, t5 = tiny.language_model("llama"), tiny.language_model("t5")
    llama.generation_config.eos_token_id = [4, 9]
    assert end_ids(llama, tiny.tokenizer()) == [tiny.END, 4, 9]
    assert (pad_id(tiny.tokenizer()), pad_id(tiny.tokenizer("none")), pad_id(tiny.tokenizer("end"))) == (tiny.PAD, tiny.END, tiny.END)
    assert decoder_start_id(t5) == tiny.PAD
    t5.config.decoder_start_token_id = t5.generation_config.decoder_start_token_id = None
    with pytest.raises(ModelProblem, match="which token its decoder starts from"):
        decoder_start_id(t5)
    nameless = tiny.tokenizer("none")
    nameless.eos_token = None
    endless = tiny.language_model("gpt2", eos_token_id=None)
    with pytest.raises(ModelProblem, match="neither the tokenizer nor the model names an end token"):
        end_ids(endless, nameless)
    assert [context_length(tiny.language_model(k)) for k in tiny.KINDS] == [64, 64, None, 64, 64]


def test_labels_make_a_new_head_with_their_names(tmp_path):
    tiny.bert_classifier(3).save_pretrained(tmp_path)
    model = load_scalar_model(str(tmp_path), labels=["nothate", "hate"])
    assert model.config.id2label == {0: "nothate", 1: "hate"}
    assert model.config.label2id == {"nothate": 0, "hate": 1}
    assert load_scalar_model(str(tmp_path), labels=[""]).config.num_labels == 1
    assert load_scalar_model(str(tmp_path)).config.num_labels == 3
