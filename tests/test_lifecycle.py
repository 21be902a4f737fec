"""Prompts to report, end to end: the demo, and runs on a user's own files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer

import tiny
from command import MINUTE, Heed, assert_self_contained, overrides, read, rows_of
from heedful.demo import build
from heedful.demo.architectures import ARCHITECTURES
from heedful.store import Store, derived

PROMISED = (
    "toxicity_before", "toxicity_after", "toxicity_difference_ci", "task_before", "task_after", "kl",
    "win_rate", "reward_accuracy", "longer_wins_accuracy", "labelers_flagged", "stopped_by",
    "steps", "seconds", "peak_memory_gib", "report",
)  # fmt: skip
OPENERS = {"causal": AutoModelForCausalLM, "t5": AutoModelForSeq2SeqLM}
SHIPPED = {"causal": "causal", "t5": "seq2seq"}
LESS = ["completions.prompts=8", "completions.max_new_tokens=20", "ppo.max_steps=1", "ppo.warmup_steps=0"]
"""For a model that has just begun to learn, and never ends a sentence."""


@pytest.fixture
def heed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Heed:
    monkeypatch.chdir(tmp_path)
    return Heed(monkeypatch, capsys)


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
    recipe = replace(ARCHITECTURES[name].recipe, steps=20, batch_size=8, warmup_steps=5)
    monkeypatch.setitem(ARCHITECTURES, name, replace(ARCHITECTURES[name], recipe=recipe))
    monkeypatch.setattr(build, "SHIPPED", tmp_path / "nowhere")
    words = ["demo", "--from-scratch", "--quick", "--json", "--architecture", architecture, "-o", "run", *overrides([*MINUTE, *LESS])]
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
