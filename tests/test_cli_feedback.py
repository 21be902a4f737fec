"""heed feedback, as a user calls it: each command on a store and on a file, and every mistake in a sentence."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from random import Random
from typing import Any

import pytest

from heedful.cli.main import main
from heedful.feedback.asking import ask
from heedful.feedback.assign import assign
from heedful.feedback.criteria import CRITERIA
from heedful.feedback.instructions import instructions_for
from heedful.feedback.simulated import SimulatedLabeler, collect
from heedful.pairs.formats import rankings as raw
from heedful.records import Labeler, Prompt, Ranking, read_jsonl, write_jsonl
from heedful.store import Answer, Project, Store, derived, labelers, place
from stores import items, project, ready, work

Heed = Callable[..., Any]
HELPFUL = CRITERIA["helpfulness"]
PANEL = [
    *(SimulatedLabeler(f"careful {n}", noise=0.4, strata={"language": "native" if n < 5 else "learnt"}) for n in range(8)),
    SimulatedLabeler("guesser", "random", strata={"language": "learnt"}),
    SimulatedLabeler("reversed", "upside_down", strata={"language": "learnt", "age": "60+"}),
]
PROMPTS = items(80, completions=4)


def judged() -> list[Ranking]:
    """What the panel says of 80 prompts, five each: eight are careful, one guesses, one reads the scale upside down."""
    chance = Random(3)
    truth: dict[str, float | None] = {c.id: chance.gauss(0, 1) for _, shown in PROMPTS for c in shown}
    assignment = assign([prompt.id for prompt, _ in PROMPTS], [one.name for one in PANEL], 5, 0)
    return collect(PROMPTS, truth, PANEL, assignment, HELPFUL, instructions_for(HELPFUL), 0)


RANKINGS = judged()


@pytest.fixture
def heed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Heed:
    """Run a command; returns its JSON (a list for rows), its text, or what it said on stderr with its exit code."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*words: object) -> Any:
        monkeypatch.setattr("sys.argv", ["heed", "feedback", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        if ended.value.code:
            return ended.value.code, said.err
        return [json.loads(line) for line in said.out.splitlines()] if "--json" in words else said.out

    return run


@pytest.fixture
def full(where: str) -> str:
    """A store in which the panel has judged."""
    with Store.open(where) as store:
        ready(store, prompts=0, labelers=0, overlap=5)
        store.add_prompts("helpful", PROMPTS)
        store.add_labelers(*(one.as_labeler() for one in PANEL))
        store.import_judgements("helpful", RANKINGS)
    return where


@pytest.fixture
def file(tmp_path: Path) -> str:
    """The same as a file, with the labelers in it."""
    stream = [*(one.as_labeler() for one in PANEL), *RANKINGS]
    raw.write(tmp_path / "rankings.jsonl", stream)
    return str(tmp_path / "rankings.jsonl")


@pytest.fixture(params=["store", "file"])
def source(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> str:
    """A store or a file in which the same was said."""
    if request.param == "file":
        return str(request.getfixturevalue("file"))
    import shutil

    path = Path(shutil.copy(sqlite_template, tmp_path / "labels.db"))
    with Store.open(path) as store:
        store.create_project(project(overlap=5))
        store.add_prompts("helpful", PROMPTS)
        store.add_labelers(*(one.as_labeler() for one in PANEL))
        store.import_judgements("helpful", RANKINGS)
    return str(path)


def test_consensus(heed: Heed, source: str, tmp_path: Path) -> None:
    [found] = heed("consensus", source, "--json", "-o", tmp_path / "figures")
    assert (found["method"], found["rankings"], found["labelers"], found["prompts"], found["pairs"]) == ("model", 400, 10, 80, 480)
    assert found["reliability"]["reversed"] < -0.3 < 0.3 < found["reliability"]["careful 0"]
    pairs = list(read_jsonl(tmp_path / "figures/consensus.jsonl"))
    assert len(pairs) == 480
    assert sum(pair["p"] >= 0.55 for pair in pairs) == found["decided"]
    assert (tmp_path / "figures/calibration.svg").read_text().startswith("<svg")
    [without] = heed("consensus", source, "--exclude", "guesser", "--exclude", "reversed", "--method", "majority", "--json")
    assert (without["method"], without["labelers"], without["excluded"]) == ("majority", 8, ["guesser", "reversed"])
    assert without["input_sha256"] != found["input_sha256"]
    shown = heed("consensus", source)
    assert "Model: 10 labelers" in shown


def test_labelers(heed: Heed, source: str, tmp_path: Path) -> None:
    rows = heed("labelers", source, "--json", "-o", tmp_path / "figures")
    assert {row["labeler"] for row in rows if row["flagged"]} == {"guesser", "reversed"}
    assert {row["labeler"]: row["verdict"] for row in rows}["reversed"] == "upside_down"
    drawn = (tmp_path / "figures/labelers.svg").read_text()
    assert "guesser (40)" in drawn
    assert "to look at" in drawn, "the two stand out"
    assert (tmp_path / "figures/reliability.svg").read_text().startswith("<svg")
    shown = heed("labelers", source)
    assert "reversed: Agrees with the others on" in shown
    assert "careful 0: " not in shown, "only who is to be looked at is told of at length"


def test_agreement(heed: Heed, source: str) -> None:
    rows = heed("agreement", source, "--json")
    assert [row["of"] for row in rows] == ["all", "language: learnt", "language: native"], "of one person's age nothing is told"
    assert [row["labelers"] for row in rows] == [10, 5, 5]
    everybody, learnt, native = (row["agreement"]["estimate"] for row in rows)
    assert learnt < everybody < native
    shown = heed("agreement", source)
    assert "Labelers agree on" in shown
    assert "72% to 77%" in shown


def test_coverage(heed: Heed, source: str, tmp_path: Path) -> None:
    [found] = heed("coverage", source, "--json", "-o", tmp_path / "figures")
    assert (found["prompts"], found["labelers"], found["judgements"], found["overlap"]) == (80, 10, {"overlap": 400}, {"5": 80})
    assert found["per_labeler"] == {"least": 40, "median": 40, "most": 40}
    assert found["strata"] == {"age": {"groups below 5": 10}, "language": {"learnt": 5, "native": 5}}
    assert "coverage" in (tmp_path / "figures/coverage.svg").read_text()
    assert not (tmp_path / "figures/time.svg").exists(), "nobody knows when"
    assert "80 by 5" in heed("coverage", source)


def test_a_store_and_its_export_say_the_same(heed: Heed, full: str, tmp_path: Path) -> None:
    counts = heed("export", full, "all.jsonl", "--strata", "--json")[0]
    assert (counts["prompt"], counts["completion"], counts["labeler"], counts["ranking"]) == (80, 320, 10, 400)
    stored, exported = (heed("consensus", of, "--json")[0] for of in (full, "all.jsonl"))
    for name in ("input_sha256", "decided", "reliability", "completions_F"):
        assert stored[name] == exported[name]
    assert heed("labelers", full, "--json") == heed("labelers", "all.jsonl", "--json")
    heed("import", "again.db", "all.jsonl", "--project", "helpful")
    heed("export", "again.db", "again.jsonl", "--strata")
    rows = [sorted(Path(name).read_text().splitlines()) for name in ("all.jsonl", "again.jsonl")]
    assert rows[0] == rows[1], "in, out, in and out again"


def test_what_is_personal_stays_unless_asked_for_and_an_event_can_be_named(heed: Heed, full: str) -> None:
    with Store.open(full) as store:
        before = store.snapshot("helpful").event
        store.import_judgements("helpful", [Ranking("p0", "late", ["p0:a", "p0:b"], [1, 2], "helpfulness", "v")])
    assert heed("export", full, "then.jsonl", "--as-of", before, "--json")[0]["ranking"] == 400
    assert heed("export", full, "now.jsonl", "--json")[0]["ranking"] == 401
    assert "native" not in Path("now.jsonl").read_text()


def test_save_keeps_the_consensus_and_asks_once_more_where_nobody_is_sure(heed: Heed, full: str) -> None:
    before = heed("consensus", full, "--json")[0]
    [found] = heed("consensus", full, "--save", "--json")
    with Store.open(full) as store:
        run = store.read(lambda c: derived.latest(c, "helpful"))
        assert run
        assert run.id == found["derived_run"]
        assert run.input_sha256 == before["snapshot"] == store.snapshot("helpful").sha256
        assert run.parameters["rankings_sha256"] == before["input_sha256"]
        assert run.algorithm.startswith("panel")
        assert sum(len(pairs) for _, pairs in store.read(lambda c: derived.pairs_page(c, run.id, 0, 999))) == 480
        assert {one.labeler: one.verdict for one in store.read(lambda c: derived.reports(c, run.id))}["guesser"] == "random"
        assert store.status()[0].places_open == found["asked_once_more"]
        assert store.check().problem == ""


def test_the_undecided_are_asked_about_again(heed: Heed, where: str) -> None:
    """Two say opposite things of everything; with --save a third is asked."""
    with Store.open(where) as store:
        version = ready(store, prompts=2, labelers=3, overlap=2)
        for name, turned in (("l0", False), ("l1", True)):
            work(store, name, how=lambda task, turned=turned: answer(task.completions, turned))  # type: ignore[misc]
        assert ask(store, "helpful", "l2") is None
    assert heed("consensus", where, "--save", "--json")[0]["asked_once_more"] == 2
    with Store.open(where) as store:
        assert len(work(store, "l2")) == 2
        assert version


def answer(texts: list[str], turned: bool) -> Answer:
    ranks = [sorted(texts, reverse=turned).index(text) + 1 for text in texts]
    return Answer(ranks=ranks)


def test_quarantine_and_reinstate(heed: Heed, full: str) -> None:
    [row] = heed("quarantine", full, "reversed", "--why", "reads it upside down", "--by", "manager", "--json")
    assert (row["quarantined"], row["decided_by"], row["why"]) == (True, "manager", "reads it upside down")
    assert heed("consensus", full, "--json")[0]["quarantined"] == ["reversed"]
    assert {r["labeler"]: r["quarantined"] for r in heed("labelers", full, "--json")}["reversed"] == "reads it upside down"
    assert heed("agreement", full, "--json")[0]["labelers"] == 9
    assert "upside down (quarantined)" in heed("labelers", full)
    assert "Quarantined: reads it upside down." in heed("labelers", full)
    history = heed("reinstate", full, "reversed", "--why", "we talked")
    assert [word for word in history.split() if word in ("quarantined", "reinstated")] == ["quarantined", "reinstated"]
    assert heed("consensus", full, "--json")[0]["quarantined"] == []
    with Store.open(full) as store:
        assert store.read(lambda c: labelers.decisions(c, "helpful"))[1]["decided_by"]
        assert len(list(store.judgements("helpful"))) == 400


def test_import_from_files_that_stand_apart(heed: Heed, tmp_path: Path) -> None:
    write_jsonl(tmp_path / "prompts.jsonl", [prompt for prompt, _ in PROMPTS])
    write_jsonl(tmp_path / "completions.jsonl", [c for _, shown in PROMPTS for c in shown])
    write_jsonl(tmp_path / "rankings.jsonl", RANKINGS[:50])
    words = ("import", "new.db", "rankings.jsonl", "--prompts", "prompts.jsonl", "--completions", "completions.jsonl", "-q", "--json")
    assert heed(*words)[0] == {
        "store": "new.db",
        "project": "run",
        "prompts": 80,
        "labelers": 10,
        "judgements": 50,
        "there_before": 0,
        "naming_their_model": 0,
    }
    write_jsonl(tmp_path / "more.jsonl", RANKINGS[50:])
    assert heed("import", "new.db", "more.jsonl", "--json")[0]["judgements"] == 350
    assert heed("import", "new.db", "more.jsonl", "--json")[0]["there_before"] == 350
    turned = [dataclasses.replace(row, ranks=row.ranks[::-1]) for row in RANKINGS[50:] if row.ranks != row.ranks[::-1]]
    write_jsonl(tmp_path / "turned.jsonl", turned)
    code, said = heed("import", "new.db", "turned.jsonl")
    assert code == 2
    assert "row 1 of turned.jsonl: labeler" in said
    assert "has judged prompt" in said


def test_thumbs_have_a_consensus_too(heed: Heed, where: str) -> None:
    with Store.open(where) as store:
        ready(store, prompts=3, labelers=3, completions=2, task="thumbs")
        for name in ("l0", "l1", "l2"):
            work(store, name, how=lambda task: Answer(thumbs=[text.startswith("answer a") for text in task.completions]))
    [found] = heed("consensus", where, "--json")
    assert (found["thumbs"], found["completions"], found["up"], found["down"]) == (18, 6, 3, 3)
    [without] = heed("consensus", where, "--exclude", "l0", "--json")
    assert (without["thumbs"], without["excluded"], without["quarantined"]) == (12, ["l0"], [])
    assert heed("consensus", where, "--method", "model", "--json")[0]["right"].keys() == {"l0", "l1", "l2"}
    assert heed("coverage", where, "--json")[0]["overlap"] == {"3": 3}
    before = {name: found[name] for name in ("thumbs", "up", "down", "input_sha256")}
    heed("export", where, "thumbs.jsonl")
    assert heed("import", "again.db", "thumbs.jsonl", "--json")[0]["judgements"] == 9
    [again] = heed("consensus", "again.db", "--json")
    assert {name: again[name] for name in before} == before, "out, in, and the same is thought of them"
    [everybody] = heed("agreement", where, "--json", "-o", "figures")
    assert (everybody["of"], everybody["labelers"], everybody["agreement"]["estimate"]) == ("all", 3, 1.0)
    assert "Labelers agree on 100% of 18 shared thumbs" in heed("agreement", where)
    assert heed("labelers", where) == (2, "heed: helpful holds thumbs only, and no rankings by 'helpfulness'. Collect rankings first.\n")


def test_completions_that_name_their_model_are_told_of_and_stay(heed: Heed, where: str) -> None:
    named = [(p, [dataclasses.replace(cs[0], text="I'm Claude, made by Anthropic."), *cs[1:]]) for p, cs in PROMPTS[:3]]
    write_jsonl(Path("prompts.jsonl"), [p for p, _ in named])
    write_jsonl(Path("completions.jsonl"), [c for _, cs in named for c in cs])
    write_jsonl(Path("rankings.jsonl"), [row for row in RANKINGS if row.prompt_id in ("p0", "p1", "p2")])
    words = ("import", where, "rankings.jsonl", "--prompts", "prompts.jsonl", "--completions", "completions.jsonl")
    assert heed(*words, "--json")[0]["naming_their_model"] == 3
    assert heed("import", where, "rankings.jsonl", "--json")[0]["there_before"] == 15
    [found] = heed("check", where, "--json")
    assert (found["completions"], found["naming"], found["names"]) == (12, 3, {"Claude": 3})
    assert [example["completion_id"] for example in found["examples"]] == ["p0:a", "p1:a", "p2:a"]
    assert "3 of 12 completions say who wrote them: Claude (3)." in heed("check", where)
    assert heed("check", "completions.jsonl", "--prompts", "prompts.jsonl", "--json") == [found], "a file says the same"
    write_jsonl(Path("asked.jsonl"), [{"id": p.id, "prompt": "Are you Claude of Anthropic?"} for p, _ in named])
    assert heed("check", "completions.jsonl", "--prompts", "asked.jsonl") == "None of 12 completions says who wrote it.\n"


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("consensus",), "there is no store heedful.db"),
    (("labelers", "nothing.jsonl"), "there is no file nothing.jsonl"),
    (("agreement", "bad.jsonl"), "is not JSON"),
    (("consensus", "rankings.jsonl", "--exclude", "gueser"), "Did you mean 'guesser'"),
    (("consensus", "rankings.jsonl", "--save"), "is a file, and a consensus is kept in a store"),
    (("consensus", "rankings.jsonl", "--criterion", "toxicity"), "no rankings by 'toxicity'"),
    (("coverage", "rankings.jsonl", "--criterion", "wit"), "there is no built-in criterion 'wit'"),
    (("labelers", "rankings.jsonl", "--higher-is", "worse"), "--higher-is worse is said of no criterion. Name it with --criterion"),
    (("import", "new.db", "rankings.jsonl", "--higher-is", "better"), "--higher-is better is said of no criterion"),
    (("labelers", "rankings.jsonl", "--criterion", "helpfulness", "--higher-is", "worse"), "more helpfulness is said to be worse"),
    (("import", "new.db", "rankings.jsonl", "--criterion", "toxicity", "--higher-is", "better"), "more toxicity is said to be better"),
    (("import", "new.db", "bad.jsonl"), "is not JSON"),
    (("import", "new.db", "rankings.jsonl"), "there is no prompt"),
    (("import", "new.db", "thumbs.jsonl"), "row 1 of thumbs.jsonl: there is no prompt 'p'"),
    (("import", "new.db", "mixed.jsonl"), "row 2 of mixed.jsonl: it is a thumb, and the project asks for rankings"),
    (("export", "nothing.db", "out.jsonl"), "there is no store nothing.db"),
    (("quarantine", "nothing.db", "uma", "--why", "x"), "there is no store nothing.db"),
]


@pytest.mark.parametrize(("words", "problem"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_sentence_and_leaves_nothing(heed: Heed, file: str, tmp_path: Path, words: tuple[str, ...], problem: str) -> None:
    (tmp_path / "bad.jsonl").write_text("{not json\n")
    thumb = {"record": "thumb", "prompt_id": "p", "labeler": "a", "completion_id": "c", "label": True}
    write_jsonl(tmp_path / "thumbs.jsonl", [thumb])
    write_jsonl(tmp_path / "mixed.jsonl", [{**RANKINGS[0].to_dict(), "prompt_id": "p"}, thumb])
    before = sorted(path.name for path in tmp_path.iterdir())
    code, said = heed(*words)
    assert (code, problem in said) == (2, True), said
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_known_answers_come_with_the_prompts_of_a_file_too(heed: Heed, file: str, tmp_path: Path) -> None:
    """The order of the ids is the right one, say the prompts: whoever ranked by something else did not read."""
    gold = [Prompt(p.id, p.prompt, columns={"gold_ranks": {c.id: n for n, c in enumerate(shown, 1)}}) for p, shown in PROMPTS]
    raw.write(tmp_path / "known.jsonl", [*gold, *RANKINGS])
    report = {row["labeler"]: row for row in heed("labelers", "known.jsonl", "--json")}["careful 0"]
    right = [
        (row.rank_of(a) or 9) < (row.rank_of(b) or 9)
        for row in RANKINGS
        if row.labeler == "careful 0"
        for a, b in combinations(sorted(row.completion_ids), 2)
        if row.rank_of(a) != row.rank_of(b)
    ]
    assert report["gold"] == pytest.approx(sum(right) / len(right))
    assert (report["verdict"], "gold" in report["signs"]) == ("careless", True)
    assert "gold" not in heed("labelers", file, "--json")[0]
    raw.write(tmp_path / "bad.jsonl", [Prompt("p0", "q", columns={"gold_ranks": ["p0:a"]}), *RANKINGS])
    assert "the column gold_ranks of prompt 'p0' is" in heed("labelers", "bad.jsonl")[1]


def test_agreement_is_drawn(heed: Heed, source: str, tmp_path: Path) -> None:
    heed("agreement", source, "-o", tmp_path / "figures")
    drawn = (tmp_path / "figures/agreement.svg").read_text()
    assert "language: native (" in drawn
    assert "published labelers, 72 to 77 %" in drawn


def test_corrections_are_counted(heed: Heed, where: str) -> None:
    with Store.open(where) as store:
        ready(store, prompts=2, labelers=1, completions=2, task="correction", overlap=1)
        work(store, "l0", how=lambda task: Answer(corrections={0: "better"}))
    assert heed("coverage", where, "--json")[0]["judgements"] == {"overlap": 2}
    assert "holds corrections only" in heed("labelers", where)[1]


def test_a_direction_that_is_not_the_projects_is_refused(heed: Heed, where: str) -> None:
    with Store.open(where) as store:
        store.create_project(Project("short", "brevity", "Which is shortest?"))
    code, said = heed("labelers", where, "--criterion", "brevity", "--higher-is", "worse")
    assert (code, "more brevity is better, not worse" in said) == (2, True), said


def test_a_project_that_takes_a_known_criterion_the_wrong_way_round_can_still_be_read(heed: Heed, where: str) -> None:
    """Nobody can make one any more; there may be some from before."""
    with Store.open(where) as store:
        store.create_project(Project("helpful", "helpfulness", "Which helps least?", "worse", overlap=5))
        store.add_prompts("helpful", PROMPTS)
        store.add_labelers(*(one.as_labeler() for one in PANEL))
        store.import_judgements("helpful", RANKINGS)
    assert {row["labeler"] for row in heed("labelers", where, "--json")} == {one.as_labeler().name for one in PANEL}
    assert "again.jsonl" in heed("export", where, "again.jsonl")
    code, said = heed("labelers", where, "--criterion", "helpfulness")
    assert (code, "more helpfulness is worse, not better. Leave --criterion and --higher-is out." in said) == (2, True), said


@pytest.mark.parametrize("words", [("labelers",), ("export", "out.jsonl"), ("quarantine", "guesser", "--why", "x")])
def test_a_store_that_will_not_last_is_told_once(
    words: tuple[str, ...], tmp_path: Path, sqlite_template: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the file system here is, the kernel's list says that it is memory."""
    mounts = tmp_path / "mounts"
    mounts.write_text("36 35 98:0 / / rw - tmpfs tmpfs rw\n")
    path = tmp_path / "labels.db"
    path.write_bytes(sqlite_template.read_bytes())
    with Store.open(path) as store:
        store.create_project(project(overlap=5))
        store.add_prompts("helpful", PROMPTS)
        store.import_judgements("helpful", RANKINGS[:30])
    monkeypatch.setattr(place, "_MOUNTS", mounts)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["heed", "feedback", words[0], str(path), *words[1:], "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert not ended.value.code
    assert said.err.count("heed: warning: ") == said.err.count("Keep it on a disk") == 1
    assert all(json.loads(line) for line in said.out.splitlines())


def test_decisions_that_cannot_be_made(heed: Heed, full: str) -> None:
    assert "no labeler 'nobody'" in heed("quarantine", full, "nobody", "--why", "x")[1]
    assert "was given no reason" in heed("quarantine", full, "guesser", "--why", " ")[1]
    assert "there is no project 'other'" in heed("consensus", full, "--project", "other")[1]
    with Store.open(full) as store:
        store.create_project(project("second"))
        store.add_labelers(Labeler("somebody"))
    assert "has 2 projects" in heed("labelers", full)[1]
    assert "is about 'helpfulness', not 'toxicity'" in heed("labelers", full, "--project", "helpful", "--criterion", "toxicity")[1]
