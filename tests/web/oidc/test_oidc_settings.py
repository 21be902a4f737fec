"""The file that names the providers: what it may say, and that no mistake in it shows its secret."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from heedful.errors import FileProblem, HeedfulError, SettingProblem
from heedful.web.oidc.providers import Provider, others_may_read, read

SECRET = "not to be seen"
RIGHT = f"""
[university]
title = "Example University"
issuer = "https://login.example.org"
client_id = "heedful"
client_secret = "{SECRET}"

[search]
issuer = "https://accounts.example.com"
client_id = "7"
client_secret = "{SECRET}"
hosts = ["keys.example.com"]
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "oidc.toml"
    path.write_text(text)
    return path


def test_what_the_page_on_deploying_says_can_be_read(tmp_path: Path, repository: Path) -> None:
    page = (repository / "docs/deploy.md").read_text()
    [example] = [block.partition("```")[0] for block in page.split("```toml\n")[1:]]
    found = read(written(tmp_path, example))
    assert "university" in found


def test_providers_by_name(tmp_path: Path) -> None:
    found = read(written(tmp_path, RIGHT))
    assert [(one.name, one.title, one.hosts) for one in found.values()] == [
        ("university", "Example University", ()),
        ("search", "search", ("keys.example.com",)),
    ]
    assert SECRET not in repr(found)
    assert read(written(tmp_path, "")) == {}


@pytest.mark.parametrize(
    ("text", "kind", "why"),
    [
        ("[university", FileProblem, "is not TOML"),
        ('issuer = "x"', SettingProblem, "stands outside of every provider"),
        (RIGHT.replace("client_id =", "client_di ="), SettingProblem, "Did you mean 'client_id'"),
        (
            RIGHT.replace("[university]", '["Univer sity"]'),
            SettingProblem,
            "a provider is called",
        ),
        (RIGHT.replace("https://login", "http://login"), SettingProblem, "https and all"),
        (RIGHT.replace("https://login.example.org", "https://login.example.org?a=b"), SettingProblem, "the issuer of 'university'"),
        (RIGHT.replace("https://login.example.org", "https://me@login.example.org#x"), SettingProblem, "the issuer of 'university'"),
        (RIGHT.replace('title = "Example University"', "title = 7"), SettingProblem, "no usable title"),
        (RIGHT.replace(f'client_secret = "{SECRET}"', "", 1), SettingProblem, "no usable client_secret"),
        (RIGHT.replace('["keys.example.com"]', '"keys.example.com"'), SettingProblem, "no list of names"),
        (RIGHT.replace('["keys.example.com"]', "[7]"), SettingProblem, "no list of names"),
    ],
)
def test_every_mistake_is_a_sentence_without_the_secret(tmp_path: Path, text: str, kind: type[HeedfulError], why: str) -> None:
    with pytest.raises(kind, match=why) as problem:
        read(written(tmp_path, text))
    assert SECRET not in str(problem.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="cannot be read: No such file"):
        read(tmp_path / "nothing.toml")


@pytest.mark.parametrize(
    ("issuer", "hosts", "url", "own"),
    [
        ("https://a.example", (), "https://a.example/x?y=z", True),
        ("https://a.example", (), "http://a.example/x", False),
        ("https://a.example", (), "https://b.example/x", False),
        ("https://a.example", ("b.example",), "https://b.example/x", True),
        ("https://a.example", ("b.example",), "http://b.example/x", False),
        ("https://a.example", (), "https://a.example.evil/x", False),
        ("https://a.example", (), "https://a.example@evil/x", False),
        ("https://a.example", (), "https://a.example:444/x", False),
        ("https://a.example", (), "https://a.example/x#y", False),
        ("https://a.example", (), "https://a.example/\nx", False),
        ("https://a.example", (), "ftp://a.example/x", False),
        ("https://a.example", ("localhost",), "http://localhost/x", False),
        ("http://127.0.0.1:7", (), "http://127.0.0.1:7/x", True),
        ("http://127.0.0.1:7", (), "http://127.0.0.1:8/x", False),
        ("http://127.0.0.1:7", ("evil.example",), "http://evil.example/x", False),
        ("http://localhost", (), "http://localhost/x", True),
    ],
)
def test_what_is_a_providers_own(issuer: str, hosts: tuple[str, ...], url: str, own: bool) -> None:
    assert Provider("x", "X", issuer, "id", "secret", hosts).takes(url) is own


@pytest.mark.parametrize(
    "issuer", ["http://127.0.0.1.evil.example", "http://localhost.evil", "http://evil/127.0.0.1", "http://evil:80", "http://[", "", "x"]
)
def test_only_this_machine_goes_without_encryption(issuer: str) -> None:
    with pytest.raises(SettingProblem, match="issuer"):
        Provider("x", "X", issuer, "id", "secret")


def test_a_file_that_others_may_read_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path, RIGHT)
    for mode, seen in ((0o600, False), (0o640, False), (0o644, True)):
        path.chmod(mode)
        assert others_may_read(path) is seen


def test_the_command_line_tells_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, RIGHT.replace("client_id", "client_di"))
    command = [sys.executable, "-m", "heedful.cli.main", "label", str(tmp_path / "new.db"), "--oidc", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "COLUMNS": "300"})
    assert done.returncode == 2
    assert "has the setting 'client_di'" in done.stderr
    assert SECRET not in done.stdout + done.stderr
