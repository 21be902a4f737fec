"""What a manager reads of people and agreement: no accessibility fault, nothing too small to hit, nothing that sticks out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from served import serve
from test_browser_pages import PHONE, WIDE, faults, follow

from heedful.store import labelers

Visit = Callable[..., Any]


@pytest.fixture
def served(browser: Any, judged_template: Path, tmp_path: Path) -> Iterator[Any]:
    """The app over a store in which the panel has judged."""
    path = tmp_path / "labels.db"
    path.write_bytes(judged_template.read_bytes())
    with serve(path) as running:
        yield running


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", PHONE)], ids=["light-wide", "dark-phone"])
def test_verdicts_and_agreement(served: Any, visit: Visit, scheme: str, size: dict[str, int]) -> None:
    page = visit(served.person("olga", "owner"), f"/projects/{served.project_id()}", color_scheme=scheme, viewport=size)
    found = faults(page, "overview")
    assert page.get_by_role("region", name="Agreement by group").get_by_role("row").count() == 8
    assert page.get_by_role("img", name="Agreement between labelers in 7 groups").count() == 1
    found += small_or_wide(page)
    follow(page.get_by_role("navigation", name="Project").get_by_role("link", name="People"))
    found += faults(page, "people")
    for closed in page.locator("details > summary").all():
        closed.click()
    found += faults(page, "people, opened") + small_or_wide(page)
    assert found == []
    card = page.locator(".card", has_text="uma")
    card.get_by_label("Why").fill("we will talk")
    follow(card.get_by_role("button", name="Quarantine the judgements"))
    assert served.store.read(lambda c: labelers.quarantined(c, "helpful")) == {"uma": "we will talk"}


def small_or_wide(page: Any) -> list[str]:
    """Targets below 24 by 24 px, and pages that scroll sideways."""
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, a, summary, input, select, textarea')]
        .filter((e) => e.checkVisibility() && !e.matches('.skip-link'))
        .map((e) => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
        .filter(([, box]) => box.width < 24 || box.height < 24)
        .map(([html]) => html)"""
    )
    wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return [*small, *([f"{wide} px too wide"] if wide > 0 else [])]
