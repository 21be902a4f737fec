"""Pairs as token ids: what fits, what is cut, and what is said of it; how good the policy is on held-out pairs."""

from __future__ import annotations

import pytest
import torch

import tiny
from heedful.engines.local import LocalLearner
from heedful.jobs.dpo import encode_pairs, quality
from heedful.policy.dpo import completion_logprobs
from heedful.records import Completion, Pair, write_jsonl

PAIRS = ("reward.kind=pairs", "reward.path=pairs.jsonl", "policy.algorithm=dpo")


def words(first, n):
    return " ".join(f"w{(first + i) % 26}" for i in range(n))


def ids(first, n):
    return [len(tiny.SPECIAL) + (first + i) % 26 for i in range(n)]


def test_two_rows_a_pair_the_chosen_one_first_with_the_end_token(workspace):
    ws = workspace("llama", *PAIRS)
    found = encode_pairs(ws, [Pair(words(0, 3), words(3, 2), words(9, 1), p=0.8), Pair(words(1, 1), words(2, 1), words(4, 2))])
    assert found.prompt_ids == [ids(0, 3)] * 2 + [ids(1, 1)] * 2
    assert found.completion_ids == [[*ids(3, 2), tiny.END], [*ids(9, 1), tiny.END], [*ids(2, 1), tiny.END], [*ids(4, 2), tiny.END]]
    assert found.groups == [0, 0, 1, 1]
    assert found.columns["p"].tolist() == pytest.approx([0.8, 0.8, 1.0, 1.0])
    assert ws.progress.said == []


@pytest.mark.parametrize(
    ("prompt", "completion", "kept_prompt", "kept_completion"),
    [
        (10, 9, 10, 10),  # 20 tokens with the end token fit
        (14, 9, 10, 10),  # the prompt gives way, from its beginning
        (14, 14, 10, 10),  # but to no less than half, then the completion is cut
        (4, 30, 4, 16),  # a short prompt stays whole
        (30, 3, 16, 4),
    ],
)
def test_a_pair_that_is_too_long_is_cut(workspace, prompt, completion, kept_prompt, kept_completion):
    ws = workspace("llama", *PAIRS, "dpo.max_tokens=20")
    [one, other] = encode_pairs(ws, [Pair(words(0, prompt), words(5, completion), words(7, 1))]).completion_ids
    found = encode_pairs(ws, [Pair(words(0, prompt), words(5, completion), words(7, 1))])
    assert found.prompt_ids == [ids(0, prompt)[-kept_prompt:]] * 2, "both rows have one and the same prompt"
    assert one == [*ids(5, completion), tiny.END][:kept_completion], "a completion that was cut does not end with an end token"
    assert other == [*ids(7, 1), tiny.END]
    told = prompt + completion + 1 > 20
    assert ws.progress.said == ["1 of 1 pairs were too long for dpo.max_tokens, or for the model, and were cut."] * 2 * told


def test_a_models_context_is_never_left(workspace):
    """Prompts are as long as when it samples: 64 tokens less room for 8."""
    ws = workspace("llama", *PAIRS)
    found = encode_pairs(ws, [Pair(words(0, 100), words(5, 100), words(7, 1)), Pair(words(0, 60), words(5, 1), words(7, 1))])
    assert [len(p) + len(c) for p, c in zip(found.prompt_ids, found.completion_ids, strict=True)] == [64, 34, 58, 58]
    assert "2 of 2 pairs" in ws.progress.said[0]


def test_an_encoder_decoder_has_a_context_for_each(workspace):
    ws = workspace("t5", *PAIRS, "dpo.max_tokens=20")
    found = encode_pairs(ws, [Pair(words(0, 18), words(5, 30), words(7, 1))])
    assert [len(ids) for ids in found.prompt_ids] == [18, 18]
    assert [len(ids) for ids in found.completion_ids] == [20, 2]


def test_completions_that_the_run_sampled_keep_their_very_tokens(workspace):
    """Also where the text would be encoded otherwise, and where it was cut off and has no end token."""
    ws = workspace("llama", *PAIRS, "reward.kind=learn", "feedback.source=rankings", "feedback.path=r.jsonl")
    drawn = Completion("p:0", "p", words(3, 2), [7, 7, 7], "length", 0, "instruct")
    ws.folder("completions").mkdir()
    write_jsonl(ws.folder("completions") / "completions.jsonl", [drawn])
    found = encode_pairs(ws, [Pair(words(0, 3), words(3, 2), words(9, 1), chosen_id="p:0", rejected_id="p:9")])
    assert found.completion_ids == [[7, 7, 7], [*ids(9, 1), tiny.END]]


def test_quality_is_counted_on_implicit_rewards_and_on_log_probabilities(workspace):
    ws = workspace("llama", *PAIRS)
    pairs = [Pair(words(i, 2), words(2 * i, 3), words(3 * i, 1 + i % 3)) for i in range(12)]
    batch = encode_pairs(ws, pairs)
    learner = LocalLearner(tiny.shake(ws.network))
    reference, policy = (completion_logprobs(learner, batch, role) for role in ("reference", "policy"))
    found = quality(learner, pairs, batch.with_columns(reference=reference), beta=0.3)

    def share(x: torch.Tensor) -> float:
        return float((x[::2] > x[1::2]).float().mean())

    assert found["accuracy"]["estimate"] == pytest.approx(share(policy - reference))
    assert found["likelier_before"]["estimate"] == pytest.approx(share(reference))
    assert found["likelier_after"]["estimate"] == pytest.approx(share(policy))
    assert found["longer_wins"]["estimate"] == pytest.approx((8 + 0.5 * 4) / 12)
    gap = 0.3 * (policy - reference)[::2] - 0.3 * (policy - reference)[1::2]
    assert found["calibration"]["nll"] == pytest.approx(float(-torch.nn.functional.logsigmoid(gap).mean()), rel=1e-4)
    assert found["accuracy"]["low"] < found["accuracy"]["estimate"] < found["accuracy"]["high"]
