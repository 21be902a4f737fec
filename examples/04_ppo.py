"""PPO by hand: ten iterations on the built-in world, with a Python function as the reward.

python examples/04_ppo.py
"""

from __future__ import annotations

from heedful.demo.build import shipped_model
from heedful.demo.world import World, is_rude
from heedful.engines.base import Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.models import load_language_model, load_tokenizer
from heedful.engines.networks import LanguageNetwork, Lora
from heedful.engines.seeding import seeded
from heedful.policy.kl_control import FixedKL
from heedful.policy.ppo import ppo_step
from heedful.policy.rollout import collect, seeds_for
from heedful.policy.shaping import RewardScale
from heedful.prompts.chat import encode_prompts
from heedful.records import Prompt
from heedful.settings import PpoSettings


class Polite:
    """A scorer is anything with this method."""

    def score(self, prompts, texts, batch):
        """1 for a polite summary, 0 for a rude one."""
        return [float(not is_rude(text)) for text in texts]


def main(iterations: int = 10, rows: int = 64) -> None:
    folder = str(shipped_model("causal"))
    tokenizer = load_tokenizer(folder)
    with seeded(0):
        network = LanguageNetwork(load_language_model(folder), tokenizer, lora=Lora(), with_value=True)
    settings = PpoSettings(batch_size=rows, minibatch_size=rows // 2, epochs=4, learning_rate=3e-3)
    learner = LocalLearner(network, "policy", Optimiser(settings.learning_rate))
    prompts = [Prompt(f"p{i}", e.prompt) for i, e in enumerate(World(seed=0).examples(iterations * rows, "feedback"))]
    ids, _ = encode_prompts(prompts, tokenizer, network.encoder_decoder)

    for step in range(iterations):
        part = slice(step * rows, (step + 1) * rows)
        rollout = collect(learner, tokenizer, Polite(), prompts[part], ids[part], Sampling(48), seeds_for(0, step, n=rows))
        scale = RewardScale(mean=0.5, sd=0.5)
        metrics = ppo_step(learner, rollout, scale, FixedKL(settings.kl_coef), settings, seed=step)
        shown = ("objective/score", "objective/kl", "policy/entropy", "policy/clip_fraction", "policy/first_ratio")
        print(f"step {step + 1}: " + ", ".join(f"{name} {metrics[name]:.3f}" for name in shown))


if __name__ == "__main__":
    main()
