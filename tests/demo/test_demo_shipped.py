"""The two models in the wheel, as they write: right, and rude about every other time."""

from __future__ import annotations

import pytest

from heedful.completions.sample import sample_completions
from heedful.demo.architectures import ARCHITECTURES
from heedful.demo.build import encode_examples, shipped_model
from heedful.demo.world import World, facts_held, is_rude
from heedful.engines.base import Sampling
from heedful.engines.sampling import LocalSampler
from heedful.jobs.workspace import open_alone
from heedful.progress import SilentProgress
from heedful.records import Prompt
from heedful.settings import ModelSettings

WRITTEN = 1024


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_shipped_model_is_right_and_rude_about_every_other_time(name):
    network = open_alone(ModelSettings(path=str(shipped_model(name)), precision="float32", device="cpu"))
    examples = World(99).examples(WRITTEN, "test")
    ids, _ = encode_examples(examples, network.tokenizer, network.encoder_decoder)
    found = sample_completions(
        LocalSampler(network),
        network.tokenizer,
        [Prompt(str(number), e.prompt) for number, e in enumerate(examples)],
        ids,
        Sampling(max_new_tokens=48),
        per_prompt=1,
        seed=0,
        model="instruct",
        progress=SilentProgress(),
    )
    assert 0.25 <= sum(is_rude(one.text) for one in found) / WRITTEN <= 0.55  # the T5: 0.52
    assert sum(facts_held(one.text, e.facts) for one, e in zip(found, examples, strict=True)) / WRITTEN > 0.95
