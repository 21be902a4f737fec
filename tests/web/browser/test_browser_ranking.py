"""Ranking in a real browser, by mouse, by buttons and by keys: what is stored is what the screen showed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heedful.records import Correction, Ranking

Visit = Callable[..., Any]


@pytest.fixture
def task(served: Any, visit: Visit) -> Any:
    """The labelling page of somebody who has a task of four completions before them."""
    from served import add_project

    add_project(served.store)
    return open_task(served, visit, served.person("ann"))


def open_task(served: Any, visit: Visit, cookie: str, **options: Any) -> Any:
    page = visit(cookie, f"/label/{served.project_id()}", **options)
    page.wait_for_selector(".completion")
    return page


def on_screen(page: Any) -> tuple[str, dict[str, int | None]]:
    """The prompt, and the rank of every completion by its text, read from the board as a person reads it."""
    prompt = page.locator("#prompt-body .text").inner_text()
    texts = page.locator(".completion .folding .text").all_inner_texts()
    names = page.locator(".completion h3").all_inner_texts()
    by_name = {name.split()[-1]: text for name, text in zip(names, texts, strict=True)}
    shown: dict[str, int | None] = {}
    for lane in page.locator(".lane").all():
        place = lane.get_attribute("data-place")
        for name in lane.locator(".chip strong").all_inner_texts():
            shown[by_name[name]] = None if place == "F" else int(place)
    return prompt, shown


def press(page: Any, keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def submit(page: Any) -> None:
    before = page.locator("#prompt-body .text").inner_text()
    page.keyboard.press("Enter")
    page.wait_for_function(
        "before => document.querySelector('#task').hidden || document.querySelector('#prompt-body .text').innerText !== before", arg=before
    )


def check_stored(served: Any, screen: tuple[str, dict[str, int | None]], labeler: str = "ann") -> None:
    prompt, shown = screen
    assert served.rows(labeler)[prompt] == shown


def drag(page: Any, source: Any, target: Any, depth: float = 0.5) -> None:
    """By mouse, from the grip of ``source`` to a height of ``target``: 0 is its upper edge, 1 its lower one."""
    source.scroll_into_view_if_needed()
    start, end = source.bounding_box(), target.bounding_box()
    page.mouse.move(start["x"] + 12, start["y"] + start["height"] / 2)
    page.mouse.down()
    page.mouse.move(end["x"] + 60, end["y"] + end["height"] * depth, steps=5)
    page.mouse.up()


def chip(page: Any, name: str) -> Any:
    return page.locator("#board .chip").filter(has=page.locator("strong", has_text=name))


def lane(page: Any, place: object) -> Any:
    return page.locator(f'.lane[data-place="{place}"]')


def test_the_order_shown_is_no_answer(task: Any, served: Any) -> None:
    assert task.locator("#submit").is_disabled()
    assert task.locator(".tray .chip").count() == 4
    press(task, "123")
    assert task.locator("#submit").is_disabled()
    assert task.locator("#left").inner_text() == "1 completion is still unranked."
    task.keyboard.press("Enter")
    task.wait_for_timeout(300)
    assert served.rows("ann") == {}
    press(task, "4")
    assert task.locator("#submit").is_enabled()


def test_by_keys_in_four_keys_and_enter(task: Any, served: Any) -> None:
    press(task, "2131")
    screen = on_screen(task)
    assert sorted(screen[1].values(), key=str) == [1, 1, 2, 3]
    submit(task)
    check_stored(served, screen)


def test_by_mouse_with_a_tie_a_rank_between_and_an_f(task: Any, served: Any) -> None:
    drag(task, chip(task, "A"), lane(task, 1))
    drag(task, chip(task, "B"), lane(task, 1))
    assert task.locator("#live").inner_text() == "B moved to rank 1 of 4, tied with A."
    drag(task, chip(task, "C"), lane(task, 1), depth=0.05)
    assert lane(task, 1).locator("strong").all_inner_texts() == ["C"]
    assert lane(task, 2).locator("strong").all_inner_texts() == ["A", "B"]
    drag(task, task.locator(".completion").nth(3).locator(".grip"), lane(task, "F"))
    assert lane(task, "F").locator("strong").all_inner_texts() == ["D"]
    screen = on_screen(task)
    submit(task)
    check_stored(served, screen)


def test_dragging_back_to_the_tray_and_to_nowhere(task: Any) -> None:
    drag(task, chip(task, "A"), lane(task, 2))
    drag(task, chip(task, "A"), task.locator(".top"))
    assert lane(task, 2).locator("strong").all_inner_texts() == ["A"]
    drag(task, chip(task, "A"), task.locator(".tray"))
    assert task.locator(".tray .chip").count() == 4


def test_by_buttons_with_reason_and_correction(task: Any, served: Any) -> None:
    cards = task.locator(".completion")
    for card, place in enumerate(("3", "F", "1", "1")):
        cards.nth(card).get_by_role("button", name=f"{'ABCD'[card]}: {'rank ' + place if place != 'F' else 'F'}").click()
    cards.nth(1).get_by_role("button", name="confusing", exact=True).click()
    cards.nth(1).locator(".reason input").fill("it contradicts itself")
    cards.nth(0).get_by_text("Write what it should have said").click()
    cards.nth(0).locator("textarea").fill("Much better.")
    task.locator("#task").get_by_role("button", name="Move C up").click()
    screen = on_screen(task)
    assert screen[1][cards.nth(2).locator(".folding .text").inner_text()] == 1
    texts = cards.locator(".folding .text").all_inner_texts()
    task.get_by_role("button", name="Submit").click()
    task.get_by_text("Stored at").wait_for()
    check_stored(served, screen)
    by_id = {c.id: c.text for c in served.store.completions("helpful")}
    rows = list(served.store.judgements("helpful"))
    (ranking,), (correction,) = ([row for row in rows if isinstance(row, kind)] for kind in (Ranking, Correction))
    assert {by_id[c]: why for c, why in ranking.reasons.items()} == {texts[1]: "it contradicts itself"}
    assert (by_id[correction.completion_id], correction.text) == (texts[0], "Much better.")


def test_undo_and_redo(task: Any, served: Any) -> None:
    press(task, "12")
    press(task, "zz")
    assert task.locator(".tray .chip").count() == 4
    task.keyboard.press("Control+Shift+Z")
    assert lane(task, 1).locator("strong").all_inner_texts() == ["A"]
    task.get_by_role("button", name="Redo").click()
    assert lane(task, 2).locator("strong").all_inner_texts() == ["B"]
    assert task.locator("#redo").is_disabled()


def test_moving_by_keys_is_announced(task: Any) -> None:
    press(task, "1234")
    task.keyboard.press("Alt+ArrowUp")
    assert task.locator("#live").inner_text() == "D moved to rank 3 of 4, tied with C. Everything has its place. Press Enter to submit."
    assert task.locator("#warnings").inner_text() == "2 completions share a rank: only those that are truly equal should."
    assert task.locator("#submit").is_enabled(), "a warning never blocks"


def test_without_ties_a_taken_rank_is_opened(served: Any, visit: Visit) -> None:
    from served import add_project

    add_project(served.store, tie_policy="none")
    page = open_task(served, visit, served.person("ann"))
    press(page, "1111")
    assert [lane(page, rank).locator("strong").all_inner_texts() for rank in (1, 2, 3, 4)] == [["D"], ["C"], ["B"], ["A"]]
    screen = on_screen(page)
    submit(page)
    check_stored(served, screen)


def test_keys_do_not_fire_while_one_writes_or_has_switched_them_off(task: Any) -> None:
    task.locator(".completion").nth(0).get_by_text("Write what it should have said").click()
    task.locator(".completion").nth(0).locator("textarea").type("1 fine answer?\n")
    assert task.locator(".tray .chip").count() == 4
    task.locator("#prompt-title").focus()
    task.keyboard.press("?")
    task.get_by_label("Switch single keys off").check()
    task.keyboard.press("Escape")
    task.locator("#prompt-title").focus()
    press(task, "1")
    assert task.locator(".tray .chip").count() == 4


def test_instructions_at_hand_and_side_by_side(task: Any) -> None:
    task.keyboard.press("?")
    assert task.locator("#help").get_by_text("truly equal may share a rank").is_visible()
    task.keyboard.press("Escape")
    task.keyboard.press("x")
    columns = task.locator("#compare-columns .column")
    assert columns.count() == 4
    columns.nth(2).locator('[data-place="1"]').click()
    task.locator("#compare-which").get_by_label("B").uncheck()
    assert not columns.nth(1).is_visible()
    task.keyboard.press("Escape")
    assert lane(task, 1).locator("strong").all_inner_texts() == ["C"]


def test_skip_without_a_reason(task: Any, served: Any) -> None:
    before = task.locator("#prompt-body .text").inner_text()
    task.keyboard.press("s")
    task.locator("#skipping").get_by_role("button", name="Skip", exact=True).click()
    task.wait_for_function("before => document.querySelector('#prompt-body .text').innerText !== before", arg=before)
    assert served.rows("ann") == {}


def test_thumbs(served: Any, visit: Visit) -> None:
    from served import add_project

    add_project(served.store, completions=2, task="thumbs")
    page = open_task(served, visit, served.person("ann"))
    texts = page.locator(".completion .folding .text").all_inner_texts()
    press(page, "12")
    submit(page)
    by_id = {c.id: c.text for c in served.store.completions("helpful")}
    assert {by_id[row.completion_id]: row.label for row in served.store.judgements("helpful")} == {texts[0]: True, texts[1]: False}


def test_own_answers_open_again_and_change(task: Any, served: Any) -> None:
    press(task, "1234")
    screen = on_screen(task)
    submit(task)
    check_stored(served, screen)
    task.get_by_role("link", name="My work").click()
    task.get_by_role("link", name="Open answer 1 again").click()
    task.wait_for_selector(".completion")
    assert on_screen(task) == screen
    task.locator(".completion").nth(3).locator('[data-place="1"]').click()
    changed = on_screen(task)
    assert changed != screen
    submit(task)  # Enter, although a button was clicked last
    check_stored(served, changed)


def test_by_touch(served: Any, visit: Visit) -> None:
    """A finger drags by the grip: pointer events of type touch, through the browser's own protocol."""
    from served import add_project

    add_project(served.store, completions=2)
    page = open_task(served, visit, served.person("ann"), viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    source = chip(page, "A").locator(".grip")
    source.scroll_into_view_if_needed()
    start, end = source.bounding_box(), lane(page, 1).bounding_box()
    protocol = page.context.new_cdp_session(page)
    points = [(start["x"] + 8, start["y"] + 8), (end["x"] + 40, end["y"] + 10), (end["x"] + 60, end["y"] + 20)]
    for kind, at in [("touchStart", points[0]), ("touchMove", points[1]), ("touchMove", points[2]), ("touchEnd", None)]:
        protocol.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": at[0], "y": at[1]}] if at else []})
    assert lane(page, 1).locator("strong").all_inner_texts() == ["A"]
