"""Every page of labelling: no accessibility fault that axe-core finds, light and dark, wide and phone; and hostile text does nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from heedful.feedback.asking import ask
from heedful.records import Completion, Prompt
from heedful.store import Answer, comprehension
from heedful.store.comprehension import Question

Visit = Callable[..., Any]
WIDE, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</textarea></title></style><svg onload=alert(1)>",
    "' onmouseover='alert(1)' autofocus onfocus='alert(1)",
    "[click](javascript:alert(1)) ![x](x onerror=alert(1)) <javascript:alert(1)>",
    "{{ 7 * 7 }} ${alert(1)} {% raw %} <%= 1 %>",
    "<iframe srcdoc='<script>parent.alert(1)</script>'></iframe><base href=//evil><meta http-equiv=refresh content='0;url=//evil'>",
    "<a href='data:text/html,<script>alert(1)</script>'>x</a>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
]


def faults(page: Any, where: str) -> list[str]:
    """What axe-core finds on a page, readably."""
    sync_playwright = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = sync_playwright.Axe().run(page).response["violations"]
    return [f"{where}: {v['id']}: {v['help']}: {[node['target'] for node in v['nodes']][:3]}" for v in found]


def follow(control: Any) -> None:
    """Press a link or a form's button and wait for the page that comes: axe cannot look at the one being left."""
    with control.page.expect_navigation():
        control.click()


@pytest.fixture
def ready(served: Any) -> Any:
    from served import add_project

    add_project(served.store, content_warning="Some of this is rude.")
    question = Question("What is rank 1?", ["The most helpful", "The least helpful"], 0, "Rank 1 holds most of it.")
    served.store.write(lambda c: comprehension.publish(c, "helpful", [question], "test", served.store.clock()))
    return served


HERE_AND_THERE = [
    ("light", WIDE, "light-wide"),
    ("dark", PHONE, "dark-phone"),
    ("light", PHONE, "light-phone"),
    ("dark", WIDE, "dark-wide"),
]


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        pytest.param(scheme, size, id=name, marks=[pytest.mark.slow] if i > 1 else [])
        for i, (scheme, size, name) in enumerate(HERE_AND_THERE)
    ],
)
def test_axe_finds_nothing(ready: Any, visit: Visit, scheme: str, size: dict[str, int]) -> None:
    label = f"/label/{ready.project_id()}"
    found = []
    page = visit(None, "/login", color_scheme=scheme, viewport=size)
    found += faults(page, "login")
    page.goto(ready.url + "/join/nothing")
    found += faults(page, "an error")
    page = visit(ready.person("bob", ready=False), "/", color_scheme=scheme, viewport=size)
    found += faults(page, "home")
    page.goto(ready.url + label)
    found += faults(page, "instructions")
    follow(page.get_by_role("button", name="I have read"))
    found += faults(page, "check")
    page.get_by_label("The least helpful").check()
    follow(page.get_by_role("button", name="Send"))
    found += faults(page, "check, second try")
    page.get_by_label("The most helpful").check()
    follow(page.get_by_role("button", name="Send"))
    page.locator("#content-warning").wait_for()
    found += faults(page, "content warning")
    page.get_by_role("button", name="Go on").click()
    found += on_the_task(page)
    page.goto(f"{ready.url}{label}/mine")
    found += faults(page, "mine")
    ready.store.publish("helpful", "Something else now.")
    page.goto(ready.url + label)
    found += faults(page, "new instructions")
    assert found == []


@pytest.mark.parametrize("kind", ["thumbs", "correction"])
def test_axe_finds_nothing_on_other_kinds_of_tasks(served: Any, visit: Visit, kind: str) -> None:
    from served import add_project

    add_project(served.store, prompts=1, completions=2, task=kind)
    page = visit(served.person("ann"), f"/label/{served.project_id()}", color_scheme="dark", viewport=PHONE)
    page.wait_for_selector(".completion")
    found = faults(page, "task")
    if kind == "thumbs":
        for key in "12":
            page.keyboard.press(key)
    else:
        page.locator(".completion").first.locator("textarea").fill("It should have said so.")
    found += faults(page, "judged")
    page.locator("#prompt-title").focus()
    page.keyboard.press("?")
    page.locator("#help").wait_for()
    found += faults(page, "help")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Enter")
    page.locator("#nothing").wait_for()
    assert len(list(served.store.judgements("helpful"))) == (2 if kind == "thumbs" else 1)
    page.goto(f"{served.url}/label/{served.project_id()}/mine")
    assert [*found, *faults(page, "mine")] == []


def on_the_task(page: Any) -> list[str]:
    """The labelling page in each of its states, ending with nothing to do."""
    page.wait_for_selector(".completion")
    found = faults(page, "task")
    for key in "12n":
        page.keyboard.press(key)
    page.keyboard.press("2")
    found += faults(page, "ranked")
    for key, dialog in (("?", "help"), ("s", "skipping"), ("x", "compare")):
        page.keyboard.press(key)
        page.locator(f"#{dialog}").wait_for()
        found += faults(page, dialog)
        page.keyboard.press("Escape")
        page.locator("#prompt-title").focus()
    page.context.set_offline(True)
    page.keyboard.press("Enter")
    page.locator("#trouble").wait_for()
    found += faults(page, "no network")
    page.context.set_offline(False)
    for _ in range(2):
        page.wait_for_function("() => !document.querySelector('#submit').disabled || document.querySelectorAll('.tray .chip').length === 4")
        for key in "1234":
            page.keyboard.press(key)
        page.keyboard.press("Enter")
    page.locator("#nothing").wait_for()
    return found + faults(page, "nothing to do")


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", PHONE)], ids=["light-wide", "dark-phone"])
def test_a_manager_has_prompts_judged_again(served: Any, visit: Visit, scheme: str, size: dict[str, int]) -> None:
    """From the instructions' page, whose table of versions has no fault; then they are tasks again."""
    from served import add_project

    store = served.store
    add_project(store, prompts=2, completions=2, overlap=1)
    served.person("ann")
    while task := ask(store, "helpful", "ann"):
        store.submit(task.token, "ann", task.token, Answer(ranks=[1, 2]), task.instructions_version)
    store.publish("helpful", "The shorter the better.")
    page = visit(
        served.person("mia", "manager", ready=False), f"/projects/{served.project_id()}/instructions", color_scheme=scheme, viewport=size
    )
    found = faults(page, "versions")
    assert page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
    page.get_by_role("radio", name="every prompt").check()
    follow(page.get_by_role("button", name="Have them judged again"))
    assert "2 prompts are judged again; 2 judgements no longer count." in page.get_by_role("status").inner_text()
    assert [*found, *faults(page, "judged again")] == []
    assert store.status()[0].places_open == 2
    assert list(store.judgements("helpful")) == []


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_targets_are_large_enough_and_nothing_sticks_out(ready: Any, visit: Visit, size: dict[str, int]) -> None:
    """WCAG 2.2 SC 2.5.8: 24 by 24 px; and no page scrolls sideways."""
    ready.person("amy")
    page = visit(pass_check(ready, "amy"), f"/label/{ready.project_id()}", viewport=size)
    page.get_by_role("button", name="Go on").click()
    page.wait_for_selector(".completion")
    page.keyboard.press("1")
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, a, summary, input, select, textarea')]
        .filter((e) => e.checkVisibility() && !e.matches('.skip-link'))
        .map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
        .filter(([, box]) => box.width < 24 || box.height < 24)
        .map(([html]) => html)"""
    )
    assert small == []
    assert page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0


UNHIDDEN = """() => {
    const at = document.activeElement, box = at.getBoundingClientRect();
    if (at === document.body) return "";
    const steps = [0.05, 0.25, 0.5, 0.75, 0.95];
    const there = (x, y) => document.elementFromPoint(box.x + x * box.width, box.y + y * box.height);
    const seen = steps.some((x) => steps.some((y) => at.contains(there(x, y))));
    return seen ? "seen" : at.outerHTML.slice(0, 80);
}"""


@pytest.mark.parametrize("size", [{"width": 1280, "height": 560}, {"width": 390, "height": 560}], ids=["wide", "phone"])
def test_what_has_the_focus_is_not_hidden(served: Any, visit: Visit, size: dict[str, int]) -> None:
    """WCAG 2.2 SC 2.4.11, in a low window, below the bar and the alarm and above what stays at the foot."""
    from served import add_project

    add_project(served.store)
    page = visit(served.person("ann"), f"/label/{served.project_id()}", viewport=size)
    page.wait_for_selector(".completion")
    for key in "123":
        page.keyboard.press(key)
    page.evaluate("() => { document.querySelector('#trouble').hidden = false; }")
    page.evaluate("() => { document.querySelector('#trouble-text').textContent = 'The network is gone. '.repeat(4); }")
    for key in ("Tab", "Shift+Tab"):
        page.locator("#prompt-title" if key == "Tab" else "#skip").focus()
        found = []
        while len(found) < 80 and (here := page.evaluate(UNHIDDEN)):
            found.append(here)
            page.keyboard.press(key)
        assert len(found) > 30, "everything was reached"
        assert [one for one in found if one != "seen"] == [], key


def pass_check(ready: Any, name: str) -> str:
    """Somebody answers the questions rightly; their session's cookie."""
    from heedful.store import accounts, sessions

    def work(c: Any) -> str:
        who = accounts.credentials(c, name)[0]
        comprehension.attempt(c, ready.project_id(), who.labeler_id, [0], ready.store.clock())
        return sessions.begin(c, who.id, "test", ready.store.clock())

    return str(ready.store.write(work))


def test_hostile_text_is_shown_and_does_nothing(served: Any, visit: Visit) -> None:
    """The fixture ``visit`` fails where a script runs, throws, or is stopped by the content policy only."""
    from served import add_project

    add_project(served.store, prompts=0, question="".join(HOSTILE[:3]), content_warning=HOSTILE[1])
    messages = [{"role": "user", "content": text} for text in HOSTILE]
    completions = [Completion(f"p:{i}", "p", text, [1], "stop", 1, "secret-model", {}) for i, text in enumerate(HOSTILE)]
    served.store.add_prompts("helpful", [(Prompt("p", messages), completions)])
    name = "<img src=x onerror=alert(1)>"
    cookie = served.person(name, ready=False)
    served.store.publish("helpful", "\n\n".join(HOSTILE))
    page = visit(cookie, f"/label/{served.project_id()}")
    page.get_by_role("button", name="I have read").click()
    page.get_by_role("button", name="Go on").click()
    page.wait_for_selector(".completion")
    assert sorted(page.locator(".completion .folding .text").all_text_contents()) == sorted(HOSTILE)
    assert page.locator(".message .text").all_text_contents() == HOSTILE
    assert name in page.locator(".who").inner_text()
    for key in "1nci23456":
        page.keyboard.press(key)
    page.locator(".reason input:visible").first.fill(HOSTILE[1])
    page.locator("#note").evaluate(
        "(field, text) => { field.value = text; field.dispatchEvent(new Event('input', {bubbles: true})); }", HOSTILE[0]
    )
    page.keyboard.press("Control+Enter")
    page.locator("#nothing").wait_for()
    page.get_by_role("link", name="What I judged").click()
    page.locator("table").wait_for()
    page.get_by_role("link", name="Open answer 1 again").click()
    page.wait_for_selector(".completion")
    assert HOSTILE[1] in [field.input_value() for field in page.locator(".reason input").all()]
    alive = "script:not([src]), img:not([src='/static/icon.svg']), iframe, svg, math, base, [onerror], [onload], [onfocus]"
    alive += ", a[href^='javascript'], a[href^='data']"
    assert page.locator(alive).count() == 0
    assert "secret-model" not in page.content()


def test_characters_that_cannot_be_seen_are_shown(served: Any, visit: Visit) -> None:
    from served import add_project

    add_project(served.store, prompts=0)
    texts = ["pay \u202e001$\u202c now", "zero\u200bwidth", "tab\tand\nline", "👩‍👩‍👧 عربي", "\u200eleft\u200f\u061cright"]
    completions = [Completion(f"p:{i}", "p", text, [1], "stop", 1, "m", {}) for i, text in enumerate(texts)]
    served.store.add_prompts("helpful", [(Prompt("p", "?"), completions)])
    page = visit(served.person("ann"), f"/label/{served.project_id()}")
    page.wait_for_selector(".completion")
    shown = sorted(page.locator(".completion .folding .text").all_text_contents())
    assert shown == sorted(["pay U+202E001$U+202C now", "zeroU+200Bwidth", "tab\tand\nline", "👩‍👩‍👧 عربي", "U+200EleftU+200FU+061Cright"])
