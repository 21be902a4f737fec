"""From the link of the first run to an exported pair, as an owner and a labeler would do it, each in a browser of their own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_browser_pages import PHONE, WIDE, faults, follow

from heedful.store import accounts, invitations

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
    return str(page.locator(".secret").inner_text())


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
