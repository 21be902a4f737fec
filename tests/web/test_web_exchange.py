"""What comes into a project and goes out of it, as files: what people were asked for decides what is in them."""

from __future__ import annotations

import html
import json
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from apps import Browser, person

from heedful.errors import DataProblem
from heedful.jobs.exchange import import_said
from heedful.pairs.convert import Choices
from heedful.records import Prompt
from heedful.store import Answer, Store, accounts, api_tokens, labelers
from heedful.web import exporting
from stores import completion, project, ready, work


def rows(store: Store, name: str) -> list[dict[str, Any]]:
    path = exporting.make(store, "helpful", name, exporting.state_of(store, "helpful"))
    assert [path] == list(path.parent.glob(f"*-{name}")), "one is kept"
    return [json.loads(line) for line in path.read_text().splitlines()]


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
    assert {(p["n_for"], p["n_against"]) for p in rows(store, "pairs.jsonl")} == {(2, 0)}, "who is in quarantine has no voice"


def test_corrections_alone_become_pairs_and_nothing_is_said_to_be_nothing(store: Store) -> None:
    ready(store, prompts=1, labelers=1, task="correction")
    with pytest.raises(DataProblem, match="no rankings"):
        rows(store, "pairs.jsonl")
    work(store, "l0", how=lambda task: Answer(corrections={0: "so"}))
    assert [(p["chosen"], p["source"]) for p in rows(store, "pairs.jsonl")] == [("so", "correction")]


def inodes(store: Store) -> set[int]:
    return {path.stat().st_ino for path in Path(f"{store.database.where}.exports").glob("*-pairs.jsonl")}


def test_a_file_is_worked_out_once_and_anew_when_something_was_said(app: Any, store: Store) -> None:
    ready(store, prompts=3, labelers=2, overlap=2, max_overlap=2)
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    work(store, "l0")
    asked = [owner.get("/projects/1/exports/pairs.jsonl") for _ in range(2)]
    assert [answer.status_code for answer in asked] == [200, 200]
    assert asked[0].text == asked[1].text
    assert 'filename="pairs.jsonl"' in asked[0].headers["content-disposition"]
    before = inodes(store)
    owner.get("/projects/1/exports/pairs.jsonl")
    assert inodes(store) == before, "nothing was said since"
    assert {json.loads(line)["n_for"] for line in asked[0].text.splitlines()} == {1}
    work(store, "l1", times=2, how=lambda task: Answer(ranks=[1, 1, 1]))
    new = owner.get("/projects/1/exports/pairs.jsonl").text
    assert {json.loads(line)["n_tie"] for line in new.splitlines()} == {0, 1}
    assert len(inodes(store)) == 1
    store.write(lambda c: labelers.decide(c, "helpful", "l1", True, "me", "guesses", store.clock()))
    assert owner.get("/projects/1/exports/pairs.jsonl").text == asked[0].text
    folder = Path(f"{store.database.where}.exports")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o755)
    assert owner.get("/projects/1/exports/pairs.jsonl").status_code == 422


def alphabetical(task: Any) -> Answer:
    return Answer(ranks=[sorted(task.completions).index(text) + 1 for text in task.completions])


def test_whoever_does_not_want_to_wait_is_told_to_come_back(app: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """And gets what they asked for then, though more was said meanwhile: or a busy project would never be done."""
    monkeypatch.setattr(exporting, "PATIENCE", 0.0)
    hold = threading.Event()
    write = exporting.WRITERS["pairs.jsonl"]
    monkeypatch.setitem(exporting.WRITERS, "pairs.jsonl", lambda *given: hold.wait(30) and write(*given))
    ready(store, prompts=3, labelers=2, overlap=2, max_overlap=2)
    work(store, "l0", how=alphabetical)
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    token = store.write(lambda c: api_tokens.make(c, accounts.everybody(c)[0], "x", ["manage"], 1, store.clock()))
    told = owner.get("/projects/1/exports/pairs.jsonl")
    assert told.status_code == 202
    [link] = re.findall(r'href="(/projects/1/exports/pairs.jsonl\?as=\w+)"', told.text)
    work(store, "l1", how=alphabetical)
    assert link in owner.get(link).text, "still the same piece of work"
    by_api = {"authorization": f"Bearer {token}"}
    again = Browser(app).get(f"/api/v1/projects/1/pairs?{link.partition('?')[2]}", headers=by_api)
    assert (again.status_code, again.json()["ready"], again.headers["retry-after"]) == (202, False, "2")
    hold.set()
    app.state.worker.wait()
    found = owner.get(link)
    assert (found.status_code, len(found.text.splitlines())) == (200, 9)
    assert Browser(app).get(f"/api/v1/projects/1/pairs?as={again.json()['as']}", headers=by_api).text == found.text
    assert owner.get("/projects/1/exports/pairs.jsonl?as=../../../etc/passwd").status_code in (200, 202)


def test_what_cannot_be_worked_out_is_told_each_time(app: Any, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ready(store, prompts=1, labelers=1)
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    for patience in (exporting.PATIENCE, 0.0):
        monkeypatch.setattr(exporting, "PATIENCE", patience)
        for _ in range(2):
            told = owner.get("/projects/1/exports/pairs.jsonl")
            while told.status_code == 202:
                app.state.worker.wait()
                [link] = re.findall(r'href="(/projects/1/exports/pairs.jsonl\?as=\w+)"', told.text)
                told = owner.get(link)
            assert told.status_code == 422
            assert "no rankings" in told.text
    owner.fill("/projects/1/findings")
    app.state.worker.wait()
    work(store, "l0")
    owner.fill("/projects/1/findings")
    app.state.worker.wait()
    assert "Worked out" in owner.get("/projects/1").text, "what failed before is tried again"


@pytest.mark.parametrize("name", ["pairs.jsonl", "unpaired.jsonl", "demonstrations.jsonl"])
def test_a_few_prompts_at_a_time_are_the_same_as_all_at_once(store: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    ready(store, prompts=5, labelers=2, overlap=2, max_overlap=2)

    def how(task: Any) -> Answer:
        return Answer(ranks=[1, 2, None], corrections={1: "so"})

    for who in ("l0", "l1"):
        work(store, who, how=how)
    whole = rows(store, name)
    assert len({row["prompt"] for row in whole}) > 1
    monkeypatch.setattr(exporting, "LOT", 2)
    monkeypatch.setattr("heedful.store.store.PAGE", 3)
    assert sorted(map(str, rows(store, name))) == sorted(map(str, whole))


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


def test_what_cannot_be_put_into_a_file_is_told_without_where_the_file_is_kept(app: Any, store: Store) -> None:
    """Models write half characters, which no file of pairs can hold."""
    ready(store, prompts=0, labelers=2, overlap=2, max_overlap=2)
    store.add_prompts("helpful", [(Prompt("p", "half \ud800"), [completion("p", letter) for letter in "ab"])])
    for name in ("l0", "l1"):
        work(store, name, how=alphabetical)
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    answered = owner.get("/projects/1/exports/pairs.jsonl")
    told = html.unescape(answered.text)
    assert answered.status_code == 422
    assert "Row 1 for pairs.jsonl holds half a character" in told
    assert str(Path(store.database.where).parent) not in told
