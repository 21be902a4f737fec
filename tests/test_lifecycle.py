"""Prompts to report, end to end: the demo, runs on a user's own files, and runs that are killed."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

import tiny
from heedful.cli import main as cli
from heedful.demo import build
from heedful.demo.architectures import ARCHITECTURES
from heedful.store import Store, derived

PROMISED = (
    "toxicity_before", "toxicity_after", "toxicity_difference_ci", "task_before", "task_after", "kl",
    "win_rate", "reward_accuracy", "longer_wins_accuracy", "labelers_flagged", "stopped_by",
    "steps", "seconds", "peak_memory_gib", "report",
)  # fmt: skip
OF_THE_MACHINE = ("seconds", "peak_memory_gib")
OPENERS = {"causal": AutoModelForCausalLM, "t5": AutoModelForSeq2SeqLM}
SHIPPED = {"causal": "causal", "t5": "seq2seq"}
MINUTE = [
    "prompts.train=24",
    "prompts.validation=8",
    "prompts.test=8",
    "completions.prompts=16",
    "ppo.batch_size=16",
    "ppo.minibatch_size=8",
    "ppo.max_steps=4",
    "stopping.evaluate_every=2",
    "stopping.metric=score",
    "stopping.direction=above",
    "stopping.target=none",
]
"""The demo, smaller still: what counts here is that every kind of work is there."""


class Heed:
    """The command in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: object, code: int = 0) -> str:
        """What it printed on stdout, or on stderr where it is to fail."""
        self.monkeypatch.setattr(sys, "argv", ["heed", *map(str, words)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = self.capsys.readouterr()
        assert ended.value.code in (code, None if code == 0 else code), printed.err
        return printed.err if code else printed.out


@pytest.fixture
def heed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Heed:
    monkeypatch.chdir(tmp_path)
    return Heed(monkeypatch, capsys)


def read(path: Path) -> dict:
    return json.loads(path.read_text())


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# The demo.


@pytest.mark.parametrize("architecture", ["causal", "t5"])
def test_the_demo_from_prompts_to_report(heed: Heed, tmp_path: Path, architecture: str) -> None:
    printed = heed("demo", "--quick", "--json", "--architecture", architecture, "-o", "run")
    summary = read(tmp_path / "run/summary.json")
    assert json.loads(printed.splitlines()[-1]) == summary
    assert [key for key in PROMISED if summary.get(key) is None] == []
    assert 0 < summary["toxicity_before"] < 1
    assert 0 <= summary["win_rate"] <= 1
    assert summary["kl"] < 1
    assert (summary["steps"], summary["stopped_by"]) == (3, "max_steps")
    assert summary["labelers_flagged"] == ["rory", "uma"]
    assert_made_from_the_judgements(tmp_path / "run")
    assert_self_contained(tmp_path / summary["report"])
    assert_models_open(tmp_path / "run", architecture)
    assert_history(tmp_path / "run")
    assert_figures(tmp_path / "run")


@pytest.mark.parametrize("architecture", ["causal", "t5"])
def test_the_demo_from_scratch_aligns_the_model_that_it_has_trained(
    heed: Heed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    """No shipped model is there to take. The recipe is cut to seconds: the model writes words of the world, not yet what was said."""
    name = SHIPPED[architecture]
    recipe = replace(ARCHITECTURES[name].recipe, steps=60, batch_size=16, warmup_steps=10)
    monkeypatch.setitem(ARCHITECTURES, name, replace(ARCHITECTURES[name], recipe=recipe))
    monkeypatch.setattr(build, "SHIPPED", tmp_path / "nowhere")
    words = ["demo", "--from-scratch", "--quick", "--json", "--architecture", architecture, "-o", "run", *overrides(MINUTE)]
    summary = json.loads(heed(*words).splitlines()[-1])
    assert [key for key in PROMISED if summary.get(key) is None] == []
    assert read(tmp_path / "run-instruct/instruct.json")["architecture"] == name
    assert read(tmp_path / "run/policy/adapter/adapter_config.json")["base_model_name_or_path"] == "run-instruct"
    assert_same_function(tmp_path / "run", architecture, tmp_path / "run-instruct")
    made = (tmp_path / "run-instruct/instruct.json").stat().st_mtime_ns
    heed(*words, "--resume")
    assert (tmp_path / "run-instruct/instruct.json").stat().st_mtime_ns == made, "the model is not trained again"


def assert_figures(run: Path) -> None:
    """Every figure finds its rows in what a real run wrote, under the names that the figure reads."""
    report = read(run / "report.json")
    page = (run / "report.html").read_text()
    for drawn in ("Reliability curve of the reward model", "Accuracy of the reward model by margin, beside choosing the longer completion"):
        assert f'aria-label="{drawn}"' in page
    assert all({"predicted", "observed", "n"} <= row.keys() for row in report["reward"]["reliability"])
    assert all(0 <= row["longer_wins"] <= 1 and row["pairs"] > 0 for row in report["reward"]["by_margin"])
    assert {row["labeler"] for row in report["labelers"] if row["flagged"]} == set(read(run / "summary.json")["labelers_flagged"])
    assert all(row["note"] for row in report["labelers"]), "the evidence is told of everybody"
    assert f">{report['reward']['by_margin'][0]['pairs']} pairs<" in page
    assert "toxicity_difference_ci" not in page


def assert_made_from_the_judgements(run: Path) -> None:
    """The pairs name the consensus and the judgements that they were made from, and the store has both."""
    feedback, made = read(run / "stages/feedback.json")["result"], read(run / "pairs/snapshot.json")
    assert feedback["consensus"]["method"] == "model"
    assert made["algorithm"] == feedback["consensus"]["algorithm"]
    assert made["parents"]["judgements"] == feedback["judgements"]["sha256"]
    assert made["parents"]["rankings"] == feedback["consensus"]["input_sha256"]
    assert len({pair["p"] for pair in rows_of(run / "pairs/train.jsonl")}) > 20, "a probability, not a count of votes"
    with Store.open(run / "feedback/judgements.db") as store:
        assert store.snapshot("run", feedback["judgements"]["event"]).sha256 == feedback["judgements"]["sha256"]
        derived_run = store.read(lambda c: derived.latest(c, "run"))
        assert derived_run is not None
        assert derived_run.input_sha256 == feedback["judgements"]["sha256"]
        assert derived_run.algorithm == made["algorithm"]


def assert_self_contained(report: Path) -> None:
    page = report.read_text()
    assert "<svg" in page
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']*""", page) == []
    assert re.findall(r"""url\(\s*["']?(?!data:|#)[^)]*|@import|<script[^>]*src""", page) == []


def assert_models_open(run: Path, architecture: str) -> None:
    """With transformers and PEFT alone."""
    assert_same_function(run, architecture, build.shipped_model(SHIPPED[architecture]))
    if architecture == "causal":
        reward = AutoModelForSequenceClassification.from_pretrained(run / "reward/model")
        assert reward.config.num_labels == 1


def assert_same_function(run: Path, architecture: str, instruct: Path) -> None:
    """The merged policy, and its adapter on the instruct model."""
    merged = OPENERS[architecture].from_pretrained(run / "policy/model").eval()
    base = OPENERS[architecture].from_pretrained(instruct, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, str(run / "policy/adapter")).eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "policy/model")
    [first, *_] = rows_of(run / "prompts/test.jsonl")
    ids = tokenizer(first["prompt"], return_tensors="pt").input_ids
    inputs = {"input_ids": ids} | ({"decoder_input_ids": ids[:, :3]} if architecture == "t5" else {})
    with torch.no_grad():
        torch.testing.assert_close(merged(**inputs).logits, adapted(**inputs).logits, atol=1e-4, rtol=1e-4)
        assert tokenizer.decode(merged.generate(ids, max_new_tokens=40, do_sample=False)[0], skip_special_tokens=True).strip()


def assert_history(run: Path) -> None:
    """Before the first update the policy is the reference; every stage left its files and its record."""
    rows = [row for row in rows_of(run / "metrics.jsonl") if row["stage"] == "policy"]
    first = next(row for row in rows if "objective/kl" in row)
    assert abs(first["objective/kl"]) < 1e-3
    assert first["policy/first_ratio"] == pytest.approx(1, abs=1e-4)
    assert rows[0]["held_out/kl"] == pytest.approx(0, abs=1e-3)
    stages = ["completions", "evaluation", "feedback", "pairs", "policy", "prompts", "reward"]
    assert sorted(path.stem for path in (run / "stages").iterdir()) == stages
    assert {read(path)["state"] for path in (run / "stages").iterdir()} == {"complete"}


def overrides(settings: Sequence[str]) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


# Kills.


def heed_ctrl_c() -> None:
    """Where the tests run in the background of a script, the shell has told them to ignore it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Interrupted:
    """One run of the demo in a folder of its own, stopped by signals as it goes."""

    def __init__(self, folder: Path, *words: str) -> None:
        folder.mkdir()
        self.folder, self.run = folder, folder / "run"
        self.command = [sys.executable, "-m", "heedful.cli.main", "demo", "--quick", "-q", "-o", "run", *words, *overrides(MINUTE)]
        self.seen: set[str] = set()

    def go(self, stop: Callable[[], bool] = lambda: False, by: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
        """Start or resume; send the signal as soon as ``stop`` says so. The exit code and what stood on stderr."""
        command = [*self.command, *(["--resume"] if (self.run / "run.json").exists() else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command,
            cwd=self.folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=heed_ctrl_c,
        ) as process:
            while process.poll() is None:
                self.look()
                if stop():
                    process.send_signal(by)
                    break
                time.sleep(0.02)
            _, err = process.communicate(timeout=300)
        self.look()
        return process.returncode, err

    def look(self) -> None:
        """Note every path that has ever been there: their number tells how far the run is."""
        for base, _, files in os.walk(self.run):
            self.seen.update(os.path.join(base, file) for file in files)

    def outcome(self) -> dict[str, object]:
        """All that must be the same however often a run was stopped."""
        weights = {
            f"{name}": (self.run / name).read_bytes()
            for name in ("policy/model/model.safetensors", "policy/adapter/adapter_model.safetensors")
        }
        metrics = [{k: v for k, v in row.items() if k != "time"} for row in rows_of(self.run / "metrics.jsonl")]
        summary = {k: v for k, v in read(self.run / "summary.json").items() if k not in OF_THE_MACHINE}
        completions = {name: (self.run / f"evaluation/{name}.jsonl").read_text() for name in ("before", "after")}
        return {"weights": weights, "metrics": metrics, "summary": summary, "completions": completions}


def kill_again_and_again(whole: Interrupted, killed: Interrupted, kills: int, chance: random.Random) -> int:
    """Kill at moments spread over the whole run, then let it end; how many kills hit."""
    hits = 0
    for number in range(kills):
        wanted = int((number + chance.random()) / kills * len(whole.seen))
        late, reached = chance.uniform(0, 0.1), 0.0

        def stop(wanted: int = wanted, late: float = late) -> bool:
            nonlocal reached
            reached = reached or (time.monotonic() if len(killed.seen) >= max(wanted, 1) else 0.0)
            return bool(reached) and time.monotonic() - reached >= late

        code, err = killed.go(stop)
        assert code in (0, -signal.SIGKILL), err
        hits += code != 0
        if code == 0:
            return hits
    code, err = killed.go()
    assert code == 0, err
    return hits


def assert_same_outcome(one: Interrupted, other: Interrupted) -> None:
    expected, found = one.outcome(), other.outcome()
    assert found["summary"] == expected["summary"]
    assert found["completions"] == expected["completions"]
    assert found["metrics"] == expected["metrics"]
    assert found["weights"] == expected["weights"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """The uninterrupted run that the others are compared with."""
    run = Interrupted(tmp_path_factory.mktemp("whole") / "whole")
    code, err = run.go()
    assert code == 0, err
    return run


def test_a_finished_run_is_not_done_again(heed: Heed, whole: Interrupted, tmp_path: Path) -> None:
    shutil.copytree(whole.run, tmp_path / "run")
    words = ["demo", "--quick", "-q", "--json", "-o", "run", *overrides(MINUTE)]
    first, written = read(tmp_path / "run/summary.json"), last_written(tmp_path / "run")
    again = json.loads(heed(*words, "--resume"))
    assert last_written(tmp_path / "run") == written, "no stage was done again"
    assert {k: v for k, v in again.items() if k not in OF_THE_MACHINE} == {k: v for k, v in first.items() if k not in OF_THE_MACHINE}
    assert "Mean toxicity" in heed("demo", "--quick", "-q", "-o", "run", "--resume", *overrides(MINUTE))
    (tmp_path / "run/report.html").unlink()
    heed("report", "run")
    assert_self_contained(tmp_path / "run/report.html")


def last_written(run: Path) -> dict[str, int]:
    """When each file of a stage was written; the report, and the model's card that quotes it, may be made anew."""
    files = [path for path in run.rglob("*") if path.is_file() and path.parent != run and path.name != "README.md"]
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in files}


def test_ctrl_c_and_kill_9_change_nothing(whole: Interrupted, tmp_path: Path) -> None:
    stopped = Interrupted(tmp_path / "stopped")
    code, err = stopped.go(lambda: (stopped.run / "reward/reward/state").exists(), signal.SIGINT)
    assert code == 130
    assert err.splitlines() == ["heed: interrupted; what was done is kept, and the same command with --resume goes on."]
    code, err = stopped.go(lambda: any((stopped.run / "policy/checkpoints").glob("step-*2")))
    assert code == -signal.SIGKILL, err
    code, err = stopped.go()
    assert code == 0, err
    assert_same_outcome(whole, stopped)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_9_at_random_moments_changes_nothing(whole: Interrupted, tmp_path: Path, seed: int) -> None:
    killed = Interrupted(tmp_path / "killed")
    assert kill_again_and_again(whole, killed, 8, random.Random(seed)) >= 4
    assert_same_outcome(whole, killed)


@pytest.mark.slow
def test_kill_9_changes_nothing_for_an_encoder_decoder(tmp_path: Path) -> None:
    whole = Interrupted(tmp_path / "whole", "--architecture", "t5")
    assert whole.go()[0] == 0
    killed = Interrupted(tmp_path / "killed", "--architecture", "t5")
    assert kill_again_and_again(whole, killed, 6, random.Random(4)) >= 3
    assert_same_outcome(whole, killed)


def test_the_comparison_of_runs_can_fail(whole: Interrupted, tmp_path: Path) -> None:
    """One byte of a weight, or one line of metrics that stands twice, is enough."""
    other = Interrupted(tmp_path / "other")
    shutil.copytree(whole.run, other.run)
    assert_same_outcome(whole, other)
    weights, metrics = other.run / "policy/model/model.safetensors", other.run / "metrics.jsonl"
    data, lines = weights.read_bytes(), metrics.read_text()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(AssertionError):
        assert_same_outcome(whole, other)
    weights.write_bytes(data)
    metrics.write_text(lines + lines.splitlines()[-1] + "\n")
    with pytest.raises(AssertionError):
        assert_same_outcome(whole, other)


# A user's own files.


@pytest.fixture
def files(heed: Heed, tmp_path: Path) -> Path:
    """A model, a classifier, an encoder, prompts with references, and a heed.toml."""
    for name, model, tokenizer in (
        ("model", tiny.language_model("llama"), tiny.tokenizer()),
        ("classifier", tiny.bert_classifier(2, id2label={0: "nothate", 1: "hate"}), tiny.tokenizer(pairs=True)),
        ("encoder", tiny.bert_classifier(1), tiny.tokenizer(pairs=True)),
    ):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    rows = [{"prompt": f"w{i % 26} w{i * 7 % 26} w{i // 26}", "reference": f"w{i % 5} w1", "wanted": f"w{i % 3}"} for i in range(60)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "heed.toml").write_text(
        """
        output = "run"
        model.path = "model"
        prompts = { path = "prompts.jsonl", validation = 6, test = 8 }
        completions = { prompts = 12, per_prompt = 3, max_new_tokens = 5 }
        ppo = { max_steps = 3, batch_size = 8, minibatch_size = 4 }
        stopping = { evaluate_every = 2 }
        lora.r = 4
        """
    )
    return tmp_path


def run_with(heed: Heed, *settings: str, resume: bool = False) -> dict:
    return json.loads(heed("run", "-q", "--json", *(["--resume"] if resume else []), *overrides(settings)))


def test_a_python_function_as_the_reward(heed: Heed, files: Path) -> None:
    (files / "mine.py").write_text(
        "def wanted_words(prompts, completions, wanted):\n"
        "    assert len(prompts) == len(completions) == len(wanted)\n"
        "    return [text.split().count(word) for text, word in zip(completions, wanted, strict=True)]\n"
    )
    summary = run_with(heed, "reward.kind=function", "reward.path=mine.py:wanted_words")
    assert summary["toxicity_before"] is None
    assert summary["reward_accuracy"] is None
    assert summary["task_before"] is not None, "there are references, so that ROUGE is measured"
    after = rows_of(files / "run/evaluation/after.jsonl")
    wanted = [row["columns"]["wanted"] for row in rows_of(files / "run/prompts/test.jsonl")]
    counted = [row["text"].split().count(word) for row, word in zip(after, wanted, strict=True)]
    assert summary["score_after"] == pytest.approx(sum(counted) / len(counted))
    assert_self_contained(files / "run/report.html")


def test_a_classifier_as_the_reward(heed: Heed, files: Path) -> None:
    choice = (
        "reward.kind=classifier",
        "reward.path=classifier",
        "reward.label=nothate",
        "stopping.metric=toxicity",
        "stopping.direction=below",
        "model.precision=float32",
    )
    summary = run_with(heed, *choice)
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(files / "classifier").eval(), tiny.tokenizer(pairs=True)
    with torch.no_grad():
        texts = [row["text"] for row in rows_of(files / "run/evaluation/after.jsonl")]
        logits = torch.cat([model(torch.tensor([tokenizer(text)["input_ids"]])).logits for text in texts])
    assert summary["score_after"] == pytest.approx(float(logits[:, 0].mean()), abs=1e-4), "the logit of nothate, by its name"
    assert summary["toxicity_after"] == pytest.approx(float(logits.softmax(-1)[:, 1].mean()), abs=1e-4), "the probability of hate"
    low, high = summary["toxicity_difference_ci"]
    assert low <= summary["toxicity_after"] - summary["toxicity_before"] <= high


@pytest.mark.parametrize("base", ["encoder", "policy"])
def test_pairs_of_ones_own(heed: Heed, files: Path, base: str) -> None:
    rows = [{"prompt": f"w{i} w{i % 3}", "chosen": "w1 w2 w3", "rejected": "w9 w8"} for i in range(20)]
    (files / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = run_with(
        heed,
        "reward.kind=pairs",
        "reward.path=pairs.jsonl",
        f"reward.base={base}",
        "reward.epochs=8",
        "reward.batch_size=4",
        "reward.learning_rate=0.02",
        "model.precision=float32",  # four held-out pairs and a model 16 wide: rounding alone turns one over
    )
    assert summary["longer_wins_accuracy"] == 1
    assert summary["reward_accuracy"] == 1
    reward = AutoModelForSequenceClassification.from_pretrained(files / "run/reward/model")
    assert reward.config.num_labels == 1
    assert reward.config.model_type == {"encoder": "bert", "policy": "llama"}[base]


def test_rankings_of_ones_own(heed: Heed, files: Path) -> None:
    """Sample, rank, go on: the first run ends where people are needed, and loses nothing."""
    choice = ["feedback.source=rankings", "feedback.path=rankings.jsonl"]
    refused = heed("run", "-q", *overrides(choice), code=2)
    assert "no file of rankings rankings.jsonl" in refused
    completions = rows_of(files / "run/completions/completions.jsonl")
    assert len(completions) == 36
    heed("sample", "drawn.jsonl", "-q", *overrides(choice))
    assert [(c["id"], c["token_ids"]) for c in rows_of(files / "drawn.jsonl")] == [(c["id"], c["token_ids"]) for c in completions]

    by_prompt: dict[str, list[dict]] = {}
    for completion in completions:
        by_prompt.setdefault(completion["prompt_id"], []).append(completion)
    with (files / "rankings.jsonl").open("w") as handle:
        for prompt_id, shown in by_prompt.items():
            order = sorted({len(c["token_ids"]) for c in shown})
            for labeler in ("ann", "bob"):
                row = {"prompt_id": prompt_id, "labeler": labeler, "criterion": "helpfulness", "instructions_version": "1"}
                ranks = {"completion_ids": [c["id"] for c in shown], "ranks": [order.index(len(c["token_ids"])) + 1 for c in shown]}
                handle.write(json.dumps(row | ranks) + "\n")

    summary = run_with(heed, *choice, resume=True)
    assert rows_of(files / "run/completions/completions.jsonl") == completions, "nothing that was ranked is drawn again"
    assert summary["labelers_flagged"] == []
    assert 0 <= summary["reward_accuracy"] <= 1
    pairs = rows_of(files / "run/pairs/train.jsonl") + rows_of(files / "run/pairs/held_out.jsonl")
    assert all(len(pair["chosen"].split()) <= len(pair["rejected"].split()) for pair in pairs)
