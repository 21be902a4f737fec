"""One PPO step: the loss by hand, the number of updates, and what is measured."""

from __future__ import annotations

import math

import pytest
import torch

import tiny
from heedful.engines.base import Batch, Outputs, Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.policy.kl_control import AdaptiveKL, FixedKL
from heedful.policy.ppo import PPOLoss, ppo_step
from heedful.policy.rollout import collect
from heedful.policy.shaping import RewardScale
from heedful.policy.updates import mean_metrics
from heedful.records import Prompt
from heedful.settings import PpoSettings


class LengthScorer:
    """The number of tokens of a completion."""

    def score(self, prompts, texts, batch):
        return [float(n) for n in batch.lengths]


def experience_of(learner, n=6, estimator="k1"):
    ids = tiny.prompts(n)
    records = [Prompt(str(i), f"prompt {i}") for i in range(n)]
    return collect(learner, tiny.tokenizer(), LengthScorer(), records, ids, Sampling(6), range(n), estimator)


def test_the_loss_by_hand():
    """Three tokens: inside the region, clipped with a positive advantage, and with a negative one."""
    batch = Batch([[7]], [[8, 9, 10]]).with_columns(
        logprobs=torch.tensor([[-1.0, -1.0, -1.0]]),
        advantages=torch.tensor([[2.0, 1.0, -1.0]]),
        values=torch.tensor([[0.0, 0.0, 1.0]]),
        returns=torch.tensor([[0.1, 1.0, 1.0]]),
    )
    outputs = Outputs(
        logprobs=torch.tensor([[-0.9, -0.5, -0.5]]),
        values=torch.tensor([[0.1, 0.5, 0.4]]),
        entropy=torch.tensor([[1.0, 2.0, 3.0]]),
    )
    loss, metrics = PPOLoss(clip=0.2, value_clip=0.2, value_coef=0.5, entropy_coef=0.1)(outputs, batch)
    policy = [-2 * math.exp(0.1), -1.2, math.exp(0.5)]
    value = [0.0, 0.5 * 0.8**2, 0.5 * 0.6**2]  # V - R; V clipped to 0.2; V itself, for clipped to 0.8 it errs less
    expected = [p + 0.5 * v - 0.1 * h for p, v, h in zip(policy, value, [1.0, 2.0, 3.0], strict=True)]
    torch.testing.assert_close(loss, torch.tensor([expected]))
    torch.testing.assert_close(metrics["policy/ratio"], torch.tensor([[math.exp(0.1), math.exp(0.5), math.exp(0.5)]]))
    assert metrics["policy/clip_fraction"].tolist() == [[0.0, 1.0, 0.0]]
    torch.testing.assert_close(metrics["policy/approx_kl"], torch.tensor([[0.005, 0.125, 0.125]]))


@pytest.mark.parametrize(("size", "minibatch", "epochs", "updates"), [(6, 6, 1, 1), (6, 4, 1, 2), (7, 3, 2, 6), (5, 2, 3, 9)])
def test_epochs_times_minibatches_updates(size, minibatch, epochs, updates):
    learner = LocalLearner(tiny.network("llama"), optimiser=Optimiser(1e-3))
    seen = []
    forward_backward = learner.forward_backward
    learner.forward_backward = lambda batch, loss: (seen.append(batch), forward_backward(batch, loss))[1]
    experience = experience_of(learner, size)
    ppo_step(learner, experience, RewardScale(), FixedKL(0.1), PpoSettings(batch_size=size, minibatch_size=minibatch, epochs=epochs), 0)
    assert learner.steps == len(seen) == updates
    per_epoch = updates // epochs
    for epoch in range(epochs):
        rows = [tuple(ids) for batch in seen[epoch * per_epoch : (epoch + 1) * per_epoch] for ids in batch.completion_ids]
        assert sorted(rows) == sorted(map(tuple, experience.batch.completion_ids)), "each completion once per pass"


def test_the_columns_follow_their_rows_and_advantages_are_standardised_over_the_rollout():
    learner = LocalLearner(tiny.network("llama"), optimiser=Optimiser(0.0))
    experience, seen = experience_of(learner, 6), []
    forward_backward = learner.forward_backward
    learner.forward_backward = lambda batch, loss: (seen.append(batch), forward_backward(batch, loss))[1]
    metrics = ppo_step(learner, experience, RewardScale(), FixedKL(0.1), PpoSettings(batch_size=6, minibatch_size=2, epochs=2), 3)
    tokens = []
    for batch in seen[:3]:
        for row, ids in enumerate(batch.completion_ids):
            original = list(experience.batch.completion_ids).index(ids)
            n = len(ids)
            for column, recorded in (("logprobs", experience.logprobs), ("values", experience.values)):
                assert torch.equal(batch.columns[column][row, :n], recorded[original, :n])
            tokens.append(batch.columns["advantages"][row, :n])
    whole = torch.cat(tokens)
    assert float(whole.mean()) == pytest.approx(0, abs=1e-6)
    assert float(whole.var()) == pytest.approx(1, abs=1e-4)
    assert metrics["policy/ratio"] == pytest.approx(1, abs=1e-5), "learning rate 0: every ratio stays 1"
    assert metrics["policy/approx_kl"] < 1e-9


@pytest.mark.parametrize("estimator", ["k1", "k3", "exact"])
def test_scores_and_their_price_in_another_currency_change_nothing(estimator):
    """Advantages are standardised, so that only the proportion of beta to the scores counts, in the reward and in the loss."""
    learnt = []
    for currency in (1.0, 8.0):
        learner = LocalLearner(tiny.shake(tiny.network("llama")), optimiser=Optimiser(0.01))
        experience = experience_of(learner, 6, estimator)
        experience.values.zero_()
        settings = PpoSettings(batch_size=6, minibatch_size=6, epochs=1, value_coef=0, kl_estimator=estimator)
        ppo_step(learner, experience, RewardScale(sd=1 / currency), FixedKL(0.3 * currency), settings, 0)
        learnt.append({name: x.clone() for name, x in learner.network.named_parameters()})
    for name, x in learnt[0].items():
        torch.testing.assert_close(learnt[1][name], x, atol=1e-4, rtol=0, msg=name)


def test_the_first_ratio_is_1_and_later_ones_are_not():
    learner = LocalLearner(tiny.network("llama"), optimiser=Optimiser(0.05))
    metrics = ppo_step(learner, experience_of(learner), RewardScale(), FixedKL(0.1), PpoSettings(batch_size=6, minibatch_size=3), 0)
    assert metrics["policy/first_ratio"] == pytest.approx(1, abs=1e-5)
    assert abs(metrics["policy/ratio"] - 1) > 1e-4
    assert mean_metrics([{"policy/ratio": 1.0, "a": 2.0}, {"policy/ratio": 3.0, "a": 4.0}]) == {
        "policy/ratio": 2.0, "a": 3.0, "policy/first_ratio": 1.0,
    }  # fmt: skip


@pytest.mark.parametrize("estimator", ["k1", "k3", "exact"])
def test_what_is_recorded_are_the_rollouts_own_numbers(estimator):
    learner = LocalLearner(tiny.shake(tiny.network("llama")), optimiser=Optimiser(0.01))
    experience = experience_of(learner, 8, estimator)
    metrics = ppo_step(learner, experience, RewardScale(mean=1.0, sd=2.0), FixedKL(0.3), PpoSettings(batch_size=8, minibatch_size=8), 0)
    lengths = experience.batch.lengths
    log_ratio = experience.logprobs - experience.ref_logprobs
    assert metrics["objective/score"] == pytest.approx(sum(lengths) / 8)
    assert metrics["objective/reward"] == pytest.approx((sum(lengths) / 8 - 1) / 2)
    assert metrics["objective/kl"] == pytest.approx(float(log_ratio.sum(1).mean()), rel=1e-5)
    assert metrics["objective/kl_coef"] == 0.3
    assert metrics["completions/length"] == pytest.approx(sum(lengths) / 8)
    ended = [ids[-1] == tiny.END for ids in experience.batch.completion_ids]
    assert metrics["completions/ended"] == pytest.approx(sum(ended) / 8)
    assert metrics["sampling/drift"] < 1e-4
    if estimator == "k3":
        torch.testing.assert_close(experience.kl, torch.expm1(-log_ratio) + log_ratio, atol=1e-5, rtol=1e-4)
    if estimator == "exact":
        torch.testing.assert_close(experience.kl, learner_kl(experience), atol=1e-4, rtol=1e-4)


def learner_kl(experience):
    network = tiny.shake(tiny.network("llama"))
    kl = LocalLearner(network).evaluate(experience.batch, "policy", exact_kl=True).kl
    assert kl is not None
    return kl


def test_the_coefficient_recorded_is_the_one_that_was_used():
    learner = LocalLearner(tiny.shake(tiny.network("llama")), optimiser=Optimiser(0.01))
    control = AdaptiveKL(0.2, target=0.01, horizon=100)
    settings = PpoSettings(batch_size=8, minibatch_size=8)
    experience = experience_of(learner, 8)
    metrics = ppo_step(learner, experience, RewardScale(), control, settings, 0)
    assert metrics["objective/kl_coef"] == 0.2
    assert control.coef == pytest.approx(0.2 * (1 + 0.2 * 8 / 100)), "the KL of all 8 completions was above the target"


def test_a_zero_score_is_a_score_and_the_reward_stands_at_the_last_true_token():
    """gamma = lam = 1 and values 0: the return of every token is what comes after it, so the score reaches all of them."""
    learner = LocalLearner(tiny.network("llama"), optimiser=Optimiser(0.0))
    with torch.no_grad():
        for parameter in learner.network.value_head.parameters():
            parameter.zero_()
    experience, seen = experience_of(learner, 6), []
    forward_backward = learner.forward_backward
    learner.forward_backward = lambda batch, loss: (seen.append(batch), forward_backward(batch, loss))[1]
    settings = PpoSettings(batch_size=6, minibatch_size=6, epochs=1, gamma=1.0, lam=1.0)
    ppo_step(learner, experience, RewardScale(mean=3.0), FixedKL(0.1), settings, 0)
    for row, ids in enumerate(seen[0].completion_ids):
        expected = torch.zeros(seen[0].width)
        expected[: len(ids)] = len(ids) - 3.0
        torch.testing.assert_close(seen[0].columns["returns"][row], expected, atol=1e-5, rtol=1e-5)
