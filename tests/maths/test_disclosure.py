"""Small groups stay hidden, also from somebody who subtracts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from heedful.maths.disclosure import Cells, shown_cells


def test_by_hand() -> None:
    assert shown_cells({"a": 9, "b": 5}) == Cells({"a": 9, "b": 5}, 0, 0)
    assert shown_cells({"a": 9, "b": 4, "c": 2, "d": 0}) == Cells({"a": 9}, 2, 6)
    assert shown_cells({"a": 9, "b": 6, "c": 3}) == Cells({"a": 9}, 2, 9), "b would tell what c is"
    assert shown_cells({"a": 9, "c": 3}) == Cells({}, 2, 12)
    assert shown_cells({"c": 3}) == Cells({}, 1, None)
    assert shown_cells({}) == Cells({}, 0, 0)


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 20), max_size=8), st.integers(1, 8))
def test_nobody_learns_of_a_group_that_is_too_small(counts: dict[str, int], smallest: int) -> None:
    cells = shown_cells(counts, smallest)
    assert all(count >= smallest and counts[name] == count for name, count in cells.shown.items())
    hidden = sum(counts.values()) - sum(cells.shown.values())
    assert hidden == 0 or hidden >= smallest or not cells.shown, "what is left when the shown are subtracted is no small group"
    assert cells.hidden == (hidden if hidden >= smallest or hidden == 0 else None)
    assert cells.hidden_groups + len(cells.shown) == sum(count > 0 for count in counts.values())
