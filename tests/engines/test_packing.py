"""Packing: several rows in one, none sees another."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from heedful.engines.base import Batch
from heedful.engines.local import LocalLearner
from heedful.engines.networks import first_fit, pack
from heedful.policy.sft import SFTLoss


@pytest.mark.parametrize("kind", tiny.CAUSAL)
@pytest.mark.parametrize("n", [1, 2, 40])
def test_packed_is_padded(kind, n):
    batch = tiny.batch(n)
    found = []
    for packing in (False, True):
        network = tiny.shake(tiny.network(kind, packing=packing), "policy", "reward")
        one = LocalLearner(network)
        policy = one.evaluate(batch, "policy", entropy=True, exact_kl=True)
        scores = one.evaluate(batch, "reward").scores
        one.forward_backward(batch, SFTLoss())
        gradient = {f"d {name}": p.grad for name, p in one.parameters.items() if p.grad is not None}
        found.append(
            {"logprobs": policy.logprobs, "values": policy.values, "entropy": policy.entropy, "kl": policy.kl, "scores": scores} | gradient
        )
    assert n == 1 or len(pack(batch, 0, torch.device("cpu")).inputs["input_ids"]) < n
    for name, padded in found[0].items():
        torch.testing.assert_close(found[1][name], padded, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("kind", tiny.CAUSAL)
def test_a_row_does_not_see_its_neighbours_in_the_bin(kind):
    network = tiny.network(kind, packing=True)
    batch = tiny.batch(5)
    other = Batch([batch.prompt_ids[0], *([6] * len(p) for p in batch.prompt_ids[1:])], batch.completion_ids)
    first, second = (LocalLearner(network).evaluate(b, "policy").logprobs for b in (batch, other))
    assert torch.equal(first[0], second[0])
    assert not torch.equal(first[1:], second[1:])


def test_encoder_decoders_are_never_packed():
    batch = tiny.batch(5)
    plain, packing = (LocalLearner(tiny.network("t5", packing=p)).evaluate(batch, "policy").logprobs for p in (False, True))
    assert torch.equal(plain, packing)


@given(st.lists(st.integers(1, 90), max_size=30), st.integers(1, 120))
def test_first_fit_keeps_every_length_apart_and_every_bin_in_bounds(lengths, room):
    places, filled = first_fit(lengths, room)
    assert len(places) == len(lengths)
    taken = [(bin_, position) for (bin_, start), n in zip(places, lengths, strict=True) for position in range(start, start + n)]
    assert len(taken) == len(set(taken)) == sum(filled)
    assert all(position < filled[bin_] for bin_, position in taken)
    assert all(full <= max(room, *lengths) for full in filled)
    halves = [full for full in filled if 2 * full <= room]
    assert len(halves) <= 1, "two bins that are half empty would have been one"


def test_first_fit_by_hand():
    assert first_fit([3, 6, 4, 2], 8) == ([(1, 4), (0, 0), (1, 0), (0, 6)], [8, 7])
    assert first_fit([], 8) == ([], [])
