"""Experience, seeds and the order of prompts."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from heedful.engines.base import Sampled, Sampling, decode
from heedful.engines.local import LocalLearner
from heedful.policy.rollout import Experience, collect, data_order, logprob_drift, seeds_for
from heedful.policy.shaping import RewardScale
from heedful.records import Prompt


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 9))
def test_each_pass_is_a_permutation(n, number, seed):
    assert sorted(data_order(n, number * n, n, seed)) == list(range(n))


@given(st.integers(1, 20), st.lists(st.integers(1, 15), min_size=1, max_size=8), st.integers(0, 9))
def test_the_order_does_not_depend_on_the_batch_size(n, sizes, seed):
    total, found, start = sum(sizes), [], 0
    for size in sizes:
        found += data_order(n, start, size, seed)
        start += size
    assert found == data_order(n, 0, total, seed)


def test_passes_and_seeds_differ():
    assert data_order(50, 0, 50, 1) != data_order(50, 50, 50, 1)
    assert data_order(50, 0, 50, 1) != data_order(50, 0, 50, 2)


def test_seeds_belong_to_their_place():
    assert seeds_for(0, 3, 0, n=4) == seeds_for(0, 3, 0, n=9)[:4]
    places = [seeds_for(seed, step, part, n=8) for seed in range(3) for step in range(4) for part in range(2)]
    everything = [one for seeds in places for one in seeds]
    assert len(set(everything)) == len(everything)
    assert all(0 <= one < 2**64 for one in everything)


class NumberScorer:
    def score(self, prompts, texts, batch):
        return [float(len(p.id)) for p in prompts]


def experience(estimator="k1", kind="llama"):
    learner = LocalLearner(tiny.shake(tiny.network(kind)))
    records = [Prompt("x" * i, f"w{i}") for i in range(5)]
    return learner, collect(learner, tiny.tokenizer(), NumberScorer(), records, tiny.prompts(5), Sampling(6), range(5), estimator)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_rollout_holds_what_every_role_says_about_the_sampled_tokens(kind):
    learner, found = experience(kind=kind)
    drawn = learner.sampler().sample(tiny.prompts(5), Sampling(6), range(5))
    assert found.batch.completion_ids == [d.token_ids for d in drawn]
    assert found.finish_reasons == [d.finish_reason for d in drawn]
    assert found.scores.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    policy = learner.evaluate(found.batch, "policy")
    torch.testing.assert_close(found.logprobs, policy.logprobs, atol=1e-5, rtol=1e-5)  # recorded while sampling
    torch.testing.assert_close(found.values, policy.values, atol=1e-5, rtol=1e-5)
    assert torch.equal(found.ref_logprobs, learner.evaluate(found.batch, "reference").logprobs)
    assert torch.equal(found.kl, (found.logprobs - found.ref_logprobs) * found.batch.mask)
    assert found.drift < 1e-4
    assert not any("</s>" in text for text in found.texts)


class Passes(LocalLearner):
    """A learner that notes which roles looked at how many rows."""

    def evaluate(self, batch, role, **more):
        self.seen = [*getattr(self, "seen", []), (role, len(batch))]
        return super().evaluate(batch, role, **more)


def rollout(learner, estimator="k1", untrained=False, exact_kl=False):
    records, prompts, how = [Prompt("", "")] * 8, tiny.prompts(8), {"untrained": untrained, "exact_kl": exact_kl}
    return collect(learner, tiny.tokenizer(), NumberScorer(), records, prompts, Sampling(6), range(8), estimator, **how)


def test_each_model_looks_at_a_rollout_once():
    """Beside a few rows of the policy, to compare with what was recorded; the exact KL gives the reference's logprobs, too."""
    passes = {}
    for estimator, untrained in (("k1", False), ("exact", False), ("k1", True), ("exact", True)):
        learner = Passes(tiny.network("llama"))
        found = rollout(learner, estimator, untrained)
        passes[estimator, untrained] = learner.seen
        assert torch.equal(found.ref_logprobs, LocalLearner.evaluate(learner, found.batch, "reference").logprobs)
    assert passes["k1", False] == [("reference", 8), ("policy", 4)]
    assert passes["k1", True] == [("reference", 8)]
    assert passes["exact", False] == passes["exact", True] == [("policy", 8)]


def test_before_the_first_update_kl_is_exactly_0_and_every_row_was_compared():
    learner = LocalLearner(tiny.network("llama"))
    found = rollout(learner, untrained=True)
    assert torch.equal(found.logprobs, found.ref_logprobs)
    assert not found.kl.any()
    drawn = learner.sampler().sample(tiny.prompts(8), Sampling(6), range(8))
    assert found.drift == logprob_drift(drawn, found.ref_logprobs) > 0
    torch.testing.assert_close(found.values, learner.evaluate(found.batch, "policy").values, atol=1e-5, rtol=1e-5)


def test_a_policy_that_is_not_its_reference_is_looked_at_itself():
    learner = Passes(tiny.shake(tiny.network("llama")))
    found = rollout(learner, untrained=True)
    assert learner.seen == [("reference", 8), ("policy", 8)]
    assert torch.equal(found.logprobs, LocalLearner.evaluate(learner, found.batch, "policy").logprobs)
    assert float((found.logprobs - found.ref_logprobs).abs().max()) > 0.01
    assert found.drift < 1e-4


@pytest.mark.parametrize("estimator", ["k1", "k3", "exact"])
def test_a_rollout_survives_the_disk_bit_for_bit(estimator, tmp_path):
    found = rollout(LocalLearner(tiny.network("llama")), estimator, exact_kl=True)
    found.save(tmp_path / "rollout")
    again = Experience.load(tmp_path / "rollout")
    for name in ("scores", "logprobs", "ref_logprobs", "values", "kl"):
        assert torch.equal(getattr(again, name), getattr(found, name)), name
    assert (again.texts, again.finish_reasons, again.drift) == (found.texts, found.finish_reasons, found.drift)
    assert (again.batch.prompt_ids, again.batch.completion_ids) == (found.batch.prompt_ids, found.batch.completion_ids)
    assert torch.equal(again.batch.columns["ref_states"], found.batch.columns["ref_states"])


def test_drift_is_the_largest_gap_on_true_tokens():
    drawn = [Sampled([1, 2], [-1.0, -2.0], "length", 0), Sampled([3], [-0.5], "stop", 1)]
    assert logprob_drift(drawn, torch.tensor([[-1.25, -2.0], [-0.5, 99.0]])) == 0.25


def test_text_is_derived_without_special_tokens():
    assert decode(tiny.tokenizer(), [[7, 8, tiny.END], [tiny.PAD, 9]]) == ["w1 w2", "w3"]


def test_scores_are_shifted_scaled_and_clipped_and_cut_off_completions_get_the_penalty():
    scores, reasons = torch.tensor([1.0, 5.0, -40.0, 3.0]), ["stop", "length", "stop", "stop"]
    scale = RewardScale(mean=1.0, sd=2.0, clip=5.0)
    assert scale(scores, reasons).tolist() == [0.0, 2.0, -5.0, 1.0]
    assert RewardScale(1.0, 2.0, 5.0, truncated_score=-1.0)(scores, reasons).tolist() == [0.0, -1.0, -5.0, 1.0]
    assert RewardScale(1.0, 2.0, 5.0, truncated_score=0.0)(scores, reasons)[1] == 0.0, "0 is a penalty too"
    assert RewardScale()(scores, reasons).tolist() == scores.tolist()


def test_the_scale_is_that_of_the_given_scores_or_none():
    scores = torch.tensor([1.0, 3.0, 8.0])
    fitted = RewardScale.fit(scores, normalise=True, clip=None, truncated_score=None)
    scaled = fitted(scores, ["stop"] * 3)
    assert float(scaled.mean()) == pytest.approx(0, abs=1e-6)
    assert float(scaled.std(unbiased=False)) == pytest.approx(1, rel=1e-5)
    assert RewardScale.fit(scores, normalise=False, clip=2.0, truncated_score=-1.0) == RewardScale(0.0, 1.0, 2.0, -1.0)
    equal = RewardScale.fit(torch.ones(3), normalise=True, clip=None, truncated_score=None)
    assert equal(torch.ones(3), ["stop"] * 3).tolist() == [0.0] * 3
