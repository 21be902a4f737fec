"""Completions: draw several per prompt. The same seed gives the same completion, whatever stands beside it.

python examples/02_completions.py
"""

from __future__ import annotations

from heedful.completions.sample import sample_completions
from heedful.demo.build import shipped_model
from heedful.demo.world import World
from heedful.engines.base import Sampling
from heedful.engines.models import load_language_model, load_tokenizer
from heedful.engines.networks import LanguageNetwork
from heedful.engines.sampling import LocalSampler
from heedful.progress import SilentProgress
from heedful.prompts.chat import encode_prompts
from heedful.records import Prompt


def main() -> None:
    folder = str(shipped_model("causal"))
    tokenizer = load_tokenizer(folder)
    network = LanguageNetwork(load_language_model(folder), tokenizer, roles=("policy",))

    prompts = [Prompt(f"p{i}", e.prompt) for i, e in enumerate(World(seed=0).examples(2, "test"))]
    ids, _ = encode_prompts(prompts, tokenizer, network.encoder_decoder)
    found = sample_completions(
        LocalSampler(network),
        tokenizer,
        prompts,
        ids,
        Sampling(max_new_tokens=48, temperature=1.0),
        per_prompt=4,
        seed=0,
        model="instruct",
        progress=SilentProgress(),
    )
    for prompt in prompts:
        print(f"\n{prompt.prompt}")
        for completion in found:
            if completion.prompt_id == prompt.id:
                print(f"  {completion.finish_reason:>6}  {completion.text}")


if __name__ == "__main__":
    main()
