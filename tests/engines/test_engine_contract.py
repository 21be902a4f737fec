"""What every architecture must keep, with adapters and with full fine-tuning."""

from __future__ import annotations

import pytest
import torch

import tiny
from heedful.engines.base import Batch, Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.policy.sft import SFTLoss

CASES = [(kind, lora) for kind in tiny.KINDS for lora in (True, False)]


@pytest.fixture(params=CASES, ids=[f"{kind}-{'lora' if lora else 'full'}" for kind, lora in CASES])
def case(request):
    return request.param


@pytest.fixture
def network(case):
    kind, lora = case
    fresh = tiny.network(kind, lora=lora)
    return tiny.shake(fresh, "policy", "reward", "monitor") if lora else tiny.shake(fresh, by=0.02)


def learner(network, role="policy", budget=8192, rate=0.05):
    return LocalLearner(network, role, Optimiser(rate), micro_batch_tokens=budget)


def everything(network, batch, budget=8192):
    """Logprobs, values, entropy, exact KL, reference logprobs and scores of a batch, by name."""
    one = learner(network, budget=budget)
    policy = one.evaluate(batch, "policy", entropy=True, exact_kl=True)
    found = {name: getattr(policy, name) for name in ("logprobs", "values", "entropy", "kl")}
    return found | {"reference": one.evaluate(batch, "reference").logprobs, "scores": one.evaluate(batch, "reward").scores}


def test_padding_batching_and_order_change_nothing(network):
    batch = tiny.batch(7)
    whole = everything(network, batch)
    order = [4, 0, 6, 2, 5, 1, 3]
    turned = everything(network, batch.select(order), budget=20)
    alone = [everything(network, batch.select([row])) for row in range(len(batch))]
    for name, expected in whole.items():
        torch.testing.assert_close(turned[name], expected[order][..., : turned[name].shape[-1]], atol=1e-5, rtol=1e-5, msg=name)
        for row in range(len(batch)):
            [one] = alone[row][name]
            torch.testing.assert_close(one, expected[row][: len(one)] if one.dim() else expected[row], atol=1e-5, rtol=1e-5)


def test_what_stands_off_the_mask_is_zero(network):
    batch = tiny.batch(7)
    for name, found in everything(network, batch).items():
        if found.dim() == 2:
            assert found.shape == (7, batch.width)
            assert not found[~batch.mask.bool()].any(), name
            assert found[batch.mask.bool()].abs().sum() > 0, name


def test_logprobs_are_those_of_the_plain_model_on_one_unpadded_row(network):
    batch = tiny.batch(4)
    found = everything(network, batch)
    for role, name in (("policy", "logprobs"), ("reference", "reference")):
        model = tiny.oracle(network, role)
        for row in range(4):
            expected = row_logits(network, model, batch, row).log_softmax(-1)
            taken = expected[torch.arange(len(expected)), torch.tensor(batch.completion_ids[row])]
            torch.testing.assert_close(found[name][row, : len(taken)], taken, atol=1e-5, rtol=1e-5)


def test_entropy_and_exact_kl_are_the_sums_over_the_vocabulary(network):
    batch = tiny.batch(4)
    found, policy, reference = everything(network, batch), tiny.oracle(network), tiny.oracle(network, "reference")
    for row in range(4):
        p = row_logits(network, policy, batch, row).double().log_softmax(-1)
        q = row_logits(network, reference, batch, row).double().log_softmax(-1)
        n = len(p)
        torch.testing.assert_close(found["entropy"][row, :n].double(), -(p.exp() * p).sum(-1), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found["kl"][row, :n].double(), (p.exp() * (p - q)).sum(-1), atol=1e-5, rtol=1e-5)


def test_values_and_scores_are_read_at_the_right_states(network):
    """V before each token, the score after the last true one: heads applied by hand to the plain model's states."""
    batch = tiny.batch(5)
    found = everything(network, batch)
    policy = tiny.oracle(network)
    reward = tiny.oracle(network, "reward") if network.lora is not None else policy
    for row in range(5):
        n = len(batch.completion_ids[row])
        values = network.value_head(row_states(network, policy, batch, row)).squeeze(-1)
        torch.testing.assert_close(found["values"][row, :n], values[:n], atol=1e-5, rtol=1e-5)
        scores = network.score_heads["reward"](row_states(network, reward, batch, row)).squeeze(-1)
        score = scores[1 : n + 1].mean() if network.encoder_decoder else scores[n]  # the head is linear: a mean of scores
        torch.testing.assert_close(found["scores"][row], score, atol=1e-5, rtol=1e-5)


def test_a_temperature_scales_policy_and_reference_alike(network):
    batch = tiny.batch(3)
    warm = LocalLearner(network, temperature=0.5)
    for role in ("policy", "reference"):
        found, model = warm.evaluate(batch, role).logprobs, tiny.oracle(network, role)
        for row in range(3):
            expected = (row_logits(network, model, batch, row) / 0.5).log_softmax(-1)
            taken = expected[torch.arange(len(expected)), torch.tensor(batch.completion_ids[row])]
            torch.testing.assert_close(found[row, : len(taken)], taken, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_recorded_logprobs_are_those_that_evaluate_gives(network, temperature):
    prompts = tiny.prompts(6)
    one = LocalLearner(network, temperature=temperature)
    drawn = one.sampler().sample(prompts, Sampling(9, temperature), range(6))
    found = one.evaluate(Batch(prompts, [d.token_ids for d in drawn]), "policy").logprobs
    for row, d in enumerate(drawn):
        torch.testing.assert_close(found[row, : len(d.logprobs)], torch.tensor(d.logprobs), atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_completion_in_any_company(network):
    sampler, how = learner(network).sampler(), Sampling(9, top_p=0.95)
    prompts, seeds = [*tiny.prompts(5), tiny.prompts(1)[0]], [11, 12, 13, 14, 15, 16]
    whole = sampler.sample(prompts, how, seeds)
    assert whole[0].token_ids != whole[5].token_ids, "two seeds of one prompt"
    turned = sampler.sample(prompts[::-1], how, seeds[::-1])[::-1]
    alone = [sampler.sample([prompt], how, [seed])[0] for prompt, seed in zip(prompts, seeds, strict=True)]
    sampler.batch_tokens = 30
    small = sampler.sample(prompts, how, seeds)
    for expected, *others in zip(whole, turned, alone, small, strict=True):
        for other in others:
            assert (other.token_ids, other.seed, other.finish_reason) == (expected.token_ids, expected.seed, expected.finish_reason)
            assert other.logprobs == pytest.approx(expected.logprobs, abs=1e-5)


def test_greedy_decoding_is_what_transformers_generates(network, case):
    """The end token is one that greedy decoding writes in the middle of a row, so that rows end at different steps."""
    prompts, model = tiny.prompts(6), tiny.oracle(network)
    free = generate(model, prompts, end=-1)
    end = free[0][2]
    network.end_ids = [end]
    found = learner(network).sampler().sample(prompts, Sampling(8, greedy=True), range(6))
    expected = generate(model, prompts, end)
    assert [d.token_ids for d in found] == expected
    assert [d.finish_reason for d in found] == ["stop" if ids[-1] == end else "length" for ids in expected]
    assert all(end not in d.token_ids[:-1] for d in found)
    assert found[0].finish_reason == "stop"


def test_before_the_first_update_kl_is_0_and_the_ratio_1(case):
    kind, lora = case
    fresh, batch = tiny.network(kind, lora=lora), tiny.batch()
    one = learner(fresh)
    policy, reference = one.evaluate(batch, "policy", exact_kl=True), one.evaluate(batch, "reference")
    assert torch.equal(policy.logprobs, reference.logprobs)
    assert not policy.kl.any()


def test_a_step_changes_the_policy_and_neither_reference_nor_other_adapters(network, case):
    others = ("reference", "reward", "monitor") if case[1] else ("reference",)
    one, batch, prompts = learner(network), tiny.batch(), tiny.prompts()
    weights = {name: p.clone() for name, p in network.named_parameters() if name not in trained_names(network, "policy")}
    before = {role: outputs_of(one, batch, role) for role in ("policy", *others)}
    drawn = one.sampler().sample(prompts, Sampling(9), range(5))
    one.forward_backward(batch, SFTLoss())
    assert one.step()["grad_norm"] > 0
    assert not torch.equal(outputs_of(one, batch, "policy"), before["policy"])
    for role in others:
        assert torch.equal(outputs_of(one, batch, role), before[role]), role
    for name, parameter in network.named_parameters():
        if name in weights:
            assert torch.equal(parameter, weights[name]), name
    assert one.sampler().sample(prompts, Sampling(9), range(5)) != drawn, "the sampler sees the new weights"


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_learning_a_reward_leaves_policy_reference_and_monitor_alone(kind):
    network = tiny.shake(tiny.network(kind), "policy", "reward", "monitor")
    one, batch = learner(network, "reward"), tiny.batch()
    before = {role: outputs_of(one, batch, role) for role in ("policy", "reference", "reward", "monitor")}
    values = one.evaluate(batch, "policy").values
    one.forward_backward(batch, lambda outputs, _: (outputs.scores, {}))
    one.step()
    assert not torch.equal(outputs_of(one, batch, "reward"), before["reward"])
    for role in ("policy", "reference", "monitor"):
        assert torch.equal(outputs_of(one, batch, role), before[role]), role
    assert torch.equal(one.evaluate(batch, "policy").values, values)


def test_every_trained_weight_gets_a_gradient(network, case):
    """Nothing that should learn stands still, heads included (a part of the value's gradient reaches the trunk)."""
    one = learner(network)
    one.forward_backward(tiny.batch(12), lambda outputs, _: (outputs.values.square() - outputs.logprobs, {}))
    still = [name for name, p in one.parameters.items() if p.grad is None or not p.grad.any()]
    if case[1]:
        assert still == []
    else:  # the reward's head, position embeddings beyond the longest row and the like do not belong to this loss
        assert len(still) < 0.1 * len(one.parameters)


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("pad", ["none", "end"])
def test_which_token_pads_is_of_no_account(kind, pad):
    """A tokenizer without a pad token, and one whose pad token is its end token, give the same numbers."""
    batch = tiny.batch(7)
    first = everything(tiny.shake(tiny.network(kind), "policy", "reward"), batch)
    other_network = tiny.shake(tiny.network(kind, pad=pad), "policy", "reward")
    assert other_network.pad_id == tiny.END
    other = everything(other_network, batch)
    for name, expected in first.items():
        torch.testing.assert_close(other[name], expected, atol=1e-5, rtol=1e-5, msg=name)
    drawn = learner(other_network).sampler().sample(tiny.prompts(), Sampling(9), range(5))
    assert all(tiny.END not in d.token_ids[:-1] for d in drawn)


def trained_names(network, role):
    chosen = {id(p) for p in network.trainable(role).values()}
    return {name for name, p in network.named_parameters() if id(p) in chosen}


def outputs_of(learner, batch, role):
    found = learner.evaluate(batch, role)
    return found.logprobs if found.scores is None else found.scores


def row_inputs(network, batch, row):
    prompt, completion = torch.tensor([batch.prompt_ids[row]]), torch.tensor([batch.completion_ids[row]])
    if network.encoder_decoder:
        start = torch.tensor([[tiny.PAD if network.plain.config.model_type == "t5" else tiny.START]])
        return {"input_ids": prompt, "decoder_input_ids": torch.cat([start, completion], 1)}
    return {"input_ids": torch.cat([prompt, completion], 1)}


def row_logits(network, model, batch, row):
    """Logits before each completion token, ``[T, V]``."""
    with torch.no_grad():
        logits = model(**row_inputs(network, batch, row)).logits[0]
    return logits[-len(batch.completion_ids[row]) - 1 : -1]


def row_states(network, model, batch, row):
    """What the language-model head is given before each completion token and after the last, ``[T + 1, H]``."""
    seen = []
    handle = model.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.no_grad():
        model(**row_inputs(network, batch, row))
    handle.remove()
    return seen[0][0, -len(batch.completion_ids[row]) - 1 :]


def generate(model, prompts, end):
    """Greedy completions by transformers itself, row by row, without any padding."""
    model.generation_config.eos_token_id = model.generation_config.forced_eos_token_id = None
    found = []
    for prompt in prompts:
        more = {} if end < 0 else {"eos_token_id": end}
        ids = torch.tensor([prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=8, pad_token_id=tiny.PAD, **more)[0]
        found.append(out[1:].tolist() if model.config.is_encoder_decoder else out[len(prompt) :].tolist())
    return found
