"""The supervised loop: every batch once per epoch, and a killed run that ends as the uninterrupted one."""

from __future__ import annotations

import pytest
import torch

import tiny
from heedful.engines.fit import fit
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.seeding import seeded
from heedful.policy.sft import SFTLoss
from heedful.progress import SilentProgress


class Killed(Exception):
    pass


def batches(epoch):
    return [tiny.batch(3, seed=10 * epoch + i) for i in range(3)]


def run(folder, *, kill_at=None, every=2):
    one, rows = LocalLearner(tiny.network("llama"), optimiser=Optimiser(0.02)), []

    def log(step, metrics):
        rows.append((step, metrics))
        if step == kill_at:
            raise Killed

    done = fit(one, batches, SFTLoss(), epochs=2, folder=folder, log=log, progress=SilentProgress(), title="Test", checkpoint_every=every)
    return one, rows, done


def test_one_step_per_batch_and_the_loss_falls(tmp_path):
    one, rows, done = run(tmp_path)
    assert done == one.steps == len(rows) == 6
    assert [step for step, _ in rows] == [1, 2, 3, 4, 5, 6]
    assert all({"loss", "grad_norm", "lr"} <= set(metrics) for _, metrics in rows)


@pytest.mark.parametrize("kill_at", [1, 2, 3, 4, 5, 6])
def test_killed_and_resumed_is_uninterrupted(kill_at, tmp_path):
    whole, rows, _ = run(tmp_path / "whole")
    with pytest.raises(Killed):
        run(tmp_path / "killed", kill_at=kill_at)
    resumed, others, done = run(tmp_path / "killed")
    assert done == resumed.steps == 6
    assert others == rows[-len(others) :], "the same numbers for the steps that were made again"
    assert len(others) == 6 - (kill_at - 1) // 2 * 2, "from the last checkpoint on, not from the start"
    assert all(torch.equal(p, resumed.parameters[name]) for name, p in whole.parameters.items())


def test_seeded_draws_the_same_and_leaves_the_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    with seeded(11):
        first = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(11):
        assert torch.equal(torch.rand(2), first)
