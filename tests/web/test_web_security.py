"""Cookies, tokens, origins, headers, sizes: what holds for every request, however it was made."""

from __future__ import annotations

import asyncio
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from apps import PASSWORD, Browser, person, serving
from starlette.testclient import TestClient

from heedful.errors import SettingProblem
from heedful.store import Store, accounts, api_tokens, invitations, sessions
from heedful.web.auth import refuse_weak
from heedful.web.security import LARGEST_BODY, csrf_of
from heedful.web.site import Site
from stores import Clock, items, project


@pytest.fixture
def store(store: Store) -> Store:
    """With a project in it."""
    store.create_project(project())
    store.publish("helpful", "Read.")
    store.add_prompts("helpful", items(3))
    return store


@pytest.fixture
def ann(app: Any, store: Store) -> Browser:
    return Browser(app).sign_in(store, person(store, "ann", "labeler"))


def sign_in(app: Any, name: str, password: str, browser: Browser | None = None) -> Any:
    return (browser or Browser(app)).fill("/login", name=name, password=password)


def test_there_is_no_default_account_secret_or_open_door(app: Any, store: Store) -> None:
    browser = Browser(app)
    for name, password in (("admin", "admin"), ("argilla", "12345678"), ("owner", ""), ("root", "1234")):
        assert sign_in(app, name, password).status_code in (401, 429)
    for path in ("/", "/projects/1", "/label/1", "/account", "/accounts"):
        assert browser.get(path).headers["location"].startswith("/login?next=")
    for path in ("/docs", "/redoc", "/openapi.json", "/signup", "/register", "/static/../app.py", "/static/%2e%2e/app.py"):
        assert browser.get(path).status_code == 404
    assert [who.name for who in store.read(accounts.everybody)] == []


def test_a_session_is_new_at_every_sign_in_and_gone_at_sign_out(app: Any, store: Store) -> None:
    person(store, "ann", "labeler")
    browser = Browser(app)
    browser.get("/login")
    planted = browser.cookies["heedful"]
    answered = sign_in(app, "ann", PASSWORD, browser)
    assert answered.status_code == 303
    assert browser.cookies["heedful"] != planted  # nobody can be signed in under a cookie that somebody else knows
    cookie = answered.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    kept = browser.cookies["heedful"]
    browser.fill("/logout")
    thief = Browser(app)
    thief.cookies.set("heedful", kept, domain="testserver.local")
    assert thief.get("/account").headers["location"] == "/login?next=/account"


def test_signing_in_once_more_ends_the_session_before(app: Any, store: Store) -> None:
    who = person(store, "ann", "labeler")
    browser = Browser(app)
    for _ in range(2):
        assert sign_in(app, "ann", PASSWORD, browser).status_code == 303
    assert len(store.read(lambda c: sessions.of_account(c, who.id))) == 1
    ben = person(store, "ben", "labeler")
    assert sign_in(app, "ben", PASSWORD, browser).status_code == 303
    assert [len(store.read(lambda c, n=n: sessions.of_account(c, n))) for n in (who.id, ben.id)] == [0, 1]  # type: ignore[misc]


@pytest.mark.parametrize("who", ["nobody", "labeler", "a browser that was signed out"])
def test_a_form_is_not_read_before_somebody_is_let_in(app: Any, store: Store, who: str) -> None:
    """64 MiB may come to this address, and only from whoever manages the project."""
    browser = Browser(app)
    if who != "nobody":
        browser.sign_in(store, person(store, "ann", "labeler"))
    if who == "a browser that was signed out":
        store.write(lambda c: sessions.end(c, browser.cookies["heedful"]))
    read = 0

    def body() -> Any:
        nonlocal read
        for _ in range(3):
            read += 1
            yield b"--x\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    found = asyncio.run(call(app, "/projects/1/prompts", dict(browser.headers) | kind, browser.cookies.get("heedful"), body()))
    assert found == (403 if who == "labeler" else 401)
    assert read == 0


async def call(app: Any, path: str, headers: dict[str, str], cookie: str | None, body: Any) -> int:
    """The status of what a server would answer, reading the body no earlier than the app asks for it."""
    sent: list[dict[str, Any]] = []
    fields = {**headers, "host": "testserver", **({"cookie": f"heedful={cookie}"} if cookie else {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "server": ("testserver", 80),
        "client": ("127.0.0.1", 1),
        "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
    }

    async def receive() -> dict[str, Any]:
        piece = next(body, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return int(sent[0]["status"])


def test_the_cookie_of_an_encrypted_site_goes_nowhere_else(store: Store, clock: Clock) -> None:
    with serving(store.database.where, clock, "https://labels.example.org") as app:
        answered = Browser(app, "https://labels.example.org").get("/login")
        cookie = answered.headers["set-cookie"]
        assert cookie.startswith("__Host-heedful=")
        assert "Secure" in cookie
        assert "Path=/" in cookie
        assert "Domain" not in cookie
        assert answered.headers["strict-transport-security"].startswith("max-age=")


def test_cookies_that_nobody_gave_out_are_nobody(app: Any, store: Store, ann: Browser, clock: Clock) -> None:
    true = ann.cookies["heedful"]
    for forged in ("", "x", true[:-1], true + "A", true.swapcase(), "../../etc/passwd", "%00", "é" * 20):
        browser = TestClient(app, base_url="http://testserver", headers={"cookie": f"heedful={forged}".encode()}, follow_redirects=False)
        assert browser.get("/account").headers["location"] == "/login?next=/account"
    assert ann.get("/account").status_code == 200
    clock.turn(hours=12, seconds=1)
    assert ann.get("/account").headers["location"] == "/login?next=/account"
    answer = ann.post("/label/1/next", json={}, headers={"x-csrf-token": csrf_of(true)})
    assert (answer.status_code, answer.json()["error"]) == (401, "signed_out")


@pytest.mark.parametrize("path", ["/logout", "/login", "/account/sessions/end", "/projects/1/findings", "/label/1/instructions"])
def test_a_form_of_another_site_does_nothing(app: Any, store: Store, path: str) -> None:
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    csrf = owner.csrf()
    cookie = {"cookie": f"heedful={owner.cookies['heedful']}"}

    def send(token: str, **headers: str) -> int:
        plain = TestClient(app, base_url="http://testserver", follow_redirects=False)
        return plain.post(path, data={"csrf": token}, headers={**cookie, **headers}).status_code

    ours = {"origin": "http://testserver"}
    for wrong in ("", "0" * 64, csrf_of("another cookie"), csrf[:-1]):
        assert send(wrong, **ours) == 403
    for origin in ("https://evil.example", "null", "http://testserver.evil.example", "https://testserver"):
        assert send(csrf, origin=origin) == 403
    assert send(csrf) == 403  # something that does not say where it comes from
    assert send(csrf, **ours, **{"sec-fetch-site": "cross-site"}) == 403
    assert send(csrf, **ours, **{"sec-fetch-site": "same-origin"}) != 403


def test_json_needs_the_token_in_a_header(app: Any, ann: Browser) -> None:
    assert ann.post("/label/1/next", json={"csrf": ann.csrf()}).json()["error"] == "csrf"
    assert ann.post("/label/1/next", data={}, headers={"x-csrf-token": "x"}).status_code == 403


def test_names_that_point_here_are_turned_away(app: Any) -> None:
    for host in ("evil.example", "testserver.evil.example", "testserver:81", ""):
        assert TestClient(app, base_url="http://testserver", headers={"host": host}).get("/login").status_code == 403
    assert TestClient(app, base_url="http://testserver", headers={"host": "127.0.0.1"}).get("/health").status_code == 200


def test_every_answer_carries_the_headers(app: Any, ann: Browser) -> None:
    answers = [ann.get(path) for path in ("/", "/nowhere", "/static/heedful.css", "/label/1/instructions", "/api/v1/me", "/health")]
    answers += [ann.post("/label/1/next", json={}), TestClient(app, base_url="http://other").get("/login")]
    nonces = set()
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        nonce = re.findall(r"'(nonce-[\w-]{20,})'", policy)[0]
        assert dict(part.strip().split(" ", 1) for part in policy.split(";")) == {
            "default-src": "'none'",
            "script-src": f"'self' '{nonce}'",
            **dict.fromkeys(("style-src", "img-src", "connect-src", "form-action"), "'self'"),
            **dict.fromkeys(("base-uri", "frame-ancestors"), "'none'"),
        }
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert {"camera=()", "microphone=()", "geolocation=()"} <= set(answer.headers["permissions-policy"].split(", "))
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert "server" not in answer.headers
        nonces.add(nonce)
    assert len(nonces) == len(answers)


def test_pages_hold_no_script_or_style_of_their_own(app: Any, store: Store) -> None:
    owner = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    pages = ["/", "/login", "/account", "/accounts", "/projects/new"]
    pages += [
        f"/projects/1{part}" for part in ("", "/people", "/settings", "/instructions", "/prompts", "/undecided", "/exports", "/notes")
    ]
    for path in pages:
        answered = owner.get(path)
        assert answered.status_code == 200, path
        nonce = re.findall(r"'nonce-([\w-]+)'", answered.headers["content-security-policy"])[0]
        assert re.findall(r"<script(?![^>]* src=)", answered.text) == []
        assert set(re.findall(r'nonce="([^"]*)"', answered.text)) == {nonce}
        assert re.findall(r"\sstyle=|<style|\son\w+=|javascript:", answered.text) == []


def test_guessing_passwords_is_slowed_down_and_tells_nothing(app: Any, store: Store, clock: Clock) -> None:
    person(store, "ann", "labeler")
    wrong = [sign_in(app, "ann", "not it") for _ in range(3)] + [sign_in(app, "nobody", "not it") for _ in range(2)]
    told = {re.sub(r"\w{64}|nonce=\"[^\"]*\"|value=\"(ann|nobody)\"", "", answered.text) for answered in wrong}
    assert {answered.status_code for answered in wrong} == {401}
    assert len(told) == 1  # whether there is such a name is not told
    assert sign_in(app, "ann", PASSWORD).status_code == 429  # the address has failed five times
    clock.turn(seconds=2)
    assert sign_in(app, "ann", PASSWORD).status_code == 303
    clock.turn(seconds=1)
    assert sign_in(app, "ann", PASSWORD).status_code == 303


@pytest.mark.parametrize(
    "path", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil", "\\\\evil"]
)
def test_signing_in_leads_nowhere_else(app: Any, store: Store, path: str) -> None:
    person(store, "ann", "labeler")
    assert Browser(app).fill("/login", name="ann", password=PASSWORD, next=path).headers["location"] == "/"


@pytest.mark.parametrize("password", ["short", "x" * 201, "aaaaaaaaaaaa", "123456789012", "passwordpassword", "annabelle-1999!"])
def test_passwords_that_are_soon_guessed_are_refused(password: str) -> None:
    with pytest.raises(SettingProblem):
        refuse_weak("annabelle", password)


def test_a_password_is_changed_with_the_old_one_and_ends_other_sessions(app: Any, store: Store) -> None:
    who = person(store, "ann", "labeler")
    here, there = (Browser(app).sign_in(store, who) for _ in range(2))
    new = "another sentence of hers"
    assert here.fill("/account/password", old=PASSWORD, password=new, again=new).status_code == 303
    assert here.get("/account").status_code == 200
    assert there.get("/account").headers["location"].startswith("/login")
    assert sign_in(app, "ann", PASSWORD).status_code == 401
    assert sign_in(app, "ann", new).status_code == 303


def test_tokens_are_shown_once_and_forged_ones_are_nobody(app: Any, store: Store, clock: Clock) -> None:
    browser = Browser(app).sign_in(store, person(store, "olga", "owner", None))
    page = browser.fill("/account/tokens", name="nightly", scope="read", days="1").text
    [token] = re.findall(r"heed_[\w-]{43}", page)
    assert token not in browser.get("/account").text
    call = lambda header: Browser(app).get("/api/v1/me", headers={"authorization": header}).status_code  # noqa: E731
    assert call(f"Bearer {token}") == 200
    for header in ("", "Bearer", "Bearer ", f"Basic {token}", f"Bearer {token[:-1]}", f"Bearer {token}x", f"Bearer {token.upper()}", token):
        assert call(header) == 401
    clock.turn(days=1)
    assert call(f"Bearer {token}") == 401


def test_scopes_hold(app: Any, store: Store) -> None:
    owner = person(store, "olga", "owner", None)
    token = store.write(lambda c: api_tokens.make(c, owner, "x", ["read"], 1, store.clock()))
    headers = {"authorization": f"Bearer {token}"}
    assert Browser(app).get("/api/v1/projects/1", headers=headers).status_code == 200
    for method, path in (("PATCH", ""), ("POST", "/next"), ("POST", "/findings"), ("GET", "/judgements")):
        answer = Browser(app).request(method, f"/api/v1/projects/1{path}", headers=headers, json={} if method != "GET" else None)
        assert (answer.status_code, answer.json()["error"]) == (403, "scope")


def test_what_is_too_large_or_no_json_is_told_so(app: Any, ann: Browser) -> None:
    headers = {"x-csrf-token": ann.csrf(), "content-type": "application/json"}
    assert ann.post("/label/1/submit", content=b"x" * (LARGEST_BODY + 1), headers=headers).status_code == 413
    for body in (b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"token": 1}', b'{"token": "\\ud800"}', b"[" * 50_000, b'{"a":' * 5000):
        answer = ann.post("/label/1/submit", content=body, headers=headers)
        assert answer.status_code in (400, 422), body[:20]
        assert set(answer.json()) == {"error", "message"}
    parts = "".join(f"&f{n}=x" for n in range(2000))
    many = ann.post("/login", content=f"csrf={ann.csrf()}{parts}", headers={"content-type": "application/x-www-form-urlencoded"})
    assert many.status_code == 400


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"ranks": [1, 2]},
        {"ranks": [1, 2, 4]},
        {"ranks": [1, 2, 3], "reasons": {"x": "y"}},
        {"ranks": [1, 2, 3], "reasons": {"0": "y"}},
        {"ranks": [1, 2, 3], "thumbs": [True, True, True]},
        {"ranks": [1, 2, 3], "corrections": {"7": "y"}},
        {"ranks": ["1", 2, 3]},
        {"ranks": [1, 2, True]},
        {"ranks": [1.5, 2, 3]},
        {"ranks": [1, 2, 3], "active_ms": -1},
        {"ranks": [1, 2, 3], "active_ms": 2**60},
        {"ranks": [1, 2, 3], "note": "x" * 10_001},
        {"ranks": [1, 2, 3], "more": 1},
    ],
)
def test_an_answer_that_does_not_fit_is_told_in_a_sentence_and_the_task_stays(store: Store, ann: Browser, answer: dict[str, Any]) -> None:
    version = store.publish("helpful", "Read.")
    store.acknowledge("helpful", "ann", version)
    task = ann.fetch("/label/1/next").json()["task"]
    sent = {"token": task["token"], "key": "k", "version": version, "answer": answer}
    refused = ann.fetch("/label/1/submit", sent)
    assert refused.status_code == 422
    assert refused.json()["message"].endswith(".")
    assert list(store.judgements("helpful")) == []
    again = ann.fetch("/label/1/submit", {**sent, "answer": {"ranks": [1, 2, 3]}})
    assert again.json()["stored"] is True


def test_an_answer_that_is_sent_again_is_stored_once_and_its_note_too(store: Store, ann: Browser) -> None:
    version = store.publish("helpful", "Read.")
    store.acknowledge("helpful", "ann", version)
    task = ann.fetch("/label/1/next").json()["task"]
    sent = {"token": task["token"], "key": "k", "version": version, "answer": {"ranks": [1, 2, None], "note": "names a person"}}
    assert [ann.fetch("/label/1/submit", sent).json() for _ in range(3)] == 3 * [
        {"stored": True, "revision": 1, "purpose": "overlap", "warnings": []}
    ]
    assert len(list(store.judgements("helpful"))) == 1
    assert store.status()[0].concerns == 1
    other = {**sent, "answer": {"ranks": [3, 2, 1]}}
    assert ann.fetch("/label/1/submit", other).status_code == 422  # the key is taken by another answer


def test_a_lease_that_ran_out_costs_nobody_their_work(app: Any, store: Store, ann: Browser, clock: Clock) -> None:
    version = store.publish("helpful", "Read.")
    others = [Browser(app).sign_in(store, person(store, name, "labeler")) for name in ("ben", "cid", "dan")]
    for name in ("ann", "ben", "cid", "dan"):
        store.acknowledge("helpful", name, version)
    task = ann.fetch("/label/1/next").json()["task"]
    clock.turn(minutes=31)
    for browser in others:  # take the places of all prompts
        while found := browser.fetch("/label/1/next").json()["task"]:
            browser.fetch(
                "/label/1/submit", {"token": found["token"], "key": found["token"], "version": version, "answer": {"ranks": [1, 2, 3]}}
            )
    assert ann.fetch("/label/1/heartbeat", {"token": task["token"]}).json() == {"lease_seconds": None}
    late = ann.fetch("/label/1/submit", {"token": task["token"], "key": "late", "version": version, "answer": {"ranks": [1, 2, 3]}})
    assert late.json()["purpose"] == "extra"
    assert store.status()[0].judgements == {"overlap": 9, "extra": 1}


def test_the_wheel_carries_every_template_and_static_file(repository: Path) -> None:
    source = repository / "src/heedful"
    patterns = tomllib.loads((repository / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["heedful"]
    packed = {path for pattern in patterns for path in source.glob(pattern) if path.is_file()}
    files = {path for folder in ("templates", "static") for path in (source / "web" / folder).rglob("*") if path.is_file()}
    assert len(files) > 25
    assert files <= packed


@pytest.mark.parametrize(
    "url", ["labels.example.org", "ftp://x", "https://", "https://x/path", "https://user@x", "http://[", "http://x:99999", "http://\u2100"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingProblem):
        Site(url)


def test_loopback_has_several_names_and_others_have_one() -> None:
    assert Site("http://127.0.0.1:8000").hosts == {"127.0.0.1:8000", "localhost:8000", "[::1]:8000"}
    assert Site("https://labels.example.org").hosts == {"labels.example.org"}


def test_invitations_and_cookies_stand_in_no_log(app: Any, store: Store, caplog: pytest.LogCaptureFixture) -> None:
    secret = store.write(lambda c: invitations.make(c, "labeler", 1, {}, None, store.clock()))
    with caplog.at_level("DEBUG"):
        browser = Browser(app)
        browser.fill(f"/join/{secret}", name="eve", password=PASSWORD, again=PASSWORD)
        cookie = browser.cookies["heedful"]
        store.read(lambda c: sessions.find(c, cookie, store.clock()))
    ours = [record.getMessage() for record in caplog.records if record.name.startswith(("heedful", "uvicorn"))]
    assert not [line for line in ours if secret in line or cookie in line or PASSWORD in line]
