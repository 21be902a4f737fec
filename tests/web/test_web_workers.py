"""`heed label` as people start it: the link that it prints, several workers, one of them killed."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from apps import PASSWORD, csrf_in

from heedful.cli.label import _check_proxy, _local
from heedful.errors import SettingProblem
from heedful.store import Store

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the workers by /proc")


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[str, str, int]]:
    """Address, first link and process of a server with two workers over a store that was not there before."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-u", "-m", "heedful.cli.main", "label", str(tmp_path / "new.db"), "--port", str(port), "--workers", "2"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert server.stdout
    printed = ""
    while "Labelling at" not in printed:
        line = server.stdout.readline()
        assert line, printed
        printed += line
    [link] = re.findall(r"http://\S+/join/\S+", printed)
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if len(workers(server.pid)) == 2 and httpx2.get(f"{url}/health").text == "ok\n":
                break
        except httpx2.HTTPError:
            pass
        time.sleep(0.1)
    yield url, link, server.pid
    server.terminate()
    server.wait(30)


def workers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def again(url: str, cookie: str) -> httpx2.Response:
    """A page over a connection of its own, so that any worker may answer; tried once more where one was just killed."""
    for _ in range(50):
        try:
            return httpx2.get(f"{url}/account", headers={"cookie": f"heedful={cookie}"}, timeout=10)
        except httpx2.HTTPError:
            time.sleep(0.1)
    raise AssertionError("nobody answers")


def test_from_the_printed_link_to_a_worker_that_is_killed(started: tuple[str, str, int], tmp_path: Path) -> None:
    url, link, parent = started
    with httpx2.Client(headers={"origin": url}) as browser:
        fields = {"csrf": csrf_in(browser.get(link).text), "name": "olga", "password": PASSWORD, "again": PASSWORD}
        assert browser.post(link, data=fields).status_code == 303
        cookie = browser.cookies["heedful"]
    assert {again(url, cookie).status_code for _ in range(20)} == {200}  # workers share no secret but the store
    os.kill(workers(parent)[0], signal.SIGKILL)
    assert {again(url, cookie).status_code for _ in range(20)} == {200}
    until = time.monotonic() + 30
    while len(workers(parent)) < 2 and time.monotonic() < until:
        time.sleep(0.2)
    assert len(workers(parent)) == 2  # another one took its place
    with Store.open(tmp_path / "new.db") as store:
        assert store.check().problem == ""


@pytest.mark.parametrize(
    "proxy", ["*", "proxy", "10.0.0.2, *", "10.0.0.2:80", "10.0.0.2/8", " ", "0.0.0.0/0", "::/0", "10.0.0.2, 0.0.0.0/0"]
)
def test_a_proxy_that_nobody_is_or_that_everybody_is_is_refused(proxy: str) -> None:
    with pytest.raises(SettingProblem, match="Give the address"):
        _check_proxy(proxy, encrypted=True)


def test_where_there_must_be_a_proxy_one_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for proxy in ("127.0.0.1", "10.0.0.2, 10.1.0.0/16", "::1"):
        _check_proxy(proxy, encrypted=True)
    _check_proxy(None, encrypted=False)
    assert capsys.readouterr().err == ""
    _check_proxy(None, encrypted=True)
    assert "Name it: --proxy" in capsys.readouterr().err


def test_others_are_let_in_only_under_an_address() -> None:
    assert _local("127.0.0.1", 8000) == "http://127.0.0.1:8000"
    assert _local("::1", 80) == "http://[::1]:80"
    with pytest.raises(SettingProblem, match="--url https"):
        _local("0.0.0.0", 8000)
