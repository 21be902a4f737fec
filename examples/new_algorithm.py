"""A new algorithm is a loss: here SimPO (Meng et al. 2024), on any engine and architecture.

python examples/new_algorithm.py
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid

from heedful.demo.build import shipped_model
from heedful.demo.world import World, is_rude
from heedful.engines.base import Batch, Outputs, Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.models import load_language_model, load_tokenizer
from heedful.engines.networks import LanguageNetwork, Lora
from heedful.engines.seeding import seeded
from heedful.prompts.chat import render


def simpo_loss(outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Rows come in twos, chosen first: one value per pair, ``[G]``. The engine never splits a pair.

    The mean log-probability of a token stands for the reward, so no reference is needed."""
    assert outputs.logprobs is not None
    scores = 2.0 * outputs.logprobs.sum(1) / outputs.logprobs.new_tensor(batch.lengths)
    gap = scores[::2] - scores[1::2]
    return -logsigmoid(gap - 0.5), {"accuracy": (gap > 0).float()}


def main(architecture: str = "causal", steps: int = 20, prompts: int = 64) -> None:
    folder = str(shipped_model(architecture))  # type: ignore[arg-type]
    tokenizer = load_tokenizer(folder)
    with seeded(0):
        network = LanguageNetwork(load_language_model(folder), tokenizer, lora=Lora())
    learner = LocalLearner(network, "policy", Optimiser(5e-3))
    asked = [render(e.prompt, tokenizer, network.encoder_decoder) for e in World(seed=0).examples(2 * prompts, "feedback")]

    def draw(rows: list[list[int]], first_seed: int) -> list[tuple[list[int], bool]]:
        found = learner.sampler().sample(rows, Sampling(48), range(first_seed, first_seed + len(rows)))
        return [(one.token_ids, is_rude(tokenizer.decode(one.token_ids, skip_special_tokens=True))) for one in found]

    one, two = draw(asked[:prompts], 0), draw(asked[:prompts], 1000)  # of two completions, the polite one is chosen
    pairs = [(p, *sorted((a, b), key=lambda c: c[1])) for p, a, b in zip(asked, one, two, strict=False) if a[1] != b[1]]
    prompt_ids, completion_ids = [p for p, _, _ in pairs for _ in range(2)], [ids for _, a, b in pairs for ids in (a[0], b[0])]
    batch = Batch(prompt_ids, completion_ids, groups=[i // 2 for i in range(len(prompt_ids))])

    for step in range(steps):
        metrics = {**learner.forward_backward(batch, simpo_loss), **learner.step()}
        print(f"step {step + 1}: loss {metrics['loss']:.3f}, accuracy {metrics['accuracy']:.2f}")
    print(f"rude on other prompts: {sum(rude for _, rude in draw(asked[prompts:], 2000))} of {prompts}, before: {sum(r for _, r in one)}")


if __name__ == "__main__":
    main()
