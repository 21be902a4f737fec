"""A browser that is there or not, and the app that it looks at."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """One chromium for all tests; every test opens contexts of its own."""
    from served import CHROMIUM, ELSEWHERE

    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs chromium on the PATH, e.g. apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", f"--host-resolver-rules=MAP {ELSEWHERE} 127.0.0.1"]
        )
        yield launched
        launched.close()


@pytest.fixture
def served(browser: Any, sqlite_template: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The app over an empty store, on this machine or, as a parameter, under another name."""
    from served import serve

    path = tmp_path / "labels.db"
    shutil.copy(sqlite_template, path)
    with serve(path, host=getattr(request, "param", "127.0.0.1")) as running:
        yield running


@pytest.fixture
def visit(browser: Any, served: Any) -> Iterator[Callable[..., Any]]:
    """Open a page as somebody, by their cookie. A script error, or a refusal by the content policy, fails the test at its end."""
    faults: list[str] = []
    contexts = []

    def opened(cookie: str | None = None, path: str = "/", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, "reduced_motion": "reduce"} | options)
        contexts.append(context)
        context.set_default_timeout(10_000)
        if cookie:
            context.add_cookies([{"name": "heedful", "value": cookie, "url": served.url}])
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
        page.on("dialog", lambda dialog: faults.append(f"a script said {dialog.message}"))
        page.goto(served.url + path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
