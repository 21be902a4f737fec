"""Held-out evaluation while the policy learns, and which weights are kept of it; sums and seeds by hand on a tiny model."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

import tiny
from heedful.jobs.policy import held_out, policy_learner, reinforce, reopen
from heedful.records import Prompt, write_jsonl

LOOP = ("ppo.max_steps=3", "ppo.batch_size=6", "ppo.minibatch_size=3", "ppo.learning_rate=0.05", "stopping.evaluate_every=1")


@pytest.fixture
def chosen(tmp_path, workspace):
    """The settings of a run that is rewarded for long completions, with the prompts of every split in place."""
    (tmp_path / "rewards.py").write_text("def length(prompts, completions):\n    return [len(c) for c in completions]\n")
    settings = [
        "reward.kind=function",
        f"reward.path={tmp_path}/rewards.py:length",
        "stopping.samples_per_prompt=2",
        "model.precision=float32",
        *LOOP,
    ]
    ws = workspace("llama", *settings)
    for split, words in (("train", "w1 w2"), ("validation", "w3"), ("test", "w4 w5 w6")):
        write_jsonl(ws.folder("prompts") / f"{split}.jsonl", [Prompt(f"{split}{n}", f"w{n} {words}") for n in range(5)])
    return settings


class Judge:
    """A reward that remembers what it was asked about."""

    def score(self, prompts, texts, batch):
        self.prompts, self.batch = list(prompts), batch
        return [float(len(ids)) for ids in batch.completion_ids]


def nats(network, batch) -> torch.Tensor:
    """KL of each completion by the plain Hugging Face models, one row at a time: the sum over its tokens."""
    found = []
    for prompt, completion in zip(batch.prompt_ids, batch.completion_ids, strict=True):
        ids = torch.tensor([[*prompt, *completion]])
        with torch.no_grad():
            policy, reference = (
                tiny.oracle(network, role)(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1) for role in ("policy", "reference")
            )
        taken = torch.tensor(completion)[:, None]
        found.append((policy.gather(1, taken) - reference.gather(1, taken)).sum())
    return torch.stack(found)


def test_held_out_figures_are_of_validation_prompts_and_kl_is_a_sum_over_tokens(workspace, chosen):
    ws, judge = workspace("llama", *chosen), Judge()
    tiny.shake(ws.network, by=0.3)
    measured = held_out(ws, policy_learner(ws), judge)
    found = measured(0)
    assert [p.id for p in judge.prompts] == [f"validation{n}" for n in range(5) for _ in range(2)]
    lengths = torch.tensor([float(len(ids)) for ids in judge.batch.completion_ids])
    assert lengths.max() > 2, "else a sum and a mean are the same"
    expected = nats(ws.network, judge.batch)
    assert found["kl"] == pytest.approx(float(expected.mean()), rel=1e-4)
    assert found["kl_se"] == pytest.approx(float(expected.std() / 10**0.5), rel=1e-3)
    assert found["score"] == found["length"] == pytest.approx(float(lengths.mean()))


def test_every_evaluation_draws_with_the_same_seeds_and_each_row_with_its_own(workspace, chosen):
    ws, judge = workspace("llama", *chosen), Judge()
    measured = held_out(ws, policy_learner(ws), judge)
    first, drawn = measured(0), judge.batch.completion_ids
    assert measured(7) == first
    assert judge.batch.completion_ids == drawn
    assert any(drawn[2 * n] != drawn[2 * n + 1] for n in range(5)), "two completions of a prompt are two draws"


@pytest.mark.parametrize(("metric", "direction"), [("kl", "below"), ("score", "above")])
def test_the_best_weights_are_kept_and_not_the_last(workspace, chosen, metric, direction):
    """By KL the best is where it began; whichever it is, what is kept gives its figure again."""
    settings = [*chosen, f"stopping.metric={metric}", f"stopping.direction={direction}", "stopping.kl_budget=none"]
    ws = workspace("llama", *settings)
    folder = ws.folder("policy")
    folder.mkdir()
    result = reinforce(ws, folder)
    best = {"below": min, "above": max}[direction](result["history"], key=lambda row: row[metric])
    assert (result["best_step"], result["best"]) == (best["step"], best[metric])
    again = workspace("llama", *settings)
    learner = policy_learner(again)
    learner.load(folder / "state")
    figure = {"kl": "kl", "score": "length"}[metric]
    assert held_out(again, learner, Judge())(0)[figure] == pytest.approx(best[figure], abs=1e-5)
    if metric == "kl":
        assert (best["step"], result["history"][-1]["kl"] > 0.01) == (0, True)
        saved, began = AutoModelForCausalLM.from_pretrained(folder / "model"), tiny.language_model("llama")
        for name, weight in began.state_dict().items():
            torch.testing.assert_close(saved.state_dict()[name], weight, msg=name)


def test_a_finished_policy_goes_on_where_more_steps_are_allowed_and_only_there(workspace, chosen):
    """In its own folder, from its last step on; a limit below what was done changes nothing."""

    def learn(steps):
        ws = workspace("llama", *chosen, "stopping.kl_budget=none", f"ppo.max_steps={steps}")
        reopen(ws)
        return ws.stage("policy", reinforce), ws.progress.said

    first, _ = learn(2)
    assert (first["steps"], first["stopped_by"]) == (2, "max_steps")
    more, said = learn(4)
    assert (more["steps"], more["stopped_by"]) == (4, "max_steps")
    assert "Going on from PPO step 2." in said
    assert more["history"][: len(first["history"])] == first["history"]
    assert learn(3)[0] == learn(4)[0] == more
    assert not workspace("llama", *chosen).folder("policy.1").exists()
