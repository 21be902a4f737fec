"""`heed label` with several workers over PostgreSQL, behind nginx with the configuration of docs/deploy.md, as people reach it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from apps import PASSWORD, csrf_in
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from issuer import SECRET, Issuer, key_pair, serve_issuer

from heedful.store import Store, invitations, throttle
from postgres import create_database
from stores import project

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
pytestmark = [
    pytest.mark.skipif(NGINX is None, reason="needs nginx, e.g. apt-get install nginx"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="calls from several addresses of this machine"),
]


@dataclass
class Deployed:
    """What runs: the address that people type, the port of the app itself, the store, nginx's folder, the first link."""

    url: str
    port: int
    store: Store
    folder: Path
    link: str
    issuer: Issuer

    def browser(self, address: str = "127.0.0.1", **headers: str) -> httpx2.Client:
        """A browser somewhere: connections come from an address of its own."""
        trusted = ssl.create_default_context(cafile=str(self.folder / "cert.pem"))
        transport = httpx2.HTTPTransport(verify=trusted, local_address=address)
        return httpx2.Client(base_url=self.url, transport=transport, headers={"origin": self.url, **headers}, timeout=30)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, postgres_server: str, repository: Path) -> Iterator[Deployed]:
    folder = tmp_path_factory.mktemp("deployed")
    front, back = free_port(), free_port()
    create_database(postgres_server, "deployed")
    where, url = postgres_server.format("deployed"), f"https://localhost:{front}"
    write_certificate(folder)
    with serve_issuer() as issuer:
        (folder / "oidc.toml").write_text(
            f'[there]\ntitle = "Example University"\nissuer = "{issuer.url}"\nclient_id = "heedful"\nclient_secret = "{SECRET}"\n'
        )
        with heed_label(where, url, back, folder) as link, nginx(repository, folder, front, back), Store.open(where) as store:
            yield Deployed(url, back, store, folder, link, issuer)


@contextmanager
def heed_label(where: str, url: str, port: int, folder: Path) -> Iterator[str]:
    """The app with two workers; gives the first link."""
    command = [sys.executable, "-u", "-m", "heedful.cli.main", "label", "--workers", "2", "--proxy", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HEEDFUL_STORE": where, "HEEDFUL_URL": url, "HEEDFUL_OIDC": str(folder / "oidc.toml")}
    with (folder / "label.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        wait_for(lambda: httpx2.get(f"http://127.0.0.1:{port}/health").text == "ok\n")
        [link] = re.findall(r"https://\S+/join/\S+", (folder / "label.log").read_text())
        yield link
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def nginx(repository: Path, folder: Path, front: int, back: int) -> Iterator[None]:
    """nginx with what docs/deploy.md shows; only its port, its names, its files and the app's port are this test's."""
    [block] = re.findall(r"```nginx\n(.*?)```", (repository / "docs/deploy.md").read_text(), re.DOTALL)
    ours = {
        "listen 443 ssl": f"listen 127.0.0.1:{front} ssl",
        "labels.example.org;": "localhost;",
        "/etc/ssl/labels.example.org.pem": str(folder / "cert.pem"),
        "/etc/ssl/labels.example.org.key": str(folder / "key.pem"),
        "/var/log/nginx/heedful.log": str(folder / "access.log"),
        "127.0.0.1:8000": f"127.0.0.1:{back}",
    }
    for theirs, mine in ours.items():
        assert block.count(theirs) == 1, theirs
        block = block.replace(theirs, mine)
    temporary = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log; {'user root;' if not os.getuid() else ''}\n"
        f"events {{ worker_connections 256; }}\nhttp {{ {temporary}\n{block}\n}}\n"
    )
    server = subprocess.Popen([str(NGINX), "-c", str(folder / "nginx.conf"), "-p", str(folder), "-e", str(folder / "error.log")])
    try:
        wait_for(lambda: bool(socket.create_connection(("127.0.0.1", front), 1).close() is None))
        yield
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(10)


def wait_for(there: Any) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            if there():
                return
        except (OSError, httpx2.HTTPError):
            pass
        assert time.monotonic() < until, "it did not start in time"
        time.sleep(0.05)


def write_certificate(folder: Path) -> None:
    """A certificate of its own for localhost."""
    key, now, name = key_pair(), datetime.now(UTC), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    made = made.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (folder / "cert.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))


def csrf(browser: httpx2.Client, path: str = "/login") -> dict[str, str]:
    return {"csrf": csrf_in(browser.get(path).text)}


def test_people_come_in_and_rank(deployed: Deployed) -> None:
    assert deployed.link.startswith(f"{deployed.url}/join/")
    path = deployed.link.removeprefix(deployed.url)
    with deployed.browser() as owner:
        answer = owner.post(path, data={**csrf(owner, path), "name": "olga", "password": PASSWORD, "again": PASSWORD})
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-heedful=")
        assert "; Secure" in cookie
        assert "max-age=" in answer.headers["strict-transport-security"]
        number = deployed.store.create_project(project())
        deployed.store.publish("helpful", "Read.")
        rows = [json.dumps({"prompt": f"question {n} " + "x" * 9000, "completions": ["a", "b", "c"]}) for n in range(300)]
        sent = {"data": csrf(owner), "files": {"file": ("prompts.jsonl", "\n".join(rows).encode())}}
        assert owner.post("/projects/1/prompts", **sent).status_code == 303, number  # nginx's own limit would be a megabyte
        page = owner.post("/projects/1/invitations", data={**csrf(owner), "role": "labeler", "days": "1"}).text
    [link] = re.findall(r"https://localhost:\d+/join/[\w-]+", page)
    path = link.removeprefix(deployed.url)
    with deployed.browser("127.0.0.2") as labeler:
        answer = labeler.post(f"{path}/oidc/there", data={**csrf(labeler, path), "name": "ann"})
        [leads] = re.findall(r'content="0;url=([^"]+)"', answer.text)
        back = httpx2.get(leads.replace("&amp;", "&")).headers["location"]
        assert back.startswith(f"{deployed.url}/oidc/there/callback?")  # another worker may well be the one that it comes back to
        assert labeler.get(back).headers["location"] == "/label/1"
        version = re.findall(r'name="version" value="(\w+)"', labeler.get("/label/1/instructions").text)[0]
        assert (
            labeler.post("/label/1/instructions", data={**csrf(labeler, "/account"), "version": version}).headers["location"] == "/label/1"
        )
        headers = {"x-csrf-token": csrf(labeler, "/account")["csrf"], "accept": "application/json"}
        task = labeler.post("/label/1/next", json={}, headers=headers).json()["task"]
        body = {"token": task["token"], "key": "k", "version": version, "answer": {"ranks": [1, 2, 3]}}
        assert labeler.post("/label/1/submit", json=body, headers=headers).json()["stored"] is True
    assert len(list(deployed.store.judgements("helpful"))) == 1


def test_a_visitor_is_known_by_the_address_that_the_proxy_saw(deployed: Deployed) -> None:
    with deployed.browser("127.0.0.3", **{"x-forwarded-for": "192.0.2.1", "forwarded": "for=192.0.2.1"}) as guesser:
        found = [guess(guesser, n) for n in range(7)]
    assert found == [401] * 5 + [429] * 2
    assert waits(deployed, "127.0.0.3")
    assert not waits(deployed, "192.0.2.1")
    assert not waits(deployed, "127.0.0.1")
    with deployed.browser("127.0.0.4") as another:
        assert guess(another, 8) == 401


def test_what_comes_past_the_proxy_is_not_believed(deployed: Deployed) -> None:
    """The proxy is 127.0.0.1; somebody else on the network of the app says to speak for a visitor, and over TLS."""
    forged = {
        "host": deployed.url.removeprefix("https://"),
        "origin": deployed.url,
        "x-forwarded-for": "127.0.0.9",
        "x-forwarded-proto": "https",
    }
    with httpx2.Client(
        base_url=f"http://127.0.0.1:{deployed.port}", transport=httpx2.HTTPTransport(local_address="127.0.0.5"), headers=forged
    ) as past:
        page = past.get("/login")
        cookie = page.headers["set-cookie"].partition(";")[0]
        for n in range(6):
            fields = {"csrf": csrf_in(page.text), "name": f"nobody {n}", "password": "wrong"}
            past.post("/login", data=fields, headers={"cookie": cookie})
    assert waits(deployed, "127.0.0.5")
    assert not waits(deployed, "127.0.0.9")


def guess(browser: httpx2.Client, number: int) -> int:
    return int(browser.post("/login", data={**csrf(browser), "name": f"nobody {number} {id(browser)}", "password": "wrong"}).status_code)


def waits(deployed: Deployed, address: str) -> bool:
    """Whether guesses were counted for an address."""
    return bool(deployed.store.read(lambda c: throttle.wait(c, f"address {address}", deployed.store.clock(), free=1)))


def test_origin_host_and_redirects_are_those_that_people_see(deployed: Deployed) -> None:
    with deployed.browser() as browser:
        fields = {**csrf(browser), "name": "x", "password": "y"}
        for origin in (
            deployed.url.replace("https", "http"),
            "https://localhost",
            f"http://127.0.0.1:{deployed.port}",
            "null",
            "https://evil.example",
        ):
            assert browser.post("/logout", data=fields, headers={"origin": origin}).status_code == 403, origin
        assert browser.get("/login", headers={"host": "evil.example"}).status_code == 403
        assert browser.get("/account").headers["location"] == "/login?next=/account"
        assert browser.get("/login/").headers["location"] == f"{deployed.url}/login"
        assert browser.post("/logout", data=fields).headers["location"] == "/login?said=signed-out"


def test_no_log_holds_an_invitation_or_an_answer_of_a_provider(deployed: Deployed) -> None:
    secret = deployed.store.write(lambda c: invitations.make(c, "owner", None, {}, None, deployed.store.clock()))
    with deployed.browser() as browser:
        browser.get(f"/join/{secret}")
        browser.get("/static/heedful.css", headers={"referer": f"{deployed.url}/join/{secret}"})  # as browsers do
        browser.get(f"/oidc/there/callback?state={secret}&code={secret}")
        browser.get("/static/task.css", headers={"referer": f"{deployed.url}/login"})
    wait_for(lambda: "task.css" in (deployed.folder / "access.log").read_text())
    for log in ("access.log", "error.log", "label.log"):
        assert secret not in (deployed.folder / log).read_text(), log
