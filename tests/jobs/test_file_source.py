"""The user's own files as a source: a split that the rows carry, and ROUGE against their references."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful.config import load_settings
from heedful.jobs.sources import ClassifierToxicity, FileSource, RougeF
from heedful.records import Prompt, write_jsonl
from heedful.reward.score import RewardModel


def test_rows_may_say_where_they_belong(tmp_path: Path) -> None:
    rows = [{"prompt": f"{part} {n}", "part": part} for part, size in (("train", 9), ("validation", 4), ("test", 5)) for n in range(size)]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    sizes = ["prompts.split_column=part", "prompts.validation=3", "prompts.test=5"]
    splits = FileSource(load_settings(None, [f"prompts.path={tmp_path}/rows.jsonl", *sizes])).prompts()
    assert {name: len(part) for name, part in splits.items()} == {"train": 9, "validation": 3, "test": 5}
    assert all(str(prompt.prompt).startswith(name) for name, part in splits.items() for prompt in part)


def test_rouge_takes_the_best_reference_and_gives_0_where_there_is_none() -> None:
    prompts = [Prompt("a", "?", ["the cat sat", "a dog ran far"]), Prompt("b", "?"), Prompt("c", "?", ["x y z"])]
    texts = ["a dog ran", "a dog ran", "z y x"]
    # "a dog ran" / "a dog ran far": precision 3/3, recall 3/4, F 6/7; bigrams 2/2, 2/3, F 4/5.
    assert RougeF("rouge1")(prompts, texts) == pytest.approx([6 / 7, 0, 1])
    assert RougeF("rouge2")(prompts, texts) == pytest.approx([4 / 5, 0, 0])
    assert RougeF("rougeL")(prompts, texts) == pytest.approx([6 / 7, 0, 1 / 3])


def test_measures_are_named_by_what_they_are_of(tmp_path: Path) -> None:
    source = FileSource(load_settings(None))
    assert {name: m.kind for name, m in source.measures([Prompt("a", "?", ["x"])]).items() if isinstance(m, RougeF)} == {
        "task": "rougeL",
        "rouge1": "rouge1",
        "rouge2": "rouge2",
    }
    assert source.measures([Prompt("a", "?")]) == {}


def test_the_measure_of_toxicity_opens_its_classifier_as_the_reward_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who trusts its authors' code does so for both."""
    opened: list[tuple[str, bool]] = []

    def note(path: str, **how: bool) -> None:
        opened.append((path, how["trust_remote_code"]))
        raise InterruptedError

    monkeypatch.setattr(RewardModel, "open", note)
    for trusted in ("true", "false"):
        settings = load_settings(
            None, ["reward.kind=classifier", f"reward.path={tmp_path}", "reward.label=kind", f"model.trust_remote_code={trusted}"]
        )
        with pytest.raises(InterruptedError):
            ClassifierToxicity(settings)([], ["w1"])
    assert opened == [(str(tmp_path), True), (str(tmp_path), False)]
