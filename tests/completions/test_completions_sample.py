"""Several completions per prompt: their order, their seeds, and what is kept of each."""

from __future__ import annotations

import tiny
from heedful.completions.sample import completion_seed, sample_completions
from heedful.engines.base import Sampling
from heedful.engines.sampling import LocalSampler
from heedful.progress import SilentProgress
from heedful.records import Prompt

HOW = Sampling(7, temperature=0.9, top_p=0.95)


def sample(names, *, per_prompt=3, seed=4, per_batch=64):
    prompts = [Prompt(name, f"w{name}") for name in names]
    ids = [[6 + int(name), 9, 10][: 1 + int(name) % 3] for name in names]
    return sample_completions(
        LocalSampler(tiny.network("llama")), tiny.tokenizer(), prompts, ids, HOW, per_prompt=per_prompt, seed=seed, model="instruct",
        progress=SilentProgress(), prompts_per_batch=per_batch,
    )  # fmt: skip


def test_every_prompt_has_its_completions_in_order():
    found = sample(["1", "2", "3"])
    assert [c.id for c in found] == [f"{p}:instruct:{k}" for p in "123" for k in range(3)]
    assert [c.prompt_id for c in found] == [p for p in "123" for _ in range(3)]
    assert len({c.seed for c in found}) == 9


def test_more_prompts_fewer_prompts_and_other_batches_change_no_completion():
    found = sample(["1", "2", "3", "4", "5"])
    assert sample(["1", "2", "3", "4", "5"], per_batch=2) == found
    assert sample(["3", "5"]) == [c for c in found if c.prompt_id in "35"]
    fewer = sample(["1", "2", "3", "4", "5"], per_prompt=1)
    assert fewer == [c for c in found if c.id.endswith(":0")]


def test_another_seed_draws_others():
    assert [c.token_ids for c in sample(["1", "2"], seed=5)] != [c.token_ids for c in sample(["1", "2"])]


def test_ids_are_the_truth_and_text_is_derived_from_them():
    tokenizer = tiny.tokenizer()
    for c in sample([str(i) for i in range(8)]):
        assert c.text == tokenizer.decode(c.token_ids, skip_special_tokens=True).strip()
        assert c.finish_reason == ("stop" if c.token_ids[-1] == tiny.END else "length")
        assert len(c.token_ids) <= 7
        assert c.sampling == {"max_new_tokens": 7, "temperature": 0.9, "top_p": 0.95, "top_k": 0, "greedy": False}
        assert c.model == "instruct"


def test_a_recorded_seed_alone_gives_the_completion_again():
    one = sample(["1", "2", "4"])[4]
    [again] = LocalSampler(tiny.network("llama")).sample([[8, 9, 10]], HOW, [one.seed])
    assert again.token_ids == one.token_ids


def test_seeds_of_prompts_numbers_and_runs_differ():
    seeds = [completion_seed(run, name, k) for run in range(3) for name in ("", "a", "b", "ab", "ba", "ä", "1", "11") for k in range(4)]
    assert len(set(seeds)) == len(seeds)
