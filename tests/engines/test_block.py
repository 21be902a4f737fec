"""A decoder layer of ours: the same numbers as transformers', and in the last one only the tokens that are looked at."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import OlmoConfig, OlmoForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

import tiny
from heedful.engines.base import Batch
from heedful.engines.fuse import activation_of_block, fusible
from heedful.engines.local import LocalLearner
from heedful.engines.networks import LanguageNetwork, Lora
from heedful.engines.operations import turned
from heedful.engines.tap import examine

SIZES = {
    "vocab_size": tiny.VOCABULARY, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "bos_token_id": tiny.START, "eos_token_id": tiny.END, "pad_token_id": tiny.PAD,
}  # fmt: skip


def test_a_quarter_turn_by_hand():
    """The first pair of a head is its first and third entry."""
    x, cos, sin = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.tensor([[[0.0, 1.0]]]), torch.tensor([[[1.0, 0.0]]])
    there = turned(x, cos, sin, torch.empty_like(x))
    assert there.tolist() == [[[-3.0, 2.0, 1.0, 4.0]]]
    assert turned(there, cos, sin, torch.empty_like(x), back=True).tolist() == x.tolist()


def adopted(model):
    """A model that knows our attention."""
    assert examine(model.eval())[0]
    return model


def shaken(model):
    """Also what starts at 0 or 1, such as biases and norms."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=draw)
    return model


def test_which_layers_are_replaced():
    """Llama's and Qwen2's (with biases); not those that do something more, however little."""
    assert all(activation_of_block(layer) for layer in adopted(tiny.language_model("llama")).model.layers)
    assert all(activation_of_block(layer) for layer in adopted(shaken(Qwen2ForCausalLM(Qwen2Config(**SIZES)))).model.layers)
    assert not any(activation_of_block(layer) for layer in adopted(shaken(Qwen3ForCausalLM(Qwen3Config(**SIZES)))).model.layers), (
        "its heads are normed"
    )
    assert not any(activation_of_block(layer) for layer in tiny.language_model("gpt2").transformer.h)
    model = adopted(tiny.language_model("llama"))
    own = model.model.layers[1].forward
    model.model.layers[1].forward = lambda *args, **more: own(*args, **more) * 1.01
    assert [activation_of_block(layer) is not None for layer in model.model.layers] == [True, False]
    assert not activation_of_block(torch.nn.Linear(2, 2))


BATCH = Batch([[7, 8, 9], [7, 8, 9], [6]], [[10, 11], [12, 2, 9, 9], [13]])


MODELS = {
    "llama": lambda: tiny.language_model("llama"),
    "biases": lambda: shaken(tiny.language_model("llama", attention_bias=True, mlp_bias=True)),
    "some biases": lambda: shaken(Qwen2ForCausalLM(Qwen2Config(**SIZES))),
}
ADAPTERS = {"none": None, "some": Lora(4, 8), "all": Lora(4, 8, ("all-linear",))}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("adapters", ADAPTERS)
@pytest.mark.parametrize("share", [True, False])
def test_replaced_layers_give_the_same_outputs_and_gradients(model, adapters, share):
    ours, theirs = (tiny.shake(network(MODELS[model], ADAPTERS[adapters], share)) for _ in range(2))
    assert all(activation_of_block(layer) for layer in ours.plain.model.layers)
    for known in (theirs.plain, *([theirs.reference] if theirs.reference else [])):
        known.__dict__["heedful_fusible"] = {}
    outcomes = [outcome(network) for network in (ours, theirs)]
    assert outcomes[0].keys() == outcomes[1].keys()
    for name, found in outcomes[0].items():
        torch.testing.assert_close(found, outcomes[1][name], atol=2e-5, rtol=1e-5, msg=name)


def network(model, lora, share):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        roles = ("policy", "reference", "reward")
        return LanguageNetwork(model(), tiny.tokenizer(), roles=roles, lora=lora, with_value=True, share_prompts=share)


def test_a_last_layer_that_is_not_ours_leaves_no_token_out():
    """Whatever the others are: the states of the right tokens are looked at."""
    expected, found = (tiny.network("llama", lora=False) for _ in range(2))
    own = found.plain.model.layers[1]
    found.plain.__dict__["heedful_fusible"] = {m: build for m, build in fusible(found.plain).items() if m is not own}
    looked = [LocalLearner(one).evaluate(BATCH, "policy").logprobs for one in (expected, found)]
    torch.testing.assert_close(*looked, atol=1e-5, rtol=1e-5)


def test_a_layer_whose_norm_has_no_weight_is_not_ours():
    """OLMo's, which takes the mean off, too."""
    layers = adopted(OlmoForCausalLM(OlmoConfig(**SIZES))).model.layers
    assert not any(activation_of_block(layer) for layer in layers)


def outcome(network):
    """Logprobs, values and scores of a batch, and gradients of both kinds of learning."""
    one = LocalLearner(network)
    found = {role: one.evaluate(BATCH, role) for role in ("policy", "reference", "reward")}
    one.forward_backward(BATCH, lambda outputs, _: (outputs.values.square() - outputs.logprobs, {}))
    gradients = {f"policy {name}": p.grad.clone() for name, p in one.parameters.items() if p.grad is not None}
    two = LocalLearner(network, "reward")
    two.forward_backward(BATCH, lambda outputs, _: (outputs.scores.square(), {}))
    gradients |= {f"reward {name}": p.grad.clone() for name, p in two.parameters.items() if p.grad is not None}
    outputs = {"logprobs": found["policy"].logprobs, "values": found["policy"].values, "reference": found["reference"].logprobs}
    return {**outputs, "scores": found["reward"].scores, **gradients}


def test_the_last_layer_ends_with_the_tokens_that_are_looked_at():
    """Before each of the 4 x 20 completion tokens, and of 4 rows the last; both rounded up, as every size wants kernels of its own."""
    batch = Batch([[7 + row] + [6] * 32 for row in range(4)], [[8, 9] * 10] * 4)
    network, seen = tiny.network("llama", lora=False), []
    network.plain.model.norm.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    one = LocalLearner(network)
    one.evaluate(batch, "policy")
    one.evaluate(batch, "reward")
    assert seen == [128, 64], "and all 256 without that"


def test_a_turn_in_bfloat16_is_near():
    draw = torch.Generator().manual_seed(0)
    x, angles = torch.randn(50, 2, 8, generator=draw), math.pi * torch.randn(50, 1, 4, generator=draw)
    exact = turned(x, angles.cos(), angles.sin(), torch.empty_like(x))
    near = turned(x.bfloat16(), angles.cos().bfloat16(), angles.sin().bfloat16(), torch.empty_like(x, dtype=torch.bfloat16))
    assert near.dtype == torch.bfloat16
    assert float((near.float() - exact).abs().max()) < 0.03
