"""Instruct models are made in steps that a kill cannot spoil, and never taken for another's."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from heedful.demo import build
from heedful.demo.architectures import ARCHITECTURES
from heedful.errors import FileProblem
from heedful.progress import SilentProgress


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch):
    for name, architecture in ARCHITECTURES.items():
        recipe = replace(architecture.recipe, steps=2, batch_size=4, warmup_steps=1)
        monkeypatch.setitem(ARCHITECTURES, name, replace(architecture, recipe=recipe))


def train(folder, name="causal", seed=0):
    return build.train_instruct(name, folder, SilentProgress(), seed)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_a_model_is_kept_while_it_is_whole_and_what_was_asked_for(tmp_path, monkeypatch):
    folder = train(tmp_path / "instruct")
    first, made = weights(folder), (folder / "instruct.json").stat().st_mtime_ns
    train(folder)
    assert (folder / "instruct.json").stat().st_mtime_ns == made, "not made again"
    (folder / "model.safetensors").write_bytes(first[:1000])
    assert weights(train(folder)) == first, "half a file is made again"
    assert weights(train(folder, seed=1)) != first, "another seed is another model"
    recipe = replace(ARCHITECTURES["causal"].recipe, rude_share=0.1)
    monkeypatch.setitem(ARCHITECTURES, "causal", replace(ARCHITECTURES["causal"], recipe=recipe))
    second = weights(folder)
    assert weights(train(folder, seed=1)) != second, "and so is another recipe"
    train(folder, name="seq2seq")
    assert json.loads((folder / "config.json").read_text())["model_type"] == "t5"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["instruct"], "nothing is left beside it"


def test_a_kill_while_saving_leaves_the_earlier_model(tmp_path, monkeypatch):
    folder = train(tmp_path / "instruct")
    first = weights(folder)

    def dies(network, where):
        where.mkdir(exist_ok=True)
        (where / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "save_instruct", dies)
    with pytest.raises(KeyboardInterrupt):
        train(folder, seed=1)
    assert weights(folder) == first


def test_shipping_trains_anew_and_never_blesses_a_damaged_model(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "SHIPPED", tmp_path)
    build.ship(["causal"], SilentProgress())
    whole = weights(build.shipped_model("causal"))
    (tmp_path / "causal/model.safetensors").write_bytes(b"damaged")
    with pytest.raises(FileProblem, match="is damaged"):
        build.shipped_model("causal")
    build.ship(["causal"], SilentProgress())
    assert weights(build.shipped_model("causal")) == whole
