"""DPO through the engine: public numbers, an oracle, every architecture, what it learns, and kills."""

from __future__ import annotations

import json
import math

import pytest
import torch

import tiny
from heedful.engines.base import Outputs
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.networks import LanguageNetwork, Lora
from heedful.engines.seeding import seeded
from heedful.errors import ModelProblem
from heedful.maths.preference_losses import VARIANTS
from heedful.policy import dpo
from heedful.policy.dpo import DPOLoss, completion_logprobs, pair_batch, train_dpo, with_reference
from heedful.progress import SilentProgress

SMOOTHING = {"exo_pair": 0.001}


def learner_of(kind="llama", rate=0.01, *, lora=True, by=0.0, budget=8192):
    network = tiny.network(kind, lora=lora, roles=("policy", "reference"))
    return LocalLearner(tiny.shake(network, by=by) if by else network, "policy", Optimiser(rate), micro_batch_tokens=budget)


def pairs_of(n=6, seed=0, p=1.0):
    """Random pairs of many lengths; the two completions of each are never alike."""
    one, two = tiny.batch(n, seed), tiny.batch(n, seed + 100)
    rows = [(one.prompt_ids[i], one.completion_ids[i], [*two.completion_ids[i], 6 + i]) for i in range(n)]
    return pair_batch(rows, [p] * n)


def referenced(learner, pairs):
    return pairs.with_columns(reference=completion_logprobs(learner, pairs, "reference"))


# The loss, on what the engine computes.


@pytest.fixture(params=range(11))
def golden(request, shared):
    return json.loads((shared / "golden/preference_pairs.json").read_text())["cases"][request.param]


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_public_numbers_come_out_of_the_engine(golden, kind):
    """A reference that lies as far below a tiny model's own log-probabilities as in the public cases gives their losses and rewards."""
    inputs, expected = golden["inputs"], golden["expected"]
    n = len(expected["losses"])
    learner, pairs = learner_of(kind, by=0.1, budget=20), pairs_of(n)
    policy = completion_logprobs(learner, pairs, "policy").double()
    ratios = [
        torch.tensor(inputs[f"{side}_logps"], dtype=torch.float64) - torch.tensor(inputs[f"ref_{side}_logps"], dtype=torch.float64)
        for side in ("chosen", "rejected")
    ]
    pairs = pairs.with_columns(reference=policy - torch.stack(ratios, 1).flatten())
    seen = {}
    loss = DPOLoss(inputs["beta"], inputs["label_smoothing"], inputs["loss_type"])

    def noted(outputs, batch):
        values, metrics = loss(outputs, batch)
        for at, group in enumerate(batch.group_ids[::2]):
            seen[group] = [float(x[at].detach()) for x in (values, metrics["rewards/chosen"], metrics["rewards/rejected"])]
        return values, metrics

    found = learner.forward_backward(pairs, noted)
    names = ("losses", "chosen_rewards", "rejected_rewards")
    for pair in range(n):
        assert seen[pair] == pytest.approx([expected[name][pair] for name in names], rel=2e-4, abs=2e-4)
    assert found["loss"] == pytest.approx(sum(expected["losses"]) / n, rel=2e-4, abs=2e-4)


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_the_loss_is_the_paper_s_on_the_plain_models_own_numbers(kind, lora):
    """Equation 7 with log-probabilities of transformers' models, adapters merged by PEFT, one unpadded row at a time."""
    learner, pairs = learner_of(kind, lora=lora, by=0.1 if lora else 0.02, budget=30), pairs_of(4)
    network = learner.network
    sums = {role: [row_logprob(network, tiny.oracle(network, role), pairs, row) for row in range(8)] for role in ("policy", "reference")}
    ratios = [a - b for a, b in zip(sums["policy"], sums["reference"], strict=True)]
    expected = [math.log1p(math.exp(-0.3 * (c - r))) for c, r in zip(ratios[::2], ratios[1::2], strict=True)]
    assert max(abs(ratio) for ratio in ratios) > 0.05, "the policy has left its reference"
    found = learner.forward_backward(referenced(learner, pairs), DPOLoss(beta=0.3))
    assert found["loss"] == pytest.approx(sum(expected) / 4, rel=1e-4)
    assert found["logprobs/chosen"] == pytest.approx(sum(sums["policy"][::2]) / 4, rel=1e-4)
    assert found["rewards/rejected"] == pytest.approx(0.3 * sum(ratios[1::2]) / 4, abs=1e-4)


def row_logprob(network, model, batch, row):
    prompt, completion = torch.tensor([batch.prompt_ids[row]]), torch.tensor([batch.completion_ids[row]])
    if network.encoder_decoder:
        inputs = {"input_ids": prompt, "decoder_input_ids": torch.cat([torch.full((1, 1), network.start_id), completion], 1)}
    else:
        inputs = {"input_ids": torch.cat([prompt, completion], 1)}
    with torch.no_grad():
        logprobs = model(**inputs).logits[0, -completion.shape[1] - 1 : -1].log_softmax(-1)
    return float(logprobs.gather(1, completion.T).sum())


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_before_the_first_update_nothing_is_preferred(kind, lora):
    learner, pairs = learner_of(kind, lora=lora), pairs_of(5)
    found = learner.forward_backward(referenced(learner, pairs), DPOLoss())
    assert found["loss"] == pytest.approx(math.log(2), abs=1e-5)
    for name in ("rewards/chosen", "rewards/rejected", "rewards/margin"):
        assert found[name] == pytest.approx(0, abs=1e-5)
    assert learner.step()["grad_norm"] > 1e-3


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_one_large_part_or_many_small_ones_are_the_same_gradient(kind, lora):
    whole, cut = (learner_of(kind, lora=lora, by=0.03, budget=budget) for budget in (10**6, 12))
    pairs, loss = referenced(whole, pairs_of(8, p=0.8)), DPOLoss(beta=0.5, label_smoothing=0.1)
    one, other = whole.forward_backward(pairs, loss), cut.forward_backward(pairs, loss)
    assert other == pytest.approx(one, rel=1e-5, abs=1e-5)
    largest = max(float(p.grad.abs().max()) for p in whole.parameters.values() if p.grad is not None)
    assert largest > 1e-3
    for name, parameter in whole.parameters.items():
        if parameter.grad is not None:
            assert float((cut.parameters[name].grad - parameter.grad).abs().max()) < 3e-6 * largest, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns(variant):
    learner, pairs = learner_of(rate=0.01), pairs_of(6)
    pairs = referenced(learner, pairs)
    loss = DPOLoss(0.2, SMOOTHING.get(variant, 0.0), variant)
    first = {**learner.forward_backward(pairs, loss), **learner.step()}
    for _ in range(12):
        last = {**learner.forward_backward(pairs, loss), **learner.step()}
    assert last["loss"] < first["loss"]
    assert last["rewards/margin"] > 0.05
    assert last["rewards/accuracy"] > 0.8


def test_metrics_and_soft_labels_by_hand():
    """Two pairs: margins 1 and -0.5; the second was preferred by three in four only. A tie would count half."""
    outputs = Outputs(logprobs=torch.tensor([[-1.0, -1.0], [-2.0, -3.0], [-4.0, 0.0], [-1.0, 0.0]]))
    batch = pair_batch([([1], [1, 1], [1, 1]), ([1], [1], [1])], [1.0, 0.75])
    batch = batch.with_columns(reference=torch.tensor([-4.0, -5.0, -3.0, -1.0]))
    loss, metrics = DPOLoss(beta=0.5)(outputs, batch)
    # log-ratios 2, 0 and -1, 0
    assert metrics["rewards/chosen"].tolist() == [1.0, -0.5]
    assert metrics["rewards/rejected"].tolist() == [0.0, 0.0]
    assert metrics["rewards/margin"].tolist() == [1.0, -0.5]
    assert metrics["rewards/accuracy"].tolist() == [1.0, 0.0]
    assert metrics["logprobs/chosen"].tolist() == [-2.0, -4.0]
    assert metrics["logprobs/rejected"].tolist() == [-5.0, -1.0]
    expected = [math.log1p(math.exp(-1)), 0.75 * math.log1p(math.exp(0.5)) + 0.25 * math.log1p(math.exp(-0.5))]
    assert loss.tolist() == pytest.approx(expected)
    _, tie = DPOLoss()(outputs, batch.with_columns(reference=outputs.logprobs.sum(1)))
    assert tie["rewards/accuracy"].tolist() == [0.5, 0.5]


# The loop.


def preferring(token, n, seed):
    """Completions that hold a token twice are preferred to others; prompts and the rest are random."""
    prompts, generator = tiny.batch(n, seed).prompt_ids, torch.Generator().manual_seed(seed)
    words = [w for w in range(len(tiny.SPECIAL), tiny.VOCABULARY) if w != token]
    rows = []
    for prompt in prompts:
        drawn = [words[int(i)] for i in torch.randint(len(words), (6,), generator=generator)]
        rows.append((prompt, [token, drawn[0], token, drawn[1], tiny.END], [*drawn[2:], tiny.END]))
    return pair_batch(rows, [1.0] * n)


def rewards_of(learner, pairs):
    found = completion_logprobs(learner, pairs, "policy") - completion_logprobs(learner, pairs, "reference")
    return found[::2], found[1::2]


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_it_learns_what_is_preferred_on_pairs_it_has_not_seen(kind, lora, tmp_path):
    adapters = Lora(8, 16, targets=("all-linear",)) if lora else None
    with seeded(0):
        network = LanguageNetwork(tiny.language_model(kind), tiny.tokenizer(), lora=adapters)
    learner = LocalLearner(network, "policy", Optimiser(0.01))
    train, unseen = (preferring(20, n, seed) for n, seed in ((48, 1), (60, 2)))
    rows: list[dict[str, float]] = []
    steps = run(
        learner, with_reference(learner, train, tmp_path / "reference.safetensors"), tmp_path, rows, epochs=5, batch_size=8, every=100
    )
    assert steps == 30 == len(rows)
    assert rows[0]["rewards/margin"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["rewards/margin"] > 0.5
    chosen, rejected = rewards_of(learner, unseen)
    assert float((chosen > rejected).float().mean()) > 0.8


def run(learner, pairs, folder, rows, *, kill_log=-1, epochs=2, batch_size=2, every=2):
    def log(step, metrics):
        if step == kill_log:
            raise Killed
        rows[:] = rows[: step - 1]  # as Run.log does for a stage that goes on after a kill
        rows.append(metrics)

    return train_dpo(
        learner,
        pairs,
        DPOLoss(),
        epochs=epochs,
        batch_size=batch_size,
        seed=5,
        folder=folder / "checkpoints",
        log=log,
        progress=SilentProgress(),
        checkpoint_every=every,
    )


class Killed(Exception):
    pass


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
def test_killed_and_resumed_is_uninterrupted(kind, lora, tmp_path):
    """Also with another budget of tokens on the way: the reference is not computed a second time."""
    file, whole_rows, rows = "reference.safetensors", [], []
    whole = learner_of(kind, lora=lora)
    run(whole, with_reference(whole, pairs_of(5), tmp_path / "whole" / file), tmp_path / "whole", whole_rows)
    assert len(whole_rows) == 6
    for kill in (1, 4, 6):
        learner = learner_of(kind, lora=lora)
        with pytest.raises(Killed):
            run(learner, with_reference(learner, pairs_of(5), tmp_path / file), tmp_path, rows, kill_log=kill)
    last = learner_of(kind, lora=lora)
    run(last, with_reference(last, pairs_of(5), tmp_path / file), tmp_path, rows)
    assert rows == whole_rows
    for name, parameter in whole.parameters.items():
        assert torch.equal(parameter, last.parameters[name]), name


def test_the_reference_is_computed_once_and_read_again(tmp_path):
    learner, pairs, calls = learner_of(), pairs_of(5), []
    evaluate = learner.evaluate
    learner.evaluate = lambda batch, role: (calls.append(role), evaluate(batch, role))[1]
    first = with_reference(learner, pairs, tmp_path / "r.safetensors").columns["reference"]
    assert calls.count("reference") == 2, "a look at a few rows, and all of them"
    torch.testing.assert_close(first, evaluate(pairs, "reference").logprobs.sum(1))
    calls.clear()
    tiny.shake(learner.network)
    assert torch.equal(with_reference(learner, pairs, tmp_path / "r.safetensors").columns["reference"], first)
    assert calls == []


def test_a_policy_that_is_not_its_reference_at_the_start_is_refused(tmp_path):
    with pytest.raises(ModelProblem, match=r"before the first update the policy and the reference differ by \d+\.\d+"):
        with_reference(learner_of(by=0.1), pairs_of(5), tmp_path / "r.safetensors")


def test_long_data_is_read_in_pieces(monkeypatch):
    learner, pairs = learner_of(by=0.1), pairs_of(9)
    whole = completion_logprobs(learner, pairs, "policy")
    monkeypatch.setattr(dpo, "ROWS_AT_ONCE", 4)
    torch.testing.assert_close(completion_logprobs(learner, pairs, "policy"), whole)


def test_every_pass_takes_each_pair_once_and_whole(tmp_path):
    learner, pairs, seen = learner_of(), pairs_of(7), []
    forward_backward = learner.forward_backward
    learner.forward_backward = lambda batch, loss: (seen.append(batch), forward_backward(batch, loss))[1]
    run(learner, referenced(learner, pairs), tmp_path, [], epochs=2, batch_size=3)
    passes = [[g for batch in part for g in batch.group_ids] for part in (seen[:3], seen[3:])]
    assert [len(batch) for batch in seen] == [6, 6, 2] * 2
    for order in passes:
        assert order[::2] == order[1::2]
        assert sorted(order[::2]) == list(range(7))
    assert passes[0] != passes[1]
    for batch in seen:
        for row, group in enumerate(batch.group_ids):
            assert batch.completion_ids[row] == pairs.completion_ids[2 * group + row % 2]
