"""What comes into a project and goes out of it, as files: what people were asked for decides what is in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from apps import Browser, person

from heedful.errors import DataProblem
from heedful.jobs.exchange import import_said
from heedful.pairs.convert import Choices
from heedful.store import Answer, Store, labelers
from heedful.web import exporting
from stores import project, ready, work


def rows(store: Store, name: str) -> list[dict[str, Any]]:
    path = exporting.written(store, "helpful", name)
    found = [json.loads(line) for line in path.read_text().splitlines()]
    exporting.remove(path)
    assert not path.parent.exists()
    return found


def thumb(texts: list[str], turned: bool) -> Answer:
    """Up for answer a alone, or for all others; answer b is corrected."""
    return Answer(thumbs=[text.startswith("answer a") != turned for text in texts], corrections={texts.index(max(texts)): "so"})


def test_thumbs_and_corrections_become_pairs_unpaired_rows_and_demonstrations(store: Store) -> None:
    ready(store, prompts=2, labelers=3, completions=2, task="thumbs")
    for name in ("l0", "l1", "l2"):
        work(store, name, how=lambda task, name=name: thumb(task.completions, name == "l2"))  # type: ignore[misc]
    pairs = rows(store, "pairs.jsonl")
    told = {(p["prompt"], p["chosen"][:8], p["rejected"][:8], p["source"], p["n_for"], p["n_against"]) for p in pairs}
    assert told == {
        (f"question {n}", *pair)
        for n in (0, 1)
        for pair in (("answer a", "answer b", "thumb", 2, 1), ("so", "answer b", "correction", 3, 0))
    }
    unpaired = {(row["completion"][:8], row["label"]) for row in rows(store, "unpaired.jsonl")}
    assert unpaired == {("answer a", True), ("answer b", False)}
    assert {row["completion"] for row in rows(store, "demonstrations.jsonl")} == {"so"}
    store.write(lambda c: labelers.decide(c, "helpful", "l2", True, "me", "upside down", store.clock()))
    assert {(p["n_for"], p["n_against"]) for p in rows(store, "pairs.jsonl")} == {(2, 0)}, "who is set aside has no voice"


def test_corrections_alone_become_pairs_and_nothing_is_said_to_be_nothing(store: Store) -> None:
    ready(store, prompts=1, labelers=1, task="correction")
    with pytest.raises(DataProblem, match="no rankings"):
        exporting.written(store, "helpful", "pairs.jsonl")
    work(store, "l0", how=lambda task: Answer(corrections={0: "so"}))
    assert [(p["chosen"], p["source"]) for p in rows(store, "pairs.jsonl")] == [("so", "correction")]


def test_judgements_that_were_taken_away_can_be_brought_in(store: Store, tmp_path: Path, sqlite_template: Path) -> None:
    ready(store, prompts=2, labelers=1, task="thumbs")
    work(store, "l0", how=lambda task: thumb(task.completions, False))
    (tmp_path / "judgements.jsonl").write_bytes(b"".join(exporting.judgement_lines(store, "helpful")))
    again = tmp_path / "again.db"
    again.write_bytes(sqlite_template.read_bytes())
    with Store.open(again) as other:
        ready(other, prompts=2, labelers=0, task="thumbs")
        choices: Any = Choices(None)  # type: ignore[arg-type]  # the format says it itself
        found = import_said(str(again), tmp_path / "judgements.jsonl", "helpful", None, choices, from_name="rankings", texts={})
        assert (found["prompts"], found["labelers"], found["judgements"], found["there_before"]) == (0, 1, 2, 0)
        assert list(other.judgements("helpful")) == list(store.judgements("helpful"))


def test_completions_that_name_their_model_are_added_and_told_of(app: Any, store: Store) -> None:
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    store.create_project(project())
    rows = [{"prompt": f"question {n}", "completions": ["Yes.", "I'm Claude <b>&</b> I can."]} for n in range(2)]
    file = ("x.jsonl", "\n".join(map(json.dumps, rows)).encode())
    answered = owner.post("/projects/1/prompts", data={"csrf": owner.csrf(), "max_shown": "4"}, files={"file": file})
    assert answered.status_code == 200
    assert "2 of 4 completions say who wrote them: Claude (2)." in answered.text
    assert "<b>&</b>" not in answered.text
    assert len(list(store.completions("helpful"))) == 4
