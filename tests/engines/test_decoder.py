"""Decoders that are written out: the model's own numbers, and only where they are the model's."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

import tiny
from heedful.engines.base import Batch, Sampling
from heedful.engines.cache import Cache, Prompts, Sharing, weighed
from heedful.engines.decoder import decoder_of, rotated
from heedful.engines.local import LocalLearner
from heedful.engines.narrow import Product
from heedful.engines.networks import LanguageNetwork, Lora
from heedful.engines.sampling import LocalSampler
from heedful.engines.writing import written_out

CPU = torch.device("cpu")
KNOWN = [
    ("llama", {}),
    ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False, "num_key_value_heads": 2}),
    ("llama", {"head_dim": 6, "hidden_act": "relu"}),
    ("t5", {}),
    ("t5", {"feed_forward_proj": "relu", "tie_word_embeddings": False}),
]


def network(kind, precision=torch.float32, **more):
    """All weights, biases too, are random: what is left out shows."""
    model = tiny.language_model(kind, **more)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
            assert parameter.any(), name
    return LanguageNetwork(model, tiny.tokenizer(), roles=("policy",), with_value=True, precision=precision)


def is_written_out(network):
    return written_out(network, *network.model_of("policy"))


@pytest.mark.parametrize(("kind", "more"), KNOWN, ids=str)
def test_what_is_recorded_while_sampling_is_what_the_model_computes(kind, more):
    """Prompts alone and shared, one of them longer than the tables that are made at first, and rows that end at different steps."""
    more = {"max_position_embeddings": 512, **more} if kind == "llama" else more
    one = LocalLearner(network(kind, **more), temperature=4.0)  # so warm that rows differ
    one.network.end_ids = list(range(5, 12))
    prompts = [*tiny.prompts(4), *tiny.prompts(3), tiny.prompts(1, seed=8)[0] * 140]
    assert max(map(len, prompts)) > 256
    drawn = LocalSampler(one.network, batch_tokens=2200).sample(prompts, Sampling(12, 4.0), range(8))
    assert one.network.written_out
    found = one.evaluate(Batch(prompts, [d.token_ids for d in drawn]), "policy").logprobs
    assert len({len(d.token_ids) for d in drawn}) >= 2
    for row, d in enumerate(drawn):
        assert d.logprobs == pytest.approx(found[row, : len(d.logprobs)].tolist(), abs=1e-5)


def test_positions_of_what_is_written_reach_as_far_as_wanted():
    """More tokens than the table of biases has at first: near 300 tokens, in which every distance of a T5 with far buckets counts."""
    one = LocalLearner(network("t5", relative_attention_num_buckets=64, relative_attention_max_distance=400))
    one.network.end_ids = [999]
    [drawn] = LocalSampler(one.network).sample([[7, 8, 9]], Sampling(280), [0])
    found = one.evaluate(Batch([[7, 8, 9]], [drawn.token_ids]), "policy").logprobs
    assert drawn.logprobs == pytest.approx(found[0].tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_in_bfloat16_what_is_recorded_is_near_what_the_model_computes(kind):
    one = LocalLearner(network(kind, torch.bfloat16))
    prompts = [*tiny.prompts(3), *tiny.prompts(3)]
    drawn = LocalSampler(one.network).sample(prompts, Sampling(9), range(6))
    assert one.network.written_out
    found = one.evaluate(Batch(prompts, [d.token_ids for d in drawn]), "policy").logprobs
    for row, d in enumerate(drawn):
        assert d.logprobs == pytest.approx(found[row, : len(d.logprobs)].tolist(), abs=one.rounding)


def test_parts_of_other_names_are_left_to_transformers():
    for kind in ("gpt2", "bert2bert"):
        assert decoder_of(tiny.language_model(kind), None, torch.float32, 1) is None
        assert not is_written_out(network(kind))


def test_a_layer_that_does_more_is_left_to_transformers():
    """The names are Llama's, the numbers are not."""
    changed = network("llama")
    layer = changed.model.model.layers[0]
    inner = layer.forward
    layer.forward = lambda *args, **kwargs: inner(*args, **kwargs) * 1.1
    assert decoder_of(changed.model, None, torch.float32, 1) is not None
    assert not is_written_out(changed)
    drawn = LocalSampler(changed).sample(tiny.prompts(3), Sampling(6), range(3))
    found = LocalLearner(changed).evaluate(Batch(tiny.prompts(3), [d.token_ids for d in drawn]), "policy").logprobs
    for row, d in enumerate(drawn):
        assert d.logprobs == pytest.approx(found[row, : len(d.logprobs)].tolist(), abs=1e-5)


def test_rotations_that_change_with_the_length_are_left_to_transformers():
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
    assert decoder_of(tiny.language_model("llama", rope_parameters=rope), None, torch.float32, 1) is None


def test_a_rotation_by_hand():
    """A quarter turn, times i, takes 1 + 2i to -2 + i and 3 + 4i to -4 + 3i."""
    assert rotated(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), torch.tensor([[[1j, 1j]]])).tolist() == [[[-2.0, 1.0, -4.0, 3.0]]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 5, 300])
@pytest.mark.parametrize("order", [None, torch.arange(16, -1, -1)], ids=["their order", "reversed"])
def test_a_product_is_the_layers_side_by_side(dtype, rows, order):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers, x = [torch.nn.Linear(24, 10), torch.nn.Linear(24, 7, bias=False)], torch.randn(rows, 24).to(dtype)
    with torch.no_grad():
        found = Product(layers, order, adapter=None, dtype=dtype, rows=8)(x)
        expected = torch.cat([functional.linear(x.float(), layer.weight.to(dtype).float(), layer.bias) for layer in layers], 1)
        expected = expected if order is None else expected[:, order]
    torch.testing.assert_close(found.float(), expected, atol=1e-6 if dtype == torch.float32 else 0.02, rtol=0.01)


@pytest.mark.parametrize("owner", [[0, 1, 2], [0, 0, 1, 2, 2, 2], [2, 0, 2, 1, 0], [1, 1]])
def test_rows_stand_with_those_of_their_prompt_and_come_back(owner):
    sharing = Sharing(torch.tensor(owner), 3)
    x = torch.randn(len(owner), 2, 3, 5)
    together = sharing.by_prompt(x)
    assert together.shape[0] == 3
    for row, prompt in enumerate(owner):
        assert any(torch.equal(together[prompt, :, at : at + 3], x[row]) for at in range(0, together.shape[2], 3))
    assert torch.equal(sharing.by_row(together), x)
    assert torch.equal(sharing.by_row(together[..., 0]), x[..., 0])


def test_a_mean_and_the_sum_of_its_weights():
    """By hand: scores log 1, log 3 and one that is not seen give weights 1/4, 3/4, 0, and a sum of 4."""
    q, k = torch.ones(1, 1, 1, 1), torch.tensor([1.0, 3.0, 9.0]).log().view(1, 1, 3, 1)
    bias = torch.tensor([0.0, 0.0, torch.finfo(torch.float32).min]).view(1, 1, 1, 3)
    mean, total = weighed(q, k, torch.tensor([8.0, 4.0, 100.0]).view(1, 1, 3, 1), 1.0, bias)
    assert mean.item() == pytest.approx(5.0)
    assert total.exp().item() == pytest.approx(4.0)


def test_attention_over_prompt_and_own_tokens_is_one_over_both():
    """Two rows of one prompt and one of another, three tokens each, against torch on the whole text; four heads share two."""
    generator = torch.Generator().manual_seed(0)
    lengths, owner, heads, kv, width = [5, 3], [0, 0, 1], 4, 2, 6

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    before = [(draw(kv, n, width), draw(kv, n, width)) for n in lengths]
    padded = [torch.stack([functional.pad(kind[i], (0, 0, 0, 5 - kind[i].shape[1]), value=7.0) for kind in before]) for i in (0, 1)]
    cache = Cache(3, 3, CPU)
    cache.admit(Prompts([padded[0]], [padded[1]], torch.tensor(lengths)), owner)
    texts = [list(before[o]) for o in owner]
    for _ in range(3):
        query, key, value = draw(heads, 3, width), draw(kv, 3, width), draw(kv, 3, width)
        found = cache.turn().attend(query, key, value, 0.4)
        for row, text in enumerate(texts):
            text[:] = [torch.cat([known, new[:, row : row + 1]], 1) for known, new in zip(text, (key, value), strict=True)]
            k, v = (x.repeat_interleave(2, 0) for x in text)
            expected = functional.scaled_dot_product_attention(query[:, row : row + 1], k, v, scale=0.4)
            torch.testing.assert_close(found[row], expected[:, 0], atol=1e-6, rtol=1e-6)


def test_a_model_s_rotation_is_asked_on_the_device_of_its_weights():
    """The device `meta` computes nothing, and like an accelerator it refuses what lies elsewhere."""
    model = tiny.language_model("llama").to("meta")
    assert decoder_of(model, None, torch.float32, rows=1) is not None


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_model_that_was_saved_in_bfloat16_is_written_out_too(kind):
    """T5's norm gives its states in the precision of its weights, the decoder under trial in float32."""
    network = LanguageNetwork(
        tiny.language_model(kind).to(torch.bfloat16), tiny.tokenizer(), roles=("policy",), lora=Lora(r=2), precision=torch.bfloat16
    )
    assert is_written_out(network)
    prompts = tiny.prompts(4)
    drawn = LocalSampler(network).sample(prompts, Sampling(6), range(4))
    found = LocalLearner(network).evaluate(Batch(prompts, [d.token_ids for d in drawn]), "policy").logprobs
    for row, d in enumerate(drawn):
        assert d.logprobs == pytest.approx(found[row, : len(d.logprobs)].tolist(), abs=0.15)
