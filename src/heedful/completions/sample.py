"""Several completions per prompt, each with its ids, seed and the reason why it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from heedful.engines.base import Sampler, Sampling, decode
from heedful.progress import Progress
from heedful.records import Completion, Prompt


def sample_completions(
    sampler: Sampler,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    prompt_ids: Sequence[Sequence[int]],
    sampling: Sampling,
    *,
    per_prompt: int,
    seed: int,
    model: str,
    progress: Progress,
    title: str = "Completions",
    prompts_per_batch: int = 64,
) -> list[Completion]:
    """``per_prompt`` completions of every prompt, in prompt order.

    The seed of a completion comes from the run's seed, the prompt's id and its number: sampling
    more prompts, or fewer, never changes one.
    """
    found: list[Completion] = []
    with progress.track(len(prompts), title) as bar:
        for start in range(0, len(prompts), prompts_per_batch):
            part = range(start, min(start + prompts_per_batch, len(prompts)))
            rows = [(i, k) for i in part for k in range(per_prompt)]
            seeds = [completion_seed(seed, prompts[i].id, k) for i, k in rows]
            drawn = sampler.sample([prompt_ids[i] for i, _ in rows], sampling, seeds)
            texts = decode(tokenizer, [d.token_ids for d in drawn])
            for (i, k), one, text in zip(rows, drawn, texts, strict=True):
                name = f"{prompts[i].id}:{model}:{k}"
                found.append(Completion(name, prompts[i].id, text, one.token_ids, one.finish_reason, one.seed, model, asdict(sampling)))
            bar.advance(len(part))
    return found


def completion_seed(seed: int, prompt_id: str, number: int) -> int:
    """A 64-bit seed from the run's seed, a prompt's id and the completion's number."""
    return int(np.random.SeedSequence([seed, number, *prompt_id.encode()]).generate_state(1, np.uint64)[0])
