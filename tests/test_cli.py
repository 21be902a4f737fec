"""The command line: a mistake of the user ends in exit code 2 and one sentence, and costs nothing."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from transformers import AutoModelForCausalLM

import tiny
from heedful import __version__
from heedful.cli import main as cli

REWARDS = """
def good(prompts, completions):
    return [float(len(text)) for text in completions]

def raises(prompts, completions):
    return 1 / 0

def quits(prompts, completions):
    raise SystemExit(3)

def short(prompts, completions):
    return [1.0]

def nothing(prompts, completions):
    return [None] * len(completions)

def nan(prompts, completions):
    return [float("nan")] * len(completions)

def word(prompts, completions):
    return ["good"] * len(completions)

def single(prompts, completions):
    return 3.0
"""

SMALL = {
    "model.path": "model",
    "prompts.path": "prompts.jsonl",
    "prompts.validation": 4,
    "prompts.test": 4,
    "completions.max_new_tokens": 4,
    "lora.r": 2,
    "reward.kind": "function",
    "reward.path": "rewards.py:good",
    "ppo.max_steps": 1,
    "ppo.batch_size": 4,
    "ppo.minibatch_size": 2,
    "ppo.epochs": 1,
    "output": "run",
}


class Ended(NamedTuple):
    """How a command ended."""

    code: int | str | None
    out: str
    err: str


Heed = Callable[..., Ended]


def options(**changes: object) -> list[str]:
    """``--set`` for the small run; ``ppo__clip=0.1`` changes ``ppo.clip``."""
    chosen = SMALL | {name.replace("__", "."): value for name, value in changes.items()}
    return [word for name, value in chosen.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models, prompts and rewards, made once."""
    folder = tmp_path_factory.mktemp("material")
    for name, model, tokenizer in (
        ("model", tiny.language_model("llama"), tiny.tokenizer()),
        ("seq2seq", tiny.language_model("t5"), tiny.tokenizer()),
        ("classifier", tiny.bert_classifier(2, id2label={0: "nothate", 1: "hate"}), tiny.tokenizer(pairs=True)),
    ):
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    write_rows(folder / "prompts.jsonl", [{"prompt": f"w{i % 26} w{i * 7 % 26} w{i // 26}", "reference": f"w{i % 5}"} for i in range(40)])
    write_rows(folder / "misnamed.jsonl", [{"prompt": "w1"}, {"promt": "w2"}])
    pairs = [{"prompt": f"w{i}", "chosen": f"w{i % 7} w2", "rejected": f"w{i % 5 + 8}" + " w9 w9" * (i % 2)} for i in range(20)]
    write_rows(folder / "pairs.jsonl", pairs)
    (folder / "empty.jsonl").write_text("")
    (folder / "broken.jsonl").write_text('{"prompt": "w1"}\n{"prompt":\n')
    (folder / "rewards.py").write_text(REWARDS)
    (folder / "broken.py").write_text("def good(:\n")
    shutil.copytree(folder / "model", folder / "weightless", ignore=shutil.ignore_patterns("*.safetensors"))
    (folder / "thesis").mkdir()
    (folder / "thesis/chapter.txt").write_text("precious")
    (folder / "unknown.toml").write_text("[ppo]\nlerning_rate = 1e-4\n")
    return folder


def write_rows(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def here(material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder of the test's own with the material in it."""
    shutil.copytree(material, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def heed(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Heed:
    """The command, in this process; anything but a clean exit is the test's failure."""

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["heed", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return Ended(ended.value.code, printed.out, printed.err)

    return call


def sentence(ended: Ended) -> str:
    """The one sentence of a refusal: what happened. What to do next."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith("heed: ")]
    assert len(lines) == 1, ended.err
    assert ended.err.rstrip().endswith(lines[0]), "the sentence comes last"
    what, _, next_step = lines[0].removeprefix("heed: ").partition(". ")
    assert what
    assert next_step, f"it says nothing about what to do next: {lines[0]}"
    return lines[0]


TURNED = {
    "feedback__source": "rankings",
    "feedback__path": "rankings.jsonl",
    "feedback__criterion": "toxicity",
    "feedback__question": "Which is kindest?",
    "feedback__higher_is": "better",
}
BAD_SETTINGS = {
    "model folder missing": ({"model__path": "./nowhere"}, ["./nowhere", "no model folder"]),
    "model neither here nor on the hub": ({"model__path": "owner/nowhere"}, ["'owner/nowhere'", "neither a folder", "Check the name"]),
    "model without weights": ({"model__path": "weightless"}, ["weightless", "no weights", "safetensors"]),
    "no model at all": ({"model__path": "thesis"}, ["thesis", "config.json is missing"]),
    "wrong column in the settings": ({"prompts__prompt_column": "promt"}, ["row 1 of prompts.jsonl", "'promt'", "mean 'prompt'"]),
    "wrong column in the file": ({"prompts__path": "misnamed.jsonl"}, ["row 2 of misnamed.jsonl", "'prompt'", "mean 'promt'"]),
    "empty prompts": ({"prompts__path": "empty.jsonl"}, ["empty.jsonl gives no prompts"]),
    "prompts missing": ({"prompts__path": "absent.jsonl"}, ["no file absent.jsonl", "Check the path"]),
    "prompts not JSON": ({"prompts__path": "broken.jsonl"}, ["line 2 of broken.jsonl", "not JSON"]),
    "too few prompts": ({"prompts__test": 400}, ["40 prompts", "400 for test"]),
    "no validation prompts": ({"prompts__validation": 0}, ["no validation prompts", "prompts.validation"]),
    "no test prompts": ({"prompts__test": 0}, ["no test prompts", "prompts.test"]),
    "too long": ({"prompts__too_long": "refuse", "model__max_prompt_tokens": 2}, ["3 tokens", "the 2 allowed", "'truncate'"]),
    "no room for a prompt": ({"completions__max_new_tokens": 64}, ["max_new_tokens is 64", "context is 64", "Lower it"]),
    "unknown setting": ({"ppo__clp": 0.1}, ["'clp'", "[ppo]", "mean 'clip'"]),
    "unknown section": ({"pppo__clip": 0.1}, ["'pppo'", "mean 'ppo'"]),
    "minibatch larger than batch": ({"ppo__minibatch_size": 8}, ["minibatch_size is 8", "batch_size is 4"]),
    "minibatch that tears prompts apart": (
        {"policy__algorithm": "grpo", "grpo__minibatch_size": 4},
        ["grpo.minibatch_size is 4", "grpo.completions_per_prompt is 8"],
    ),
    "one completion per prompt": (
        {"policy__algorithm": "grpo", "grpo__completions_per_prompt": 1},
        ["grpo.completions_per_prompt is 1", "at least 2", "compared with one another"],
    ),
    "dpo without pairs": ({"policy__algorithm": "dpo"}, ["'dpo'", "learns from pairs", "reward.kind is 'function'"]),
    "fewer pairs than a batch": (
        {"policy__algorithm": "dpo", "reward__kind": "pairs", "reward__path": "pairs.jsonl", "dpo__batch_size": 50},
        ["16 pairs to learn from", "one batch of 50", "dpo.batch_size"],
    ),
    "no such metric": ({"stopping__metric": "scoer"}, ["'scoer'", "entropy, kl, length", "mean 'score'"]),
    "no toxicity to stop at": ({"stopping__metric": "toxicity"}, ["'toxicity'", "this run measures"]),
    "no such measure": ({"evaluation__measures": "['tusk']"}, ["'tusk'", "mean 'task'"]),
    "no GPU": ({"model__device": "cuda"}, ["'cuda'", "no GPU", "model.device"]),
    "reward raises": ({"reward__path": "rewards.py:raises"}, ["rewards.py:raises", "ZeroDivisionError", "--resume"]),
    "reward quits": ({"reward__path": "rewards.py:quits"}, ["rewards.py:quits", "SystemExit: 3"]),
    "too few rewards": ({"reward__path": "rewards.py:short"}, ["1 scores for 4 completions"]),
    "reward is None": ({"reward__path": "rewards.py:nothing"}, ["gave None for completion 0", "finite number"]),
    "reward is NaN": ({"reward__path": "rewards.py:nan"}, ["gave nan for completion 0", "finite number"]),
    "reward is a word": ({"reward__path": "rewards.py:word"}, ["gave 'good' for completion 0"]),
    "one reward for all": ({"reward__path": "rewards.py:single"}, ["returned a float", "one number per completion"]),
    "reward function missing": ({"reward__path": "rewards.py:goood"}, ["no function 'goood'", "mean 'good'"]),
    "reward file missing": ({"reward__path": "absent.py:good"}, ["no file absent.py", "reward.path"]),
    "reward file broken": ({"reward__path": "broken.py:good"}, ["broken.py", "SyntaxError"]),
    "reward names no function": ({"reward__path": "rewards.py"}, ["'rewards.py'", "file.py:function"]),
    "label missing": (
        {"reward__kind": "classifier", "reward__path": "classifier", "reward__label": "nohate"},
        ["'nohate'", "mean 'nothate'"],
    ),
    "label not given": ({"reward__kind": "classifier", "reward__path": "classifier"}, ["reward.label is empty"]),
    "two logits, no label": ({"reward__kind": "model", "reward__path": "classifier"}, ["2 classes: nothate, hate", "reward.label"]),
    "nothing to learn from": ({"reward__kind": "learn"}, ["nothing to learn from", "feedback.source"]),
    "simulated labelers": ({"reward__kind": "learn", "feedback__source": "simulated"}, ["built-in world only", "heed demo"]),
    "rankings that are none": (
        {"reward__kind": "learn", "feedback__source": "rankings", "feedback__path": "misnamed.jsonl"},
        ["row 1 of misnamed.jsonl is no ranking", "labeler"],
    ),
    "a known criterion the wrong way round": (
        {"reward__kind": "learn", **TURNED},
        ["more toxicity is said to be better, and it is worse", "give your criterion another name"],
    ),
    "adapters nowhere": ({"lora__targets": "['nope']"}, ["'nope'", "q_proj"]),
    "adapter on the head": ({"lora__targets": "['q_proj', 'lm_head']"}, ["'lm_head'", "gets no adapter", "q_proj"]),
    "reward model on an encoder-decoder of its own": (
        {"reward__kind": "pairs", "reward__path": "pairs.jsonl", "reward__base": "seq2seq"},
        ["encoder-decoder classifier", "reward.base = 'policy'"],
    ),
    "output is a file": ({"output": "rewards.py"}, ["rewards.py is a file"]),
    "output is something else": ({"output": "thesis"}, ["chapter.txt", "nothing was changed"]),
}


@pytest.mark.parametrize("case", BAD_SETTINGS)
def test_a_bad_setting_is_one_sentence(heed: Heed, here: Path, case: str) -> None:
    changes, words = BAD_SETTINGS[case]
    if case == "no GPU" and tiny.torch.cuda.is_available():
        pytest.skip("there is a GPU")
    before = contents(here)
    found = sentence(heed("run", "-q", *options(**changes)))
    assert [word for word in words if word not in found] == [], found
    assert {path: data for path, data in contents(here).items() if path in before} == before, "the user's files are as they were"


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}


OTHER_COMMANDS = {
    "settings file missing": (["run", "absent.toml"], ["absent.toml", "heed init"]),
    "unknown setting in a file": (["run", "unknown.toml"], ["'lerning_rate'", "mean 'learning_rate'"]),
    "nothing is set": (["run"], ["model.path is not set", "--set model.path"]),
    "report without a run": (["report", "thesis"], ["thesis/report.json"]),
    "pairs missing": (["pairs", "check", "absent.jsonl"], ["absent.jsonl"]),
    "pairs that are none": (["pairs", "check", "prompts.jsonl"], ["row 1 of prompts.jsonl", "'chosen'"]),
    "chat with nobody": (["chat", "./nowhere"], ["./nowhere"]),
    "init over a file": (["init", "rewards.py"], ["rewards.py exists already"]),
    "classifier without rows": (["train", "classifier", "absent.jsonl", "--base", "classifier"], ["absent.jsonl"]),
    "classifier without a base": (["train", "classifier", "labelled.jsonl", "--base", "./nowhere", "--held-out", "0.5"], ["./nowhere"]),
    "ppo without a reward": (["train", "ppo", *options(reward__kind="learn")], ["reward.kind is 'learn'", "heed run"]),
    "grpo without a reward": (["train", "grpo", *options(reward__kind="learn")], ["reward.kind is 'learn'", "heed train grpo wants"]),
    "grpo of one completion": (["train", "grpo", *options(grpo__completions_per_prompt=1)], ["is 1", "at least 2"]),
    "dpo without a file of pairs": (["train", "dpo", *options(reward__path="")], ["reward.path is empty"]),
    "dpo without a model": (["train", "dpo", *options(model__path="", reward__path="pairs.jsonl")], ["model.path is not set"]),
    "dpo with too few pairs": (["train", "dpo", *options(reward__path="pairs.jsonl", dpo__batch_size=17)], ["16 pairs", "batch of 17"]),
    "dpo with no room": (["train", "dpo", *options(reward__path="pairs.jsonl", dpo__max_tokens=3)], ["dpo.max_tokens is 3", "at least 4"]),
    "prompts not named": (["prompts"], ["prompts.path is not set"]),
}


@pytest.mark.parametrize("case", OTHER_COMMANDS)
def test_every_command_refuses_in_a_sentence(heed: Heed, here: Path, case: str) -> None:
    write_rows(here / "labelled.jsonl", [{"text": f"w{i}", "label": i % 2} for i in range(40)])
    words, expected = OTHER_COMMANDS[case]
    found = sentence(heed(*words))
    assert [word for word in expected if word not in found] == [], found


@pytest.mark.parametrize("words", [["nonsense"], ["demo", "--archtecture", "t5"], ["demo", "--architecture", "bert"], ["pairs", "check"]])
def test_usage_errors_are_2_as_well(heed: Heed, words: list[str]) -> None:
    ended = heed(*words)
    assert ended.code == 2
    assert "Error" in ended.err
    assert "Traceback" not in ended.err


def test_once_the_mistake_is_mended_the_same_folder_serves(heed: Heed, here: Path) -> None:
    learned = {"reward__kind": "learn", **TURNED}
    for mistake in ({"reward__path": "rewards.py:goood"}, {"stopping__metric": "scoer"}, {"prompts__path": "broken.jsonl"}, learned):
        sentence(heed("run", "-q", *options(**mistake)))
        assert not (here / "run/run.json").exists()
    assert heed("run", "-q", *options()).code == 0


def test_a_classifier_that_could_not_begin_leaves_its_folder_free(heed: Heed, here: Path) -> None:
    write_rows(here / "labelled.jsonl", [{"text": f"w{i % 13} w{i % 7}", "label": i % 2} for i in range(60)])
    words = ["train", "classifier", "labelled.jsonl", "--held-out", "0.3", "-o", "trained", "-q", "--labels", "nothate, hate", "--base"]
    sentence(heed(*words, "./nowhere"))
    assert heed(*words, "classifier").code == 0
    assert json.loads((here / "trained/classifier/model/config.json").read_text())["id2label"] == {"0": "nothate", "1": "hate"}


def test_ctrl_c_says_how_to_go_on_where_one_can(heed: Heed, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(_: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("builtins.input", pressed)
    ended = heed("chat", "model")
    assert (ended.code, "heed:" in ended.err) == (130, False)
    (here / "rewards.py").write_text("def good(prompts, completions):\n    raise KeyboardInterrupt\n")
    ended = heed("run", "-q", *options())
    assert ended.code == 130
    assert ended.err.splitlines()[-1] == "heed: interrupted; what was done is kept, and the same command with --resume goes on."
    (here / "rewards.py").write_text(REWARDS)
    assert heed("run", "-q", "--resume", *options()).code == 0


def test_a_run_is_never_overwritten(heed: Heed, here: Path) -> None:
    assert heed("run", "-q", *options()).code == 0
    before = contents(here / "run")
    again = sentence(heed("run", "-q", *options()))
    assert "already holds a run" in again
    assert "--resume" in again
    other = sentence(heed("run", "-q", "--resume", *options(ppo__clip=0.3)))
    assert "ppo.clip was 0.2 and is now 0.3" in other
    assert contents(here / "run") == before


def test_a_reward_that_fails_half_way_costs_nothing(heed: Heed, here: Path) -> None:
    """The run stops in a sentence; with the function mended, --resume goes on from the last checkpoint."""
    mended = (here / "rewards.py").read_text()
    counting = "calls = []\ndef good(prompts, completions):\n    calls.append(1)\n"
    counting += "    return [0.5 if len(calls) < 4 else None] * len(completions)\n"
    (here / "rewards.py").write_text(counting)
    settings = options(ppo__max_steps=6, stopping__evaluate_every=2)
    assert "gave None" in sentence(heed("run", "-q", *settings))
    steps = [row["step"] for row in rows_of(here / "run/metrics.jsonl") if "objective/score" in row]
    assert steps
    (here / "rewards.py").write_text(mended)
    assert heed("run", "-q", "--resume", *settings).code == 0
    after = [row["step"] for row in rows_of(here / "run/metrics.jsonl") if "objective/score" in row]
    assert after == [1, 2, 3, 4, 5, 6]
    assert after[: len(steps)] == steps


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_damaged_demo_model_is_refused(heed: Heed, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heedful.demo import build

    monkeypatch.setattr(build, "SHIPPED", here / "models")
    assert "missing or damaged" in sentence(heed("demo", "-q"))
    shutil.copytree(here / "model", here / "models/causal")
    weights = here / "models/causal/model.safetensors"
    sums = {"causal": {file.name: build.file_sha256(file) for file in (here / "models/causal").iterdir()}}
    (here / "models/sha256.json").write_text(json.dumps(sums))
    assert build.shipped_model("causal") == here / "models/causal"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    found = sentence(heed("demo", "-q"))
    assert "model.safetensors is damaged" in found
    assert "--from-scratch" in found
    weights.unlink()
    assert "model.safetensors is damaged (sha256 missing)" in sentence(heed("demo", "-q"))


@pytest.mark.parametrize("room", [2_000, 20_000])
def test_a_full_disk_is_a_sentence_and_the_run_goes_on_later(heed: Heed, here: Path, room: int) -> None:
    """No file may grow beyond ``room`` bytes: writes fail as on a full disk, at different stages of the run."""

    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

    command = [sys.executable, "-m", "heedful.cli.main", "run", "-q", *options()]
    ended = subprocess.run(command, cwd=here, capture_output=True, text=True, preexec_fn=small_disk, timeout=120, check=False)
    found = sentence(Ended(ended.returncode, ended.stdout, ended.stderr))
    assert re.search("cannot be written|cannot write", found), found
    assert "disk space" in found
    resume = ["--resume"] if (here / "run/run.json").exists() else []
    assert heed("run", "-q", *resume, *options()).code == 0


def test_results_are_on_stdout_and_json_on_request(heed: Heed, here: Path) -> None:
    assert heed("--version") == Ended(0, f"heedful {__version__}\n", "")
    shown = heed("prompts", "-q", "--json", *options())
    assert [json.loads(line)["split"] for line in shown.out.splitlines()] == ["train", "validation", "test"]
    assert "python" in json.loads(heed("doctor", "--json").out)
    written = heed("sample", "drawn.jsonl", "-q", "--json", *options(completions__prompts=3, completions__per_prompt=2))
    assert json.loads(written.out)["completions"] == len(rows_of(here / "drawn.jsonl")) == 6
    assert heed("init", "new.toml").code == 0
    assert sentence(heed("run", "new.toml")).startswith("heed: model.path is not set")


def test_the_real_command_is_quiet_about_libraries(here: Path) -> None:
    """What torch and transformers like to say does not reach the user."""
    command = [sys.executable, "-m", "heedful.cli.main", "train", "ppo", "-q", *options()]
    ended = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=120, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_chat_answers_until_an_empty_line(heed: Heed, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = iter(["w1 w2", "w3", ""])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    assert len(heed("chat", "model", "--temperature", "0", "--max-new-tokens", "3").out.splitlines()) == 2


def test_train_single_parts(heed: Heed, here: Path) -> None:
    pairs = [{"prompt": f"w{i}", "chosen": f"w{i % 7} w2", "rejected": f"w{i % 5 + 8}"} for i in range(20)]
    write_rows(here / "pairs.jsonl", pairs)
    write_rows(here / "labelled.jsonl", [{"text": f"w{i % 13} w{i % 7}", "label": i % 2} for i in range(60)])
    assert json.loads(heed("pairs", "check", "pairs.jsonl", "-q", "--json").out)
    sft = heed("train", "sft", "-q", "--json", *options(output="sft", sft__learning_rate=0.01, sft__epochs=8))
    assert json.loads(sft.out)["loss_after"] < json.loads(sft.out)["loss_before"]
    reward = heed("train", "reward", "-q", "--json", *options(output="reward", reward__kind="pairs", reward__path="pairs.jsonl"))
    assert 0 <= json.loads(reward.out)["accuracy"]["estimate"] <= 1
    classifier = ["classifier", "labelled.jsonl", "--base", "classifier", "-o", "trained", "--probe", "w1 w2", "--held-out", "0.3"]
    figures = json.loads(heed("train", *classifier, "-q", "--json").out)
    assert sum(figures["probes"][0]["probabilities"]) == pytest.approx(1, abs=1e-6)
    assert (here / "trained/classifier/model/config.json").exists()


def test_train_dpo_and_go_on_with_what_it_learnt(heed: Heed, here: Path) -> None:
    """Chosen completions hold w2: learnt on some prompts, held out on others; the model opens without heedful."""
    words = ["train", "dpo", "-q", "--json", *options(reward__path="pairs.jsonl", dpo__batch_size=4, dpo__learning_rate=0.05)]
    words += ["--set", "lora.targets=['all-linear']", "--set", "dpo.epochs=6"]
    found = json.loads(heed(*words).out)
    assert found["accuracy"]["estimate"] >= 0.75
    assert 0 < found["longer_wins"]["estimate"] < 1
    assert (found["stopped_by"], found["steps"], found["pairs"]) == ("epochs", 24, 4)
    assert AutoModelForCausalLM.from_pretrained(found["model"]).config.model_type == "llama"
    assert (here / "run/policy/adapter/adapter_config.json").exists()
    rows = rows_of(here / "run/metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(1, 25))
    assert rows[0]["rewards/margin"] == pytest.approx(0, abs=1e-4)
    assert rows[-1]["rewards/margin"] > 0.2
    assert json.loads(heed(*words, "--resume").out) == found
    assert rows_of(here / "run/metrics.jsonl") == rows


def test_train_grpo(heed: Heed, here: Path) -> None:
    sizes = {"grpo__completions_per_prompt": 2, "grpo__batch_size": 8, "grpo__minibatch_size": 4, "grpo__max_steps": 2}
    words = ["train", "grpo", "-q", "--json", *options(stopping__evaluate_every=2, **sizes)]
    found = json.loads(heed(*words).out)
    assert (found["stopped_by"], found["steps"]) == ("max_steps", 2)
    rows = [row for row in rows_of(here / "run/metrics.jsonl") if "objective/score" in row]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["policy/first_ratio"] == pytest.approx(1, abs=1e-4)
    assert not [name for row in rows for name in row if name.startswith("value/")], "there is no value head"
    assert json.loads(heed(*words, "--resume").out) == found


def test_without_the_training_extra_one_sentence_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['torch'] = None; from heedful.cli.main import main; sys.argv = ['heed', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", code, "demo", "--quick", "-o", str(tmp_path / "run")]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 2
    assert "pip install 'heedful[train]'" in found.stderr
    assert "Traceback" not in found.stderr
