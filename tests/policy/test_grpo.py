"""One GRPO step: the loss by hand, groups that stay together, rows that are left out, and every architecture."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import tiny
from heedful.engines.base import Batch, Outputs, Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.policy import grpo
from heedful.policy.grpo import GRPOLoss, grpo_step
from heedful.policy.kl_control import AdaptiveKL, FixedKL
from heedful.policy.rollout import collect
from heedful.policy.shaping import RewardScale
from heedful.records import Prompt
from heedful.settings import GrpoSettings

K = 3


class LengthScorer:
    """The number of tokens of a completion."""

    def score(self, prompts, texts, batch):
        return [float(n) for n in batch.lengths]


def learner_of(kind="llama", rate=0.01, *, lora=True, by=0.0, budget=8192):
    network = tiny.network(kind, lora=lora, roles=("policy", "reference"))
    return LocalLearner(tiny.shake(network, by=by) if by else network, "policy", Optimiser(rate), micro_batch_tokens=budget)


def experience_of(learner, prompts=4, scores=None):
    """``K`` completions of each prompt; ``scores`` instead of lengths where given."""
    ids = [ids for ids in tiny.prompts(prompts) for _ in range(K)]
    records = [Prompt(str(i), f"prompt {i}") for i in range(prompts) for _ in range(K)]
    found = collect(learner, tiny.tokenizer(), LengthScorer(), records, ids, Sampling(6), range(len(ids)))
    return found if scores is None else replace(found, scores=torch.tensor(scores))


def settings_of(prompts=4, minibatch=2, **more):
    return GrpoSettings(batch_size=prompts * K, minibatch_size=minibatch * K, completions_per_prompt=K, **more)


def test_the_loss_by_hand():
    """Two completions: one better than its group by 2, one worse by 1; clip 0.2 below and 0.3 above; half the tokens are elsewhere."""
    batch = Batch([[7], [7]], [[8, 9, 10], [8]]).with_columns(
        logprobs=torch.tensor([[-1.0, -1.0, -1.0], [-1.0, 0, 0]]),
        ref_logprobs=torch.tensor([[-1.0, -1.0, -2.0], [-1.0, 0, 0]]),
        advantages=torch.tensor([2.0, -1.0]),
    )
    outputs = Outputs(logprobs=torch.tensor([[-0.9, -0.5, -1.5], [-0.5, 0, 0]]), entropy=torch.tensor([[1.0, 2.0, 3.0], [4.0, 0, 0]]))
    loss, metrics = GRPOLoss(0.2, 0.3, kl_coef=0.5, kl_estimator="k3", entropy_coef=0.1, share=0.5)(outputs, batch)
    policy = [-2 * math.exp(0.1), -2 * 1.3, -2 * math.exp(-0.5), math.exp(0.5)]  # inside; clipped above; pushed back; pushed down
    log_ratio_to_reference = [0.1, 0.5, 0.5, 0.5]
    ratios = [math.exp(0.1), math.exp(0.5), math.exp(-0.5), math.exp(0.5)]
    kl = [rho * (math.exp(-d) - 1 + d) for rho, d in zip(ratios, log_ratio_to_reference, strict=True)]
    expected = [0.5 * (p + 0.5 * k - 0.1 * h) for p, k, h in zip(policy, kl, [1, 2, 3, 4], strict=True)]
    on = batch.mask.bool()
    torch.testing.assert_close(loss[on], torch.tensor(expected))
    torch.testing.assert_close(metrics["loss/policy"][on], 0.5 * torch.tensor(policy))
    torch.testing.assert_close(metrics["loss/kl"][on], torch.tensor(kl))
    torch.testing.assert_close(metrics["policy/ratio"][on], torch.tensor(ratios))
    assert metrics["policy/clip_fraction"][on].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("moved", [0.0, 0.7], ids=["on policy", "off policy"])
def test_the_sampled_kl_has_the_gradient_of_the_exact_one(moved):
    """In expectation over what the old policy draws, also when the policy has moved since; without the ratio it is another gradient."""
    generator = torch.Generator().manual_seed(0)
    policy, step, reference = (torch.randn(9, generator=generator, dtype=torch.float64) for _ in range(3))
    old = (policy + moved * step).log_softmax(0)
    policy.requires_grad_()
    drawn = Batch([[1]] * 9, [[token] for token in range(9)]).with_columns(
        logprobs=old[:, None], ref_logprobs=reference.log_softmax(0)[:, None], advantages=torch.zeros(9)
    )
    outputs = Outputs(logprobs=policy.log_softmax(0)[:, None], entropy=torch.zeros(9, 1))
    loss, _ = GRPOLoss(0.2, kl_coef=1.0, kl_estimator="k3")(outputs, drawn)
    found = torch.autograd.grad((old.exp() @ loss).sum(), policy, retain_graph=True)[0]
    exact = (policy.softmax(0) * (policy.log_softmax(0) - reference.log_softmax(0))).sum()
    expected = torch.autograd.grad(exact, policy, retain_graph=True)[0]
    torch.testing.assert_close(found, expected)
    unweighted = old.exp() @ grpo.k3(outputs.logprobs, drawn.columns["ref_logprobs"])
    assert not torch.allclose(torch.autograd.grad(unweighted.sum(), policy)[0], expected, rtol=0.1)


def recording(learner):
    """The batches that a learner is given from now on."""
    seen = []
    forward_backward = learner.forward_backward
    learner.forward_backward = lambda batch, loss: (seen.append(batch), forward_backward(batch, loss))[1]
    return seen


@pytest.mark.parametrize(("prompts", "minibatch", "epochs", "updates"), [(4, 4, 1, 1), (4, 2, 2, 4), (5, 2, 1, 3)])
def test_the_completions_of_a_prompt_share_a_minibatch_and_each_comes_once_a_pass(prompts, minibatch, epochs, updates):
    learner = learner_of()
    experience, seen = experience_of(learner, prompts), recording(learner)
    grpo_step(learner, experience, RewardScale(), FixedKL(0.1), settings_of(prompts, minibatch, epochs=epochs), seed=3)
    assert learner.steps == len(seen) == updates
    first_pass = seen[: updates // epochs]
    rows = [(tuple(p), tuple(c)) for batch in first_pass for p, c in zip(batch.prompt_ids, batch.completion_ids, strict=True)]
    whole = zip(experience.batch.prompt_ids, experience.batch.completion_ids, strict=True)
    assert sorted(rows) == sorted((tuple(p), tuple(c)) for p, c in whole)
    for batch in seen:
        assert all(len({tuple(p) for p in batch.prompt_ids[at : at + K]}) == 1 for at in range(0, len(batch), K))
    if epochs > 1:
        assert [b.completion_ids for b in seen[:2]] != [b.completion_ids for b in seen[2:]], "another order in the second pass"


def test_advantages_are_those_of_the_group_and_follow_their_rows():
    """Scores 1 2 3 in each group, whatever stands in other groups and however large they are."""
    learner = learner_of()
    experience = experience_of(learner, 4, [1.0, 2, 3, 10, 20, 30, 5, 5, 5, -3, -2, -1])
    seen = recording(learner)
    metrics = grpo_step(learner, experience, RewardScale(), FixedKL(0.1), settings_of(epochs=1), 0)
    found = {}
    for batch in seen:
        for row, ids in enumerate(batch.completion_ids):
            found[tuple(batch.prompt_ids[row]), tuple(ids)] = float(batch.columns["advantages"][row])
    expected = [-1, 0, 1, -1, 0, 1, 0, 0, 0, -1, 0, 1]
    whole = list(zip(map(tuple, experience.batch.prompt_ids), map(tuple, experience.batch.completion_ids), strict=True))
    assert len(set(whole)) == len(whole), "no two rows are alike, so that each can be recognised"
    assert [found[row] for row in whole] == pytest.approx(expected)
    assert metrics["groups/equal"] == 0.25
    assert metrics["groups/spread"] == pytest.approx((1 + 10 + 0 + 1) / 4)


SOME_EQUAL = [1.0, 2, 3, 5, 5, 5, 1, 1, 4, 7, 7, 7]


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_rows_that_are_left_out_change_no_gradient(kind, lora):
    """The denominator stays that of the whole minibatch; and the rows really were not computed."""
    one, other = learner_of(kind, lora=lora), learner_of(kind, lora=lora)
    experience = experience_of(one, 4, SOME_EQUAL)
    batch = to_learn_from(experience)
    learnt = grpo.telling_rows(batch)
    assert len(learnt) == 5  # of 1 2 3 the middle one is as good as its group
    share = sum(learnt.lengths) / sum(batch.lengths)
    few = one.forward_backward(learnt, GRPOLoss(0.2, share=share))
    all_of_them = other.forward_backward(batch, GRPOLoss(0.2))
    for name in ("loss", "loss/policy"):
        assert few[name] == pytest.approx(all_of_them[name], rel=1e-5)
    largest = max(float(p.grad.abs().max()) for p in other.parameters.values() if p.grad is not None)
    assert largest > 1e-3
    for name, parameter in other.parameters.items():
        if parameter.grad is not None:
            torch.testing.assert_close(one.parameters[name].grad, parameter.grad, atol=3e-6 * largest, rtol=1e-4, msg=name)


def to_learn_from(experience):
    """The rows of a rollout from which the policy has moved on, every token another way."""
    noise = 0.1 * torch.randn(experience.logprobs.shape, generator=torch.Generator().manual_seed(1))
    advantages = grpo.group_advantages(experience.scores.view(-1, K)).flatten()
    return experience.batch.with_columns(logprobs=experience.logprobs + noise, ref_logprobs=experience.ref_logprobs, advantages=advantages)


def test_only_what_needs_no_other_term_is_left_out(monkeypatch):
    def rows_computed(scores, coef, **more):
        learner = learner_of()
        experience, seen = experience_of(learner, 4, scores), recording(learner)
        grpo_step(learner, experience, RewardScale(), FixedKL(coef), settings_of(minibatch=4, epochs=1, **more), 0)
        assert learner.steps == 1
        return sum(len(batch) for batch in seen)

    assert rows_computed(SOME_EQUAL, 0.0) == 5
    assert rows_computed(SOME_EQUAL, 0.1) == 12, "the KL of every completion counts"
    assert rows_computed(SOME_EQUAL, 0.0, entropy_coef=0.01) == 12
    assert rows_computed([2.0] * 12, 0.0) == 1


def test_a_rollout_that_teaches_nothing_moves_the_optimiser_as_a_gradient_of_0_does(monkeypatch):
    """Momentum goes on and the step is counted, whether its rows were left out or computed."""

    def weights(skips):
        learner = learner_of()
        with monkeypatch.context() as patch:
            if not skips:
                patch.setattr(grpo, "telling_rows", lambda batch: batch)
            for scores in (SOME_EQUAL, [3.0] * 12):
                experience = experience_of(learner, 4, scores)
                grpo_step(learner, experience, RewardScale(), FixedKL(0.0), settings_of(minibatch=4, epochs=1), 0)
        assert learner.steps == 2
        return learner.parameters

    for (name, one), other in zip(weights(True).items(), weights(False).values(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_before_the_first_update_the_ratio_is_1_and_the_kl_0(kind, lora):
    for estimator in ("exact", "k3"):
        learner = learner_of(kind, rate=0.0, lora=lora)
        experience = experience_of(learner, 4, SOME_EQUAL)
        metrics = grpo_step(learner, experience, RewardScale(), FixedKL(0.1), settings_of(kl_estimator=estimator, epochs=1), 0)
        assert metrics["policy/first_ratio"] == pytest.approx(1, abs=1e-5)
        assert metrics["policy/ratio"] == pytest.approx(1, abs=1e-5)
        assert metrics["loss/kl"] == pytest.approx(0, abs=1e-6)
        assert metrics["objective/kl"] == pytest.approx(0, abs=1e-4)
        assert metrics["grad_norm"] > 1e-4


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize("estimator", ["exact", "k3"])
def test_one_large_part_or_many_small_ones_are_the_same_gradient(kind, lora, estimator):
    whole, cut = (learner_of(kind, lora=lora, by=0.03, budget=budget) for budget in (10**6, 12))
    experience = experience_of(whole, 4, SOME_EQUAL)
    batch = to_learn_from(experience)
    loss = GRPOLoss(0.2, 0.28, kl_coef=0.3, kl_estimator=estimator, entropy_coef=0.01)
    one, other = whole.forward_backward(batch, loss), cut.forward_backward(batch, loss)
    assert other == pytest.approx(one, rel=1e-5, abs=1e-6)
    assert one["loss/kl"] > 1e-4
    largest = max(float(p.grad.abs().max()) for p in whole.parameters.values() if p.grad is not None)
    for name, parameter in whole.parameters.items():
        if parameter.grad is not None:
            assert float((cut.parameters[name].grad - parameter.grad).abs().max()) < 3e-6 * largest, name


def test_what_is_recorded_are_the_rollouts_own_numbers():
    learner = learner_of(by=0.1)
    experience, control = experience_of(learner), AdaptiveKL(0.2, target=0.01, horizon=100)
    metrics = grpo_step(learner, experience, RewardScale(mean=1.0, sd=2.0), control, settings_of(), 0)
    lengths = experience.batch.lengths
    assert metrics["objective/score"] == pytest.approx(sum(lengths) / 12)
    assert metrics["objective/reward"] == pytest.approx((sum(lengths) / 12 - 1) / 2)
    assert metrics["objective/kl"] == pytest.approx(float((experience.logprobs - experience.ref_logprobs).sum(1).mean()), rel=1e-5)
    assert metrics["objective/kl_coef"] == 0.2, "the coefficient that was used"
    assert control.coef == pytest.approx(0.2 * (1 + 0.2 * 12 / 100))
    assert metrics["completions/length"] == pytest.approx(sum(lengths) / 12)


def test_scores_are_clipped_and_cut_off_completions_pay_before_groups_are_compared():
    """Raw scores 0, 10 and 2 with a clip at 1 and a penalty of -5 for the last: 0, 1 and -5."""
    learner = learner_of()
    experience = replace(experience_of(learner, 1, [0.0, 10, 2]), finish_reasons=["stop", "stop", "length"])
    seen = recording(learner)
    scale = RewardScale(clip=1.0, truncated_score=-5.0)
    grpo_step(learner, experience, scale, FixedKL(0.1), settings_of(1, 1, scale="none", epochs=1), 0)
    assert seen[0].columns["advantages"].tolist() == pytest.approx([4 / 3, 7 / 3, -11 / 3])
