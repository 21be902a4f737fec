"""Signing in elsewhere, in a real browser: from an invitation to a ranking, from the account page, and back again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from issuer import Issuer, serve_issuer
from test_browser_pages import HERE_AND_THERE, faults

from heedful.store import accounts, identities, invitations

Visit = Callable[..., Any]


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with serve_issuer(host="localhost") as listening:  # to a browser, another site than 127.0.0.1: some cookies would stay behind
        listening.asks = True
        yield listening


@pytest.fixture
def served(browser: Any, sqlite_template: Path, tmp_path: Path, issuer: Issuer) -> Iterator[Any]:
    """The app, which knows the provider, over a project with one prompt."""
    from served import add_project, serve

    path = tmp_path / "labels.db"
    shutil.copy(sqlite_template, path)
    with serve(path, [issuer.provider()]) as running:
        add_project(running.store, prompts=1, completions=3, overlap=1)
        yield running


def sign_in_over_there(page: Any, who: str) -> None:
    page.wait_for_url("**/authorize?**")
    page.get_by_label("Who").fill(who)
    page.get_by_role("button", name="It is me").click()


def test_from_an_invitation_to_a_ranking_without_a_password(served: Any, visit: Visit, issuer: Issuer) -> None:
    served.person("olga", "owner")
    owner = served.store.read(accounts.everybody)[0]
    secret = served.store.write(lambda c: invitations.make(c, "labeler", served.project_id(), {}, owner, served.store.clock()))
    page = visit(None, f"/join/{secret}")
    page.get_by_label("Name").fill("ann")
    page.get_by_role("button", name="Without a password: by Example University").click()
    sign_in_over_there(page, "7")
    page.get_by_role("button", name="I have read the instructions").click()
    page.wait_for_function("() => document.querySelectorAll('.tray .chip').length === 3")
    for key in "123":
        page.keyboard.press(key)
    page.keyboard.press("Control+Enter")
    page.locator("#nothing").wait_for()
    assert len(served.rows("ann")) == 1
    page.get_by_role("button", name="Sign out").click()
    page.goto(f"{served.url}/label/{served.project_id()}/mine")
    page.get_by_role("button", name="Sign in with Example University").click()
    sign_in_over_there(page, "7")
    page.wait_for_url(f"**/label/{served.project_id()}/mine")
    assert page.locator(".who").inner_text() == "ann"
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in with Example University").click()
    sign_in_over_there(page, "somebody else")
    assert "nobody here has connected that account" in page.get_by_role("alert").inner_text()
    assert "state=" in page.url
    page.reload()
    assert "used already" in page.get_by_role("alert").inner_text()


def test_an_account_is_connected_and_let_go(served: Any, visit: Visit) -> None:
    from served import PASSWORD

    page = visit(served.person("ben"), "/account")
    page.get_by_label("Your password here").fill(PASSWORD)
    page.get_by_role("button", name="Connect Example University").click()
    sign_in_over_there(page, "7")
    page.get_by_text("Connected: you may sign in that way").wait_for()
    assert [one.id for one in served.store.read(lambda c: identities.of_account(c, 1))] == [1]
    page.get_by_role("button", name="No longer sign in by Example University").click()
    page.get_by_text("Saved.").wait_for()
    assert served.store.read(lambda c: identities.of_account(c, 1)) == []


@pytest.mark.parametrize(
    ("scheme", "size"),
    [
        pytest.param(scheme, size, id=name, marks=[pytest.mark.slow] if i > 1 else [])
        for i, (scheme, size, name) in enumerate(HERE_AND_THERE)
    ],
)
def test_axe_finds_nothing(served: Any, visit: Visit, issuer: Issuer, scheme: str, size: dict[str, int]) -> None:
    found = []
    secret = served.store.write(lambda c: invitations.make(c, "labeler", served.project_id(), {}, None, served.store.clock()))
    page = visit(None, f"/join/{secret}", color_scheme=scheme, viewport=size)
    found += faults(page, "invitation")
    page.goto(f"{served.url}/login")
    found += faults(page, "login")
    page.route("**/authorize?**", lambda route: route.fulfill(status=204))  # so that the page that leads there stays
    page.get_by_role("button", name="Sign in with Example University").click()
    page.get_by_role("link", name="Go on to Example University").wait_for()
    found += faults(page, "leaving")
    served.person("ben")
    page = visit(served.person("cid"), "/account", color_scheme=scheme, viewport=size)
    found += faults(page, "account")
    wider = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert found == []
    assert wider <= 0
