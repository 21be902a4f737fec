"""A provider that is down, slow, mistaken or has new keys; and those who try too often."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from apps import PASSWORD, Browser, person, serving
from issuer import SECRET, Issuer, key_pair, serve_issuer
from travel import forget, invited, is_in, sign_in, told

from heedful.store import Store
from heedful.web.oidc import fetching
from stores import Clock

DOWN: dict[str, tuple[str, tuple[int, bytes, dict[str, str]]]] = {
    "an error": ("/.well-known/openid-configuration", (500, b"<html>", {})),
    "not JSON": ("/.well-known/openid-configuration", (200, b"<html>", {})),
    "no object": ("/.well-known/openid-configuration", (200, b"[]", {})),
    "deep": ("/.well-known/openid-configuration", (200, b"[" * 100_000, {})),
    "too long": ("/.well-known/openid-configuration", (200, b'{"x": "' + b"x" * 300_000 + b'"}', {})),
    "sends elsewhere": ("/.well-known/openid-configuration", (302, b"", {"location": "/keys"})),
    "cut off": ("/.well-known/openid-configuration", (200, b"{}", {"transfer-encoding": "chunked"})),
    "refuses the code": ("/token", (400, b'{"error": "invalid_grant"}', {})),
    "sends the secret elsewhere": ("/token", (307, b"", {"location": "/keys"})),
    "no keys": ("/keys", (503, b"", {})),
}


@pytest.mark.parametrize("how", DOWN)
def test_a_provider_in_trouble_is_told_in_a_sentence(app: Any, ann: Browser, issuer: Issuer, how: str) -> None:
    forget(app, issuer)
    path, answer = DOWN[how]
    issuer.answers = {path: answer}
    browser = Browser(app)
    page = browser.fill("/oidc/there") if path.startswith("/.well") else sign_in(browser)
    assert page.status_code == 503
    assert told(page) == "Example University cannot be asked who you are just now. Try again in a while, or sign in with a password."
    assert not is_in(browser)
    issuer.answers = {}
    assert sign_in(browser).status_code == 303  # and it is asked again


def test_a_provider_that_is_not_there(store: Store, clock: Clock) -> None:
    with serve_issuer(clock) as gone:
        provider = gone.provider()
    link = f"/join/{invited(store)}"
    with serving(store.database.where, clock, providers=[provider]) as app:
        browser = Browser(app).sign_in(store, person(store, "ben", "labeler"))
        assert "cannot be asked" in told(browser.fill("/oidc/there"))
        assert "cannot be asked" in told(browser.fill("/account/identities/there", password=PASSWORD))
        assert "cannot be asked" in told(browser.post(f"{link}/oidc/there", data={"csrf": browser.csrf(link), "name": "eve"}))


@pytest.mark.parametrize("name", ["token_endpoint", "jwks_uri", "authorization_endpoint"])
@pytest.mark.parametrize(
    "url", ["http://192.0.2.7/x", "https://192.0.2.7/x", "file:///etc/passwd", "http://127.0.0.1:9/x", None, 7, "//x", "http://["]
)
def test_a_document_that_leads_elsewhere_is_refused(app: Any, issuer: Issuer, name: str, url: Any) -> None:
    issuer.document = {name: url}
    assert "could not be verified" in told(Browser(app).fill("/oidc/there"))


def test_a_document_of_another_issuer_is_refused(app: Any, issuer: Issuer) -> None:
    issuer.document = {"issuer": f"{issuer.url}/"}
    assert "could not be verified" in told(Browser(app).fill("/oidc/there"))


def test_a_provider_that_hangs_holds_up_only_some(app: Any, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PATIENCE", 1.0)
    issuer.hangs = threading.Event()
    browsers = [Browser(app) for _ in range(fetching.AT_ONCE + 3)]
    tokens = [browser.csrf() for browser in browsers]
    pages: list[Any] = []
    threads = [
        threading.Thread(target=lambda b=b, t=t: pages.append(b.post("/oidc/there", data={"csrf": t})))
        for b, t in zip(browsers, tokens, strict=True)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    issuer.hangs.set()
    assert time.monotonic() - began < 4
    assert {page.status_code for page in pages} == {503}
    assert len(issuer.heard) == fetching.AT_ONCE  # the others did not wait in line


def test_keys_change_and_are_read_again_but_not_at_everybodys_word(app: Any, ann: Browser, issuer: Issuer) -> None:
    party, minutes = app.state.parties["there"], [0.0]
    party.ticks = lambda: time.monotonic() + 60 * minutes[0]

    def read() -> int:
        return [path for path, _, _ in issuer.heard].count("/keys")

    assert read() == 1
    issuer.key, issuer.kid = key_pair(), "second"
    assert "could not be verified" in told(sign_in(Browser(app)))
    assert read() == 1  # within a minute they are not read again
    minutes[0] = 1.1
    assert sign_in(Browser(app)).status_code == 303
    assert read() == 2


def test_a_provider_that_wants_the_secret_in_the_form_gets_it_there(app: Any, ann: Browser, issuer: Issuer) -> None:
    forget(app, issuer)
    issuer.methods = ["client_secret_post"]
    assert sign_in(Browser(app)).status_code == 303
    [form] = [form for path, form, _ in issuer.heard[-3:] if path == "/token"]
    assert form["client_secret"] == SECRET


def test_guessing_at_answers_is_slowed_down(app: Any, ann: Browser, clock: Clock) -> None:
    browser = Browser(app)
    found = [browser.get(f"/oidc/there/callback?state={n}&code=x").status_code for n in range(22)]
    assert found == [403] * 20 + [429] * 2
    clock.turn(seconds=2)
    assert sign_in(browser).status_code == 303


def test_leaving_is_counted(app: Any, issuer: Issuer, clock: Clock) -> None:
    browser = Browser(app)
    csrf = browser.csrf()
    found = [browser.post("/oidc/there", data={"csrf": csrf}).status_code for _ in range(121)]
    assert found == [200] * 120 + [429]
    clock.turn(seconds=60)
    assert browser.post("/oidc/there", data={"csrf": csrf}).status_code == 200
