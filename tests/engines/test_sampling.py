"""Drawing tokens: the right distribution, no dropped token ever, end tokens, prompts read once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import chisquare

import tiny
from heedful.engines import sampling as engine
from heedful.engines.base import Batch, Sampling, distinct_rows
from heedful.engines.local import LocalLearner
from heedful.engines.sampling import LocalSampler, draw, invert, row_uniforms, truncate
from heedful.engines.writing import writer_of
from heedful.errors import DeviceProblem

ALMOST_ONE = 1 - 2.0**-53
LOGITS = torch.tensor([0.3, -1.0, 2.0, 1.0, -0.5, 0.0])


def drawn(sampling, n=20000, logits=LOGITS):
    uniforms = torch.from_numpy(row_uniforms(5, n))
    return draw(logits.expand(n, -1), sampling, uniforms)


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(), range(6)),
        (Sampling(temperature=0.5), range(6)),
        (Sampling(top_k=3), [2, 3, 0]),
        (Sampling(top_p=0.7), [2, 3]),
        (Sampling(top_k=3, top_p=0.5, temperature=2.0), [2, 3]),
    ],
    ids=str,
)
def test_frequencies_are_those_of_the_softmax(sampling, kept):
    """Chi-square at 20,000 draws, against numpy; the recorded logprob is that of the distribution drawn from."""
    weights = np.exp(LOGITS.double().numpy() / sampling.temperature)
    expected = np.zeros(6)
    expected[list(kept)] = weights[list(kept)] / weights[list(kept)].sum()
    tokens, logprobs = drawn(sampling)
    counts = np.bincount(tokens.numpy(), minlength=6)
    assert counts[expected == 0].sum() == 0
    assert chisquare(counts[expected > 0], expected[expected > 0] * counts.sum()).pvalue > 1e-3
    np.testing.assert_allclose(logprobs.exp().numpy(), expected[tokens.numpy()], rtol=1e-5)


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=12),
    st.integers(0, 12),
    st.floats(0.01, 1.0),
    st.sampled_from([0.0, 0.25, 0.999999, ALMOST_ONE]),
)
@example([-1e-30, 0.0], 1, 1.0, 0.0)  # whose logprobs are equal in float32
def test_a_dropped_token_is_never_drawn(logits, top_k, top_p, uniform):
    tokens, logprobs = draw(torch.tensor([logits]), Sampling(top_k=top_k, top_p=top_p), torch.tensor([uniform], dtype=torch.float64))
    ranked = sorted(logits, reverse=True)
    assert torch.isfinite(logprobs).all()
    if top_k:
        assert logits[int(tokens)] >= ranked[min(top_k, len(ranked)) - 1]


@given(st.lists(st.floats(-5, 5, width=32), min_size=2, max_size=12, unique=True), st.integers(0, 12), st.floats(0.01, 1.0))
def test_what_is_kept_is_the_smallest_set_of_that_mass_and_sums_to_one(logits, top_k, top_p):
    whole = torch.tensor([logits], dtype=torch.float64).log_softmax(-1)
    kept = truncate(whole, top_k, top_p)[0].exp()
    assert float(kept.sum()) == pytest.approx(1.0)
    size = int((kept > 0).sum())
    ranked = whole[0].exp().sort(descending=True).values
    fewest = next((n for n in range(1, len(logits) + 1) if float(ranked[:n].sum()) >= top_p - 1e-12), len(logits))
    assert size in {min(fewest + slack, top_k or len(logits), len(logits)) for slack in (0, 1)}
    assert bool((whole[0].exp()[kept > 0] >= ranked[size - 1]).all()), "the likeliest are kept"


def test_a_token_of_probability_0_at_either_end_is_never_drawn():
    logits = torch.tensor([[-torch.inf, 0.0, 0.0, -torch.inf]] * 2)
    tokens, _ = draw(logits, Sampling(), torch.tensor([0.0, ALMOST_ONE], dtype=torch.float64))
    assert tokens.tolist() == [1, 2]


def test_greedy_takes_the_likeliest_whatever_the_uniforms():
    tokens, logprobs = drawn(Sampling(greedy=True), n=50)
    assert set(tokens.tolist()) == {2}
    torch.testing.assert_close(logprobs[0], LOGITS.log_softmax(-1)[2])


def test_a_rows_randomness_is_its_own_and_longer_streams_begin_alike():
    assert np.array_equal(row_uniforms(9, 4), row_uniforms(9, 40)[:4])
    assert not np.array_equal(row_uniforms(9, 4), row_uniforms(10, 4))
    assert abs(np.corrcoef([row_uniforms(seed, 500) for seed in range(6)]) - np.eye(6)).max() < 0.2


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_number_of_new_tokens_is_a_limit_and_the_first_tokens_stay(kind):
    network = tiny.network(kind)
    network.end_ids = [9999]
    long, short = (LocalSampler(network).sample(tiny.prompts(), Sampling(n), range(5)) for n in (12, 4))
    assert [len(d.token_ids) for d in long] == [12] * 5
    assert [d.token_ids[:4] for d in long] == [d.token_ids for d in short]
    assert {d.finish_reason for d in short} == {"length"}


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_an_end_token_as_the_very_last_one_is_a_stop(kind):
    network = tiny.network(kind)
    network.end_ids = [9999]
    [free] = LocalSampler(network).sample(tiny.prompts(1), Sampling(5), [4])
    network.end_ids = [9998, free.token_ids[-1]]
    at = free.token_ids.index(free.token_ids[-1]) + 1
    [ended] = LocalSampler(network).sample(tiny.prompts(1), Sampling(at), [4])
    assert (ended.token_ids, ended.finish_reason) == (free.token_ids[:at], "stop")
    assert len(ended.logprobs) == at


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_roles_sample_from_their_own_weights(kind):
    """The reference's sampler is the starting policy's, whatever the policy has become."""
    network, how = tiny.network(kind), Sampling(10)

    def written(*role):
        return [(d.token_ids, d.logprobs) for d in LocalSampler(network, *role).sample(tiny.prompts(), how, range(5))]

    start = written()
    tiny.shake(network)
    assert written("reference") == start
    assert written() != start


def test_as_many_seeds_as_prompts():
    with pytest.raises(ValueError, match="2 prompts but 1 seeds"):
        LocalSampler(tiny.network("llama")).sample([[7], [8]], Sampling(3), [0])


def test_distinct_prompts_are_read_once():
    assert distinct_rows([[1, 2], [3], [1, 2], [3]]) == ([[1, 2], [3]], [0, 1, 0, 1])


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_waiting_rows_take_the_places_of_those_that_ended(kind):
    """Room for three rows at a time, and end tokens that let rows end at different steps."""
    network = tiny.network(kind)
    prompts = [*tiny.prompts(5), *tiny.prompts(5), *tiny.prompts(2, seed=9)]
    network.end_ids = [5, 6, 7]
    whole = LocalSampler(network).sample(prompts, Sampling(9), range(12))
    few = LocalSampler(network, batch_tokens=3 * (max(map(len, prompts)) + 9)).sample(prompts, Sampling(9), range(12))
    assert len({len(d.token_ids) for d in whole}) >= 3
    for one, other in zip(few, whole, strict=True):
        assert (one.token_ids, one.finish_reason) == (other.token_ids, other.finish_reason)
        assert one.logprobs == pytest.approx(other.logprobs, abs=1e-5)
        assert one.values == pytest.approx(other.values, abs=1e-5)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_values_are_those_of_the_states_before_each_token(kind):
    network = tiny.shake(tiny.network(kind))
    drawn_ = LocalSampler(network).sample(tiny.prompts(4), Sampling(6), range(4))
    found = LocalLearner(network).evaluate(Batch(tiny.prompts(4), [d.token_ids for d in drawn_]), "policy").values
    for row, d in enumerate(drawn_):
        assert any(d.values)
        assert d.values == pytest.approx(found[row, : len(d.values)].tolist(), abs=1e-5)
    assert LocalSampler(network, "reference").sample(tiny.prompts(1), Sampling(3), [0])[0].values is None


@given(st.lists(st.floats(0, 5, width=32), min_size=1, max_size=200).filter(any), st.floats(0, ALMOST_ONE))
def test_inverting_is_what_numpy_finds(weights, uniform):
    """The first index at which the cumulative sum passes the target, up to the rounding of a block's sum, and never one of weight 0."""
    found = int(invert(torch.tensor([weights]), torch.tensor([uniform], dtype=torch.float64)))
    sums = np.cumsum(np.array(weights, dtype=np.float32).astype(np.float64))
    assert weights[found] > 0
    assert sums[found] >= uniform * sums[-1] * (1 - 1e-6)
    assert (sums[found - 1] if found else 0.0) <= uniform * sums[-1] * (1 + 1e-6)


def cramped(monkeypatch, most):
    """A machine where more than so many rows at once are too many; how many were tried."""
    tried = []

    def writer(network, role, places, room):
        tried.append(places)
        if places > most:
            raise torch.OutOfMemoryError("no room")
        return writer_of(network, role, places, room)

    monkeypatch.setattr(engine, "writer_of", writer)
    return tried


def test_when_memory_runs_out_fewer_rows_write_at_once_and_write_the_same(monkeypatch):
    prompts, said = tiny.prompts(12), []
    one = LocalLearner(tiny.network("llama"), say=said.append)
    expected = LocalSampler(one.network).sample(prompts, Sampling(9), range(12))
    tried = cramped(monkeypatch, most=3)
    for _ in range(2):
        found = one.sampler().sample(prompts, Sampling(9), range(12))
        assert [(d.token_ids, d.finish_reason, d.seed) for d in found] == [(d.token_ids, d.finish_reason, d.seed) for d in expected]
    assert tried == [12, 6, 3, 3], "the second time begins where the first ended"
    room = max(map(len, prompts)) + 9
    assert said == [f"Memory ran out: going on with {rows * room} tokens at once." for rows in (6, 3)]


def test_too_little_memory_for_one_row_is_a_sentence(monkeypatch):
    cramped(monkeypatch, most=0)
    with pytest.raises(DeviceProblem, match="memory ran out with as few as 12 tokens at once"):
        LocalSampler(tiny.network("llama")).sample([[7, 8, 9], [7]], Sampling(9), [0, 1])
