"""A run and its store: what is asked goes in, what was said comes out, and what comes later changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import DataProblem, HeedfulError, SettingProblem
from heedful.feedback.asking import ask
from heedful.feedback.consensus import consensus
from heedful.feedback.criteria import CRITERIA
from heedful.feedback.labelers import labeler_reports
from heedful.jobs.data import judge as judge_stage
from heedful.jobs.judgements import collect, criterion_of, keep
from heedful.jobs.sources import FileSource
from heedful.pairs.formats import rankings
from heedful.progress import SilentProgress
from heedful.records import Completion, Labeler, Prompt, Ranking, read_jsonl
from heedful.settings import Settings
from heedful.store import Answer, Project, Store, derived, labelers, projects
from stores import items

HELPFUL = CRITERIA["helpfulness"]


@dataclass
class Workspace:
    """As much of a run's workspace as the job looks at: real settings, and rows instead of files."""

    settings: Settings
    source: Any
    rows: list[tuple[Prompt, list[Completion]]]
    progress: SilentProgress

    def prompts(self, split: str) -> list[Prompt]:
        assert split == "train"
        return [prompt for prompt, _ in self.rows]

    def completions(self) -> list[Completion]:
        return [completion for _, shown in self.rows for completion in shown]


@dataclass
class Said:
    """A source whose rankings are given, and what is known of who gave them."""

    given: list[Ranking]
    known: list[Labeler] = field(default_factory=list)

    def rankings(self, *_: object) -> list[Ranking]:
        return self.given

    def labelers(self) -> list[Labeler]:
        return self.known


def workspace(source: str, where: object = "", given: list[Ranking] | None = None, prompts: int = 3) -> Any:
    settings = Settings.model_validate({"feedback": {"source": source, "path": str(where), "labelers_per_prompt": 2}})
    return Workspace(settings, Said(given or []), items(prompts), SilentProgress())


def ranking(prompt: str, labeler: str, ranks: list[int | None]) -> Ranking:
    return Ranking(prompt, labeler, [f"{prompt}:{c}" for c in "bca"], ranks, "helpfulness", "v1")


def judge(where: str, times: int = 99, ranks: Callable[[int], list[int | None]] = lambda n: list(range(1, n + 1))) -> None:
    """Ann and Ben judge what there is."""
    with Store.open(where) as store:
        for name in ("ann", "ben"):
            if name not in [one.name for one in store.labelers()]:
                store.add_labelers(Labeler(name))
            from heedful.store import instructions

            version, _ = store.read(lambda c: instructions.current(c, "run"))
            store.acknowledge("run", name, version)
            for number in range(times):
                if (task := ask(store, "run", name)) is None:
                    break
                store.submit(task.token, name, f"{task.token} {number}", Answer(ranks=ranks(len(task.completions))), version)


def test_rankings_from_elsewhere_go_into_the_runs_own_store(tmp_path: Path) -> None:
    given = [ranking("p0", "ann", [1, 2, 3]), ranking("p0", "ben", [1, 1, None]), ranking("p1", "ann", [3, 2, 1])]
    ws = workspace("simulated", given=given)
    ws.source.known = [Labeler("ann", "simulated", {"age": "60+"}), Labeler("zoe")]
    first = collect(ws, tmp_path, HELPFUL)
    assert first.rankings == given
    again = collect(workspace("simulated", given=[]), tmp_path, HELPFUL)  # as when a run is resumed: nobody is asked twice
    assert again == first
    with Store.open(tmp_path / "judgements.db") as store:
        assert store.check().problem == ""
        assert store.labelers() == [Labeler("ann", "simulated", {"age": "60+"}), Labeler("ben")], "who is not known is a person"
        assert [p.id for p in store.prompts("run")] == ["p0", "p1", "p2"]


def test_of_several_by_one_labeler_of_one_prompt_the_last_counts(tmp_path: Path) -> None:
    given = [ranking("p0", "ann", [1, 2, 3]), ranking("p0", "ann", [3, 2, 1])]
    assert collect(workspace("rankings", "x.jsonl", given), tmp_path, HELPFUL).rankings == given[1:]


def test_people_label_in_a_store_and_the_run_goes_on(where: str, tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match="nobody who counts has judged this run's completions yet"):
        collect(workspace("store", where), tmp_path, HELPFUL)
    judge(where)
    found = collect(workspace("store", where), tmp_path, HELPFUL)
    assert sorted((row.prompt_id, row.labeler) for row in found.rankings) == [(f"p{i}", name) for i in range(3) for name in ("ann", "ben")]
    assert found.snapshot.judgements == 6
    assert not (tmp_path / "judgements.db").exists()


def test_a_late_label_does_not_change_what_a_run_has_named(where: str, tmp_path: Path) -> None:
    with pytest.raises(DataProblem):
        collect(workspace("store", where), tmp_path, HELPFUL)
    judge(where, times=1)
    found = collect(workspace("store", where), tmp_path, HELPFUL)
    judge(where)
    with Store.open(where) as store:
        assert store.snapshot("run", as_of=found.snapshot.event) == found.snapshot
        assert len(list(store.judgements("run", as_of=found.snapshot.event))) == 2
    source = FileSource(Settings.model_validate({"feedback": {"source": "store", "path": where}}))
    before = source.fingerprint()
    judge(where)
    assert source.fingerprint() == before


def test_whose_work_is_in_quarantine_does_not_count_and_is_named(where: str, tmp_path: Path) -> None:
    with pytest.raises(DataProblem):
        collect(workspace("store", where), tmp_path, HELPFUL)
    judge(where)
    with Store.open(where) as store:
        store.write(lambda c: labelers.decide(c, "run", "ben", True, "manager", "guesses", store.clock()))
    found = collect(workspace("store", where), tmp_path, HELPFUL)
    assert {row.labeler for row in found.counted} == {"ann"}
    assert found.quarantined == {"ben": "guesses"}
    with Store.open(where) as store:
        store.write(lambda c: labelers.decide(c, "run", "ann", True, "manager", "guesses", store.clock()))
    with pytest.raises(DataProblem, match="in quarantine are ann, ben"):
        collect(workspace("store", where), tmp_path, HELPFUL)


def test_more_prompts_of_a_later_run_join_the_project(where: str, tmp_path: Path) -> None:
    with pytest.raises(DataProblem):
        collect(workspace("store", where, prompts=2), tmp_path, HELPFUL)
    judge(where)
    found = collect(workspace("store", where, prompts=5), tmp_path, HELPFUL)
    assert {row.prompt_id for row in found.rankings} == {"p0", "p1"}
    with Store.open(where) as store:
        assert len(list(store.prompts("run"))) == 5


def test_the_same_ids_with_other_texts_are_refused(where: str, tmp_path: Path) -> None:
    """Another run of another seed numbers its completions alike; what people said of the first ones is not about them."""
    with pytest.raises(DataProblem, match="nobody who counts has judged"):
        collect(workspace("store", where), tmp_path, HELPFUL)
    other = workspace("store", where)
    other.rows = [(prompt, [replace(c, text=c.text + "!") for c in shown]) for prompt, shown in other.rows]
    with pytest.raises(DataProblem, match="prompt 'p0' is in the project already, with another text or with other completions"):
        collect(other, tmp_path, HELPFUL)
    with Store.open(where) as store:
        assert next(store.completions("run")).text == "answer a to p0"


def test_repeats_are_kept_beside_the_first_judgement(tmp_path: Path) -> None:
    given = [ranking("p0", "ann", [1, 2, 3]), replace(ranking("p0", "ann", [3, 2, 1]), purpose="repeat")]
    assert collect(workspace("rankings", "x.jsonl", given), tmp_path, HELPFUL).rankings == given


def test_a_minority_is_a_minority_in_a_run_too(tmp_path: Path) -> None:
    """Six agree and three of another stratum prefer the opposite; what their strata are stands in the file of rankings."""
    young = [Labeler(f"young{n}", strata={"age": "18-29"}) for n in range(3)]
    people = [*(Labeler(f"old{n}", strata={"age": "60+"}) for n in range(6)), *young]
    orders = [list(order) for order in permutations((1, 2, 3))] * 5
    rows = [
        ranking(f"p{i}", one.name, [4 - rank for rank in order] if one in young else order)
        for i, order in enumerate(orders)
        for one in people
    ]
    rankings.write(tmp_path / "rankings.jsonl", [*people, *rows])
    ws = workspace("rankings", tmp_path / "rankings.jsonl", prompts=30)
    ws.source = FileSource(ws.settings)
    judge_stage(ws, tmp_path)
    found = {row["labeler"]: row["verdict"] for row in read_jsonl(tmp_path / "labelers.jsonl")}
    assert found == {f"old{n}": "fine" for n in range(6)} | {f"young{n}": "minority" for n in range(3)}


def test_what_was_worked_out_lies_beside_the_judgements_and_can_be_made_again(tmp_path: Path) -> None:
    given = [ranking(f"p{i}", name, [1, 2, 3]) for i in range(3) for name in ("ann", "ben", "cleo")]
    ws = workspace("simulated", given=given)
    collected = collect(ws, tmp_path, HELPFUL)
    agreed = consensus(collected.rankings, HELPFUL)
    for _ in range(2):  # thrown away and made again
        keep(ws, tmp_path, collected, agreed, labeler_reports(collected.rankings, HELPFUL))
        with Store.open(tmp_path / "judgements.db") as store:
            run = store.read(lambda c: derived.latest(c, "run"))
            assert run
            assert (run.algorithm, run.version) == (agreed.algorithm, agreed.version)
            assert collected.snapshot
            assert (run.as_of, run.input_sha256) == (collected.snapshot.event, collected.snapshot.sha256)
            assert run.parameters == {**agreed.parameters, "rankings_sha256": agreed.input_sha256}
            pairs = [pair for _, of in store.read(lambda c, i=run.id: derived.pairs_page(c, i, 0, 99)) for pair in of]  # type: ignore[misc]
            assert {(p.chosen_id, p.rejected_id, p.p) for p in pairs} == {(p.chosen_id, p.rejected_id, p.p) for p in agreed.pairs}
            assert {p.details["votes_for"] for p in pairs} == {3}
            assert store.snapshot("run", as_of=run.as_of) == collected.snapshot, "what is derived is no judgement"
            store.write(lambda c, i=run.id: derived.discard(c, i, "test", store.clock()))  # type: ignore[misc]
            assert store.read(lambda c: derived.latest(c, "run")) is None
            assert store.check().problem == ""


def test_a_project_about_something_else_is_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(DataProblem):
        collect(workspace("store", where), tmp_path, HELPFUL)
    with pytest.raises(HeedfulError, match=r"is about 'helpfulness'.*the run about 'toxicity'"):
        collect(workspace("store", where), tmp_path, CRITERIA["toxicity"])


TURNED = {"criterion": "toxicity", "question": "Which is kindest?", "higher_is": "better"}


def asking(ws: Any, **asked: str) -> Any:
    """The same workspace, asking something else."""
    chosen = ws.settings.feedback.model_copy(update=asked)
    return replace(ws, settings=ws.settings.model_copy(update={"feedback": chosen}))


@pytest.mark.parametrize("source", ["rankings", "simulated", "store"])
def test_a_run_does_not_take_a_known_criterion_the_wrong_way_round(source: str, where: str, tmp_path: Path) -> None:
    ws = asking(workspace(source, where), **TURNED)
    with pytest.raises(SettingProblem, match="more toxicity is said to be better, and it is worse"):
        collect(ws, tmp_path, criterion_of(ws))
    with Store.open(where, create=True) as store:
        assert store.read(projects.names) == []
    for asked in ({"higher_is": "worse"}, {"criterion": "kindness"}):
        assert criterion_of(asking(ws, **asked)).question == "Which is kindest?"
    assert criterion_of(asking(ws, question="")) == CRITERIA["toxicity"]


def test_a_run_reads_a_project_that_has_one_already_as_it_is(where: str, tmp_path: Path) -> None:
    with Store.open(where, create=True) as store:
        store.create_project(Project("run", *TURNED.values(), overlap=2, calibration_share=0.0, repeat_share=0.0))  # type: ignore[arg-type]
        store.publish("run", "Which is kindest?")
    ws = asking(workspace("store", where), **TURNED)
    with pytest.raises(DataProblem, match="nobody who counts has judged"):
        collect(ws, tmp_path, criterion_of(ws))
    judge(where)
    said = collect(ws, tmp_path, criterion_of(ws))
    assert len(said.rankings) == 6
    assert said.criterion.preferred(1, 2) is True
    with pytest.raises(SettingProblem, match=r"higher is better\), and the run about 'toxicity' \(higher is worse\)"):
        collect(ws, tmp_path, CRITERIA["toxicity"])
