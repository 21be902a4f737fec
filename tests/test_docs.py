"""What the documents say is there, is there; what is there, they say."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import typer.main

import tiny
from heedful.cli.main import app, main
from heedful.settings import Section, Settings

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
SECTIONS = {name: type(field.default) for name, field in Settings.model_fields.items() if isinstance(field.default, Section)}


def code_in(text: str) -> list[str]:
    """Lines of code blocks, fenced or indented, with continued lines joined, and pieces of `code` in sentences."""
    joined = re.sub(r"\\\n\s*", " ", text)
    fenced = re.findall(r"```\w*\n(.*?)```", joined, re.DOTALL)
    outside = re.sub(r"```\w*\n.*?```", "", joined, flags=re.DOTALL)
    indented = re.findall(r"^    (\S.*)$", outside, re.MULTILINE)
    return [line for block in fenced for line in block.splitlines()] + indented + re.findall(r"`([^`\n]+)`", outside)


def commands_in(text: str) -> list[str]:
    """Every ``heed ...`` and ``make ...``; ``heed train sft|reward`` is two."""
    found = []
    for line in code_in(text):
        command = line.partition("  #")[0].partition(" #")[0].strip().replace("\\|", "|")  # a table escapes it
        if re.match(r"(heed|make)( |$)", command):
            head, *choices = re.split(r"\|", command) if "|" in command.split("(")[0] else [command]
            found += [head, *(f"{head.rpartition(' ')[0]} {choice}" for choice in choices)]
    return found


def faults_in(command: str) -> str:
    """What is wrong with a command; empty where it and its options exist."""
    program, *words = shlex.split(command)
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return "" if not words or words[0] in targets else f"the Makefile has no target {words[0]!r}"
    node = typer.main.get_command(app)
    while words and hasattr(node, "commands") and not words[0].startswith("-"):
        if words[0] not in node.commands:
            return f"there is no command {words[0]!r}"
        node = node.commands[words.pop(0)]
    known = {option for parameter in node.params for option in parameter.opts} | {"-h", "--help"}
    unknown = [word for word in words if re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known]
    return f"{command!r} has no option {unknown}" if unknown else ""


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist(name: str) -> None:
    assert [fault for command in commands_in((ROOT / name).read_text()) if (fault := faults_in(command))] == []


def test_the_readme_names_the_commands() -> None:
    found = commands_in((ROOT / "README.md").read_text())
    wanted = {"make demo", "make test", "heed run heed.toml", "heed demo --resume", "heed doctor"}
    assert wanted | {f"heed train {part}" for part in ("sft", "reward", "classifier", "ppo", "grpo", "dpo")} <= set(found)
    every = {word for command in found for word in command.split()[1:2]}
    assert set(typer.main.get_command(app).commands) <= every, "every command stands in the README"


@pytest.mark.parametrize("command", ["heed dance", "heed demo --reume", "heed train dop", "make coffee"])
def test_a_wrong_command_is_found(command: str) -> None:
    assert faults_in(command)


def settings_in(text: str) -> set[str]:
    """Dotted names in code whose first word is a section, and keys below a [section] of a TOML block."""
    pieces = "\n".join(code_in(text))
    found = {f"{section}.{key}" for section, key in re.findall(r"(?<![\w./-])([a-z]+)\.([a-z_]+)\b(?!\()", pieces) if section in SECTIONS}
    for block in re.findall(r"```toml\n(?!# (?!heed)\w+\.toml)(.*?)```", text, re.DOTALL):  # unless it says to be another file
        section = ""
        for line in block.splitlines():
            if header := re.match(r"\[(\w+)\]", line):
                section = header[1]
            elif key := re.match(r"(\w+)\s*=", line):
                found.add(f"{section}.{key[1]}" if section else key[1])
    return {name for name in found if not name.endswith((".jsonl", ".json", ".toml", ".html", ".py"))}


def exists(setting: str) -> bool:
    section, dot, key = setting.partition(".")
    return key in SECTIONS[section].model_fields if dot and section in SECTIONS else setting in Settings.model_fields


@pytest.mark.parametrize("name", NAMES)
def test_settings_exist(name: str) -> None:
    assert [setting for setting in sorted(settings_in((ROOT / name).read_text())) if not exists(setting)] == []


def test_a_wrong_setting_is_found() -> None:
    found = settings_in("Set `ppo.klcoef` and `reward.kind`.\n```toml\n[stopping]\nmetrik = 1\n```\n")
    assert found == {"ppo.klcoef", "reward.kind", "stopping.metrik"}
    assert [name for name in sorted(found) if not exists(name)] == ["ppo.klcoef", "stopping.metrik"]


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Every name that is logged by a run with a learnt reward, and by each of ``heed train``."""
    with pytest.MonkeyPatch.context() as patch:
        return metrics_logged(tmp_path_factory.mktemp("runs"), patch)


def test_every_metric_is_explained(logged: set[str]) -> None:
    assert {"objective/score", "held_out/held_out_score", "held_out/toxicity", "score_gap", "groups/equal", "rewards/margin"} <= logged
    text = "".join(path.read_text() for path in (ROOT / "docs/algorithms").glob("*.md"))
    explained = set(re.findall(r"`([a-z_0-9/]+)`", text))
    assert sorted(name for name in logged if name.removesuffix("_se") not in explained) == []


@pytest.mark.parametrize(("name", "least"), [("ppo.md", 25), ("grpo.md", 9), ("dpo.md", 6)])
def test_every_metric_that_is_explained_is_logged(name: str, least: int, logged: set[str]) -> None:
    text = (ROOT / "docs/algorithms" / name).read_text()
    explained = {
        name for row in re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE) for name in re.findall(r"`([a-z_0-9]+/[a-z_0-9]+)`", row)
    }
    assert len(explained) >= least
    assert sorted(explained - logged) == []


def metrics_logged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    monkeypatch.chdir(folder)
    for name, model, tokenizer in (
        ("model", tiny.language_model("llama"), tiny.tokenizer()),
        ("encoder", tiny.bert_classifier(2, id2label={0: "nothate", 1: "hate"}), tiny.tokenizer(pairs=True)),
    ):
        model.save_pretrained(name)
        tokenizer.save_pretrained(name)
    write = {
        "prompts.jsonl": [{"prompt": f"w{i % 26} w{i // 26}", "reference": "w1 w2"} for i in range(30)],
        "pairs.jsonl": [{"prompt": f"w{i}", "chosen": "w1 w2", "rejected": "w3"} for i in range(8)],
        "texts.jsonl": [{"text": f"w{i}", "label": i % 2} for i in range(26)],
    }
    for name, rows in write.items():
        Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = "model.path=model prompts.path=prompts.jsonl prompts.validation=3 prompts.test=3 completions.max_new_tokens=3 "
    common += "ppo.max_steps=1 ppo.batch_size=4 ppo.minibatch_size=4 lora.r=2 "
    common += "grpo.max_steps=1 grpo.batch_size=4 grpo.minibatch_size=4 grpo.completions_per_prompt=2 dpo.batch_size=4"
    for words in (
        ["run", *sets(common, "output=pairs reward.kind=pairs reward.path=pairs.jsonl")],
        ["train", "ppo", *sets(common, "output=ppo reward.kind=classifier reward.path=encoder reward.label=nothate")],
        ["train", "grpo", *sets(common, "output=grpo reward.kind=classifier reward.path=encoder reward.label=nothate")],
        ["train", "dpo", *sets(common, "output=dpo reward.path=pairs.jsonl")],
        ["train", "sft", *sets(common, "output=sft")],
        ["train", "classifier", "texts.jsonl", "--base", "encoder", "-o", "classifier", "--held-out", "0.4"],
    ):
        monkeypatch.setattr(sys, "argv", ["heed", *words, "-q"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    runs = ("pairs", "ppo", "grpo", "dpo", "sft", "classifier")
    lines = [json.loads(line) for run in runs for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    return {name for line in lines for name in line} - {"stage", "step", "time"}


def sets(*settings: str) -> list[str]:
    return [word for setting in " ".join(settings).split() for word in ("--set", setting)]


def test_every_source_folder_and_file_at_the_top_stands_on_the_map() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    source = ROOT / "src/heedful"
    folders = [f"{path.name}/" for path in source.iterdir() if path.is_dir() and (path / "__init__.py").exists()]
    files = [path.name for path in source.glob("*.py") if path.name != "__init__.py"]
    assert len(folders) > 10
    assert [name for name in folders + files if f"├── {name}" not in text and f"└── {name}" not in text] == []


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    """Links between files, not to the web."""
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / name).read_text())
    assert [link for link in links if not (ROOT / name).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize("name", NAMES)
def test_no_document_names_a_machine(name: str) -> None:
    assert re.findall(r"/(?:work|tmp|home|root)/\S*", (ROOT / name).read_text()) == []


def test_every_picture_stands_in_a_document() -> None:
    told = "".join((ROOT / name).read_text() for name in NAMES)
    pictures = sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs/images").rglob("*.png"))
    assert len(pictures) > 25
    assert [picture for picture in pictures if f"({picture})" not in told] == []
