"""What people leave undecided where they give thumbs or write corrections: who is asked once more, and who settles it."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from apps import Browser, person

from heedful.feedback.asking import ask
from heedful.store import Answer, Store, accounts, labelers, projects
from heedful.store.tasks import Task
from heedful.web import analysis
from stores import answer, items, project

LABELERS = ("l0", "l1", "l2")


@pytest.fixture
def owner(app: Any, store: Store) -> Browser:
    return Browser(app).sign_in(store, person(store, "olga", "owner", None))


def thumbs(task: Task, up: str) -> Answer:
    """Up for the completions whose letter stands in ``up``."""
    return Answer(thumbs=[text.split()[1] in up for text in task.completions])


def judge_all(store: Store, name: str, up: str, only: str = "") -> None:
    """Everything that is asked of somebody; of prompts but ``only`` they say that answer a is good."""
    while task := ask(store, "helpful", name):
        answer(store, task, name, thumbs(task, up if not only or task.prompt == only else "a"))


@pytest.fixture
def divided(app: Any, store: Store) -> str:
    """Three agree that answer a alone is good, but on question 1, where one of them finds answer b good too."""
    store.create_project(project(task="thumbs", overlap=3, max_overlap=4))
    store.add_prompts("helpful", items(3))
    version = store.publish("helpful", "Read.")
    for name in LABELERS:
        person(store, name, "labeler")
        store.acknowledge("helpful", name, version)
        judge_all(store, name, "ab" if name == "l2" else "a", only="question 1")
    return version


def findings(app: Any, owner: Browser) -> None:
    owner.fill("/projects/1/findings")
    app.state.worker.wait()


def listed(browser: Browser) -> list[tuple[str, str]]:
    """Each prompt of the page of what is undecided, and how sure one is of it."""
    page = browser.get("/projects/1/undecided").text
    return [(html.unescape(text), sure) for text, sure in re.findall(r'<tr><td class="text"[^>]*>(.*?)</td><td class="n">(.*?)</td>', page)]


def test_a_prompt_is_undecided_where_one_of_its_thumbs_is(app: Any, store: Store, owner: Browser, divided: str) -> None:
    findings(app, owner)
    assert listed(owner) == [("question 1", "62 %")]  # two of three, with half a vote for either: 2.5 / 4
    assert "Least sure thumb" in owner.get("/projects/1/undecided").text
    store.write(lambda c: projects.change(c, "helpful", "test", store.clock(), decided=0.9))
    findings(app, owner)
    assert [text for text, _ in listed(owner)] == ["question 1", "question 0", "question 2"]  # three of three: 3.5 / 4
    store.write(lambda c: labelers.decide(c, "helpful", "l2", True, "test", "asleep", store.clock()))
    store.write(lambda c: projects.change(c, "helpful", "test", store.clock(), decided=0.75))
    findings(app, owner)
    assert listed(owner) == []  # two of two: 2.5 / 3


def test_one_more_labeler_is_asked_about_it(app: Any, store: Store, owner: Browser, divided: str) -> None:
    findings(app, owner)
    assert store.status()[0].places_open == 1
    person(store, "l3", "labeler")
    store.acknowledge("helpful", "l3", divided)
    task = ask(store, "helpful", "l3")
    assert task
    assert task.prompt == "question 1"
    answer(store, task, "l3", thumbs(task, "a"))
    findings(app, owner)
    assert listed(owner) == [("question 1", "70 %")]  # three of four: 3.5 / 5
    assert store.status()[0].places_open == 0, "nobody more than max_overlap"


def test_an_adjudicator_settles_it_by_thumbs(app: Any, store: Store, owner: Browser, divided: str) -> None:
    findings(app, owner)
    adam = person(store, "adam", "adjudicator")
    store.acknowledge("helpful", "adam", divided)
    judge = Browser(app).sign_in(store, adam)
    assert judge.fill("/projects/1/undecided", prompt_id="p1").headers["location"] == "/label/1"
    task = judge.fetch("/label/1/next").json()["task"]
    assert (task["kind"], task["prompt"]) == ("thumbs", "question 1")
    said = {"thumbs": ["answer b" in one["text"] for one in task["completions"]]}
    sent = {"token": task["token"], "key": "k", "version": divided, "answer": said}
    assert judge.fetch("/label/1/submit", sent).json()["stored"] is True
    assert listed(judge) == [], "settled, though the figures are from before"
    findings(app, owner)
    assert listed(judge) == []
    store.write(lambda c: projects.change(c, "helpful", "test", store.clock(), decided=0.9))
    findings(app, owner)
    found = analysis.newest(store, "helpful")
    assert found
    assert [row["prompt_id"] for row in found.summary["undecided"]] == ["p0", "p2"], "surer than one thumb can be, and yet settled"
    store.write(lambda c: projects.change(c, "helpful", "test", store.clock(), decided=0.75))
    rows = [json.loads(line) for line in owner.get("/projects/1/exports/unpaired.jsonl").text.splitlines()]
    up = {row["prompt"]: row["completion"].split()[1] for row in rows if row["label"]}
    assert up == {"question 0": "a", "question 1": "b", "question 2": "a"}, "adam's word alone holds for question 1"
    store.write(lambda c: labelers.decide(c, "helpful", "adam", True, "test", "asleep", store.clock()))
    findings(app, owner)
    assert [text for text, _ in listed(owner)] == ["question 1"], "whose work is in quarantine settles nothing"
    assert store.check().problem == ""


def test_of_corrections_nothing_is_undecided_and_the_page_says_so(app: Any, store: Store, owner: Browser) -> None:
    store.create_project(project(task="correction", overlap=2, max_overlap=3))
    store.add_prompts("helpful", items(1))
    version = store.publish("helpful", "Read.")
    for number in range(2):
        person(store, f"l{number}", "labeler")
        store.acknowledge("helpful", f"l{number}", version)
        task = ask(store, "helpful", f"l{number}")
        assert task
        answer(store, task, f"l{number}", Answer(corrections={0: f"better {number}"}))
    findings(app, owner)
    assert store.status()[0].places_open == 0, "nobody is asked once more"
    page = owner.get("/projects/1/undecided").text
    assert "Nothing is ever undecided here" in page
    assert "<table" not in page
    assert 'href="/projects/1/exports"' in page
    seen = Browser(app).sign_in(store, person(store, "adam", "adjudicator")).get("/projects/1/undecided").text
    assert "Nothing is ever undecided here" in seen
    assert "/exports" not in seen, "which they may not open"


def test_how_well_thumbs_agree_stands_on_the_pages(app: Any, store: Store, owner: Browser, divided: str) -> None:
    findings(app, owner)
    page = re.sub(r"\s+", " ", owner.get("/projects/1").text)
    assert "<dt>Labelers agree with each other</dt><dd>93 % <small>" in page  # 25 of 27 thumbs that two gave
    assert "<dt>Thumbs given alike or not</dt><dd>27</dd>" in page
    assert "In published projects" not in page, "what is published is of pairs"
    rows = {
        re.findall(r"<bdi>(.*?)</bdi>", row)[0]: row
        for row in re.findall(r"<tr>.*?</tr>", owner.get("/projects/1/people").text, re.DOTALL)[1:4]
    }
    told = {name: re.findall(r">(\d+ %) <small>\d+–\d+ %</small>", row) for name, row in rows.items()}
    assert told == {"l0": ["100 %"], "l1": ["100 %"], "l2": ["89 %"]}  # where the others are divided there is nothing to agree with
    assert "unsure" not in rows["l0"], "there is no verdict on thumbs"
    file = owner.get("/projects/1/exports/labelers.csv").text.splitlines()
    assert file[0].split(",")[:2] == ["labeler", "verdict"]


def test_who_was_asked_before_is_told_that_somebody_else_is_to_settle_it(app: Any, store: Store, owner: Browser, divided: str) -> None:
    findings(app, owner)
    l0 = next(who for who in store.read(accounts.everybody) if who.name == "l0")
    store.write(lambda c: accounts.set_role(c, l0.id, 1, "adjudicator", "test", store.clock()))
    judge = Browser(app).sign_in(store, l0)
    page = judge.get("/projects/1/undecided").text
    assert "you were asked already" in page
    assert "Judge it" not in page
    answered = judge.fill("/projects/1/undecided", prompt_id="p1")
    assert (answered.status_code, "It takes somebody else to settle it." in answered.text) == (422, True)
    assert "Judge it" in owner.get("/projects/1/undecided").text


def test_who_has_another_task_judges_that_one_first(app: Any, store: Store, owner: Browser, divided: str) -> None:
    findings(app, owner)
    adam = person(store, "adam", "adjudicator")
    store.acknowledge("helpful", "adam", divided)
    store.add_prompts("helpful", items(1, first=9))
    while (task := ask(store, "helpful", "adam")) and task.prompt != "question 9":
        store.skip(task.token, "adam")
    judge = Browser(app).sign_in(store, adam)
    answered = judge.fill("/projects/1/undecided", prompt_id="p0")
    assert (answered.status_code, "Judge or skip that one first." in answered.text) == (422, True)
