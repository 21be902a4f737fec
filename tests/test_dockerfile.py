"""What the image is made of and how it is started, against what the repository and the command line hold. No daemon is needed."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer.main

from heedful.cli.main import app

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
GUIDE = (ROOT / "docs/deploy.md").read_text()
REFUSED: type[Exception] = typer.BadParameter.__mro__[1]  # click's UsageError, or that of the copy of click that typer carries
LABEL = typer.main.get_command(app).commands["label"]  # type: ignore[attr-defined]


def stages(dockerfile: str) -> list[list[tuple[str, str]]]:
    """Each stage as pairs of an instruction and what follows it, lines that go on joined."""
    lines = re.sub(r"\\\n\s*", " ", re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE)).splitlines()
    pairs = [(words[0], words[1]) for line in lines if line.strip() and (words := line.split(None, 1))]
    starts = [number for number, (name, _) in enumerate(pairs) if name == "FROM"]
    return [pairs[a:b] for a, b in zip(starts, [*starts[1:], len(pairs)], strict=True)]


def all_of(stage: list[tuple[str, str]], name: str) -> list[str]:
    return [told for found, told in stage if found == name]


def environment(stage: list[tuple[str, str]]) -> dict[str, str]:
    return dict(word.split("=", 1) for told in all_of(stage, "ENV") for word in shlex.split(told))


def started(arguments: list[str]) -> dict[str, Any]:
    """What the real command would take from these arguments; raises REFUSED where it would refuse them."""
    assert arguments[:2] == ["heed", "label"], arguments
    found: dict[str, Any] = LABEL.make_context("label", arguments[2:]).params
    return found


def environment_taken() -> set[str]:
    """The variables that the command reads."""
    names = [parameter.envvar for parameter in LABEL.params if parameter.envvar]
    return {name for one in names for name in ([one] if isinstance(one, str) else one)}


def faults_in(dockerfile: str) -> Iterator[str]:
    """Everything in a Dockerfile that the repository does not bear out."""
    build, final = stages(dockerfile)
    yield from faults_of_building(build)
    yield from faults_of_running(final)


def faults_of_building(build: list[tuple[str, str]]) -> Iterator[str]:
    shut_out = (ROOT / ".dockerignore").read_text().split()
    kept = [pattern[1:] for pattern in shut_out if pattern.startswith("!")]
    copied = [source for told in all_of(build, "COPY") for source in told.split()[:-1]]
    for source in copied:
        if not (ROOT / source).exists():
            yield f"COPY: there is no {source}"
        if not any(fnmatch(source, pattern) for pattern in kept):
            yield f"COPY: .dockerignore shuts {source} out"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if project["readme"] not in copied:
        yield "COPY: the package cannot be built without its readme"
    yield from faults_of_installing(all_of(build, "RUN"), copied)


def faults_of_installing(runs: list[str], copied: list[str]) -> Iterator[str]:
    """What comes from elsewhere comes by its hash; heedful itself fetches nothing."""
    installs = [shlex.split(told) for run in runs for told in re.findall(r"pip install ([^&]*)", run)]
    if len(installs) != 2:
        yield f"RUN: {len(installs)} times something is installed"
        return
    fetched, own = installs
    if after(fetched, "--requirement") != ["label.lock"] or "label.lock" not in copied:
        yield "RUN: the lock is not there"
    if "--require-hashes" not in fetched:
        yield "RUN: files are installed whatever their hash"
    if after(fetched, "--only-binary") != [":all:"]:
        yield "RUN: what is built fetches what to build it with"
    if own[-1] != "." or not {"--no-index", "--no-deps", "--no-build-isolation"} <= set(own):
        yield f"RUN: heedful is installed by {own}"


def faults_of_running(final: list[tuple[str, str]]) -> Iterator[str]:
    volumes, users, told = all_of(final, "VOLUME"), all_of(final, "USER"), environment(final)
    accounts = {name: int(number) for number, name in re.findall(r"useradd .*?--uid (\d+) .*? ([a-z]+) &&", " ".join(all_of(final, "RUN")))}
    if len(users) != 1 or accounts.get(users[0], 0) < 1000:
        yield f"USER: {users} is root, or made nowhere"
    names = [name for name, _ in final]
    if "RUN" in names[names.index("USER") :]:
        yield "USER: it makes what only root should make"
    if len(volumes) != 1 or f"install -d -o {users[0]} " not in all_of(final, "RUN")[0] or f" {volumes[0]}" not in all_of(final, "RUN")[0]:
        yield f"VOLUME: {volumes} is not one folder that the account may write to"
    if not set(filter(lambda name: name.startswith("HEEDFUL"), told)) <= environment_taken():
        yield f"ENV: {sorted(told)} holds what the command does not read"
    if not Path(told["HEEDFUL_STORE"]).is_relative_to(volumes[0]):
        yield f"ENV: the store {told['HEEDFUL_STORE']} is gone with the container"
    try:
        asked = started(json.loads(*all_of(final, "CMD")))
    except REFUSED as problem:
        yield f"CMD: {problem}"
        return
    if asked["host"] != "0.0.0.0":
        yield f"CMD: nobody outside reaches {asked['host']}"
    if all_of(final, "EXPOSE") != [str(asked["port"])]:
        yield f"EXPOSE: the command listens on {asked['port']}"
    if f"'http://127.0.0.1:{asked['port']}/health'" not in "".join(all_of(final, "HEALTHCHECK")):
        yield f"HEALTHCHECK: asks elsewhere than on {asked['port']}"


def test_the_dockerfile_says_what_is_so() -> None:
    assert list(faults_in(DOCKERFILE)) == []


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("COPY src src", "COPY source src", "COPY: there is no source"),
        ("COPY src src", "COPY src docs src", "COPY: .dockerignore shuts docs out"),
        ("README.md ", "", "COPY: the package cannot be built without its readme"),
        ("label.lock README", "README", "RUN: the lock is not there"),
        ("--requirement label.lock", "--requirement other.lock", "RUN: the lock is not there"),
        ("--require-hashes ", "", "RUN: files are installed whatever their hash"),
        ("--only-binary :all: ", "", "RUN: what is built fetches"),
        ("--no-index ", "", "RUN: heedful is installed by"),
        ("--no-deps ", "", "RUN: heedful is installed by"),
        ("--no-build-isolation ", "", "RUN: heedful is installed by"),
        ("--no-build-isolation .", "--no-build-isolation heedful", "RUN: heedful is installed by"),
        ("\nFROM", "RUN pip install more\n\nFROM", "RUN: 3 times something is installed"),
        ("USER heedful", "USER root", "USER: ['root'] is root"),
        ("USER heedful\n", "USER heedful\nRUN true\n", "USER: it makes what"),
        ("VOLUME /data", "VOLUME /data\nVOLUME /more", "VOLUME: ['/data', '/more'] is not one folder"),
        ("VOLUME /data", "VOLUME /store", "VOLUME: ['/store'] is not one folder"),
        ("/data/heedful.db", "/app/heedful.db", "ENV: the store /app/heedful.db is gone"),
        ("HEEDFUL_STORE=/data/heedful.db", "HEEDFUL_STORE=/data/heedful.db HEEDFUL_PORT=1", "ENV: "),
        ('"label", "--host"', '"label", "--hosts"', "CMD: No such option"),
        ('"0.0.0.0"]', '"0.0.0.0", "--port", "0"]', "CMD: "),
        ('"0.0.0.0"]', '"127.0.0.1"]', "CMD: nobody outside reaches 127.0.0.1"),
        ('"0.0.0.0"]', '"0.0.0.0", "--port", "80"]', "EXPOSE: the command listens on 80"),
        ("EXPOSE 8000", "EXPOSE 8080", "EXPOSE: the command listens on 8000"),
        ("127.0.0.1:8000/health", "127.0.0.1:8000/", "HEALTHCHECK: asks elsewhere"),
    ],
)
def test_what_is_not_so_is_found(old: str, new: str, fault: str) -> None:
    assert old in DOCKERFILE
    found = list(faults_in(DOCKERFILE.replace(old, new)))
    assert [one[: len(fault)] for one in found].count(fault) == 1, found


def runs_in(text: str) -> list[list[str]]:
    """The words of every ``docker run`` in a text."""
    return [
        shlex.split(words, comments=True) for words in re.findall(r"^[# ]*docker run (.*)$", re.sub(r"\\\n\s*", " ", text), re.MULTILINE)
    ]


def after(words: list[str], option: str) -> list[str]:
    return [words[number + 1] for number, word in enumerate(words) if word == option]


@pytest.mark.parametrize("text", [DOCKERFILE, GUIDE], ids=["Dockerfile", "docs/deploy.md"])
def test_how_a_container_is_started_fits_the_image(text: str) -> None:
    _, final = stages(DOCKERFILE)
    [words] = runs_in(text)
    assert words[-1] == "heedful"
    assert f"docker build -t {words[-1]} ." in text
    [published], [mounted] = after(words, "-p"), after(words, "-v")
    assert published.rpartition(":")[2] == all_of(final, "EXPOSE")[0]
    assert published.startswith("127.0.0.1:"), "what is not encrypted is for this machine's proxy alone"
    assert mounted.partition(":")[2] == all_of(final, "VOLUME")[0]
    assert {told.partition("=")[0] for told in after(words, "-e")} <= environment_taken()
    if "--read-only" in words:
        writable = [*after(words, "--tmpfs"), mounted.partition(":")[2]]
        assert environment(final)["MPLCONFIGDIR"] in writable


def test_the_image_is_of_a_python_that_the_package_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    versions = {told.split()[0] for stage in stages(DOCKERFILE) for told in all_of(stage, "FROM")}
    [version] = [re.fullmatch(r"python:(\d+\.\d+)-slim", told)[1] for told in versions]  # type: ignore[index]
    assert re.findall(r"--python-version (\S+)", (ROOT / "Makefile").read_text()) == [version], "make lock is for another Python"
    least = project["requires-python"].removeprefix(">=")
    assert tuple(map(int, version.split("."))) >= tuple(map(int, least.split(".")))
