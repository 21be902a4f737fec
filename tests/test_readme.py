"""The README's own example, as somebody would copy it: its settings and its commands, on tiny models."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

import tiny
from heedful.cli import main as cli

SMALL = [
    "prompts.validation=4",
    "prompts.test=4",
    "completions.max_new_tokens=4",
    "ppo.max_steps=1",
    "ppo.batch_size=4",
    "ppo.minibatch_size=4",
    "lora.r=2",
    "evaluation.side_by_side=2",
]
"""All that is added to what the README says."""


def blocks(readme: str, language: str) -> list[str]:
    """The README's blocks of code in a language."""
    return re.findall(rf"```{language}\n(.*?)```", readme, flags=re.S)


@pytest.fixture
def readme(repository: Path) -> str:
    return (repository / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, readme: str) -> Path:
    """What the README's reader has: the model, the classifier and the prompts that its settings name."""
    [toml] = blocks(readme, "toml")
    settings = tomllib.loads(toml)
    classifier = tiny.bert_classifier(2, id2label={0: "hate", 1: settings["reward"]["label"]})
    for path, model, tokenizer in (
        (settings["model"]["path"], tiny.language_model("llama"), tiny.tokenizer()),
        (settings["reward"]["path"], classifier, tiny.tokenizer(pairs=True)),
    ):
        model.save_pretrained(tmp_path / path)
        tokenizer.save_pretrained(tmp_path / path)
    rows = [{"prompt": f"w{i} w{i * 7 % 26}", "reference": f"w{i % 5}"} for i in range(24)]
    (tmp_path / settings["prompts"]["path"]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def heed(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command printed; it must end well."""
    monkeypatch.setattr("sys.argv", words)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    out, err = capsys.readouterr()
    assert not ended.value.code, f"{shlex.join(words)}: {err}"
    return out


def test_the_readmes_settings_and_commands_align_a_model(
    here: Path, readme: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [toml] = blocks(readme, "toml")
    [commands] = [block for block in blocks(readme, "bash") if "heed.toml" in block]
    first, look, align = (shlex.split(line, comments=True) for line in commands.strip().splitlines())
    assert [words[1] for words in (first, look, align)] == ["init", "prompts", "run"]

    heed(first, monkeypatch, capsys)
    written, mine = tomllib.loads((here / "heed.toml").read_text()), tomllib.loads(toml)
    assert written.keys() >= mine.keys()
    (here / "heed.toml").write_text(toml)
    small = [word for setting in SMALL for word in ("--set", setting)]
    shown = [json.loads(line) for line in heed([*look, "-q", "--json", *small], monkeypatch, capsys).splitlines()]
    assert {row["split"]: row["prompts"] for row in shown} == {"train": 16, "validation": 4, "test": 4}
    summary = json.loads(heed([*align, "-q", "--json", *small], monkeypatch, capsys).splitlines()[-1])

    assert Path(summary["report"]).parent == Path(mine["output"])
    assert 0 < summary["toxicity_before"] < 1
    assert summary["steps"] == 1
    for made in ("report.html", "policy/model/model.safetensors", "policy/adapter/adapter_model.safetensors", "metrics.jsonl"):
        assert (here / mine["output"] / made).exists(), made
