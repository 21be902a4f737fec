"""From the link of the first run to an exported pair, as an owner and a labeler would do it, each in a browser of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_browser_pages import PHONE, WIDE, faults, follow

from heedful.feedback.criteria import CRITERIA
from heedful.feedback.instructions import instructions_for
from heedful.records import Completion, Prompt
from heedful.store import accounts, comprehension, invitations
from heedful.store.comprehension import Question

Visit = Callable[..., Any]
PASSWORD = "seven quiet owls by the sea"
QUESTIONS = "? What is rank 1?\n- the worst\n* the most helpful\n! Rank 1 holds most of it.\n"


@pytest.fixture
def prompts_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"question {i}", "completions": [f"answer {x} to question {i}" for x in "abc"]} for i in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def fill_account(page: Any, name: str) -> None:
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("The password again").fill(PASSWORD)


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        pytest.param("light", WIDE, id="light-wide"),
        pytest.param("dark", PHONE, id="dark-phone", marks=pytest.mark.slow),
        pytest.param("dark", WIDE, id="dark-wide", marks=pytest.mark.slow),
        pytest.param("light", PHONE, id="light-phone", marks=pytest.mark.slow),
    ],
)
def test_from_setup_to_export(served: Any, visit: Visit, prompts_file: Path, scheme: str, size: dict[str, int]) -> None:
    found: list[str] = []

    def look(page: Any, where: str) -> None:
        found.extend(faults(page, where))
        wider = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
        found.extend([f"{where}: scrolls sideways by {wider} px"] if wider > 0 else [])

    secret = served.store.write(lambda c: invitations.make_first(c, served.store.clock()))
    owner = visit(None, f"/join/{secret}", color_scheme=scheme, viewport=size)
    look(owner, "setup")
    fill_account(owner, "olga")
    follow(owner.get_by_role("button", name="Make the account"))
    look(owner, "no project yet")
    make_project(owner, prompts_file, look)
    link = invite(owner, look)

    labeler = visit(None, link.removeprefix(served.url), color_scheme=scheme, viewport=size)
    look(labeler, "invitation")
    fill_account(labeler, "ann")
    follow(labeler.get_by_role("button", name="Accept"))
    rank_everything(labeler)
    assert len(served.rows("ann")) == 2

    read_figures(owner, served, look)
    with owner.expect_download() as coming:
        owner.get_by_role("link", name="pairs.jsonl").click()
    pairs = [json.loads(line) for line in Path(coming.value.path()).read_text().splitlines()]
    assert len(pairs) == 6
    for pair in pairs:
        ranks = served.rows("ann")[pair["prompt"]]
        assert ranks[pair["chosen"]] < ranks[pair["rejected"]]
    assert "\n".join(found) == ""


def make_project(page: Any, prompts_file: Path, look: Callable[[Any, str], None]) -> None:
    follow(page.get_by_role("link", name="New project"))
    look(page, "new project")
    page.get_by_label("Name").fill("helpful")
    page.get_by_label("Labelers per prompt (overlap)").fill("1")
    follow(page.get_by_role("button", name="Make the project"))
    page.get_by_label("Comprehension questions").fill(QUESTIONS)
    look(page, "instructions")
    follow(page.get_by_role("button", name="Publish"))
    follow(page.get_by_role("navigation", name="Project").get_by_role("link", name="Prompts"))
    look(page, "prompts")
    page.get_by_label("A file of JSON lines").set_input_files(prompts_file)
    follow(page.get_by_role("button", name="Add them"))
    follow(page.get_by_role("navigation", name="Project").get_by_role("link", name="Settings"))
    look(page, "settings")


def invite(page: Any, look: Callable[[Any, str], None]) -> str:
    follow(page.get_by_role("navigation", name="Project").get_by_role("link", name="People"))
    look(page, "people, nobody yet")
    page.get_by_label("Strata that they stand for").fill("language=native")
    follow(page.get_by_role("button", name="Make the link"))
    look(page, "a new link")
    link = str(page.locator(".secret").inner_text())
    page.get_by_label("The name it judges under").fill("hal")
    follow(page.get_by_role("button", name="Make the token"))
    look(page, "a token for a program")
    return link


def rank_everything(page: Any) -> None:
    follow(page.get_by_role("button", name="I have read the instructions"))
    page.get_by_label("the most helpful").check()
    follow(page.get_by_role("button", name="Send my answers"))
    for keys in ("123", "321"):
        page.wait_for_function("() => document.querySelectorAll('.tray .chip').length === 3")
        for key in keys:
            page.keyboard.press(key)
        if keys == "123":
            page.get_by_text("Report something about this task").click()
            page.get_by_label("What should be known about this task").fill("A phone number.")
        page.keyboard.press("Control+Enter")
    page.locator("#nothing").wait_for()


def read_figures(page: Any, served: Any, look: Callable[[Any, str], None]) -> None:
    tabs = page.get_by_role("navigation", name="Project")
    follow(tabs.get_by_role("link", name="Overview"))
    look(page, "overview, nothing worked out")
    follow(page.get_by_role("button", name="Work it out anew"))
    page.wait_for_function("async () => (await (await fetch(location.pathname)).text()).includes('Worked out ')")
    page.reload()
    look(page, "overview")
    follow(tabs.get_by_role("link", name="People"))
    assert "ann" in page.locator("tbody").first.inner_text()
    look(page, "people")
    follow(tabs.get_by_role("link", name="Undecided"))
    look(page, "undecided")
    follow(tabs.get_by_role("link", name="Notes"))
    assert "A phone number." in page.locator("tbody").inner_text()
    look(page, "notes")
    page.goto(served.url + "/account")
    look(page, "account")
    page.goto(served.url + "/accounts")
    look(page, "accounts")
    page.goto(served.url + f"/projects/{served.project_id()}/exports")
    look(page, "exports")


def test_an_invitation_works_once(served: Any, visit: Visit) -> None:
    from served import add_project

    add_project(served.store)
    served.person("olga", "owner")
    owner = served.store.read(accounts.everybody)[0]
    secret = served.store.write(lambda c: invitations.make(c, "labeler", served.project_id(), {}, owner, served.store.clock()))
    page = visit(None, f"/join/{secret}")
    fill_account(page, "ann")
    page.get_by_label("The password again").fill("another sentence altogether")
    follow(page.get_by_role("button", name="Accept"))
    assert page.get_by_label("Name").input_value() == "ann", "what was typed stays"
    assert "not the same" in page.locator(".flash.bad").inner_text()
    fill_account(page, "ann")
    follow(page.get_by_role("button", name="Accept"))
    page.get_by_role("button", name="I have read the instructions").wait_for()
    again = visit(None, f"/join/{secret}")
    assert re.search("not valid, or no longer", again.locator("main").inner_text())


WORDS, KEYS, PRESS, WEIGH = 175 / 60, 2.0, 2.0, 4.0
"""What a slow reader does: words and keys a second; seconds for a press of a button, and to weigh a completion. Of adults
most read 175 to 300 words a minute in silence (Brysbaert 2019, "How many words do we read per minute?")."""
COMPLETIONS = [
    "Give it a lamp: basil wants twelve hours of light, and a north window in winter has three. Move it away from the glass at night.",
    "Move it away from the glass at night and water it less than in summer. A warmer room helps.",
    "Water it a lot, every evening, and leave it at the window so that it gets used to the cold.",
    "Basil is a herb of the mint family. It is used in many kitchens, and the Greeks thought that it had to be cursed to grow.",
]


def words_on(page: Any, where: str = "main") -> int:
    """The words that a reader sees there, without those on buttons, keys and chips."""
    text = page.locator(where).evaluate(
        """(root) => {
            const seen = [], walk = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
            while (walk.nextNode()) {
                const at = walk.currentNode.parentElement;
                if (at.checkVisibility() && !at.closest('button, summary, kbd, .chip, .badge, .sr-only')) seen.push(walk.currentNode.data);
            }
            return seen.join(' ');
        }"""
    )
    return len(re.findall(r"[^\W\d_]{2,}|\b[aI]\b", text))


def test_a_slow_reader_has_ranked_three_minutes_after_opening_the_invitation(served: Any, visit: Visit) -> None:
    from served import add_project

    add_project(served.store, prompts=0)
    served.store.publish("helpful", instructions_for(CRITERIA["helpfulness"]).text)
    questions = [
        Question("What does rank 1 hold?", ["The completion that helps most", "The completion that helps least"], 0),
        Question("Two completions are almost equal. What do you do?", ["They share a rank", "I look for the difference"], 1),
    ]
    served.store.write(lambda c: comprehension.publish(c, "helpful", questions, "test", served.store.clock()))
    made = [Completion(f"p:{n}", "p", text, [1], "stop", 1, f"model-{n}", {}) for n, text in enumerate(COMPLETIONS)]
    served.store.add_prompts("helpful", [(Prompt("p", "How do I keep basil alive on a cold window sill in winter?"), made)])
    served.person("olga", "owner")
    [by] = served.store.read(accounts.everybody)
    link = served.store.write(lambda c: invitations.make(c, "labeler", served.project_id(), {}, by, served.store.clock()))
    page = visit(None, f"/join/{link}")
    seconds = {"reading the invitation": words_on(page) / WORDS, "making an account": len("ann" + 2 * PASSWORD) / KEYS + PRESS}
    fill_account(page, "ann")
    follow(page.get_by_role("button", name="Accept"))
    seconds["reading the instructions"] = words_on(page) / WORDS + PRESS
    follow(page.get_by_role("button", name="I have read"))
    seconds["answering the questions"] = words_on(page) / WORDS + 3 * PRESS
    for choice in ("The completion that helps most", "I look for the difference"):
        page.get_by_label(choice).check()
    follow(page.get_by_role("button", name="Send"))
    page.wait_for_selector(".completion")
    words = sum(words_on(page, where) for where in (".task-head h1", "#prompt-body", "#completions"))
    seconds["ranking"] = words / WORDS + 4 * WEIGH + 5 / KEYS
    for key in "1234":
        page.keyboard.press(key)
    page.keyboard.press("Enter")
    page.locator("#nothing").wait_for()
    assert len(served.rows("ann")) == 1
    assert sum(seconds.values()) < 180, seconds
