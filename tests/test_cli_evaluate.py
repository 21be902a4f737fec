"""``heed evaluate``: two models, or a finished run's, on held-out prompts; every figure worked out once more."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

import tiny
from heedful.cli import main as cli

SAMPLES, TEST = 2, 6
SETTINGS = {
    "prompts.path": "prompts.jsonl",
    "prompts.validation": 4,
    "prompts.test": TEST,
    "completions.max_new_tokens": 6,
    "evaluation.samples_per_prompt": SAMPLES,
    "lora.r": 2,
    "lora.targets": "['all-linear']",
    "ppo.max_steps": 8,
    "ppo.batch_size": 16,
    "ppo.minibatch_size": 8,
    "ppo.learning_rate": 0.02,
    "stopping.evaluate_every": 2,
    "stopping.metric": "kl",  # what is kept is what has moved farthest
    "model.precision": "float32",
}
ONES = {"reward.kind": "function", "reward.path": "rewards.py:ones"}


class Heed:
    """The command in this process, and what it printed last on stdout and stderr."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        self.printed = ("", "")

    def __call__(self, *words: object, code: int = 0, **changes: object) -> str:
        """stdout, or stderr where it is to fail."""
        more = [word for name, value in changes.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]
        self.monkeypatch.setattr(sys, "argv", ["heed", *map(str, words), *more])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        self.printed = out, err = self.capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        return err if code else out


@pytest.fixture
def heed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Heed:
    """In a folder with two models of the same tokens, prompts, pairs and a reward."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("one", 0), ("other", 1)):
        tiny.language_model("llama", seed).save_pretrained(name)
        tiny.tokenizer().save_pretrained(name)
    rows = [{"prompt": f"w{i % 26} w{i * 7 % 26}", "reference": f"w1{i % 5}", "id": f"p{i}"} for i in range(30)]
    Path("prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = [{"prompt": f"w{i}", "chosen": f"w{i % 7} w2", "rejected": f"w{i % 5 + 8} w9"} for i in range(20)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs))
    Path("rewards.py").write_text("def ones(prompts, completions):\n    return [c.count('1') for c in completions]\n")
    return Heed(monkeypatch, capsys)


def chosen(**more: object) -> list[str]:
    return [word for name, value in {**SETTINGS, **more}.items() for word in ("--set", f"{name}={value}")]


def rows_of(path: str) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def nats(row: dict, prompt: str, *models: object) -> float:
    """How much likelier a completion is to the second model than to the first."""
    ids = tiny.tokenizer()(prompt)["input_ids"]
    whole, taken = torch.tensor([[*ids, *row["token_ids"]]]), torch.tensor(row["token_ids"])[:, None]
    with torch.no_grad():
        first, second = (m(whole).logits[0, len(ids) - 1 : -1].log_softmax(-1).gather(1, taken).sum() for m in models)
    return float(second - first)


def test_two_models_are_compared_on_the_same_prompts_with_the_same_seeds(heed: Heed) -> None:
    words = ["evaluate", "--before", "one", "--after", "other", *chosen(**ONES), "--set", "output=compared"]
    found = json.loads(heed(*words, "-q", "--json"))
    before, after = (rows_of(f"compared/evaluation/{name}.jsonl") for name in ("before", "after"))
    assert len(before) == TEST * SAMPLES
    assert [(r["prompt_id"], r["seed"]) for r in before] == [(r["prompt_id"], r["seed"]) for r in after]
    ones = [[row["text"].count("1") for row in side] for side in (before, after)]
    score = next(row for row in found["comparison"] if row["name"] == "score")
    assert (score["before"]["estimate"], score["after"]["estimate"]) == pytest.approx([sum(side) / len(side) for side in ones])
    assert score["difference"]["low"] < score["difference"]["estimate"] < score["difference"]["high"]
    assert {row["name"] for row in found["comparison"]} == {"score", "task", "rouge1", "rouge2", "length"}
    wins = []
    for i in range(0, TEST * SAMPLES, SAMPLES):
        wins += [(a > b) + (a == b) / 2 for a in ones[1][i : i + SAMPLES] for b in ones[0][i : i + SAMPLES]]
    assert found["win_rate"]["estimate"] == pytest.approx(sum(wins) / len(wins))
    asked = {row["id"]: row["prompt"] for row in rows_of("compared/prompts/test.jsonl")}
    models = tiny.language_model("llama", 0), tiny.language_model("llama", 1)
    expected = [nats(row, asked[row["prompt_id"]], *models) for row in after]
    assert found["kl"]["estimate"] == pytest.approx(sum(expected) / len(expected), rel=1e-3)
    assert json.loads(heed(*words, "-q", "--json", "--resume")) == found


def test_a_model_against_itself_differs_in_nothing(heed: Heed) -> None:
    found = json.loads(heed("evaluate", "-q", "--json", "--after", "one", *chosen(**ONES), model__path="one", output="same"))
    assert all(row["difference"]["estimate"] == 0 for row in found["comparison"])
    assert found["win_rate"]["estimate"] == 0.5
    assert found["kl"]["estimate"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("reward", [ONES, {"reward.kind": "pairs", "reward.path": "pairs.jsonl", "reward.learning_rate": 0.05}])
def test_a_finished_run_is_evaluated_as_it_evaluated_itself(heed: Heed, reward: dict) -> None:
    """From its Hugging Face folders and frozen prompts alone; a learnt reward model from ``reward/model``."""
    heed("run", "-q", "--json", *chosen(**reward), model__path="one", output="run")
    itself = json.loads(Path("run/stages/evaluation.json").read_text())["result"]
    Path("prompts.jsonl").unlink()
    found = json.loads(heed("evaluate", "run", "-q", "--json"))
    for side in ("before", "after"):
        texts = [[r["token_ids"] for r in rows_of(f"{folder}/evaluation/{side}.jsonl")] for folder in ("run", "run-evaluation")]
        assert texts[0] == texts[1]
    assert found["kl"]["estimate"] == pytest.approx(itself["kl"]["estimate"], abs=1e-3)
    assert found["kl"]["estimate"] > 0.01
    for one, again in zip(itself["comparison"], found["comparison"], strict=True):
        assert (one["name"], again["name"]) == (again["name"], one["name"])
        assert again["difference"]["estimate"] == pytest.approx(one["difference"]["estimate"], abs=1e-4)
    assert found["win_rate"]["estimate"] == pytest.approx(itself["win_rate"]["estimate"])


def test_people_get_a_table_and_see_how_far_it_is(heed: Heed) -> None:
    heed("evaluate", "--after", "other", *chosen(**ONES), model__path="one", output="shown")
    shown, told = heed.printed
    for word in ("score", "length", "difference", "win rate, by the reward function", "kl, nats", f"{TEST} prompts, {SAMPLES} completions"):
        assert word in shown
    for work in ("Before", "After", "Measures", "Intervals", "KL"):
        assert f"{work} ..." in told


def test_models_with_other_tokens_have_no_kl(heed: Heed) -> None:
    tiny.language_model("llama", 2).save_pretrained("pairs")
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["more"])
    tokenizer.save_pretrained("pairs")
    found = json.loads(heed("evaluate", "-q", "--json", "--after", "pairs", *chosen(**ONES), model__path="one", output="others"))
    assert found["kl"] is None
    assert found["win_rate"]["estimate"] >= 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "model.path=one"], "there is nothing to compare with: no --after"),
        (["--after", "nowhere/here", "--set", "model.path=one"], "'nowhere/here' is neither a folder here"),
        (["--after", "./nowhere", "--set", "model.path=one"], "there is no model folder ./nowhere"),
        (["--after", "other"], "model.path is not set"),
        (["one"], "one is no run's folder"),
        (["--after", "other", "--set", "model.path=one", "--set", "reward.kind=learn"], "heed evaluate wants a finished reward"),
        (["--after", "other", "--set", "model.path=one", "--set", "prompts.test=0"], "there are no test prompts left"),
        (
            ["--after", "other", "--set", "model.path=one", "--set", "evaluation.measures=['toxcity']"],
            "evaluation.measures names 'toxcity'",
        ),
    ],
)
def test_a_mistake_is_one_sentence(heed: Heed, words: list[str], said: str) -> None:
    told = heed("evaluate", "-q", *chosen(**ONES), *words, code=2)
    assert said in told
    assert "Traceback" not in told
    assert len([line for line in told.splitlines() if line.startswith("heed: ")]) == 1
