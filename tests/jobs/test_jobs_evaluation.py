"""The proof, on a tiny model: which prompts, which seeds, which weights, whose win, and KL as a sum; each worked out once more."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from heedful.jobs.evaluation import evaluate
from heedful.jobs.policy import policy_learner
from heedful.jobs.sources import FileSource
from heedful.records import Prompt, read_jsonl, write_jsonl

PROMPTS = 12
SAMPLES = 2


class Asked(FileSource):
    """A source whose labelers like the letter 1; they are asked of both models' texts."""

    def preferences(self, prompts, before, after):
        return [1.0 if b.count("1") < a.count("1") else 0.25 for b, a in zip(before, after, strict=True)]


@pytest.fixture
def evaluated(tmp_path, workspace):
    """The evaluation stage done, on a policy whose weights were moved by so much; its figures, rows before, rows after, network."""
    (tmp_path / "rewards.py").write_text("def ones(prompts, completions):\n    return [c.count('1') for c in completions]\n")
    settings = ["reward.kind=function", f"reward.path={tmp_path}/rewards.py:ones", f"evaluation.samples_per_prompt={SAMPLES}"]

    def run(moved: float, source: Any = FileSource) -> Any:
        chosen = ("llama", *settings, "model.precision=float32")
        ws = workspace(*chosen, source=source)
        for number, split in enumerate(("train", "validation", "test")):
            write_jsonl(ws.folder("prompts") / f"{split}.jsonl", [Prompt(f"{split}{n}", f"w{n} w{number}") for n in range(PROMPTS)])
        trained = tiny.shake(ws.network, by=moved)
        policy_learner(ws).save(ws.folder("policy") / "state")
        ws.folder("evaluation").mkdir()
        found = evaluate(workspace(*chosen, source=source), ws.folder("evaluation"))  # as another process, with nothing in memory
        before, after = (list(read_jsonl(ws.folder("evaluation") / f"{name}.jsonl")) for name in ("before", "after"))
        return found, before, after, trained

    return run


def ones(rows: list[dict[str, Any]]) -> list[int]:
    return [row["text"].count("1") for row in rows]


def test_both_models_answer_the_test_prompts_with_the_same_seeds(evaluated):
    found, before, after, _ = evaluated(0.0)
    assert [row["prompt_id"] for row in before] == [f"test{n}" for n in range(PROMPTS) for _ in range(SAMPLES)]
    assert len({row["seed"] for row in before}) == PROMPTS * SAMPLES
    assert [(row["seed"], row["token_ids"]) for row in after] == [(row["seed"], row["token_ids"]) for row in before], "weights are the same"
    [score] = [row for row in found["comparison"] if row["name"] == "score"]
    assert (score["difference"]["estimate"], score["difference"]["low"], score["difference"]["high"]) == (0, 0, 0)
    assert found["kl"]["estimate"] == pytest.approx(0, abs=1e-5)


def test_the_trained_weights_are_loaded_and_kl_is_a_sum_over_tokens(evaluated):
    found, before, after, trained = evaluated(0.4)
    assert [row["token_ids"] for row in after] != [row["token_ids"] for row in before]
    policy, reference = tiny.oracle(trained, "policy"), tiny.oracle(trained, "reference")
    nats = []
    for row in after:
        prompt = tiny.tokenizer()(f"w{row['prompt_id'].removeprefix('test')} w2")["input_ids"]
        ids, taken = torch.tensor([[*prompt, *row["token_ids"]]]), torch.tensor(row["token_ids"])[:, None]
        with torch.no_grad():
            logprobs = [model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1).gather(1, taken).sum() for model in (policy, reference)]
        nats.append(float(logprobs[0] - logprobs[1]))
    assert max(len(row["token_ids"]) for row in after) > 2, "else a sum and a mean are the same"
    assert found["kl"]["estimate"] == pytest.approx(sum(nats) / len(nats), rel=1e-3)


def test_a_win_is_the_aligned_models(evaluated):
    """By the reward each of its completions meets each of the other's."""
    found, before, after, _ = evaluated(0.4)
    one, other = ones(before), ones(after)
    wins = []
    for start in range(0, PROMPTS * SAMPLES, SAMPLES):
        meetings = [(a > b) + (a == b) / 2 for a in other[start : start + SAMPLES] for b in one[start : start + SAMPLES]]
        wins.append(sum(meetings) / len(meetings))
    rate = sum(wins) / len(wins)
    assert abs(rate - 0.5) > 0.02, "else the sides could be swapped unseen"
    assert found["win_rate"]["judge"] == "reward function"
    assert found["win_rate"]["estimate"] == pytest.approx(rate)
    [score] = [row for row in found["comparison"] if row["name"] == "score"]
    assert (score["before"]["estimate"], score["after"]["estimate"]) == pytest.approx((sum(one) / len(one), sum(other) / len(other)))


def test_labelers_who_can_be_asked_decide_instead(evaluated):
    found, before, after, _ = evaluated(0.4, Asked)
    said = [1.0 if b < a else 0.25 for b, a in zip(ones(before), ones(after), strict=True)]
    assert found["win_rate"]["judge"] == "labelers"
    assert found["win_rate"]["estimate"] == pytest.approx(sum(said) / len(said))
