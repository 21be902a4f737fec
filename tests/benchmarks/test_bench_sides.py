"""The two sides of a row: what both read, heedful's side, and whether they agree."""

from __future__ import annotations

import json

import pytest
import torch

import tiny
from benchmarks import flops, gpu, meter, texts
from benchmarks.curves import Point, cost, short
from benchmarks.peers.__main__ import Contest
from benchmarks.peers.agreement import largest_gaps
from benchmarks.peers.rows import ROWS, TOLERANCE
from heedful.engines.base import Sampling
from heedful.engines.local import LocalLearner
from heedful.policy.sft import SFTLoss


@pytest.fixture(params=["real", "made up"])
def tokenizer(request, monkeypatch, tmp_path):
    """Learnt on the development data, where it is, and on made-up texts."""
    if request.param == "real":
        request.getfixturevalue("shared")
    else:
        monkeypatch.setenv("HEEDFUL_SHARED", str(tmp_path))
    return texts.make_tokenizer(400)


def test_texts_are_what_the_rows_say(tokenizer):
    prompts = texts.prompts(tokenizer, 40, 24, 160)
    lengths = [len(ids) for ids in prompts]
    assert min(lengths) >= 24
    assert max(lengths) <= 160
    assert max(lengths) - min(lengths) > 60
    assert all(tokenizer.encode(tokenizer.decode(ids)).ids == ids for ids in prompts)
    pairs = texts.pairs(tokenizer, 40, 256)
    assert len({pair["prompt"] for pair in pairs}) == 40
    for pair in pairs:
        for side in ("chosen", "rejected"):
            whole = pair["prompt_ids"] + pair[f"{side}_ids"]
            assert whole == [*tokenizer.encode(pair["prompt"] + pair[side]).ids, texts.END]
            assert len(whole) <= 256


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_a_metered_learner_is_the_learner(kind):
    """The same numbers as without a meter, and what they cost beside them."""
    network, batch = tiny.network(kind), tiny.batch()
    plain, watched = LocalLearner(network), meter.Meter()
    shape = flops.shape_of(tiny.language_model(kind))
    learner = meter.MeteredLearner(plain, shape, watched)
    torch.testing.assert_close(learner.evaluate(batch, "reference").logprobs, plain.evaluate(batch, "reference").logprobs)
    rows = flops.rows_of(batch.prompt_ids, batch.completion_ids)
    assert watched.operations == {"sampling": 0, "scoring": flops.forward(shape, rows), "learning": 0}
    loss = learner.forward_backward(batch, SFTLoss())["loss"]
    assert learner.step()["grad_norm"] > 0
    assert loss > 0
    assert watched.operations["learning"] == 2 * flops.forward(shape, rows)  # under adapters weights are frozen
    drawn = learner.sampler().sample(batch.prompt_ids, Sampling(5), range(6))
    assert watched.tokens["sampling"] == sum(len(s.token_ids) for s in drawn)
    assert all(seconds > 0 for seconds in watched.seconds.values())
    watched.clear()
    assert watched.report() == {name: dict.fromkeys(meter.PHASES, 0) for name in ("phases", "operations", "tokens")}


def test_a_share_of_the_limit_of_decoding_is_the_longer_of_bytes_and_operations():
    step = flops.DecodingStep(seconds=4.0, operations=100.0, bytes=60.0, rows=32)
    assert step.share(rate=100.0, bandwidth=20.0) == 0.75
    assert step.share(rate=50.0, bandwidth=60.0) == 0.5


def test_a_decoding_step_is_measured():
    step = meter.decoding_step(
        LocalLearner(tiny.network("llama", lora=False)), flops.shape_of(tiny.language_model("llama")), [[7, 8]] * 3, 9
    )
    assert step.rows == 3
    assert 0 < step.seconds < 1
    assert step.bytes > 4 * flops.shape_of(tiny.language_model("llama")).decoded_weights


def test_the_largest_gap_is_found_and_missing_numbers_are_not_overlooked():
    assert largest_gaps({"a": [[1, 2], [3]], "b": 1.0}, {"a": [[1, 2.5], [2.75]], "b": 1.0}) == {"a": 0.5, "b": 0.0}
    with pytest.raises(SystemExit, match="the peer computed"):
        largest_gaps({"a": 1.0}, {"b": 1.0})
    with pytest.raises(ValueError, match="shorter"):
        largest_gaps({"a": [1, 2]}, {"a": [1]})


def test_a_point_of_a_curve():
    small = Point(prompts=2, prompt_length=4, new_tokens=4, hidden=64, vocabulary=64, layers=1)
    taken = cost(small)
    assert taken["sampling"] > 0
    assert taken["learning"] > 0
    assert taken["parameters"] == 64 * 64 * (1 + 4) + 3 * 64 * 170 + 3 * 64
    assert [short(x) for x in (512, 151936, 13_800_000)] == ["512", "152k", "13.8M"]


def test_the_gpu_script_on_a_processor(capsys, tmp_path):
    gpu.main(["--tiny", "--device", "cpu", "--contestants", "ppo,grpo", "--output", str(tmp_path / "gpu.json")])
    lines = capsys.readouterr().out.splitlines()
    found = json.loads(lines[-1])
    assert found == json.loads((tmp_path / "gpu.json").read_text())
    assert [row["contestant"] for row in found["contestants"]] == ["ppo", "grpo"]
    for row in found["contestants"]:
        assert min(row[name] for name in ("seconds", "sampling", "learning", "operations")) > 0
        assert row["utilisation"] == pytest.approx(row["operations"] / found["rate"])
    assert sum(line.startswith("| tiny |") for line in lines) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ROWS))
def test_both_sides_compute_the_same(name):
    """Every row's check, in the peer's own environment, where ``make bench`` has made it."""
    row = ROWS[name]
    if not row.environment.python.exists():
        pytest.skip(f"needs the environment {row.environment.name} (make bench)")
    contest = Contest(row, "smoke", [])
    contest.prepare()
    found = contest.check()
    assert all(max(gaps.values()) <= TOLERANCE[precision] for precision, gaps in found.items())
    assert max(found["bfloat16"].values()) > max(found["float32"].values())
