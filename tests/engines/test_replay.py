"""Recorded steps give what plain steps give. Here torch.fx records: like a CUDA graph it keeps operations and the tensors they
were called with and nothing of Python, and refuses to ask a tensor for a number."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import tiny
from heedful.engines import replay, writing
from heedful.engines.base import Sampling
from heedful.engines.sampling import LocalSampler
from heedful.engines.tap import Frontier


def traced(work, device):
    """A graph of the operations alone, and the tensors in which it leaves what it finds."""
    graph = make_fx(lambda: (lambda found: (found.hidden, found.logits))(work()))()
    found = Frontier(*(x.clone() for x in graph()))

    def again():
        for there, new in zip((found.hidden, found.logits), graph(), strict=True):
            there.copy_(new)

    return again, found


def network(kind, ends=range(5, 12)):
    one = tiny.network(kind)
    one.end_ids = list(ends)
    return one


def drawn(one, prompts, new_tokens=90, places=9):
    room = max(map(len, prompts)) + new_tokens
    found = LocalSampler(one, batch_tokens=places * room).sample(prompts, Sampling(new_tokens, 3.0), range(len(prompts)))
    return [(d.token_ids, d.finish_reason) for d in found], [(d.logprobs, d.values) for d in found]


@pytest.fixture
def recorded(monkeypatch):
    """Every replay that a writer made, under a recorder that a test may change."""
    made, how = [], {"recorder": traced}
    monkeypatch.setattr(writing, "recorder_for", lambda device: how["recorder"])
    init = replay.Replay.__init__

    def watched(self, *args):
        init(self, *args)
        made.append(self)

    monkeypatch.setattr(replay.Replay, "__init__", watched)
    return made, how


@pytest.mark.parametrize("kind", ["llama", "t5"])
@pytest.mark.parametrize("places", [20, 4], ids=["all at once", "waiting"])
def test_recorded_steps_write_what_plain_steps_write(kind, places, recorded):
    """More tokens than one recording reaches, prompts alone and shared, rows that end early and stay, others that take their places."""
    made, how = recorded
    prompts = [*tiny.prompts(6), *tiny.prompts(4), *[tiny.prompts(1, seed=8)[0]] * 4]
    ends = [5]
    how["recorder"] = None
    tokens, numbers = drawn(network(kind, ends), prompts, places=places)
    assert {len(ids) for ids, _ in tokens} & {90}
    assert len({len(ids) for ids, _ in tokens}) > 4
    assert not made
    how["recorder"] = traced
    one = network(kind, ends)
    found, those = drawn(one, prompts, places=places)
    assert found == tokens
    for (logprobs, values), (expected, valued) in zip(those, numbers, strict=True):
        assert logprobs == pytest.approx(expected, abs=1e-5)
        assert values == pytest.approx(valued, abs=1e-5)
    assert sum(r.recordings for r in made) >= 2
    assert one.replays
    assert not any(r.refused for r in made)


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_most_steps_are_replayed(kind, recorded):
    """Two plain steps, one that is recorded, and then the recording alone, until it reaches no further."""
    made, how = recorded
    replayed = []

    def counting(work, device):
        again, found = traced(work, device)

        def asked():
            replayed.append(1)
            again()

        return asked, found

    how["recorder"] = counting
    one = network(kind, ends=[999])
    drawn(one, tiny.prompts(3), new_tokens=90)
    [only] = made
    # 89 tokens are read: the last one drawn is not. T5's start token counts too, so that it reaches the 64th place a step sooner.
    assert only.recordings == 2
    assert len(replayed) == 89 - replay.PLAIN
    assert one.replays


def fails(work, device):
    raise RuntimeError("operation not permitted when stream is capturing")


def lies(work, device):
    found = work()
    return lambda: found.logits.copy_(work().logits + 0.5), found


def does_nothing(work, device):
    """As a graph that has recorded nothing: what it found while recording is right, and stays."""
    return lambda: None, work()


@pytest.mark.parametrize("recorder", [fails, lies, does_nothing])
def test_a_recording_that_fails_or_gives_other_numbers_is_never_used(recorder, recorded):
    """Also not later, and the step that was to be recorded leaves no trace."""
    made, how = recorded
    prompts = tiny.prompts(5)
    how["recorder"] = None
    one = network("llama", ends=[999])
    expected = drawn(one, prompts, new_tokens=20)
    how["recorder"] = recorder
    for _ in range(2):
        tokens, numbers = drawn(one, prompts, new_tokens=20)
        assert tokens == expected[0]
        for found, wanted in zip(numbers, expected[1], strict=True):
            assert found[0] == pytest.approx(wanted[0], abs=1e-5)
        assert not one.replays
    assert [r.recordings for r in made] == [1]


def test_when_memory_runs_out_while_recording_fewer_rows_write_at_once(recorded):
    made, how = recorded
    prompts = tiny.prompts(8)
    how["recorder"] = None
    expected, _ = drawn(network("llama", [999]), prompts, new_tokens=20)

    def cramped(work, device):
        if len(made) == 1:
            raise torch.OutOfMemoryError("no room for a recording")
        return traced(work, device)

    how["recorder"] = cramped
    assert drawn(network("llama", [999]), prompts, new_tokens=20)[0] == expected
    assert len(made) > 1


def test_what_wrote_is_gone_when_it_has_written(recorded):
    """Without waiting for Python to look for circles: a GPU's memory is not what makes it look."""
    made, _ = recorded
    gc.collect()
    gc.disable()
    try:
        drawn(network("llama", [999]), tiny.prompts(3), new_tokens=20)
        caches = [weakref.ref(r.cache) for r in made]
        assert made.pop().recordings
        del made[:]
        assert [cache() for cache in caches] == [None]
    finally:
        gc.enable()
