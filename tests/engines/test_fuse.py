"""Parts of layers with a backward pass of their own: the same numbers, and only where they are the same."""

from __future__ import annotations

import pytest
import torch

import tiny
from heedful.engines.copies import Copies
from heedful.engines.fuse import fused, fusible
from heedful.engines.operations import ACTIVATIONS, GatedUnit, RMSNorm

SILU, GELU = ACTIVATIONS


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_the_gradient_of_a_gated_unit(act):
    draw = torch.Generator().manual_seed(0)
    gate, up = (torch.randn(3, 5, dtype=torch.float64, generator=draw, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: GatedUnit.apply(a, b, act), (gate, up))


def test_the_two_activations_at_one_by_hand():
    """silu(1) = 1 / (1 + 1/e); gelu(1) = (1 + tanh(sqrt(2/pi) 1.044715)) / 2."""
    one = torch.ones(1)
    assert SILU.of(one).item() == pytest.approx(0.731059, abs=1e-6)
    assert GELU.of(one).item() == pytest.approx(0.841192, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "more", "units"),
    [
        ("llama", {}, 2),
        ("llama", {"hidden_act": "gelu_pytorch_tanh"}, 2),
        ("llama", {"hidden_act": "gelu"}, 0),  # without the approximation by tanh
        ("llama", {"hidden_act": "relu"}, 0),
        ("t5", {}, 4),
        ("t5", {"feed_forward_proj": "relu"}, 0),
    ],
)
def test_what_is_replaced_and_that_nothing_changes(kind, more, units):
    """Every gated unit of a known activation and no other, however small the weights; logits and gradients stay."""
    model = tiny.language_model(kind, **more)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.1 if parameter.dim() == 2 else 1)
    norms = {module for module in model.modules() if type(module).__name__.endswith(("RMSNorm", "T5LayerNorm"))}
    found = set(fusible(model))
    assert len(found - norms) == units
    plain = outcome(model)
    with fused(model, Copies(torch.float32)):
        ours = outcome(model)
    for a, b in zip(plain, ours, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def outcome(model):
    """Logits of a few tokens, and the gradient of every weight."""
    model.zero_grad()
    ids = torch.tensor([[3, 4, 5, 6]])
    logits = model(input_ids=ids, **({"decoder_input_ids": ids} if model.config.is_encoder_decoder else {})).logits
    logits.square().mean().backward()
    return [logits.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def test_the_gradient_of_a_norm():
    """Against what torch derives itself from the same formula."""
    draw = torch.Generator().manual_seed(0)
    x, weight, wanted = torch.randn(3, 8, generator=draw), torch.randn(8, generator=draw), torch.randn(3, 8, generator=draw)
    found = []
    for norm in (lambda x, w: RMSNorm.apply(x, w, 1e-5, torch.float32), lambda x, w: torch.rms_norm(x, (8,), w, 1e-5)):
        a, b = x.clone().requires_grad_(), weight.clone().requires_grad_()
        (norm(a, b) * wanted).sum().backward()
        found.append((a.grad, b.grad))
    torch.testing.assert_close(found[0], found[1])
