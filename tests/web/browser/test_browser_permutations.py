"""Every ranking of up to four completions, with ties and Fs, typed by keys: the row in the database is what the screen showed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

# Weak orders (Fubini numbers 1, 1, 3, 13, 75) of those without an F: the sum over k of C(n, k) times these.
HOW_MANY = {2: 6, 3: 26, 4: 150}


def rankings(n: int) -> list[tuple[int | None, ...]]:
    """All of n completions: ranks from 1 without a gap, ``None`` for an F."""
    every = product((None, *range(1, n + 1)), repeat=n)
    return [ranks for ranks in every if {rank for rank in ranks if rank} == set(range(1, 1 + len({rank for rank in ranks if rank})))]


@pytest.mark.parametrize("n", [2, 3, pytest.param(4, marks=pytest.mark.slow)])
def test_the_row_is_what_the_screen_showed(n: int, served: Any, visit: Callable[..., Any]) -> None:
    from served import add_project

    wanted = rankings(n)
    assert len(wanted) == HOW_MANY[n]
    add_project(served.store, prompts=len(wanted), completions=n)
    page = visit(served.person("ann"), f"/label/{served.project_id()}")
    shown = {}
    for ranks in wanted:
        page.wait_for_function("n => document.querySelectorAll('.tray .chip').length === n", arg=n)
        for rank in ranks:
            page.keyboard.press("f" if rank is None else str(rank))
        prompt, texts, badges = (
            page.locator(where).all_inner_texts() for where in ("#prompt-body .text", ".completion .folding .text", ".badge.place")
        )
        shown[prompt[0]] = dict(zip(texts, [None if badge == "F" else int(badge.split()[1].rstrip(",")) for badge in badges], strict=True))
        assert list(shown[prompt[0]].values()) == list(ranks)
        page.keyboard.press("Enter")
        page.wait_for_function(
            "before => document.querySelector('#task').hidden || document.querySelector('#prompt-body .text').innerText !== before",
            arg=prompt[0],
        )
    assert len(shown) == len(wanted)
    assert served.rows("ann") == shown
