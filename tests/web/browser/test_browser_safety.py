"""Nothing is lost: networks that fail before and after the answer is stored, two tabs, new instructions, sessions that end."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from served import ELSEWHERE

from heedful.feedback.asking import ask
from heedful.store import projects

Visit = Callable[..., Any]


@pytest.fixture
def task(served: Any, visit: Visit) -> Any:
    """The labelling page of ann, whose first task has four completions."""
    from served import add_project

    add_project(served.store)
    return opened(visit, served, served.person("ann"))


def opened(visit: Visit, served: Any, cookie: str) -> Any:
    page = visit(cookie, f"/label/{served.project_id()}")
    page.wait_for_selector(".completion")
    return page


def press(page: Any, keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def prompt_of(page: Any) -> str:
    return str(page.locator("#prompt-body .text").inner_text())


def ranks_by_text(page: Any, ranks: list[int | None]) -> dict[str, int | None]:
    return dict(zip(page.locator(".completion .folding .text").all_inner_texts(), ranks, strict=True))


def wait_for_other_prompt(page: Any, before: str) -> None:
    page.wait_for_function(
        "before => document.querySelector('#task').hidden || document.querySelector('#prompt-body .text').innerText !== before", arg=before
    )


def test_a_network_that_fails_before_the_answer_is_stored(task: Any, served: Any) -> None:
    prompt, expected = prompt_of(task), ranks_by_text(task, [2, 1, 3, 1])
    task.context.set_offline(True)
    press(task, "2131")
    task.keyboard.press("Enter")
    task.locator("#trouble").wait_for()
    assert task.locator("#trouble").get_attribute("role") == "alert"
    assert "kept in this browser" in task.locator("#trouble").inner_text()
    assert served.rows("ann") == {}
    task.context.set_offline(False)
    wait_for_other_prompt(task, prompt)
    assert served.rows("ann") == {prompt: expected}
    assert task.locator("#trouble").is_hidden()


def test_a_network_that_fails_after_the_answer_is_stored(task: Any, served: Any) -> None:
    """The server stores it, the answer to that gets lost, the browser sends again: one judgement, one revision."""
    prompt, expected = prompt_of(task), ranks_by_text(task, [1, 2, 3, 4])
    keys: list[str] = []

    def store_but_lose_the_answer(route: Any) -> None:
        keys.append(json.loads(route.request.post_data)["key"])
        if len(keys) == 1:
            route.fetch()
            route.abort("connectionreset")
        else:
            route.continue_()

    task.route("**/submit", store_but_lose_the_answer)
    press(task, "1234")
    task.keyboard.press("Enter")
    task.locator("#trouble").wait_for()
    assert served.rows("ann") == {prompt: expected}
    task.get_by_role("button", name="Try now").click()
    wait_for_other_prompt(task, prompt)
    assert len(keys) >= 2
    assert len(set(keys)) == 1
    assert served.rows("ann") == {prompt: expected}
    assert revisions(served) == 1


def test_a_page_that_is_closed_before_the_answer_was_confirmed(served: Any, visit: Visit, task: Any) -> None:
    """Sent, not confirmed, closed: it is sent again by whatever page of the project opens next."""
    prompt, expected = prompt_of(task), ranks_by_text(task, [1, 1, 2, None])
    task.route("**/submit", lambda route: route.abort())
    press(task, "112n")
    task.keyboard.press("Enter")
    task.locator("#trouble").wait_for()
    again = task.context.new_page()
    task.close()
    again.goto(f"{served.url}/label/{served.project_id()}")
    again.wait_for_selector(".completion")
    assert served.rows("ann") == {prompt: expected}
    assert prompt_of(again) != prompt
    assert drafts(again) == []


def test_a_server_that_fails_and_a_page_of_the_hotel(task: Any, served: Any) -> None:
    prompt = prompt_of(task)
    answers = [{"status": 502, "body": "<html>"}, {"status": 200, "body": "<html>Room number?</html>", "content_type": "text/html"}]
    task.route("**/submit", lambda route: route.fulfill(**answers.pop(0)) if answers else route.continue_())
    press(task, "1234")
    task.keyboard.press("Enter")
    for _ in range(2):
        task.locator("#trouble").wait_for()
        task.get_by_role("button", name="Try now").click()
    wait_for_other_prompt(task, prompt)
    assert list(served.rows("ann")) == [prompt]


def test_a_draft_is_there_after_closing_and_in_no_other_browser(task: Any, served: Any, visit: Visit) -> None:
    press(task, "31")
    task.locator(".completion").nth(2).get_by_text("Write what it should have said").click()
    task.locator(".completion").nth(2).locator("textarea").fill("Half a thought")
    again = task.context.new_page()
    task.close()
    again.goto(f"{served.url}/label/{served.project_id()}")
    again.wait_for_selector(".completion")
    assert again.locator(".badge.place").all_inner_texts() == ["rank 3", "rank 1", "unranked", "unranked"]
    assert again.locator(".completion").nth(2).locator("textarea").input_value() == "Half a thought"
    press(again, "z")
    assert again.locator(".badge.place").all_inner_texts()[1] == "unranked", "undo goes on, too"
    elsewhere = opened(visit, served, session_of(served, "ann"))
    assert elsewhere.locator(".tray .chip").count() == 4


def test_two_tabs_show_the_same_and_store_once(task: Any, served: Any) -> None:
    prompt = prompt_of(task)
    other = task.context.new_page()
    other.goto(task.url)
    other.wait_for_selector(".completion")
    assert prompt_of(other) == prompt
    press(task, "12")
    other.get_by_text("both show the same").wait_for()
    assert other.locator(".badge.place").all_inner_texts() == ["rank 1", "rank 2", "unranked", "unranked"]
    other.bring_to_front()
    press(other, "34")
    other.keyboard.press("Enter")
    wait_for_other_prompt(other, prompt)
    wait_for_other_prompt(task, prompt)
    assert prompt_of(task) == prompt_of(other)
    assert list(served.rows("ann")) == [prompt]
    assert revisions(served) == 1


def test_new_instructions_keep_the_task_and_the_draft(task: Any, served: Any) -> None:
    prompt, expected = prompt_of(task), ranks_by_text(task, [4, 3, 2, 1])
    press(task, "4321")
    served.store.publish("helpful", "Put the completions in order.\n\nTies are rare.\n")
    task.keyboard.press("Enter")
    task.get_by_role("link", name="Read what is new").click()
    assert "added: Ties are rare." in " ".join(task.locator(".difference").inner_text().split()).replace("+ ", "")
    task.get_by_role("button", name="I have read what is new").click()
    task.wait_for_selector(".completion")
    assert prompt_of(task) == prompt
    assert served.rows("ann") == {}
    task.keyboard.press("Enter")
    wait_for_other_prompt(task, prompt)
    assert served.rows("ann") == {prompt: expected}


def test_an_answer_that_new_instructions_held_up_is_sent_once_they_are_read(served: Any, visit: Visit) -> None:
    """Sent without a network, its place taken by somebody else, the instructions changed: it is stored all the same."""
    from served import add_project

    add_project(served.store, prompts=1, overlap=1, max_overlap=1, lease=1)
    page = opened(visit, served, served.person("ann"))
    prompt, expected = prompt_of(page), ranks_by_text(page, [2, 1, 3, 1])
    page.route("**/submit", lambda route: route.abort())
    press(page, "2131")
    page.keyboard.press("Enter")
    page.locator("#trouble").wait_for()
    context = page.context
    page.close()
    time.sleep(1.1)
    served.person("ben")
    served.store.write(lambda c: projects.change(c, "helpful", "test", served.store.clock(), lease=1800))
    assert ask(served.store, "helpful", "ben") is not None, "the place is free again, and taken"
    version = served.store.publish("helpful", "Put the completions in order.\n\nTies are rare.\n")
    again = context.new_page()
    again.goto(f"{served.url}/label/{served.project_id()}")
    again.get_by_role("button", name="I have read what is new").click()
    again.locator("#nothing").wait_for()
    assert served.rows("ann") == {prompt: expected}
    [row] = served.store.judgements("helpful")
    assert (row.purpose, row.instructions_version) == ("extra", version)
    assert drafts(again) == []


def test_an_answer_that_new_instructions_held_up_may_be_thought_over_while_the_task_is_held(task: Any, served: Any) -> None:
    prompt, expected = prompt_of(task), ranks_by_text(task, [1, 2, 3, 4])
    task.route("**/submit", lambda route: route.abort())
    press(task, "1234")
    task.keyboard.press("Enter")
    task.locator("#trouble").wait_for()
    served.store.publish("helpful", "Put the completions in order.\n\nTies are rare.\n")
    again = task.context.new_page()
    task.close()
    again.goto(f"{served.url}/label/{served.project_id()}")
    again.get_by_role("button", name="I have read what is new").click()
    again.wait_for_selector(".completion")
    assert (prompt_of(again), served.rows("ann")) == (prompt, {})
    again.keyboard.press("Enter")
    wait_for_other_prompt(again, prompt)
    assert served.rows("ann") == {prompt: expected}


def test_an_answer_that_came_too_often_is_sent_again(task: Any, served: Any) -> None:
    prompt, expected = prompt_of(task), ranks_by_text(task, [1, 2, 3, 4])
    refused = {"status": 429, "headers": {"retry-after": "2"}, "json": {"error": "too_many_tries", "message": "Wait 2 seconds."}}
    answers = [refused]
    task.route("**/submit", lambda route: route.fulfill(**answers.pop()) if answers else route.continue_())
    press(task, "1234")
    task.keyboard.press("Enter")
    task.get_by_text("The server asks for a moment").wait_for()
    began = time.monotonic()
    assert served.rows("ann") == {}
    wait_for_other_prompt(task, prompt)
    assert time.monotonic() - began > 1.2, "not before the two seconds are over, rather than after one"
    assert served.rows("ann") == {prompt: expected}
    assert task.locator("#trouble").is_hidden()


@pytest.mark.parametrize("served", [ELSEWHERE], indirect=True)
def test_people_label_where_nothing_is_encrypted(task: Any, served: Any) -> None:
    assert task.evaluate("() => [isSecureContext, typeof crypto.randomUUID]") == [False, "undefined"]
    prompt, expected = prompt_of(task), ranks_by_text(task, [1, 2, 3, 4])
    answers = [{"status": 422, "json": {"error": "refused", "message": "Mend it."}}]
    task.route("**/submit", lambda route: route.fulfill(**answers.pop()) if answers else route.continue_())
    press(task, "1234")
    task.keyboard.press("Enter")
    task.get_by_text("Mend it.").wait_for()
    task.keyboard.press("Enter")  # under another key
    wait_for_other_prompt(task, prompt)
    assert served.rows("ann") == {prompt: expected}


def test_a_session_that_ended_is_begun_again_and_the_answer_sent(task: Any, served: Any) -> None:
    from served import PASSWORD

    prompt, expected = prompt_of(task), ranks_by_text(task, [1, 2, 2, 3])
    press(task, "122")
    end_sessions(served, "ann")
    press(task, "3")
    task.keyboard.press("Enter")
    task.get_by_text("You have been signed out").wait_for()
    task.get_by_role("link", name="Sign in again").click()
    task.get_by_label("Name").fill("ann")
    task.get_by_label("Password").fill(PASSWORD)
    task.get_by_role("button", name="Sign in").click()
    task.wait_for_selector(".completion")
    assert served.rows("ann") == {prompt: expected}, "what was sent is stored without asking again"
    assert prompt_of(task) != prompt


def test_a_session_that_ended_is_noticed_by_the_heartbeat(task: Any, served: Any) -> None:
    end_sessions(served, "ann")
    task.evaluate("() => { performance.now = () => 1e9; }")
    task.mouse.move(5, 5)
    task.get_by_text("You have been signed out").wait_for()


def test_the_heartbeat_keeps_the_task(served: Any, visit: Visit) -> None:
    from served import add_project

    add_project(served.store, lease=6)
    page = opened(visit, served, served.person("ann"))
    with page.expect_response("**/heartbeat", timeout=15_000) as beat:
        page.mouse.move(5, 5)
    assert beat.value.json()["lease_seconds"] in (5, 6), "the whole lease again, less what the clock has gone on"


def test_a_browser_that_cannot_keep_drafts_says_so(task: Any, served: Any) -> None:
    prompt = prompt_of(task)
    task.evaluate("() => { Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); }; }")
    press(task, "1")
    assert "cannot keep your draft" in task.locator("#problem").inner_text()
    press(task, "234")
    task.keyboard.press("Enter")
    wait_for_other_prompt(task, prompt)
    assert list(served.rows("ann")) == [prompt]


def test_what_the_server_refuses_stays_with_the_labeler(task: Any, served: Any) -> None:
    prompt = prompt_of(task)
    answers = [{"status": 422, "json": {"error": "refused", "message": "A rank is 9. Mend the answer."}}]
    task.route("**/submit", lambda route: route.fulfill(**answers.pop()) if answers else route.continue_())
    press(task, "1234")
    task.keyboard.press("Enter")
    task.get_by_text("A rank is 9. Mend the answer.").wait_for()
    assert task.locator(".badge.place").all_inner_texts() == ["rank 1", "rank 2", "rank 3", "rank 4"]
    task.keyboard.press("Enter")
    wait_for_other_prompt(task, prompt)
    assert list(served.rows("ann")) == [prompt]


def test_an_earlier_answer_that_is_not_taken_is_told(task: Any, served: Any) -> None:
    """Sent when the page opens, refused: the labeler hears of it, and the draft stays."""
    task.context.route("**/submit", lambda route: route.abort())
    press(task, "1234")
    task.keyboard.press("Enter")
    task.locator("#trouble").wait_for()
    again = task.context.new_page()
    task.close()
    again.context.unroute("**/submit")
    again.route("**/submit", lambda route: route.fulfill(status=422, json={"error": "refused", "message": "It does not fit."}))
    again.goto(f"{served.url}/label/{served.project_id()}")
    again.get_by_text("An earlier answer of yours was not taken: It does not fit.").wait_for()
    assert again.locator(".badge.place").all_inner_texts() == ["rank 1", "rank 2", "rank 3", "rank 4"]


def test_a_break_is_suggested_after_most_of_an_hour(task: Any) -> None:
    task.evaluate(
        """() => {
        let fake = performance.now();
        performance.now = () => fake;
        for (let minute = 0; minute < 51; minute += 1) { fake += 60_000; dispatchEvent(new Event('scroll')); }
    }"""
    )
    task.locator("#rest").wait_for()
    task.get_by_role("button", name="All right").click()
    assert task.locator("#rest").is_hidden()


def test_active_time_is_measured_and_no_longer_than_the_task_was_open(task: Any, served: Any) -> None:
    prompt = prompt_of(task)
    task.wait_for_timeout(600)
    press(task, "1234")
    task.keyboard.press("Enter")
    wait_for_other_prompt(task, prompt)
    row = next(iter(served.store.judgements("helpful")))
    assert row.active_ms is not None
    assert 500 < row.active_ms < 60_000


def revisions(served: Any) -> int:
    import sqlalchemy as sa

    from heedful.store.schema import judgement_revision

    counted = sa.select(sa.func.count()).select_from(judgement_revision)
    return int(served.store.read(lambda c: c.execute(counted).scalar_one()))


def session_of(served: Any, name: str) -> str:
    from heedful.store import accounts, sessions

    def work(c: Any) -> str:
        found = accounts.credentials(c, name)
        assert found is not None
        return sessions.begin(c, found[0].id, "another browser", served.store.clock())

    return str(served.store.write(work))


def end_sessions(served: Any, name: str) -> None:
    from heedful.store import accounts, sessions

    served.store.write(lambda c: sessions.end_others(c, accounts.credentials(c, name)[0].id))


def drafts(page: Any) -> list[str]:
    names: list[str] = page.evaluate("() => Object.keys(localStorage).filter((name) => name.startsWith('heedful draft'))")
    return names
