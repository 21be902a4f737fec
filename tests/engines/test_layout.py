"""Tokens in one row: packed is padded, shared is separate, and no row sees another."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from heedful.engines.base import Batch
from heedful.engines.layout import ALIKE, lay_out, similar
from heedful.engines.local import LocalLearner
from heedful.engines.padding import STEP

CPU = torch.device("cpu")
SHARED = Batch([[7, 8, 9], [7, 8, 9], [6], [7, 8, 9], [6]], [[10, 11], [12, 2], [9, 9, 9, 9], [13], [11, 2]])


def everything(network, batch, budget=8192):
    """Outputs of every kind, and the gradient of a loss that uses all of them."""
    one = LocalLearner(network, micro_batch_tokens=budget)
    policy = one.evaluate(batch, "policy", entropy=True, exact_kl=True)
    scores = one.evaluate(batch, "reward").scores
    one.forward_backward(batch, EVERYTHING)
    gradient = {f"d {name}": p.grad.clone() for name, p in one.parameters.items() if p.grad is not None}
    return {"logprobs": policy.logprobs, "values": policy.values, "entropy": policy.entropy, "kl": policy.kl, "scores": scores} | gradient


def loss(outputs, _batch):
    return outputs.logprobs + 0.3 * outputs.values.square() - 0.2 * outputs.entropy + 0.5 * outputs.kl, {}


loss.needs = frozenset({"entropy", "kl"})
EVERYTHING = loss


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.parametrize("kind", tiny.CAUSAL)
@pytest.mark.parametrize("batch", [tiny.batch(1), tiny.batch(2), tiny.batch(40), SHARED], ids=["1", "2", "40", "shared"])
def test_packed_is_padded(kind, batch):
    packed, padded = (tiny.shake(tiny.network(kind, share_prompts=False), "policy", "reward") for _ in range(2))
    assert packed.packs
    padded.packs = False
    assert_same(everything(packed, batch), everything(padded, batch))


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_shared_prompt_is_a_separate_one(kind):
    shared, apart = (tiny.shake(tiny.network(kind, share_prompts=share), "policy", "reward") for share in (True, False))
    assert_same(everything(shared, SHARED), everything(apart, SHARED))


@pytest.mark.parametrize("kind", tiny.CAUSAL)
def test_cutting_a_shared_group_changes_nothing(kind):
    network = tiny.shake(tiny.network(kind), "policy", "reward")
    assert_same(everything(network, SHARED, budget=6), everything(tiny.shake(tiny.network(kind), "policy", "reward"), SHARED))


@pytest.mark.parametrize("kind", tiny.CAUSAL)
def test_a_row_does_not_see_its_neighbours(kind):
    network = tiny.network(kind)
    batch = tiny.batch(5)
    other = Batch([batch.prompt_ids[0], *([6] * len(p) for p in batch.prompt_ids[1:])], batch.completion_ids)
    first, second = (LocalLearner(network).evaluate(b, "policy").logprobs for b in (batch, other))
    torch.testing.assert_close(first[0], second[0], atol=1e-6, rtol=1e-6)
    assert not torch.allclose(first[1:], second[1:], atol=1e-3)


def test_a_layout_by_hand():
    """Two prompts, of which one has two completions: it stands once, and both go on from its positions."""
    layout = lay_out(Batch([[5, 6, 7, 8], [9], [5, 6, 7, 8]], [[1, 2], [3, 4], [2]]), CPU)
    #                     prompts          completions of two tokens, then of one
    assert layout.ids[0, :10].tolist() == [5, 6, 7, 8, 9, 1, 2, 3, 4, 2]
    assert layout.positions[0, :10].tolist() == [0, 1, 2, 3, 0, 4, 5, 1, 2, 4]
    assert (layout.spare, layout.ids.shape[1] % STEP) == (layout.ids.shape[1] - 10, 0), "rounded up; nothing reads what is spare"
    assert layout.before.tolist() == [3, 5, 4, 7, 3]
    assert layout.last.tolist() == [6, 8, 9]
    assert [[row[m].tolist() for row, m in zip(p.places, p.mask, strict=True)] for p in layout.parts] == [
        [[0, 1, 2, 3]], [[4]], [[5, 6], [7, 8]], [[9]]
    ]  # fmt: skip
    assert [part.prefix and part.prefix.owner.tolist() for part in layout.parts] == [None, None, [0, 1], [0]]


def test_prompts_are_shared_only_where_it_pays():
    long = [list(range(3, 23)), list(range(30, 50))]
    little = lay_out(Batch([[5], [5], *long], [[1] * 9] * 4), CPU)
    assert all(part.prefix is None for part in little.parts), "one token of 78 saved"
    assert any(part.prefix for part in lay_out(Batch([long[0], long[0]], [[1], [2]]), CPU).parts)


@given(st.lists(st.integers(0, 90), max_size=40))
def test_rectangles_hold_every_row_with_tokens_once_and_waste_little(lengths):
    parts = similar(lengths)
    assert sorted(row for part in parts for row in part) == [row for row, n in enumerate(lengths) if n]
    for part in parts:
        assert min(lengths[row] for row in part) >= ALIKE * max(lengths[row] for row in part)


@pytest.mark.parametrize("kind", tiny.CAUSAL)
def test_an_empty_completion_scores_its_prompt(kind):
    network = tiny.shake(tiny.network(kind), "reward")
    batch = Batch([[7, 8], [7, 8]], [[], [9]])
    both = LocalLearner(network).evaluate(batch, "reward").scores
    alone = LocalLearner(network).evaluate(batch.select([0]), "reward").scores
    torch.testing.assert_close(both[:1], alone, atol=1e-5, rtol=1e-5)
