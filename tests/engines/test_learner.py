"""The local learner: one denominator however the batch is cut, checkpoints bit for bit, nothing that is not finite."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny
from heedful.engines.base import Batch, Outputs, Sampling
from heedful.engines.local import LocalLearner, Optimiser, gather_outputs, micro_batches, recompute_layers
from heedful.errors import DeviceProblem, FileProblem, NotFinite
from heedful.policy.ppo import PPOLoss
from heedful.policy.sft import SFTLoss


def ppo_batch(n=16, seed=1):
    batch, generator = tiny.batch(n, seed), torch.Generator().manual_seed(seed)
    names = ("logprobs", "values", "advantages", "returns")
    return batch.with_columns(**{name: torch.randn(n, batch.width, generator=generator) for name in names})


def group_spread(outputs: Outputs, batch: Batch):
    """Variance of the scores of each group, ``[G]``: it is another number when a group is torn apart."""
    groups = torch.tensor(batch.group_ids)
    scores = outputs.scores
    assert scores is not None
    spread = torch.stack([(scores[groups == g] - scores[groups == g].mean()).square().sum() for g in groups.unique()])
    return spread, {"spread": spread}


def gradients(network, role, batch, loss, budget):
    one = LocalLearner(network, role, micro_batch_tokens=budget)
    metrics = one.forward_backward(batch, loss)
    found = {name: p.grad.clone() for name, p in one.parameters.items() if p.grad is not None}
    for parameter in one.parameters.values():
        parameter.grad = None
    return found, metrics


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("loss", ["token", "group"])
def test_cutting_a_batch_changes_neither_gradient_nor_metrics(kind, lora, loss):
    """1 x 16 = 4 x 4, also with rows of very different lengths; per token (PPO) and per group (pairs and triples)."""
    network = tiny.shake(tiny.network(kind, lora=lora), *(("policy", "reward") if lora else ("policy",)), by=0.05)
    if loss == "token":
        role, batch, function = "policy", ppo_batch(), PPOLoss(0.2, 0.2, 0.1, 0.01)
    else:
        role, function = "reward", group_spread
        batch = Batch(*(getattr(tiny.batch(16), name) for name in ("prompt_ids", "completion_ids")), [5] * 3 + [2] * 5 + [9] * 8)
    whole, metrics = gradients(network, role, batch, function, 10**6)
    for budget in (1, 60):
        assert len(micro_batches(batch, budget)) > 2
        cut, others = gradients(network, role, batch, function, budget)
        assert cut.keys() == whole.keys()
        largest = max(float(g.abs().max()) for g in whole.values())
        assert largest > 1e-4
        for name, gradient in whole.items():
            assert float((cut[name] - gradient).abs().max()) < 2e-6 * largest, name
        assert others == pytest.approx(metrics, rel=1e-5, abs=1e-6)


def test_the_denominator_is_the_number_of_tokens_and_not_of_rows():
    network, batch = tiny.network("llama"), Batch([[7], [8]], [[9], [10, 11, 12]])
    one = LocalLearner(network)
    logprobs = one.evaluate(batch, "policy").logprobs
    assert one.forward_backward(batch, SFTLoss())["loss"] == pytest.approx(-float(logprobs.sum()) / 4, rel=1e-6)


def test_an_exact_kl_in_a_loss_has_the_gradient_of_the_sum_over_the_vocabulary():
    network, batch = tiny.shake(tiny.network("llama"), "policy"), tiny.batch(1)
    one = LocalLearner(network)
    one.forward_backward(batch, Divergence())
    found = {name: p.grad.clone() for name, p in one.parameters.items() if p.grad is not None}
    ids, n = torch.tensor([[*batch.prompt_ids[0], *batch.completion_ids[0]]]), batch.width
    reference = tiny.oracle(network, "reference")(ids).logits[0, -n - 1 : -1].log_softmax(-1).detach()
    network.model.zero_grad()
    network.model.set_adapter("policy")
    policy = network.model(ids).logits[0, -n - 1 : -1].log_softmax(-1)
    (policy.exp() * (policy - reference)).sum(-1).mean().backward()
    assert any("lora_A" in name for name in found)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, one.parameters[name].grad, atol=3e-6, rtol=1e-5)


@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40), st.integers(0, 6)), min_size=1, max_size=30),
    st.integers(1, 300),
)
def test_micro_batches_hold_every_row_once_keep_groups_and_fit(rows, budget):
    rows = sorted(rows, key=lambda row: row[2])
    batch = Batch([[0] * p for p, _, _ in rows], [[0] * c for _, c, _ in rows], [g for _, _, g in rows])
    parts = micro_batches(batch, budget)
    assert sorted(row for part in parts for row in part) == list(range(len(rows)))
    for part in parts:
        groups = {rows[row][2] for row in part}
        assert groups.isdisjoint({rows[row][2] for other in parts if other is not part for row in other})
        padded = len(part) * (max(rows[row][0] for row in part) + max(rows[row][1] for row in part))
        assert padded <= budget or len(groups) == 1


def test_outputs_of_micro_batches_return_to_their_rows():
    parts = [([2, 0], Outputs(logprobs=torch.tensor([[1.0, 2.0], [3.0, 0.0]]), scores=torch.tensor([5.0, 6.0]))), ([1], Outputs(
        logprobs=torch.tensor([[4.0]]), scores=torch.tensor([7.0])))]  # fmt: skip
    found = gather_outputs(parts, 3, 2)
    assert found.logprobs.tolist() == [[3.0, 0.0], [4.0, 0.0], [1.0, 2.0]]
    assert found.scores.tolist() == [6.0, 7.0, 5.0]
    assert found.values is None


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False])
def test_two_steps_after_loading_are_the_two_steps_without(kind, lora, tmp_path):
    settings = Optimiser(0.05, weight_decay=0.01, warmup_steps=3, schedule="linear", total_steps=10)
    first = LocalLearner(tiny.network(kind, lora=lora), "policy", settings)
    learn(first, 3)
    first.save(tmp_path)
    rates = learn(first, 2)
    second = LocalLearner(tiny.network(kind, lora=lora), "policy", settings)
    learn(second, 1)  # whatever it did before, it goes on as the saved one
    second.load(tmp_path)
    assert second.steps == 3
    assert learn(second, 2) == rates
    assert_same(first, second)


def test_a_checkpoint_from_before_the_first_step_takes_the_moments_away_again(tmp_path):
    first = LocalLearner(tiny.network("llama"), "policy", Optimiser(0.05))
    first.save(tmp_path)
    learn(first, 2)
    second = LocalLearner(tiny.network("llama"), "policy", Optimiser(0.05))
    learn(second, 3)
    second.load(tmp_path)
    learn(second, 2)
    assert_same(first, second)


def test_what_is_loaded_lies_where_the_weights_are(tmp_path):
    """The count of steps too: on an accelerator a fused optimiser refuses one that stays on the CPU."""
    first = LocalLearner(tiny.network("llama"), "policy", Optimiser(0.05))
    learn(first, 1)
    first.save(tmp_path)
    there = LocalLearner(tiny.network("llama").to("meta"), "policy", Optimiser(0.05))
    there.load(tmp_path)
    found = {key: value.device.type for state in there.optimiser.state.values() for key, value in state.items()}
    assert found == dict.fromkeys(("step", "exp_avg", "exp_avg_sq"), "meta")


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path):
    LocalLearner(tiny.network("llama")).save(tmp_path)
    with pytest.raises(FileProblem, match="other parameters than this model trains"):
        LocalLearner(tiny.network("llama", lora=False)).load(tmp_path)
    with pytest.raises(FileProblem, match="other parameters"):
        LocalLearner(tiny.network("llama"), "reward").load(tmp_path)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused_and_leaves_no_trace(bad):
    one, batch = LocalLearner(tiny.network("llama"), optimiser=Optimiser(0.05), micro_batch_tokens=20), tiny.batch(8)
    before = {name: p.detach().clone() for name, p in one.parameters.items()}
    shortest = min(batch.lengths)

    def loss(outputs, part):  # the shortest rows come last, so earlier parts have already left gradients
        return outputs.logprobs * (bad if min(part.lengths) == shortest else 1.0), {}

    with pytest.raises(NotFinite, match=r"the loss became -?(nan|inf) at optimiser step 0, in rows .*No update was made"):
        one.forward_backward(batch, loss)
    assert all(torch.equal(p, before[name]) for name, p in one.parameters.items())
    assert one.steps == 0
    clean = LocalLearner(tiny.network("llama"), optimiser=Optimiser(0.05), micro_batch_tokens=20)
    learn(clean, 1)
    learn(one, 1)
    assert_same(one, clean)


def test_a_gradient_that_is_not_finite_is_refused_before_it_touches_a_weight():
    one, batch = LocalLearner(tiny.network("llama"), optimiser=Optimiser(0.05)), tiny.batch(4)
    before = {name: p.detach().clone() for name, p in one.parameters.items()}
    one.forward_backward(batch, lambda outputs, _: (outputs.logprobs.sub(outputs.logprobs.detach()).abs().sqrt(), {}))  # d sqrt at 0
    with pytest.raises(NotFinite, match=r"the gradient's norm became (nan|inf) at optimiser step 0"):
        one.step()
    assert all(torch.equal(p, before[name]) for name, p in one.parameters.items())
    assert all(p.grad is None for p in one.parameters.values())


def test_gradients_are_clipped_to_the_norm_and_the_norm_before_is_told():
    one, batch = LocalLearner(tiny.network("llama"), optimiser=Optimiser(0.0, max_grad_norm=0.5)), tiny.batch(4)
    one.forward_backward(batch, lambda outputs, _: (-100 * outputs.logprobs, {}))
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in one.parameters.values() if p.grad is not None))
    seen = {}
    step, one.optimiser.step = (
        one.optimiser.step,
        lambda: seen.update(norm=math.sqrt(sum(float(p.grad.square().sum()) for p in one.parameters.values() if p.grad is not None))),
    )
    assert step is not None
    assert one.step()["grad_norm"] == pytest.approx(norm, rel=1e-5)
    assert norm > 0.5
    assert seen["norm"] == pytest.approx(0.5, rel=1e-3)


def test_the_schedule_warms_up_and_falls_in_a_line():
    settings = Optimiser(1.0, warmup_steps=4, schedule="linear", total_steps=12)
    assert [settings.factor(s) for s in (0, 1, 3, 4, 8, 11, 12, 50)] == pytest.approx([0.25, 0.5, 1.0, 1.0, 0.5, 0.125, 0.0, 0.0])
    assert [Optimiser(1.0).factor(s) for s in (0, 9)] == [1.0, 1.0]


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_in_bfloat16_the_head_computes_with_the_weights_as_they_are(kind):
    """Its narrow copy is made again after every step, and a fresh network of the same weights says the same."""
    one = LocalLearner(tiny.network(kind, lora=False, precision=torch.bfloat16), optimiser=Optimiser(0.05))
    learn(one, 2)
    fresh = tiny.network(kind, lora=False, precision=torch.bfloat16)
    fresh.load_state_dict(one.network.state_dict())
    assert torch.equal(one.evaluate(tiny.batch(), "policy").logprobs, LocalLearner(fresh).evaluate(tiny.batch(), "policy").logprobs)


def learn(learner, steps):
    """Steps on batches that depend on how many were made; the learning rates."""
    rates = []
    for _ in range(steps):
        learner.forward_backward(tiny.batch(4, seed=learner.steps), SFTLoss())
        rates.append(learner.step()["lr"])
    return rates


def assert_same(first, second):
    for name, parameter in first.parameters.items():
        assert torch.equal(parameter, second.parameters[name]), name
        one, other = first.optimiser.state.get(parameter, {}), second.optimiser.state.get(second.parameters[name], {})
        assert one.keys() == other.keys()
        assert all(torch.equal(one[key], other[key]) for key in one), name


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("lora", [True, False])
def test_layers_computed_twice_give_the_same_gradient(kind, lora):
    batch = tiny.batch(7)
    kept, again = (LocalLearner(tiny.shake(tiny.network(kind, lora=lora))) for _ in range(2))
    kept.forward_backward(batch, SFTLoss())
    assert recompute_layers(again.network)
    assert not recompute_layers(again.network), "there is nothing left to save"
    again.forward_backward(batch, SFTLoss())
    for name, parameter in kept.parameters.items():
        if parameter.grad is not None:
            torch.testing.assert_close(again.parameters[name].grad, parameter.grad, atol=1e-5, rtol=1e-5, msg=name)
    assert torch.equal(again.evaluate(batch, "policy").logprobs, kept.evaluate(batch, "policy").logprobs), "nothing drops out"
    drawn, expected = (one.sampler().sample(tiny.prompts(), Sampling(6), range(5)) for one in (again, kept))
    assert drawn == expected


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_of_layers_that_are_computed_twice_only_the_inputs_are_kept(kind):
    def kept(recomputes):
        """Bytes that a forward pass keeps for its backward pass; weights left out."""
        one, found = LocalLearner(tiny.network(kind)), {}
        assert not recomputes or recompute_layers(one.network)
        weights = {p.untyped_storage().data_ptr() for p in one.network.parameters()}

        def pack(tensor):
            found[tensor.untyped_storage().data_ptr()] = tensor
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = one.network(tiny.batch(32, longest=20), "policy")
        assert outputs.logprobs.requires_grad
        return sum(tensor.untyped_storage().nbytes() for place, tensor in found.items() if place not in weights)

    assert kept(True) < 0.5 * kept(False)


class Scarce:
    """A network on a machine where so many rows at once are too many."""

    def __init__(self, network, most):
        self.network, self.most = network, most

    def __call__(self, batch, role, **more):
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("no room")
        return type(self.network).__call__(self.network, batch, role, **more)

    def __getattr__(self, name):
        return getattr(self.network, name)


def test_when_memory_runs_out_less_is_computed_at_once_and_the_result_is_the_same():
    batch, said = tiny.batch(12), []
    plenty = LocalLearner(tiny.network("llama"))
    expected = plenty.forward_backward(batch, SFTLoss())
    scarce = LocalLearner(tiny.network("llama"), say=said.append)
    scarce.network = Scarce(scarce.network, most=3)
    found = scarce.forward_backward(batch, SFTLoss())
    assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
    for name, parameter in plenty.parameters.items():
        if parameter.grad is not None:
            torch.testing.assert_close(scarce.parameters[name].grad, parameter.grad, atol=1e-5, rtol=1e-5)
    assert said
    assert all(line.startswith("Memory ran out: going on with ") for line in said)


def test_when_memory_runs_out_while_looking_less_is_looked_at_at_once_from_then_on():
    batch, said = tiny.batch(12), []
    plenty, scarce = LocalLearner(tiny.network("llama")), LocalLearner(tiny.network("llama"), say=said.append)
    before, scarce.network = scarce.evaluation_tokens, Scarce(scarce.network, most=3)
    for _ in range(2):
        found = scarce.evaluate(batch, "policy").logprobs
        torch.testing.assert_close(found, plenty.evaluate(batch, "policy").logprobs, atol=1e-5, rtol=1e-5)
    halved = [before // 2**n for n in range(1, 1 + len(said))]
    assert said == [f"Memory ran out: going on with {tokens} tokens at once." for tokens in halved], "the second time says nothing"
    assert scarce.evaluation_tokens == halved[-1] < before
    assert scarce.micro_batch_tokens == plenty.micro_batch_tokens


def test_too_little_memory_for_anything_is_a_sentence():
    scarce = LocalLearner(tiny.network("llama"))
    scarce.network = Scarce(scarce.network, most=0)
    for work in (lambda: scarce.forward_backward(tiny.batch(4), SFTLoss()), lambda: scarce.evaluate(tiny.batch(4), "policy")):
        with pytest.raises(DeviceProblem, match="memory ran out with as few as"):
            work()


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def broken(outputs, batch):
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError, match="a mistake of ours"):
        LocalLearner(tiny.network("llama")).forward_backward(tiny.batch(4), broken)


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("role", ["policy", "reference"])
def test_with_the_references_states_the_exact_kl_needs_no_other_pass(kind, role, monkeypatch):
    """Whoever asked for them; also of rows that are cut to a shorter width."""
    network, batch = tiny.shake(tiny.network(kind), "policy"), tiny.batch(4)
    one = LocalLearner(network, micro_batch_tokens=20)
    judged = one.evaluate(batch, role, exact_kl=role == "policy", ref_states=True)
    assert judged.ref_states.shape == (4, batch.width, network.width)
    known, found, asked = batch.with_columns(ref_states=judged.ref_states), [], []
    monkeypatch.setattr(network, "as_role", lambda role, own=network.as_role: (asked.append(role), own(role))[1])
    for rows in (batch, known):
        asked.clear()
        one.forward_backward(rows, Divergence())
        found.append({name: p.grad for name, p in one.parameters.items() if p.grad is not None})
        one.optimiser.zero_grad(set_to_none=True)
        assert ("reference" in asked) == (rows is batch)
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(gradient, found[1][name], atol=2e-6, rtol=1e-5, msg=name)


class Divergence:
    """The exact KL as a loss."""

    needs = frozenset({"kl"})

    def __call__(self, outputs, batch):
        return outputs.kl, {}


def test_states_that_take_too_much_room_are_not_kept(monkeypatch):
    one, batch = LocalLearner(tiny.network("llama")), tiny.batch(4)
    size = 4 * 4 * batch.width * one.network.width
    for limit, kept in ((size, True), (size - 1, False)):
        monkeypatch.setattr("heedful.engines.local.KEPT_BYTES", limit)
        assert (one.evaluate(batch, "reference", ref_states=True).ref_states is not None) == kept
    assert one.evaluate(batch, "reference").ref_states is None, "nobody asked"
