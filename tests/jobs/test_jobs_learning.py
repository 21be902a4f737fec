"""What a run learns from a store is what the app exports of it, and what an export of the store teaches elsewhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import DataProblem
from heedful.feedback.asking import ask_about
from heedful.feedback.criteria import CRITERIA
from heedful.jobs.data import build_pairs, judge
from heedful.jobs.exchange import export_said, import_said
from heedful.pairs.convert import Choices
from heedful.pairs.formats import rankings
from heedful.pairs.load import load_pairs
from heedful.progress import SilentProgress
from heedful.records import Completion, Pair, Prompt, read_jsonl
from heedful.settings import Settings
from heedful.store import Answer, Store, accounts, invitations, labelers
from heedful.store.tasks import Task
from heedful.web import exporting
from stores import Item, answer, items, join, project, work

HELPFUL = CRITERIA["helpfulness"]
RULE = "Rank them with care."


@dataclass
class Source:
    """The name of what a run reads."""

    def fingerprint(self) -> str:
        return "a test"


@dataclass
class Workspace:
    """As much of a run's workspace as the two stages look at: real settings, folders and results."""

    settings: Settings
    rows: list[Item]
    place: Path
    results: dict[str, Any] = field(default_factory=dict)
    source: Source = field(default_factory=Source)
    progress: SilentProgress = field(default_factory=SilentProgress)

    def prompts(self, split: str) -> list[Prompt]:
        return [prompt for prompt, _ in self.rows]

    def completions(self) -> list[Completion]:
        return [completion for _, shown in self.rows for completion in shown]

    def folder(self, stage: str) -> Path:
        (self.place / stage).mkdir(parents=True, exist_ok=True)
        return self.place / stage

    def result(self, stage: str) -> dict[str, Any]:
        return self.results[stage]


def run(where: str, place: Path, rows: list[Item], **feedback: Any) -> tuple[list[Pair], dict[str, Any]]:
    """The two stages of a run over a store; returns the pairs that it learns from, and what was found of the judgements."""
    chosen = {"source": "store", "path": where, "project": "helpful", **feedback}
    ws: Any = Workspace(Settings.model_validate({"feedback": chosen}), rows, place)
    ws.results["feedback"] = judge(ws, ws.folder("feedback"))
    ws.results["pairs"] = build_pairs(ws, ws.folder("pairs"))
    pairs = [Pair.from_dict(row) for split in ("train", "held_out") for row in read_jsonl(ws.folder("pairs") / f"{split}.jsonl")]
    return pairs, ws.results["feedback"]


def learnt(pairs: list[Pair]) -> set[tuple[Any, ...]]:
    """What a reward model sees of pairs."""
    return {(p.prompt, p.chosen, p.rejected, round(p.p, 9), p.source, p.n_for, p.n_against, p.n_tie, p.instructions_version) for p in pairs}


def exported(store: Store) -> list[Pair]:
    path = exporting.make(store, "helpful", "pairs.jsonl", exporting.state_of(store, "helpful"))
    return load_pairs(path)


def ranked(task: Task, turned: bool) -> Answer:
    order = sorted(task.completions, reverse=turned)
    return Answer([order.index(text) + 1 for text in task.completions])


def judged(store: Store, prompts: int = 8, voices: dict[str, bool] | None = None, **settings: Any) -> list[Item]:
    """Prompts on which labelers agree, but for those who turn everything round."""
    voices = voices or {"ann": False, "ben": False, "uma": True}
    store.create_project(project(overlap=len(voices), **settings))
    version, rows = store.publish("helpful", "Rank them."), items(prompts)
    store.add_prompts("helpful", rows)
    for name, turned in voices.items():
        join(store, name, version)
        work(store, name, how=lambda task, turned=turned: ranked(task, turned))  # type: ignore[misc]
    return rows


def rule(store: Store, prompt_id: str, name: str = "adam") -> None:
    """An adjudicator says the opposite of the alphabet, and leaves."""

    def enter(c: Any) -> accounts.Account:
        return invitations.accept(c, invitations.make(c, "adjudicator", 1, {}, None, store.clock()), name, None, store.clock())

    who = store.write(enter)
    store.acknowledge("helpful", name, store.publish("helpful", RULE))
    task = ask_about(store, "helpful", name, prompt_id)
    answer(store, task, name, ranked(task, turned=True))
    store.write(lambda c: accounts.set_role(c, who.id, 1, None, "test", store.clock()))


def test_a_run_learns_what_an_adjudicator_ruled(store: Store, where: str, tmp_path: Path) -> None:
    rows = judged(store)
    rule(store, "p3")
    pairs, found = run(where, tmp_path, rows)
    of_p3 = {(pair.chosen_id, pair.rejected_id) for pair in pairs if pair.prompt_id == "p3"}
    assert of_p3 == {("p3:c", "p3:b"), ("p3:c", "p3:a"), ("p3:b", "p3:a")}
    assert all(pair.chosen_id < pair.rejected_id for pair in pairs if pair.prompt_id != "p3"), "two of three say so"
    assert found["ruled_on"] == 1
    assert {pair.instructions_version for pair in pairs if pair.prompt_id == "p3"} == {store.publish("helpful", RULE)}
    assert learnt(pairs) == learnt(exported(store)), "one source for the run and for the app"


def test_a_run_and_the_app_count_the_same_people(store: Store, where: str, tmp_path: Path) -> None:
    rows = judged(store)
    store.write(lambda c: labelers.decide(c, "helpful", "uma", True, "mia", "reads it upside down", store.clock()))
    pairs, found = run(where, tmp_path, rows)
    assert {(pair.n_for, pair.n_against) for pair in pairs} == {(2, 0)}
    assert found["judgements"]["quarantined"] == ["uma"]
    assert found["rankings"] == 16
    assert learnt(pairs) == learnt(exported(store))


def test_a_run_learns_from_thumbs_and_corrections(store: Store, where: str, tmp_path: Path) -> None:
    store.create_project(project(task="thumbs", overlap=2))
    version, rows = store.publish("helpful", "Up or down?"), items(6)
    store.add_prompts("helpful", rows)
    for name in ("ann", "ben"):
        join(store, name, version)
        work(store, name, how=lambda t: Answer(thumbs=["answer a" in text for text in t.completions], corrections={0: "better"}))
    pairs, found = run(where, tmp_path, rows)
    assert {(p.chosen_id[3:], p.rejected_id[3:]) for p in pairs if p.source == "thumb"} == {("a", "b"), ("a", "c")}
    assert {p.chosen for p in pairs if p.source == "correction"} == {"better"}
    assert (found["consensus"]["of"], found["thumbs"], found["labelers"]) == ("thumbs", 36, 2)
    assert learnt(pairs) == learnt(exported(store))
    made = json.loads((tmp_path / "pairs/snapshot.json").read_text())
    assert made["parents"]["thumbs"] == found["consensus"]["input_sha256"]
    assert made["parents"]["judgements"] == store.snapshot("helpful").sha256


def test_a_run_learns_from_corrections_alone(store: Store, where: str, tmp_path: Path) -> None:
    store.create_project(project(task="correction", overlap=1))
    version, rows = store.publish("helpful", "Mend them."), items(5)
    store.add_prompts("helpful", rows)
    join(store, "ann", version)
    work(store, "ann", how=lambda t: Answer(corrections={0: "better"}))
    pairs, found = run(where, tmp_path, rows)
    assert [(pair.chosen, pair.source) for pair in pairs] == [("better", "correction")] * 5
    assert found["labelers_flagged"] == []
    assert "consensus" not in found


def test_nobody_is_excluded_but_where_the_settings_say_so(store: Store, where: str, tmp_path: Path) -> None:
    """With ten rankings each the majority decides, and the one who reads the scale upside down is found."""
    rows = judged(store, 10, {"ann": False, "ben": False, "cleo": False, "uma": True})
    pairs, found = run(where, tmp_path / "as it is", rows)
    assert found["consensus"]["method"] == "majority"
    assert found["labelers_flagged"] == ["uma"]
    assert found["excluded"] == []
    assert {(pair.n_for, pair.n_against) for pair in pairs} == {(3, 1)}
    assert found["agreement"]["agreement"] == 0.5, "three of six pairs of labelers agree: a figure of all who count"
    pairs, found = run(where, tmp_path / "as one may ask", rows, exclude_flagged=True)
    assert found["excluded"] == ["uma"]
    assert {(pair.n_for, pair.n_against) for pair in pairs} == {(3, 0)}


def test_a_run_looks_at_known_answers_as_the_app_does(store: Store, where: str, tmp_path: Path) -> None:
    from dataclasses import replace

    store.create_project(project(overlap=3))
    version = store.publish("helpful", "Rank them.")
    rows = [(replace(p, columns={"gold_ranks": {c.id: i + 1 for i, c in enumerate(shown)}}), shown) for p, shown in items(8)]
    store.add_prompts("helpful", rows)
    for name, turned in {"ann": False, "ben": False, "uma": True}.items():
        join(store, name, version)
        work(store, name, how=lambda task, turned=turned: ranked(task, turned))  # type: ignore[misc]
    run(where, tmp_path, rows)
    reports = {row["labeler"]: row for row in read_jsonl(tmp_path / "feedback/labelers.jsonl")}
    assert {name: row["gold"] for name, row in reports.items()} == {"ann": 1.0, "ben": 1.0, "uma": 0.0}
    assert "gold" in reports["uma"]["signs"]


def through_a_file(store: Store, folder: Path, everybody: bool = False) -> tuple[Path, dict[str, int]]:
    file = folder / f"export{everybody}.jsonl"
    return file, export_said(store, "helpful", file, everybody=everybody)


def test_an_export_teaches_what_the_store_does(store: Store, tmp_path: Path) -> None:
    judged(store)
    rule(store, "p3")
    store.write(lambda c: labelers.decide(c, "helpful", "uma", True, "mia", "reads it upside down", store.clock()))
    file, counts = through_a_file(store, tmp_path)
    assert counts["ranking"] == 17
    said = [row for row in rankings.read(file) if not isinstance(row, Prompt | Completion) and hasattr(row, "purpose")]
    assert [(row.labeler, row.prompt_id) for row in said if row.purpose == "ruling"] == [("adam", "p3")]
    import_said(str(tmp_path / "again.db"), file, "helpful", None, Choices(HELPFUL), from_name="rankings", texts={})
    with Store.open(tmp_path / "again.db") as other:
        assert learnt(exported(other)) == learnt(exported(store))
        assert {(pair.n_for, pair.n_against) for pair in exported(other)} == {(2, 0), (1, 0)}
    built = built_from(file, tmp_path / "set")
    assert learnt(built) == learnt(exported(store)), "with the same probabilities"
    rows = [json.loads(line) for line in exporting.judgement_lines(store, "helpful")]
    assert {row["labeler"] for row in rows} == {"ann", "ben", "adam"}


def test_all_that_was_said_may_be_asked_for(store: Store, tmp_path: Path) -> None:
    judged(store)
    store.write(lambda c: labelers.decide(c, "helpful", "uma", True, "mia", "reads it upside down", store.clock()))
    file, counts = through_a_file(store, tmp_path, everybody=True)
    assert counts["ranking"] == 24
    assert {(p.n_for, p.n_against) for p in built_from(file, tmp_path / "set")} == {(2, 1)}


def built_from(file: Path, folder: Path) -> list[Pair]:
    from heedful.jobs.dataset import build_dataset

    build_dataset(file, folder, Choices(HELPFUL), HELPFUL)
    return [Pair.from_dict(row) for split in ("train", "held_out") for row in read_jsonl(folder / f"{split}.jsonl")]


def test_nobody_has_to_wait_for_a_run_to_learn_that_nobody_judged(store: Store, where: str, tmp_path: Path) -> None:
    store.create_project(project(task="thumbs"))
    with pytest.raises(DataProblem, match="nobody who counts has judged this run's completions yet"):
        run(where, tmp_path, items(2))
