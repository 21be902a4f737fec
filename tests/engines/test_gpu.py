"""The engine on an accelerator gives what it gives on the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny
from heedful.engines.base import Batch, Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.sampling import LocalSampler
from heedful.policy.sft import SFTLoss

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator that torch sees")]


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_the_gpu_agrees_with_the_cpu(kind: str) -> None:
    batch = tiny.batch(6)
    here = tiny.network(kind)
    expected = LocalLearner(here).evaluate(batch, "policy", entropy=True)
    found = LocalLearner(here.cuda()).evaluate(batch, "policy", entropy=True)
    for name in ("logprobs", "values", "entropy"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_gradient_on_the_gpu_is_that_of_the_cpu(kind: str) -> None:
    """Layers with a backward pass of their own (llama), packed (gpt2) and padded ones."""

    def gradients(device: str) -> dict[str, torch.Tensor]:
        learner = LocalLearner(tiny.network(kind).to(device))
        learner.forward_backward(tiny.batch(6), SFTLoss())
        return {name: parameter.grad.cpu() for name, parameter in learner.parameters.items() if parameter.grad is not None}

    expected, found = gradients("cpu"), gradients("cuda")
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], atol=1e-3, rtol=1e-3, msg=lambda told, name=name: f"{name}: {told}")


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_what_is_recorded_while_sampling_on_the_gpu_is_what_one_pass_gives(kind: str) -> None:
    """Written out (llama, t5), packed (gpt2) and padded."""
    prompts, one = tiny.prompts(6), LocalLearner(tiny.network(kind).cuda())
    drawn = one.sampler().sample(prompts, Sampling(9), range(6))
    found = one.evaluate(Batch(prompts, [d.token_ids for d in drawn]), "policy").logprobs
    assert found is not None
    for row, d in enumerate(drawn):
        assert d.logprobs == pytest.approx(found[row, : len(d.logprobs)].tolist(), abs=1e-3)


def test_the_step_after_loading_on_the_gpu_is_the_step_without(tmp_path: Path) -> None:
    def step(learner: LocalLearner) -> None:
        learner.forward_backward(tiny.batch(4), SFTLoss())
        learner.step()

    first, second = (LocalLearner(tiny.network("llama").cuda(), "policy", Optimiser(0.05)) for _ in range(2))
    step(first)
    first.save(tmp_path)
    second.load(tmp_path)
    step(first)
    step(second)
    for name, parameter in first.parameters.items():
        torch.testing.assert_close(second.parameters[name], parameter, msg=name)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_recorded_steps_write_what_plain_steps_write_and_leave_no_memory(kind: str) -> None:
    """Rows that end and others that take their places, prompts alone and shared; once more with other weights."""
    prompts, there = [*tiny.prompts(6), *tiny.prompts(4)], tiny.network(kind).cuda()
    there.end_ids = [5]

    def drawn(replays: bool) -> list[list[int]]:
        there.replays = replays
        found = LocalSampler(there, batch_tokens=4 * 110).sample(prompts, Sampling(90, 3.0), range(10))
        assert there.replays == replays, "a recording failed or differed"
        return [one.token_ids for one in found]

    for _ in range(2):
        expected = drawn(False)
        before = torch.cuda.memory_allocated()
        assert drawn(True) == expected
        assert torch.cuda.memory_allocated() <= before + 2**20
        tiny.shake(there, "policy")


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_steps_are_recorded_in_bfloat16(kind: str) -> None:
    there = tiny.network(kind, precision=torch.bfloat16).cuda()
    there.end_ids = [999]
    LocalSampler(there).sample(tiny.prompts(6), Sampling(90), range(6))
    assert there.replays, "a recording failed or differed"


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_steps_are_recorded_and_the_recordings_hold(kind: str) -> None:
    """More tokens than one recording reaches; on the CPU nothing is recorded."""
    prompts, here = tiny.prompts(6), tiny.network(kind)
    here.end_ids = [999]
    expected = LocalLearner(here).sampler().sample(prompts, Sampling(150, 0.7), range(6))
    there = here.cuda()
    found = LocalLearner(there).sampler().sample(prompts, Sampling(150, 0.7), range(6))
    assert there.replays, "a recording failed or differed"
    for one, other in zip(found, expected, strict=True):
        assert one.token_ids == other.token_ids
