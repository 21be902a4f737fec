"""Small jobs outside a run: sampling to a file, talking to a model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from heedful.jobs.workspace import Source
from heedful.progress import Progress
from heedful.records import Prompt, write_jsonl
from heedful.settings import ModelSettings, Settings


def open_writer(model: str, temperature: float, max_new_tokens: int) -> Callable[[str, int], str]:
    """A function from prompt and seed to a completion; chat models get the prompt through their template."""
    from heedful.engines.base import Sampling, decode
    from heedful.engines.sampling import LocalSampler
    from heedful.prompts.chat import render

    network = _open(ModelSettings(path=model))
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

    chosen, network = settings.completions, _open(settings.model)
    prompts: list[Prompt] = source.prompts()["train"][: chosen.prompts]
    ids, report = encode_prompts(
        prompts, network.tokenizer, network.encoder_decoder, settings.model.max_prompt_tokens, settings.prompts.too_long
    )
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
    return {"completions": len(found), "prompts": len(kept), "file": str(output), "sha256": write_jsonl(output, found)}


def _open(chosen: ModelSettings) -> Any:
    """The model as a run with adapters opens it, so that the same seeds give the same completions."""
    from heedful.engines.models import load_tokenizer, open_base
    from heedful.engines.networks import LanguageNetwork

    model, precision = open_base(chosen, learns=False)
    tokenizer = load_tokenizer(chosen.path, trust_remote_code=chosen.trust_remote_code)
    return LanguageNetwork(model, tokenizer, roles=("policy",), precision=precision)
