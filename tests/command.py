"""The ``heed`` command in the tests' own process, the demo as small as can be, and what a run wrote."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from heedful.cli import main as cli

MINUTE = [
    "prompts.train=24",
    "prompts.validation=8",
    "prompts.test=8",
    "completions.prompts=16",
    "ppo.batch_size=16",
    "ppo.minibatch_size=8",
    "ppo.max_steps=4",
    "stopping.evaluate_every=2",
    "stopping.metric=score",
    "stopping.direction=above",
    "stopping.target=none",
]
"""The demo, smaller still: what counts here is that every kind of work is there."""


class Heed:
    """The command in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *words: object, code: int = 0) -> str:
        """What it printed on stdout, or on stderr where it is to fail."""
        self.monkeypatch.setattr(sys, "argv", ["heed", *map(str, words)])
        self.capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = self.capsys.readouterr()
        assert ended.value.code in (code, None if code == 0 else code), printed.err
        return printed.err if code else printed.out


def overrides(settings: Sequence[str]) -> list[str]:
    """``--set`` before each."""
    return [word for setting in settings for word in ("--set", setting)]


def read(path: Path) -> dict:
    """A file of JSON."""
    return json.loads(path.read_text())


def rows_of(path: Path) -> list[dict]:
    """A file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_self_contained(report: Path) -> None:
    """Nothing on the page has to be fetched."""
    page = report.read_text()
    assert "<svg" in page
    assert re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']*""", page) == []
    assert re.findall(r"""url\(\s*["']?(?!data:|#)[^)]*|@import|<script[^>]*src""", page) == []
