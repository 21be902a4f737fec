"""The short scripts run, and show what they say they show."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from heedful.engines.base import Batch, Outputs

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SCRIPTS = ("01_prompts", "02_completions", "03_feedback", "04_ppo", "new_algorithm")


def script(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_short(name: str) -> None:
    assert len((EXAMPLES / f"{name}.py").read_text().splitlines()) < 60


def test_prompts(capsys: pytest.CaptureFixture[str]) -> None:
    script("01_prompts").main()
    shown = capsys.readouterr().out
    assert "1 of 51 rows" in shown
    assert "30 for training, 10 for validation, 10 for the test" in shown


def test_completions(capsys: pytest.CaptureFixture[str]) -> None:
    script("02_completions").main()
    first = capsys.readouterr().out
    assert len(re.findall(r"^ +(?:stop|length)  \S", first, re.MULTILINE)) == 8
    script("02_completions").main()
    assert capsys.readouterr().out == first


def test_feedback_of_a_panel_with_two_who_should_not_be_believed(capsys: pytest.CaptureFixture[str]) -> None:
    script("03_feedback").main()
    shown = capsys.readouterr().out
    found = [(int(pairs), float(share)) for pairs, share in re.findall(r"(\d+) pairs, ([\d.]+)% in the true order", shown)]
    majority, without_the_two, model = found
    assert min(without_the_two[1], model[1]) > majority[1] + 5
    assert model[0] * model[1] > without_the_two[0] * without_the_two[1], "who reads the scale upside down tells something, too"
    assert re.search("rory +random", shown)
    assert re.search("uma +upside_down", shown)


def test_ppo_starts_at_the_reference(capsys: pytest.CaptureFixture[str]) -> None:
    script("04_ppo").main(iterations=2, rows=8)
    first, second = capsys.readouterr().out.splitlines()
    assert "objective/kl 0.000" in first.replace("-0.000", "0.000")
    assert "policy/first_ratio 1.000" in first
    assert second.startswith("step 2: ")


@pytest.mark.parametrize("architecture", ["causal", "seq2seq"])
def test_a_new_algorithm_learns_on_either_architecture(capsys: pytest.CaptureFixture[str], architecture: str) -> None:
    script("new_algorithm").main(architecture, steps=4, prompts=24)
    losses = [float(loss) for loss in re.findall(r"loss ([\d.]+)", capsys.readouterr().out)]
    assert len(losses) == 4
    assert losses[-1] < losses[0]


def test_the_new_loss_by_hand() -> None:
    """Mean log-probabilities -1 and -2, times 2: a gap of 2, less the margin of 1/2."""
    outputs = Outputs(logprobs=torch.tensor([[-1.5, -0.5, 0.0], [-2.0, -2.0, -2.0]]))
    loss, metrics = script("new_algorithm").simpo_loss(outputs, Batch([[1], [1]], [[5, 6], [5, 6, 7]], groups=[0, 0]))
    assert loss.tolist() == [pytest.approx(math.log1p(math.exp(-1.5)))]
    assert metrics["accuracy"].tolist() == [1.0]
