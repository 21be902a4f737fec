"""The client against a server that listens: from making a project to reading what was judged; and what it does in trouble."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import sqlalchemy as sa
from apps import person

from heedful.errors import DataProblem, SettingProblem
from heedful.store import Store, api_tokens, invitations, projects
from heedful.store.schema_access import comprehension_decision
from heedful.web.client import AT_ONCE, ApiProblem, Client


def client_of(url: str, store: Store, name: str, role: str, project_id: int | None, *scopes: str) -> Client:
    who = person(store, name, role, project_id)
    return Client(url, store.write(lambda c: api_tokens.make(c, who, "a test", scopes, 1, store.clock())), pause=lambda _: None)


def test_a_project_from_its_first_prompt_to_its_judgements(listening: tuple[str, Store, Any]) -> None:
    url, store, app = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project = owner.create_project("support", "helpfulness", "Which helps most?", overlap=2)
    assert owner.project("support") == project
    version = owner.publish(project, "Rank them.")
    items = [{"id": f"p{i}", "prompt": f"question {i}", "completions": ["a", "b", "c"]} for i in range(3)]
    assert owner.add_prompts(project, items) == 3
    owner.change_project(project, calibration_share=0.0, repeat_share=0.0)
    for name in ("ann", "ben"):
        labeler = client_of(url, store, name, "labeler", project, "label")
        assert labeler.acknowledge(project) == "Rank them."
        while task := labeler.next_task(project):
            texts = [completion["text"] for completion in task["completions"]]
            answer = {"ranks": [sorted(texts).index(text) + 1 for text in texts], "active_ms": 10}
            assert labeler.submit(project, task, answer, key=f"{name} {task['token']}")["stored"]
            assert labeler.submit(project, task, answer, key=f"{name} {task['token']}")["revision"] == 1
    judged = list(owner.judgements(project))
    assert len(judged) == 6
    assert {row["instructions_version"] for row in judged} == {version}
    assert owner.status(project)["complete"] == 3
    pairs = list(owner.pairs(project))
    assert len(pairs) == 9
    assert {(pair["n_for"], pair["n_against"]) for pair in pairs} == {(2, 0)}
    owner.work_out(project)
    app.state.worker.wait()
    assert owner.findings(project)["panel"]["agreement"] == 1.0


def test_a_program_cannot_take_a_known_criterion_the_wrong_way_round(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    for criterion, wrong in (("toxicity", "better"), ("helpfulness", "worse")):
        with pytest.raises(ApiProblem, match=f"{criterion} is said to be {wrong}") as refused:
            owner.create_project("tone", criterion, "Which?", higher_is=wrong)
        assert refused.value.status == 422
    assert store.read(projects.names) == []
    owner.create_project("tone", "toxicity", "Which?", higher_is="worse")
    owner.create_project("short", "brevity", "Which?", higher_is="worse")
    assert store.read(lambda c: projects.find(c, "tone"))[1].higher_is == "worse"


def test_a_program_chooses_how_many_completions_a_task_shows(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project = owner.create_project("support", "helpfulness", "Which helps most?", max_shown=2)
    rows = [{"id": name, "prompt": "q", "completions": ["a", "b", "c", "d"]} for name in ("first", "second", "third")]
    owner.add_prompts(project, rows[:1])
    owner.add_prompts(project, rows[1:2], max_shown=3)
    assert owner.change_project(project, max_shown=4)["max_shown"] == 4
    owner.add_prompts(project, rows[2:])
    assert Counter(c.prompt_id for c in store.completions("support")) == {"first": 2, "second": 3, "third": 4}
    with pytest.raises(ApiProblem, match="one completion cannot be ranked") as refused:
        owner.change_project(project, max_shown=1)
    assert refused.value.status == 422


def test_the_example_of_the_manual_works_twice_and_more_rows_than_fit_into_one_request(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project = owner.create_project("support", "helpfulness", "Which helps most?")
    example = [{"prompt": "How do I get a refund?", "completions": ["Write to us.", "You cannot."]}]
    assert [owner.add_prompts(project, example) for _ in range(2)] == [1, 0]
    many = [{"prompt": f"question {n}", "completions": ["Yes.", "No."]} for n in range(AT_ONCE + 2)]
    assert owner.add_prompts(project, many[:AT_ONCE]) == AT_ONCE, "as far as one came before the network failed"
    assert owner.add_prompts(project, many) == 2
    assert owner.status(project)["prompts"] == AT_ONCE + 3


QUESTIONS = [{"question": "What is rank 1?", "choices": ["the worst", "the best"], "right": 1, "why": "Rank 1 holds most of it."}]


def test_an_ai_judge_reads_answers_the_questions_judges_and_revises(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project = owner.create_project("support", "helpfulness", "Which helps most?", overlap=2)
    owner.publish(project, "Rank them.", QUESTIONS)
    owner.add_prompts(project, [{"prompt": "q", "completions": ["a", "b"]}])
    judge = client_of(url, store, "hal", "labeler", project, "label")
    judge.acknowledge(project)
    with pytest.raises(ApiProblem) as held_up:
        judge.next_task(project)
    assert (held_up.value.status, held_up.value.error) == (409, "check_needed")
    asked = judge.check(project)
    assert asked == {"state": "open", "tries_left": 2, "questions": [{k: QUESTIONS[0][k] for k in ("question", "choices")}]}
    told = judge.answer_check(project, [0])
    assert (told["wrong"], told["tries_left"]) == ([{"question": 0, "why": "Rank 1 holds most of it."}], 1)
    assert judge.answer_check(project, [1])["wrong"] == []
    assert judge.check(project)["state"] == "passed"
    task = judge.next_task(project)
    assert task is not None
    first = [1, 2] if task["completions"][0]["text"] == "a" else [2, 1]
    assert judge.submit(project, task, {"ranks": first})["revision"] == 1
    again = judge.reopen(project, task)
    assert again["previous"]["ranks"] == first
    assert judge.submit(project, again, {"ranks": first[::-1]})["revision"] == 2
    [said] = owner.judgements(project)
    by_text = dict(zip(said["completion_ids"], said["ranks"], strict=True))
    assert [by_text[name] for name in sorted(by_text)] == [2, 1], "b is best, on second thoughts"


def test_a_program_is_let_in_by_its_token_and_counts_as_one(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project, other = (owner.create_project(name, "helpfulness", "Which helps most?") for name in ("support", "other"))
    for number in (project, other):
        owner.publish(number, "Rank them.")
        owner.add_prompts(number, [{"prompt": "q", "completions": ["a", "b"]}])
    judge = Client(url, owner.add_judge(project, "hal", days=2), pause=lambda _: None)
    judge.acknowledge(project)
    task = judge.next_task(project)
    assert task is not None
    assert judge.submit(project, task, {"ranks": [1, 2]})["stored"]
    [row] = owner.people(project)
    assert (row["labeler"], row["kind"], row["role"]) == ("hal", "ai", "labeler")
    assert [(one.name, one.kind) for one in store.labelers()] == [("olga", "person"), ("hal", "ai")]
    with pytest.raises(ApiProblem, match="lacks the scope"):
        judge.people(project)
    with pytest.raises(ApiProblem) as elsewhere:
        judge.next_task(other)
    assert elsewhere.value.status == 404
    with pytest.raises(ApiProblem, match="somebody called 'hal' already"):
        owner.add_judge(project, "hal")
    assert store.check().problem == ""


def test_thumbs_and_corrections_are_taken_away_by_a_program(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project = owner.create_project("support", "helpfulness", "Does it help?", task="thumbs", overlap=2)
    owner.publish(project, "Thumbs.")
    owner.add_prompts(project, [{"id": "p", "prompt": "q", "completions": ["good", "bad"]}])
    for nothing in (owner.unpaired, owner.demonstrations):
        with pytest.raises(ApiProblem, match="nothing to put into this file") as empty:
            list(nothing(project))
        assert empty.value.status == 422
    for name, up, down, instead in (("ann", "good", "bad", "better"), ("zed", "bad", "good", "worse")):
        labeler = client_of(url, store, name, "labeler", project, "label")
        labeler.acknowledge(project)
        task = labeler.next_task(project)
        assert task is not None
        texts = [completion["text"] for completion in task["completions"]]
        labeler.submit(project, task, {"thumbs": [text == up for text in texts], "corrections": {str(texts.index(down)): instead}})
    assert {row["completion"] for row in owner.demonstrations(project)} == {"better", "worse"}
    with pytest.raises(ApiProblem, match="nothing to put into this file"):
        list(owner.unpaired(project))  # one thumb up and one down say nothing
    owner.quarantine(project, "zed", "upside down")
    unpaired = [(row["prompt"], row["completion"], row["label"], row["n_for"], row["n_against"]) for row in owner.unpaired(project)]
    assert sorted(unpaired) == [("q", "bad", False, 1, 0), ("q", "good", True, 1, 0)], "who is in quarantine has no voice"
    assert [(row["prompt"], row["completion"]) for row in owner.demonstrations(project)] == [("q", "better")]
    for role in ("labeler", "adjudicator", "viewer"):
        other = client_of(url, store, role, role, project, "label", "read", "manage")
        for refused in (other.unpaired, other.demonstrations):
            with pytest.raises(ApiProblem) as problem:
                list(refused(project))
            assert (problem.value.status, problem.value.error) == (403, "forbidden"), role


def test_a_program_decides_on_who_used_up_their_tries(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project = owner.create_project("support", "helpfulness", "Which helps most?")
    owner.publish(project, "Rank them.", [QUESTIONS[0] | {"choices": ["the worst", "the best", "the longest"]}])
    ann = client_of(url, store, "ann", "labeler", project, "label", "manage")
    ann.acknowledge(project)
    [row] = owner.people(project)
    assert row["waiting"] is None
    for state, decision in (("open", "try_again"), ("passed", "passed")):
        for chosen in (0, 2):
            assert owner.people(project)[0]["waiting"] is None
            ann.answer_check(project, [chosen])
        assert owner.people(project)[0]["waiting"] == [2], "what they answered last"
        with pytest.raises(ApiProblem) as refused:
            ann.decide_check(project, row["account"], "passed", "me")
        assert refused.value.status == 403
        for nothing, why in (("maybe", "we talked"), (decision, " ")):
            with pytest.raises(ApiProblem):
                owner.decide_check(project, row["account"], nothing, why)
        owner.decide_check(project, row["account"], decision, f"we talked: {decision}")
        assert (ann.check(project)["state"], owner.people(project)[0]["waiting"]) == (state, None)
    made = sa.select(comprehension_decision.c.decision, comprehension_decision.c.why, comprehension_decision.c.decided_by)
    kept = [tuple(one) for one in store.read(lambda c: c.execute(made.order_by(comprehension_decision.c.id)).all())]
    assert kept == [(what, f"we talked: {what}", "account 1") for what in ("try_again", "passed")]
    assert store.check().problem == ""


def test_a_judge_gets_another_token_and_nobody_else_does(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project = owner.create_project("support", "helpfulness", "Which helps most?")
    old = Client(url, owner.add_judge(project, "hal", days=2), pause=lambda _: None)
    mia = client_of(url, store, "mia", "manager", project, "manage", "read")
    person(store, "ann", "labeler", project)
    numbers = {row["labeler"]: row["account"] for row in owner.people(project)}
    assert old.check(project)["state"] == "none", "it is let in"
    with pytest.raises(ApiProblem):
        mia.renew_token(project, numbers["hal"], days=1000)
    assert old.check(project)["state"] == "none", "nothing was done"
    new = Client(url, mia.renew_token(project, numbers["hal"], days=3), pause=lambda _: None)
    assert new.check(project)["state"] == "none"
    with pytest.raises(ApiProblem, match="not valid"):
        old.check(project)
    with pytest.raises(ApiProblem, match="lacks the scope 'read'"):
        new.project("support")
    with pytest.raises(ApiProblem, match="lacks the scope 'manage'"):
        new.people(project)
    made = store.read(lambda c: api_tokens.of_account(c, numbers["hal"]))
    assert [(one.scopes, (one.expires_at - one.made_at).days, one.revoked_at is None) for one in made] == [
        (["label"], 3, True), (["label"], 2, False)
    ]  # fmt: skip
    mia.set_kind(project, numbers["ann"], "ai")
    for name in ("ann", "mia"):
        with pytest.raises(ApiProblem, match="no program that acts by a token alone") as refused:
            mia.renew_token(project, numbers[name])
        assert refused.value.status == 422
    assert store.check().problem == ""


def test_a_program_has_prompts_judged_again_under_new_instructions(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project = owner.create_project("support", "helpfulness", "Which helps most?", overlap=1)
    owner.publish(project, "Rank them.")
    owner.add_prompts(project, [{"id": name, "prompt": name, "completions": ["a", "b"]} for name in ("p", "q")])
    ann = client_of(url, store, "ann", "labeler", project, "label")
    ann.acknowledge(project)
    while task := ann.next_task(project):
        ann.submit(project, task, {"ranks": [1, 2]})
    assert owner.retire(project, None) == {"prompts": 0, "judgements": 0}
    version = owner.publish(project, "Rank them by how short they are.")
    assert owner.retire(project, []) == {"prompts": 0, "judgements": 0}
    with pytest.raises(ApiProblem) as unsaid:
        owner._call("POST", f"/projects/{project}/retire", {})
    assert unsaid.value.status == 422, "it cannot be undone: nothing said is not everything"
    with pytest.raises(ApiProblem, match="There is no prompt 'r' in the project"):
        owner.retire(project, ["p", "r"])
    assert owner.retire(project, ["p"]) == {"prompts": 1, "judgements": 1}
    assert owner.retire(project, None) == {"prompts": 1, "judgements": 1}
    assert (owner.status(project)["retired"], list(owner.judgements(project))) == (2, [])
    ann.acknowledge(project)
    task = ann.next_task(project)
    assert task is not None
    ann.submit(project, task, {"ranks": [2, 1]})
    [row] = owner.judgements(project)
    assert row["instructions_version"] == version
    with pytest.raises(ApiProblem) as refused:
        ann.retire(project, None)
    assert refused.value.status == 403


def test_an_adjudicator_settles_what_is_undecided(listening: tuple[str, Store, Any]) -> None:
    url, store, app = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project = owner.create_project("support", "helpfulness", "Which helps most?", overlap=2, max_overlap=2)
    owner.publish(project, "Rank them.")
    owner.add_prompts(project, [{"id": "p", "prompt": "q", "completions": ["a", "b"]}])
    assert owner.undecided(project) == [], "nothing was worked out yet"
    for name in ("ann", "ben"):
        labeler = client_of(url, store, name, "labeler", project, "label")
        labeler.acknowledge(project)
        task = labeler.next_task(project)
        assert task is not None
        ranks = [1, 2] if (task["completions"][0]["text"] == "a") == (name == "ann") else [2, 1]
        labeler.submit(project, task, {"ranks": ranks})
        with pytest.raises(ApiProblem) as refused:
            labeler.undecided(project)
        assert refused.value.status == 403
    owner.work_out(project)
    app.state.worker.wait()
    assert owner.undecided(project) == [{"prompt_id": "p", "text": "q", "p": 0.5, "met": False}]
    judge = client_of(url, store, "adam", "adjudicator", project, "label", "manage")
    with pytest.raises(ApiProblem) as unread:
        judge.settle(project, "p")
    assert unread.value.error == "instructions_changed"
    judge.acknowledge(project)
    task = judge.settle(project, "p")
    judge.submit(project, task, {"ranks": [1, 2] if task["completions"][0]["text"] == "b" else [2, 1]})
    assert owner.undecided(project) == []
    assert [(pair["chosen"], pair["n_for"]) for pair in owner.pairs(project)] == [("b", 1)]
    with pytest.raises(ApiProblem, match="asked about prompt 'p' before"):
        judge.settle(project, "p")


def test_who_leads_a_project_invites_pauses_and_decides(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read", "manage")
    project = owner.create_project("support", "helpfulness", "Which helps most?")
    owner.publish(project, "Rank them.")
    owner.add_prompts(project, [{"prompt": "q", "completions": ["a", "b"]}])
    link = owner.invite(project, strata={"language": "native"}, days=2)
    assert link.startswith(f"{url}/join/")
    secret = link.rpartition("/")[2]
    who = store.write(lambda c: invitations.accept(c, secret, "hal", None, store.clock()))
    assert [one.strata for one in store.labelers() if one.name == "hal"] == [{"language": "native"}]
    owner.set_kind(project, who.id, "ai")
    assert [one.kind for one in store.labelers()] == ["person", "ai"]
    owner.pause(project, who.id)
    owner.quarantine(project, "hal", "it guesses")
    [row] = owner.people(project)
    assert row == {
        "account": who.id, "labeler": "hal", "kind": "ai", "role": "labeler", "paused": True,
        "state": "active", "quarantined": "it guesses",
        "waiting": None,
    }  # fmt: skip
    owner.pause(project, who.id, False)
    owner.reinstate(project, "hal", "another model by now")
    [row] = owner.people(project)
    assert (row["paused"], row["quarantined"]) == (False, None)
    with pytest.raises(ApiProblem, match="no such labeler") as refused:
        owner.quarantine(project, "somebody", "x")
    assert refused.value.status == 422
    assert store.check().problem == ""


def test_what_the_server_refuses_is_told_in_its_words(listening: tuple[str, Store, Any]) -> None:
    url, store, _ = listening
    owner = client_of(url, store, "olga", "owner", None, "read")
    with pytest.raises(ApiProblem, match="lacks the scope 'manage'") as refused:
        owner.create_project("x", "y", "z")
    assert (refused.value.status, refused.value.error) == (403, "scope")
    with pytest.raises(DataProblem, match="no project 'x'"):
        owner.project("x")
    with pytest.raises(ApiProblem, match="not valid"):
        Client(url, "heed_forged").me()
    with pytest.raises(SettingProblem):
        Client("ftp://elsewhere", "x")


class Scripted(BaseHTTPRequestHandler):
    """Answers by a script: statuses, one after another."""

    script: list[int]  # of 429, the answer says to wait for 7 seconds
    heard: list[str]

    def do_POST(self) -> None:
        self.heard.append(self.path)
        status = self.script.pop(0)
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(status)
        if status == 302:
            self.send_header("location", "https://evil.example/")
        if status == 429:
            self.send_header("retry-after", "7")
        self.end_headers()
        self.wfile.write(b'{"stored": true, "added": 1}' if status == 200 else b"<html>a proxy's own page</html>")

    def log_message(self, *_: Any) -> None:
        pass


def scripted(*script: int, pause: Callable[[float], None] = lambda _: None) -> Iterator[tuple[Client, list[str]]]:
    handler = type("Handler", (Scripted,), {"script": list(script), "heard": []})
    server = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)  # a test that fails leaves it behind
    thread.start()
    yield Client(f"http://127.0.0.1:{server.server_port}", "heed_x", pause=pause), handler.heard  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()
    thread.join()


TASK = {"token": "t", "version": "v"}


def test_an_answer_is_sent_until_it_is_stored() -> None:
    for client, heard in scripted(503, 502, 200):
        assert client.submit(1, TASK, {"ranks": [1]})["stored"] is True
        assert len(heard) == 3


def test_what_is_not_safe_to_send_twice_is_sent_once() -> None:
    for client, heard in scripted(503, 200):
        with pytest.raises(ApiProblem, match="answered 503"):
            client.add_prompts(1, [{"prompt": "x"}])
        assert len(heard) == 1


def test_what_came_too_often_is_sent_again_when_the_server_says_so() -> None:
    paused: list[float] = []
    for client, heard in scripted(429, 429, 200, pause=paused.append):
        assert client.add_prompts(1, [{"prompt": "x"}]) == 1
        assert len(heard) == 3
    assert paused == [7.0, 7.0]


def test_a_token_follows_nobody_elsewhere() -> None:
    for client, heard in scripted(302):
        with pytest.raises(ApiProblem, match="answered 302"):
            client.submit(1, TASK, {"ranks": [1]})
        assert len(heard) == 1


def test_a_server_that_is_not_there() -> None:
    with pytest.raises(ApiProblem, match="does not answer"):
        Client("http://127.0.0.1:9", "heed_x", pause=lambda _: None).me()
