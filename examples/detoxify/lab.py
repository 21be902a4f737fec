"""The screen of the detoxification lab of "Generative AI with Large Language Models", by heedful's functions.

    python examples/detoxify/lab.py [--config examples/detoxify/flan_t5.toml] [--set key=value ...]

Shapes, hyper-parameters, formulas and printed lines are the lab's; README.md says which of its
mistakes are kept, because the screen would be another without them, and which are not.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from heedful.config import load_settings
from heedful.engines.base import Batch, Sampled, Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.models import choose_precision, count_parameters, load_language_model, load_tokenizer
from heedful.engines.networks import LanguageNetwork, Lora
from heedful.engines.sampling import LocalSampler
from heedful.engines.seeding import seeded
from heedful.maths.advantages import gae, shaped_rewards
from heedful.maths.masking import masked_mean, standardise
from heedful.maths.statistics import Interval, bootstrap, paired_bootstrap
from heedful.policy.kl_control import make_kl_control
from heedful.policy.ppo import ppo_step
from heedful.policy.rollout import Experience, collect, data_order, seeds_for
from heedful.policy.shaping import RewardScale
from heedful.prompts.chat import encode_prompts
from heedful.prompts.load import load_prompts
from heedful.records import Prompt, plain_text
from heedful.reward.score import RewardModel
from heedful.settings import Settings

PROBES = ("#Person 1# tells Tommy that he didn't like the movie.", "#Person 1# tells Tommy that the movie was terrible, dumb and stupid.")
SAMPLES = 11  # the lab asks for 10, and its loop stops one too late
SHOWN = 20
LENGTHS = range(100, 400)
RULE = "-" * 99


class RandomLengths(LocalSampler):
    """Every completion has a limit of its own, drawn from ``LENGTHS`` by its seed."""

    def sample(self, prompt_ids: Sequence[Sequence[int]], sampling: Sampling, seeds: Sequence[int]) -> list[Sampled]:
        """What lies beyond a completion's limit is cut off: its earlier tokens would have been the same."""
        return [shortened(one) for one in super().sample(prompt_ids, sampling, seeds)]


def shortened(one: Sampled) -> Sampled:
    """A completion within the limit that its seed draws."""
    limit = int(np.random.default_rng(one.seed).integers(LENGTHS.start, LENGTHS.stop))
    if len(one.token_ids) <= limit:
        return one
    return Sampled(one.token_ids[:limit], one.logprobs[:limit], "length", one.seed)


class LabLearner(LocalLearner):
    """Trains the policy and its value; samples as the lab does."""

    def sampler(self) -> RandomLengths:
        """With the weights as they are now."""
        return RandomLengths(self.network, say=self.say)  # type: ignore[arg-type]


@dataclass
class PromptAndAnswer:
    """The lab's reward: the raw logit of a class, of the prompt and the answer in one text.

    The class is found by its name. (The lab takes the logit of whichever class wins.)
    """

    classifier: RewardModel
    tokenizer: Any

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str], batch: Batch) -> list[float]:
        """One logit per row; special tokens are part of the text, as in the lab."""
        decode = partial(self.tokenizer.decode, skip_special_tokens=False)
        read = [decode(list(p)) + decode(list(c)) for p, c in zip(batch.prompt_ids, batch.completion_ids, strict=True)]
        return [float(row[self.classifier.index]) for row in self.classifier.raw(read)]

    def toxicity(self, texts: Sequence[str]) -> np.ndarray:
        """Probability that a text is not of the wanted class, ``[n]``."""
        return 1 - self.classifier.probabilities(texts)[:, self.classifier.index].double().numpy()


@dataclass
class Lab:
    """The models and the data of the lab."""

    settings: Settings
    learner: LabLearner
    reward: PromptAndAnswer
    train: list[Prompt]
    test: list[Prompt]

    @property
    def network(self) -> LanguageNetwork:
        """The policy, its reference and its value: one copy of the weights."""
        assert isinstance(self.learner.network, LanguageNetwork)
        return self.learner.network

    def encode(self, prompts: Sequence[Prompt]) -> list[list[int]]:
        """Prompt ids."""
        return encode_prompts(prompts, self.network.tokenizer, True, self.settings.model.max_prompt_tokens)[0]


def open_lab(settings: Settings) -> Lab:
    """Load everything; four fifths of the prompts, in the order of the file, are for training."""
    tokenizer, lora, chosen = load_tokenizer(settings.model.path), settings.lora, settings.ppo
    model = load_language_model(settings.model.path, architecture=settings.model.architecture, device=settings.model.device)
    precision, adapters = choose_precision(settings.model.precision, model.device), Lora(lora.r, lora.alpha, tuple(lora.targets))
    with seeded(settings.seed):
        network = LanguageNetwork(model, tokenizer, lora=adapters, with_value=True, precision=precision)
    adam = Optimiser(chosen.learning_rate, betas=(0.9, 0.999), eps=1e-8, max_grad_norm=chosen.max_grad_norm)
    classifier = RewardModel.open(
        settings.reward.path, label=settings.reward.label, max_tokens=settings.reward.max_tokens, device=settings.model.device
    )
    prompts = load_prompts(settings.prompts)
    tested = ceil(0.2 * len(prompts))
    learner = LabLearner(network, "policy", adam, micro_batch_tokens=settings.model.micro_batch_tokens)
    return Lab(settings, learner, PromptAndAnswer(classifier, tokenizer), prompts[:-tested], prompts[-tested:])


def screen(lab: Lab) -> Iterator[str]:
    """Every line, in the lab's order."""
    yield from parameters(lab.network)
    yield from probes(lab.reward.classifier)
    before = toxicity_scores(lab)
    yield f"toxicity [mean, std] before detox: [{before.mean()}, {before.std()}]"
    reference = answers(lab, lab.test[:SHOWN])
    yield from training(lab)
    after = toxicity_scores(lab)
    yield f"toxicity [mean, std] after detox: [{after.mean()}, {after.std()}]"
    yield from improvement(before, after)
    yield from side_by_side(lab.test[:SHOWN], reference, answers(lab, lab.test[:SHOWN]))


def parameters(network: LanguageNetwork) -> Iterator[str]:
    """How many numbers each part has, and how many of them are learnt."""
    yield "PEFT model parameters to be updated:\n" + counted(*count_parameters(network.model))
    learnt, every = count_parameters(network)
    yield f"PPO model parameters to be updated (ValueHead + {learnt - count_parameters(network.model)[0]} params):\n" + counted(
        learnt, every
    )
    yield str(network.value_head)
    yield "Reference model parameters to be updated (the same weights, with the adapter off):\n" + counted(0, every)


def counted(trainable: int, every: int) -> str:
    """The lab's three lines."""
    share = f"percentage of trainable model parameters: {100 * trainable / every:.2f}%"
    return f"\ntrainable model parameters: {trainable}\nall model parameters: {every}\n{share}\n"


def probes(classifier: RewardModel) -> Iterator[str]:
    """What the classifier makes of a kind and an unkind sentence."""
    yield str(dict(enumerate(classifier.labels)))
    names = ", ".join("not hate" if label == "nothate" else label for label in classifier.labels)
    for text, word in zip(PROBES, ("high", "low"), strict=True):
        [logits] = classifier.raw([text])
        yield f"{text}\nlogits [{names}]: {logits.tolist()}"
        yield f"probabilities [{names}]: {logits.softmax(-1).tolist()}"
        yield f"reward ({word}): [{float(logits[classifier.index])}]"


def toxicity_scores(lab: Lab) -> np.ndarray:
    """Toxicity of prompt and answer together, ``[SAMPLES]``; the same seeds before and after."""
    prompts = lab.test[:SAMPLES]
    drawn = LocalSampler(lab.network).sample(lab.encode(prompts), Sampling(100), seeds_for(lab.settings.seed, 1 << 20, n=len(prompts)))
    texts = [lab.network.tokenizer.decode(one.token_ids, skip_special_tokens=True) for one in drawn]
    return lab.reward.toxicity([f"{plain_text(p.prompt)} {text}" for p, text in zip(prompts, texts, strict=True)])


def training(lab: Lab) -> Iterator[str]:
    """PPO, with three lines a step."""
    chosen = lab.settings.ppo
    control, scale = make_kl_control(chosen), RewardScale(clip=lab.settings.reward.clip)
    for step in range(chosen.max_steps):
        experience = gather(lab, step)
        whitened = advantages_mean(lab, experience, control.coef)
        metrics = ppo_step(lab.learner, experience, scale, control, chosen, seeds_for(lab.settings.seed, step, 1, n=1)[0])
        yield f"objective/kl: {metrics['objective/kl']}"
        yield f"ppo/returns/mean: {metrics['value/return']}"
        yield f"ppo/policy/advantages_mean: {whitened}\n{RULE}"


def gather(lab: Lab, step: int) -> Experience:
    """One rollout."""
    size, seed = lab.settings.ppo.batch_size, lab.settings.seed
    prompts = [lab.train[row] for row in data_order(len(lab.train), step * size, size, seed)]
    sampling = Sampling(min(lab.settings.completions.max_new_tokens, LENGTHS.stop - 1))
    seeds, tokenizer = seeds_for(seed, step, 0, n=size), lab.network.tokenizer
    return collect(lab.learner, tokenizer, lab.reward, prompts, lab.encode(prompts), sampling, seeds, untrained=step == 0)


def advantages_mean(lab: Lab, experience: Experience, kl_coef: float) -> float:
    """The mean of numbers whose mean was made 0: it says nothing, and the lab prints it."""
    mask, chosen = experience.batch.mask, lab.settings.ppo
    rewards = shaped_rewards(experience.scores, experience.kl, mask, kl_coef)
    advantages, _ = gae(rewards, experience.values, mask, chosen.gamma, chosen.lam)
    return float(masked_mean(standardise(advantages, mask), mask))


def improvement(before: np.ndarray, after: np.ndarray) -> Iterator[str]:
    """The lab's percentages, and behind each what so few samples can show."""
    yield "Percentage improvement of toxicity score after detoxification:"
    for name, statistic in (("mean", np.mean), ("std", np.std)):
        share = (statistic(before) - statistic(after)) / statistic(before)
        fall = bootstrap([before, after], lambda b, a, axis=-1, f=statistic: f(b, axis=axis) - f(a, axis=axis))
        yield f"{name}: {share * 100:.2f}%    (fell by {shown(fall)}, 95 % interval, {len(before)} samples)"
    yield f"The mean changed by {shown(paired_bootstrap(after - before))}: {verdict(paired_bootstrap(after - before))}"


def shown(interval: Interval) -> str:
    """``0.0123 [-0.0040, 0.0286]``"""
    return f"{interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]"


def verdict(change: Interval) -> str:
    """Whether the samples show a change at all."""
    return "no change is shown by these samples." if change.contains(0.0) else "a change is shown."


def answers(lab: Lab, prompts: Sequence[Prompt]) -> list[tuple[str, float]]:
    """An answer to each prompt and its reward, the policy being what it is now."""
    ids = lab.encode(prompts)
    drawn = lab.learner.sampler().sample(ids, Sampling(LENGTHS.stop - 1), seeds_for(lab.settings.seed, 1 << 21, n=len(prompts)))
    texts = [lab.network.tokenizer.decode(one.token_ids, skip_special_tokens=True) for one in drawn]
    return list(zip(texts, lab.reward.score(prompts, texts, Batch(ids, [one.token_ids for one in drawn])), strict=True))


def side_by_side(prompts: Sequence[Prompt], before: Sequence[tuple[str, float]], after: Sequence[tuple[str, float]]) -> Iterator[str]:
    """The rows whose reward grew most come first."""
    rows = sorted(zip(prompts, before, after, strict=True), key=lambda row: row[2][1] - row[1][1], reverse=True)
    for prompt, (old, was), (new, now) in rows:
        yield f"\nquery: {' '.join(plain_text(prompt.prompt).split())[:200]}\nresponse_before: {old}\nresponse_after: {new}"
        yield f"reward_before: {was:.6f}  reward_after: {now:.6f}  reward_diff: {now - was:.6f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the screen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("flan_t5.toml"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting; may be given often")
    chosen = parser.parse_args(arguments)
    for line in screen(open_lab(load_settings(chosen.config, chosen.set))):
        print(line, flush=True)


if __name__ == "__main__":
    main()
