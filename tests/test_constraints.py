"""``constraints.txt``: two people who install heedful get the same versions, of what it names and of what that brings along.

``label.lock``: the image gets the very same files.
"""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("train", "dev")
"""What ``make install`` installs."""

Bringing = dict[tuple[str, tuple[str, ...]], list[Requirement]]
"""Of each package and its extras: what it asks for."""


@pytest.fixture(scope="module")
def pins(repository: Path) -> dict[str, str]:
    """The version of each package."""
    lines = [line for line in (repository / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pairs = [line.split("==") for line in lines]
    found = {canonicalize_name(name): version for name, version in pairs}
    assert len(found) == len(lines), "no package stands twice"
    return found


def brought_along(name: str, extras: tuple[str, ...], where: Mapping[str, str]) -> Iterator[Requirement]:
    """What an installed package asks for, here but for what ``where`` says of the machine."""
    for text in importlib.metadata.requires(name) or []:
        asked = Requirement(text)
        if asked.marker is None or any(asked.marker.evaluate({**where, "extra": extra}) for extra in (*extras, "")):
            yield asked


def everything(name: str, extras: tuple[str, ...], seen: Bringing, where: Mapping[str, str]) -> None:
    """Of a package and all that stands below it: what it asks for. What is not installed here brings nothing along."""
    if (name, extras) in seen:
        return
    try:
        seen[name, extras] = list(brought_along(name, extras, where))
    except importlib.metadata.PackageNotFoundError:
        seen[name, extras] = []
    for asked in seen[name, extras]:
        everything(canonicalize_name(asked.name), tuple(sorted(asked.extras)), seen, where)


def asked_by_heedful(extras: tuple[str, ...], where: Mapping[str, str]) -> list[Requirement]:
    """All that heedful with these extras asks for, and what that asks for in turn, but for heedful itself."""
    seen: Bringing = {}
    everything("heedful", extras, seen, where)
    return [one for requirements in seen.values() for one in requirements if canonicalize_name(one.name) != "heedful"]


def test_all_that_is_installed_is_pinned_within_its_ranges(pins: dict[str, str]) -> None:
    asked = asked_by_heedful(EXTRAS, {})
    assert {"torch", "transformers", "pytest", "numpy", "mpmath"} <= {one.name.lower() for one in asked}, (
        "mpmath comes with sympy with torch"
    )
    assert sorted({one.name for one in asked if canonicalize_name(one.name) not in pins}) == []
    outside = [str(one) for one in asked if not one.specifier.contains(pins[canonicalize_name(one.name)], prereleases=True)]
    assert outside == []


def test_torch_is_the_one_that_was_asked_for(pins: dict[str, str]) -> None:
    assert pins["torch"] == "2.13.0"


@pytest.fixture(scope="module")
def lock(repository: Path) -> dict[str, tuple[str, list[str]]]:
    """Of each package of ``label.lock``: its version, and what stands behind ``--hash=``."""
    text = re.sub(r"^ *#.*\n", "", (repository / "label.lock").read_text(), flags=re.MULTILINE)
    rows = [line.split() for line in text.replace("\\\n", " ").splitlines()]
    found = {}
    for pin, *options in rows:
        name, version = pin.split("==")
        assert all(one.startswith("--hash=") for one in options), options
        found[canonicalize_name(name)] = (version, [one.removeprefix("--hash=") for one in options])
    assert len(found) == len(rows), "no package stands twice"
    return found


@pytest.fixture(scope="module", params=["x86_64", "aarch64"])
def image(request: pytest.FixtureRequest, repository: Path) -> dict[str, str]:
    """What a marker finds in the image, whatever these tests run on."""
    [version] = set(re.findall(r"^FROM python:(\d+\.\d+)-slim", (repository / "Dockerfile").read_text(), flags=re.MULTILINE))
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{version}.0",
        "os_name": "posix",
        "platform_machine": request.param,
        "platform_python_implementation": "CPython",
        "platform_system": "Linux",
        "python_full_version": f"{version}.0",
        "python_version": version,
        "sys_platform": "linux",
    }


def test_the_lock_holds_what_the_image_installs_and_nothing_else(
    image: dict[str, str], lock: dict[str, tuple[str, list[str]]], repository: Path
) -> None:
    asked = {canonicalize_name(one.name) for one in asked_by_heedful(("label", "postgres"), image)}
    assert {"fastapi", "starlette", "psycopg-binary", "pycparser"} <= asked, "pycparser comes with cffi with argon2-cffi-bindings"
    builds = tomllib.loads((repository / "pyproject.toml").read_text())["build-system"]["requires"]
    assert sorted(lock) == sorted(asked | {canonicalize_name(Requirement(text).name) for text in builds})


def test_the_lock_has_the_pinned_versions_and_their_hashes(pins: dict[str, str], lock: dict[str, tuple[str, list[str]]]) -> None:
    assert {name: version for name, (version, _) in lock.items()} == {name: pins[name] for name in lock}
    wrong = [name for name, (_, hashes) in lock.items() if not hashes or not all(re.fullmatch("sha256:[0-9a-f]{64}", h) for h in hashes)]
    assert wrong == []


def test_the_lock_names_files_by_their_hashes_alone(repository: Path) -> None:
    """An index or an address in it would decide where others install from."""
    text = (repository / "label.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*-", re.sub(r"^ +--hash=", "", text, flags=re.MULTILINE), re.MULTILINE)
