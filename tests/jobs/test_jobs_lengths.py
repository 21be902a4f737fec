"""What fits before a model, in every job: the context is never left, cuts are counted and said, and refused where that was asked for."""

from __future__ import annotations

import json
from functools import partial

import pytest

import tiny
from heedful.engines.base import Batch
from heedful.errors import DataProblem
from heedful.jobs import reward
from heedful.jobs.data import build_pairs
from heedful.jobs.sft import fine_tune, load_demonstrations
from heedful.jobs.standalone import sample_file
from heedful.prompts.budget import Budget
from heedful.records import Pair, Prompt, write_jsonl

CONTEXT = 64


def words(first, n):
    return " ".join(f"w{(first + i) % 26}" for i in range(n))


def ids(first, n):
    return [len(tiny.SPECIAL) + (first + i) % 26 for i in range(n)]


def pairs(ws, *rows):
    """A pairs file of the workspace's settings."""
    write_jsonl(ws.run.folder.parent / "pairs.jsonl", [Pair(*row, prompt_id=str(i)) for i, row in enumerate(rows)])


@pytest.fixture
def learns(workspace, tmp_path):
    return lambda kind, *more: workspace(kind, "reward.kind=pairs", f"reward.path={tmp_path / 'pairs.jsonl'}", "reward.batch_size=2", *more)


@pytest.mark.parametrize(
    ("prompt", "completion", "kept_prompt", "kept_completion"),
    [(10, 9, 10, 10), (14, 9, 10, 10), (14, 14, 10, 10), (4, 30, 4, 16), (30, 3, 16, 4)],
)
def test_a_reward_model_sees_prompt_and_completion_within_one_budget(learns, prompt, completion, kept_prompt, kept_completion):
    """``reward.max_tokens`` is for both together; the end token, which the score is read at, stays."""
    ws = learns("llama", "reward.max_tokens=20")
    _, encode = reward.reward_learner(ws, "reward")
    found = encode(Pair(words(0, prompt), words(5, completion), "w1"), True)
    assert found == (ids(0, prompt)[-kept_prompt:], [*ids(5, completion)[: kept_completion - 1], tiny.END])
    assert (encode.too_long.over, encode.too_long.rows) == (int(prompt + completion + 1 > 20), 1)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "t5"])
def test_a_reward_model_is_learnt_from_pairs_beyond_the_context(learns, kind):
    """GPT-2 has no position for a token beyond its context, and would fail."""
    ws = learns(kind)
    pairs(ws, *[(words(i, 60 + i), words(i + 1, 90), words(i + 2, 3)) for i in range(12)])
    ws.stage("pairs", build_pairs)
    found = ws.stage("reward", partial(reward.learn_reward, roles=("reward",)), "pairs")
    said = "\n".join(ws.progress.said)
    if kind == "t5":  # has no last position
        assert found["too_long"] == 0
    else:
        assert found["too_long"] == 24
        assert "24 of 24 completions with their prompts were too long for reward.max_tokens, or for the model, and were cut." in said


def test_a_reward_model_on_another_base_counts_what_it_cuts(learns, tmp_path):
    tiny.bert_classifier().save_pretrained(tmp_path / "encoder")
    tiny.tokenizer(pairs=True).save_pretrained(tmp_path / "encoder")
    ws = learns("llama", f"reward.base={tmp_path / 'encoder'}", "reward.max_tokens=10")
    _, encode = reward.reward_learner(ws, "reward")
    exact, over = Pair("w1 w2 w3", "w4 w5 w6 w7", ""), Pair("w1 w2 w3", "w4 w5 w6 w7 w8", "")
    for pair, counted in ((exact, 0), (over, 1)):  # three special tokens
        prompt, completion = encode(pair, True)
        assert (len(prompt) + len(completion), encode.too_long.over) == (10, counted)


def test_what_is_scored_is_cut_as_what_was_learnt(learns):
    """A row of the policy that is longer than ``reward.max_tokens`` is scored as the very ids that a pair of these texts becomes."""
    ws = learns("llama", "reward.max_tokens=20", "lora.enabled=false")
    _, encode = reward.reward_learner(ws, "reward")
    prompts = [Prompt("a", words(0, 30)), Prompt("b", words(3, 4))]
    learnt = [encode(Pair(p.prompt, words(5, n), ""), True) for p, n in zip(prompts, (6, 3), strict=True)]
    policy = Batch([ids(0, 30), ids(3, 4)], [[*ids(5, 6), tiny.END], [*ids(5, 3), tiny.END]])
    fitted = reward.fitting(reward.reward_budget(ws))(prompts, policy)
    assert list(zip(fitted.prompt_ids, fitted.completion_ids, strict=True)) == learnt
    short = Batch([ids(3, 4)], [[*ids(5, 3), tiny.END]])
    assert reward.fitting(reward.reward_budget(ws))([prompts[1]], short) is short


def demonstrations(tmp_path, *lengths):
    path = tmp_path / "demonstrations.jsonl"
    rows = [{"prompt": words(i, p), "reference": words(i + 3, r), "id": f"row-{i}", "s": s} for i, (p, r, s) in enumerate(lengths)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [f"prompts.path={path}", "prompts.split_column=s", "prompts.validation=1", "prompts.test=0", "sft.batch_size=2"]


def test_sft_learns_within_the_models_context_from_frozen_files(workspace, tmp_path):
    """Counted and said; 100 words of GPT-2's prompt become what its 64 positions leave beside the answer."""
    settings = demonstrations(tmp_path, (100, 5, "train"), (5, 5, "train"), (5, 100, "train"), (9, 5, "validation"))
    ws = workspace("gpt2", *settings)
    frozen = ws.stage("prompts", load_demonstrations)
    assert frozen["splits"]["train"] == {"demonstrations": 3, "too_long": 2, "sha256": frozen["splits"]["train"]["sha256"]}
    assert "2 of 3 train demonstrations were too long for sft.max_tokens, or for the model, and were cut." in ws.progress.said
    (tmp_path / "demonstrations.jsonl").write_text("")  # training reads the run's own files, whatever became of the source
    found = ws.stage("sft", fine_tune, "prompts")
    assert found["demonstrations"] == 3
    assert json.loads((ws.run.folder / "stages/sft.json").read_text())["inputs"].keys() == {"prompts"}


def test_sft_cuts_as_told_and_keeps_the_end_token_of_whole_answers(workspace):
    from heedful.jobs.sft import _encode

    budget = Budget.of(workspace("llama").policy_alone, 20)
    prompts, answers = _encode([Prompt("a", words(0, 30), [words(5, 4)]), Prompt("b", words(0, 4), [words(5, 40)])], budget)
    assert (prompts, answers) == ([ids(0, 30)[-15:], ids(0, 4)], [[*ids(5, 4), tiny.END], ids(5, 16)])


@pytest.mark.parametrize(("chosen", "kept"), [("drop", ["row-1"]), ("truncate", ["row-0", "row-1"])])
def test_sft_handles_what_is_too_long_as_set(workspace, tmp_path, chosen, kept):
    settings = demonstrations(tmp_path, (30, 5, "train"), (5, 5, "train"), (5, 5, "validation"))
    ws = workspace("llama", *settings, "sft.max_tokens=20", f"prompts.too_long={chosen}")
    ws.stage("prompts", load_demonstrations)
    assert [p.id for p in ws.prompts("train")] == kept
    assert f"were {'left out' if chosen == 'drop' else 'cut'}." in ws.progress.said[0]


def test_sft_refuses_what_is_too_long_where_that_is_set(workspace, tmp_path):
    settings = demonstrations(tmp_path, (30, 5, "train"), (5, 5, "train"), (5, 5, "validation"))
    ws = workspace("llama", *settings, "sft.max_tokens=20", "prompts.too_long=refuse")
    with pytest.raises(DataProblem, match="the prompt 'row-0' and its reference are longer than 20 tokens"):
        ws.stage("prompts", load_demonstrations)
    every = workspace("llama", *settings, "sft.max_tokens=4", "prompts.too_long=drop")
    with pytest.raises(DataProblem, match="every one of the 2 train demonstrations is too long"):
        load_demonstrations(every, tmp_path)


def test_samples_outside_a_run_are_asked_with_the_runs_own_prompts(workspace, tmp_path):
    """The context less the room for a completion, as a run cuts; and what was cut is said."""
    settings = demonstrations(tmp_path, (100, 1, "train"), (5, 1, "train"), (5, 1, "validation"))
    ws = workspace("gpt2", *settings, "completions.per_prompt=1", "completions.prompts=2", "prompts.too_long=truncate")
    found = sample_file(ws.settings, ws.source, tmp_path / "drawn.jsonl", ws.progress)
    assert (found["completions"], found["too_long"]) == (2, 1)
    assert f"1 of 2 prompts are longer than {CONTEXT - 8} tokens (up to 100) and were cut." in ws.progress.said
