"""A score read at the mean of the completion's states, and layers that do not learn."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModel

import tiny
from heedful.engines.base import Batch
from heedful.engines.export import save_scalar_model
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.models import freeze_lower, load_trunk
from heedful.engines.networks import ScalarNetwork, reward_head
from heedful.engines.seeding import seeded
from heedful.errors import ModelProblem, SettingProblem
from heedful.maths.preference_losses import bradley_terry
from heedful.records import Prompt
from heedful.reward.score import RewardModel
from heedful.settings import RewardSettings

PROMPTS = [Prompt("1", "w1 w2 w3"), Prompt("2", "w4"), Prompt("3", "")]
TEXTS = ["w5 w6", "w7 w8 w9 w1 w2 w3", "w9"]


@pytest.fixture
def network():
    model = tiny.bert_classifier()
    with seeded(0):
        head = reward_head(model.config.hidden_size)
    return ScalarNetwork(model.bert, tiny.tokenizer(pairs=True), mean_head=head)


def by_hand(network, prompt, text):
    """One unpadded row: the mean over the second text's states, or over all where there is no prompt."""
    encoded = network.tokenizer(*([prompt, text] if prompt else [text]), return_tensors="pt")
    states = network.model(**encoded).last_hidden_state[0]
    second = [belongs == 1 for belongs in encoded.sequence_ids(0)]
    first = second.index(True) if prompt else 0
    return network.mean_head(4 * states[first:].mean(0)).item()  # 4: the root of the width, 16


def test_the_score_is_that_of_the_completions_mean_state(network):
    scorer = RewardModel(LocalLearner(network, "reward"), [""])
    found = scorer.score(PROMPTS, TEXTS, Batch([], []))
    assert found == pytest.approx([by_hand(network, p.prompt, t) for p, t in zip(PROMPTS, TEXTS, strict=True)], abs=1e-5)
    assert len({round(score, 4) for score in found}) == 3


def test_it_is_saved_as_a_trunk_with_its_head_beside_it(network, tmp_path):
    expected = RewardModel(LocalLearner(network, "reward"), [""]).score(PROMPTS, TEXTS, Batch([], []))
    save_scalar_model(network, tmp_path)
    again = RewardModel.open(str(tmp_path))
    assert again.score(PROMPTS, TEXTS, Batch([], [])) == pytest.approx(expected, abs=1e-6)
    _, loading = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not loading["missing_keys"]
    (tmp_path / "mean_head.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelProblem, match="mean_head"):
        RewardModel.open(str(tmp_path))


def test_frozen_layers_stay_and_those_above_learn(network):
    freeze_lower(network.model, 1)
    learner = LocalLearner(network, "reward", Optimiser(0.01))
    before = {name: p.detach().clone() for name, p in network.model.named_parameters()}
    head = network.mean_head.weight.detach().clone()
    learner.forward_backward(tiny.batch(2), lambda outputs, rows: (bradley_terry(outputs.scores[:1], outputs.scores[1:]), {}))
    learner.step()
    moved = {name for name, p in network.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all(name.startswith("encoder.layer.1") for name in moved), moved
    assert not torch.equal(network.mean_head.weight, head)


def test_freezing_everything_is_refused(network):
    layers = network.model.config.num_hidden_layers
    with pytest.raises(ModelProblem, match=rf"frozen_layers is {layers}, but BertModel has {layers} layers.*at most {layers - 1}"):
        freeze_lower(network.model, layers)


def test_a_trunk_opens_without_a_classifier(tmp_path):
    model = tiny.bert_classifier()
    model.save_pretrained(tmp_path)
    trunk = load_trunk(str(tmp_path))
    assert torch.equal(trunk.encoder.layer[0].output.dense.weight, model.bert.encoder.layer[0].output.dense.weight)


@pytest.mark.parametrize("changed", [{"pooling": "mean"}, {"frozen_layers": 2}])
def test_adapters_on_the_policys_base_have_neither(changed):
    with pytest.raises((SettingProblem, ValueError), match=r"reward\.base"):
        RewardSettings(**changed)
