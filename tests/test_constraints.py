"""``constraints.txt``: two people who install heedful get the same versions, of what it names and of what that brings along."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("train", "dev")
"""What ``make install`` installs."""


@pytest.fixture(scope="module")
def pins(repository: Path) -> dict[str, str]:
    """The version of each package."""
    lines = [line for line in (repository / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    found = {canonicalize_name(name): version for name, version in pairs}
    assert len(found) == len(lines), "no package stands twice"
    return found


def brought_along(name: str, extras: tuple[str, ...]) -> Iterator[Requirement]:
    """What an installed package asks for here."""
    for text in importlib.metadata.requires(name) or []:
        asked = Requirement(text)
        if asked.marker is None or any(asked.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield asked


def everything(name: str, extras: tuple[str, ...], seen: dict[tuple[str, tuple[str, ...]], list[Requirement]]) -> None:
    """Of a package and all that stands below it: what it asks for. What is not installed here brings nothing along."""
    if (name, extras) in seen:
        return
    try:
        seen[name, extras] = list(brought_along(name, extras))
    except importlib.metadata.PackageNotFoundError:
        seen[name, extras] = []
    for asked in seen[name, extras]:
        everything(canonicalize_name(asked.name), tuple(sorted(asked.extras)), seen)


def test_all_that_is_installed_is_pinned_within_its_ranges(pins: dict[str, str]) -> None:
    seen: dict[tuple[str, tuple[str, ...]], list[Requirement]] = {}
    everything("heedful", EXTRAS, seen)
    asked = [one for requirements in seen.values() for one in requirements if canonicalize_name(one.name) != "heedful"]
    assert {"torch", "transformers", "pytest", "numpy", "mpmath"} <= {one.name.lower() for one in asked}, (
        "mpmath comes with sympy with torch"
    )
    assert sorted({one.name for one in asked if canonicalize_name(one.name) not in pins}) == []
    outside = [str(one) for one in asked if not one.specifier.contains(pins[canonicalize_name(one.name)], prereleases=True)]
    assert outside == []


def test_torch_is_the_one_that_was_asked_for(pins: dict[str, str]) -> None:
    assert pins["torch"] == "2.13.0"
