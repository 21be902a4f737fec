"""Supervised fine-tuning raises the log-probability of the given completions and of nothing else."""

from __future__ import annotations

import pytest
import torch

import tiny
from heedful.engines.base import Batch, Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.policy.sft import SFTLoss, held_out_loss, train_sft
from heedful.progress import SilentProgress


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_gradient_is_that_of_transformers_own_loss(kind):
    """Cross-entropy of the completion alone, from the model's own ``labels``: an independent oracle."""
    network, rows = tiny.network(kind, lora=False, roles=("policy",)), tiny.batch(1, seed=4)
    one = LocalLearner(network)
    loss = one.forward_backward(rows, SFTLoss())["loss"]
    found = {name: p.grad.clone() for name, p in network.model.named_parameters() if p.grad is not None}
    network.model.zero_grad()
    prompt, completion = torch.tensor([rows.prompt_ids[0]]), torch.tensor([rows.completion_ids[0]])
    if network.encoder_decoder:
        decoder = torch.cat([torch.full((1, 1), network.start_id), completion[:, :-1]], 1)
        other = network.model(input_ids=prompt, decoder_input_ids=decoder, labels=completion).loss
    else:
        other = network.model(torch.cat([prompt, completion], 1), labels=torch.cat([torch.full_like(prompt, -100), completion], 1)).loss
    other.backward()
    assert loss == pytest.approx(other.item(), rel=1e-5)
    for name, parameter in network.model.named_parameters():
        if name in found:
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_it_learns_by_heart_and_then_writes_it(tmp_path):
    prompts, answers = [[6], [7], [8]], [[20, 21, tiny.END], [22, tiny.END], [23, 24, 25, tiny.END]]
    learner = LocalLearner(tiny.network("llama", lora=False, roles=("policy",)), optimiser=Optimiser(0.01))
    before, rows = held_out_loss(learner, prompts, answers), []
    steps = train_sft(
        learner,
        prompts,
        answers,
        epochs=40,
        batch_size=2,
        seed=0,
        folder=tmp_path,
        log=lambda at, m: rows.append(m),
        progress=SilentProgress(),
    )
    assert steps == len(rows) == 80
    assert before > 2
    assert held_out_loss(learner, prompts, answers) < 0.1
    drawn = learner.sampler().sample(prompts, Sampling(6, greedy=True), range(3))
    assert [d.token_ids for d in drawn] == answers
    assert {d.finish_reason for d in drawn} == {"stop"}


def test_the_held_out_loss_is_the_mean_over_tokens():
    learner, rows = LocalLearner(tiny.network("llama")), tiny.batch(4)
    logprobs = learner.evaluate(rows, "policy").logprobs
    expected = -float(logprobs.sum()) / sum(rows.lengths)
    assert held_out_loss(learner, rows.prompt_ids, rows.completion_ids) == pytest.approx(expected, rel=1e-6)


def test_every_pass_takes_each_row_once_in_an_order_of_its_own(tmp_path):
    seen: list[Batch] = []

    class Recorder(LocalLearner):
        def forward_backward(self, batch, loss):
            seen.append(batch)
            return super().forward_backward(batch, loss)

    learner = Recorder(tiny.network("llama"))
    prompts = [[6 + i] for i in range(7)]
    train_sft(
        learner, prompts, prompts, epochs=2, batch_size=3, seed=0, folder=tmp_path, log=lambda *_: None, progress=SilentProgress()
    )  # fmt: skip
    passes = [[ids for batch in part for ids in batch.prompt_ids] for part in (seen[:3], seen[3:])]
    assert [sorted(one) for one in passes] == [prompts, prompts]
    assert passes[0] != passes[1]
    assert [len(batch) for batch in seen] == [3, 3, 1] * 2
