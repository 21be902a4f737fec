"""Weights in the precision of the arithmetic: copies that are never out of date, and gradients of the weights themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import tiny
from heedful.engines.copies import Copies
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.narrow import Linear
from heedful.policy.sft import SFTLoss


def test_the_gradient_of_a_linear_layer():
    draw = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*shape, dtype=torch.float64, generator=draw, requires_grad=True) for shape in ((2, 3, 4), (5, 4), (5,)))
    assert torch.autograd.gradcheck(lambda x, w, b: Linear.apply(x, w, w.detach(), b), (x, weight, bias))


def test_a_frozen_weight_gets_no_gradient():
    x, weight = torch.ones(1, 2, requires_grad=True), torch.ones(3, 2)
    Linear.apply(x, weight, weight, None).sum().backward()
    assert x.grad.tolist() == [[3.0, 3.0]]
    assert weight.grad is None


@pytest.mark.parametrize("change", ["learning", "in place", "loaded", "replaced"])
def test_a_copy_is_kept_until_the_weight_changes(change):
    network = tiny.network("llama", lora=False, precision=torch.bfloat16)
    layer, copies = network.plain.model.layers[0].mlp.up_proj, network.copies
    first = copies.plain(layer)
    assert copies.plain(layer) is first
    if change == "learning":
        one = LocalLearner(network)
        one.forward_backward(tiny.batch(), SFTLoss())
        one.step()
    elif change == "in place":
        with torch.no_grad():
            layer.weight += 1
    elif change == "loaded":
        layer.load_state_dict(nn.Linear(16, 24, bias=False).state_dict())
    else:
        layer.weight = nn.Parameter(torch.zeros(24, 16))
    assert copies.plain(layer) is not first
    assert torch.equal(copies.plain(layer), layer.weight.bfloat16())


def test_scoring_leaves_no_copies_behind():
    """A reference or a reward model is asked once in a rollout: its copies would take up memory while others learn."""
    network = tiny.network("llama", lora=False, precision=torch.bfloat16)
    layer = network.reference.model.layers[0].mlp.up_proj
    first = network.copies.plain(layer)
    LocalLearner(network).evaluate(tiny.batch(), "reference")
    assert network.copies.plain(layer) is not first


def test_a_copy_that_sampling_made_serves_learning():
    layer, copies = nn.Linear(3, 3), Copies(torch.bfloat16)
    with torch.inference_mode():
        narrow = copies.plain(layer)
    x = torch.ones(1, 3, dtype=torch.bfloat16, requires_grad=True)
    Linear.apply(x, layer.weight, narrow, None).sum().backward()
    assert copies.plain(layer) is narrow
    assert torch.equal(layer.weight.grad, torch.ones(3, 3))


def test_a_weight_in_the_right_precision_is_not_copied():
    layer = nn.Linear(3, 3)
    assert Copies(torch.float32).plain(layer).data_ptr() == layer.weight.data_ptr()


def test_merged_weights_are_those_of_one_adapter_and_never_old():
    network = tiny.shake(tiny.network("llama"), "policy", "reward")
    module = network.plain.model.layers[0].self_attn.q_proj
    copies = Copies(torch.float32)

    def expected(adapter):
        return module.base_layer.weight + 2 * module.lora_B[adapter].weight @ module.lora_A[adapter].weight  # alpha / r = 2

    policy = copies.merged(module, "policy")
    assert copies.merged(module, "policy") is policy
    torch.testing.assert_close(policy, expected("policy"))
    torch.testing.assert_close(copies.merged(module, "reward"), expected("reward"))
    assert copies.merged(module, "policy") is not policy, "the memory of one adapter's weights is enough"
    tiny.shake(network, "policy", seed=1)
    torch.testing.assert_close(copies.merged(module, "policy"), expected("policy"))


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False])
def test_learning_in_bfloat16_is_near(kind, lora):
    """Gradients point where those of float32 point, and so they do after a step: no copy is old.

    With this ``eps`` a step is as large as its gradient. As AdamW usually is, it is as large for a gradient of nearly nothing,
    whose sign is rounding.
    """
    wide, narrow = (
        LocalLearner(tiny.shake(tiny.network(kind, lora=lora, precision=precision), by=0.02), optimiser=Optimiser(0.1, eps=1.0))
        for precision in (torch.float32, torch.bfloat16)
    )
    for step in range(2):
        for one in (wide, narrow):
            one.forward_backward(tiny.batch(8, seed=step), SFTLoss())
        largest = max(float(p.grad.norm()) for p in wide.parameters.values() if p.grad is not None)
        for name, parameter in wide.parameters.items():
            other = narrow.parameters[name].grad
            if parameter.grad is None or float(parameter.grad.norm()) < 0.01 * largest:
                continue  # the key's bias cancels in attention, for example
            assert other is not None, name
            assert other.dtype == torch.float32
            assert float(torch.cosine_similarity(parameter.grad.flatten(), other.flatten(), 0)) > 0.97, name
        for one in (wide, narrow):
            one.step()
    drawn = [one.evaluate(tiny.batch(8), "policy").logprobs for one in (wide, narrow)]
    torch.testing.assert_close(drawn[0], drawn[1], atol=0.3, rtol=0.05)
