"""Small jobs outside a run: sampling to a file, talking to a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from heedful.jobs.workspace import Source, open_alone, prompt_limit
from heedful.progress import Progress
from heedful.records import Prompt, write_jsonl
from heedful.settings import ModelSettings, Settings


def open_writer(model: str, temperature: float, max_new_tokens: int) -> Callable[[str, int], str]:
    """A function from prompt and seed to a completion; chat models get the prompt through their template."""
    from heedful.engines.base import Sampling, decode
    from heedful.engines.sampling import LocalSampler
    from heedful.prompts.chat import render

    network = open_alone(ModelSettings(path=model))
    sampler = LocalSampler(network)
    sampling = Sampling(max_new_tokens, temperature or 1.0, greedy=temperature == 0)

    def write(text: str, seed: int) -> str:
        prompt: Any = [{"role": "user", "content": text}] if getattr(network.tokenizer, "chat_template", None) else text
        [drawn] = sampler.sample([render(prompt, network.tokenizer, network.encoder_decoder)], sampling, [seed])
        return decode(network.tokenizer, [drawn.token_ids])[0]

    return write


def sample_file(settings: Settings, source: Source, output: Path, progress: Progress) -> dict[str, Any]:
    """Completions of the training prompts of the settings, as JSON lines."""
    from heedful.completions.sample import sample_completions
    from heedful.engines.base import Sampling
    from heedful.engines.sampling import LocalSampler
    from heedful.prompts.chat import encode_prompts

    chosen, network = settings.completions, open_alone(settings.model)
    prompts: list[Prompt] = source.prompts()["train"][: chosen.prompts]
    limit = prompt_limit(settings, network)
    ids, report = encode_prompts(prompts, network.tokenizer, network.encoder_decoder, limit, settings.prompts.too_long)
    if report.too_long:
        progress.say(report.sentence())
    kept = [prompts[i] for i in report.kept]
    sampling = Sampling(chosen.max_new_tokens, chosen.temperature, chosen.top_p)
    found = sample_completions(
        LocalSampler(network, say=progress.say),
        network.tokenizer,
        kept,
        ids,
        sampling,
        per_prompt=chosen.per_prompt,
        seed=settings.seed,
        model="instruct",
        progress=progress,
    )
    counts = {"completions": len(found), "prompts": len(kept), "too_long": report.too_long}
    return {**counts, "file": str(output), "sha256": write_jsonl(output, found)}
