"""What is said of somebody and is not true, what is sent again or stolen, and what nobody gets to know."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from apps import Browser
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from issuer import SECRET, Issuer, encoded, key_pair, public_jwk, rs256
from travel import address_in, back_from, forget, is_in, sign_in, told

from heedful.store import Store
from heedful.store.schema_access import metadata
from stores import Clock


def hs256(secret: bytes) -> Callable[[Issuer, dict[str, Any]], str]:
    """Signed with something that everybody knows, in the hope that it is taken for a secret that two share."""

    def sign(issuer: Issuer, claims: dict[str, Any]) -> str:
        said = f"{encoded({'alg': 'HS256', 'kid': issuer.kid})}.{encoded(claims)}"
        return f"{said}.{encoded(hmac.digest(secret or public_pem(issuer), said.encode(), 'sha256'))}"

    return sign


def public_pem(issuer: Issuer) -> bytes:
    return issuer.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def unsigned(alg: str) -> Callable[[Issuer, dict[str, Any]], str]:
    return lambda issuer, claims: f"{encoded({'alg': alg, 'kid': issuer.kid})}.{encoded(claims)}."


def another_key(**header: Any) -> Callable[[Issuer, dict[str, Any]], str]:
    """Signed by somebody else, who says with ``header`` by which key."""
    key = key_pair()
    given = {"jwk": public_jwk(key, "first")} if header.get("jwk") else {}
    return lambda issuer, claims: rs256({"alg": "RS256", "kid": issuer.kid, **header, **given}, claims, key)


def changed_after_signing(issuer: Issuer, claims: dict[str, Any]) -> str:
    head, _, signature = rs256({"alg": "RS256", "kid": issuer.kid}, claims, issuer.key).split(".")
    return f"{head}.{encoded({**claims, 'sub': 'somebody else'})}.{signature}"


NOW = int(Clock()().timestamp())
LIES: dict[str, tuple[dict[str, Any], Callable[[Issuer, dict[str, Any]], str] | None]] = {
    "wrong issuer": ({"iss": "https://evil.example"}, None),
    "no issuer": ({"iss": None}, None),
    "wrong audience": ({"aud": "another app"}, None),
    "no audience": ({"aud": None}, None),
    "for several, asked by none": ({"aud": ["heedful", "another app"]}, None),
    "for several, asked by another": ({"aud": ["heedful", "another app"], "azp": "another app"}, None),
    "expired": ({"iat": NOW - 400, "exp": NOW - 61}, None),
    "never expires": ({"exp": None}, None),
    "of tomorrow": ({"iat": NOW + 86400, "exp": NOW + 90000}, None),
    "not yet": ({"nbf": NOW + 600}, None),
    "wrong nonce": ({"nonce": "of another sign-in"}, None),
    "no nonce": ({"nonce": None}, None),
    "no subject": ({"sub": None}, None),
    "blank subject": ({"sub": ""}, None),
    "a number for a subject": ({"sub": 7}, None),
    "a long subject": ({"sub": "x" * 256}, None),
    "a subject with NUL": ({"sub": "248289761001\x00"}, None),
    "forged signature": ({}, another_key()),
    "its own key in its header": ({}, another_key(jwk=True)),
    "a key of its own kid": ({}, another_key(kid="second")),
    "changed after signing": ({}, changed_after_signing),
    "alg none": ({}, unsigned("none")),
    "alg None": ({}, unsigned("None")),
    "no signature": ({}, unsigned("RS256")),
    "HS256 with the public key": ({}, hs256(b"")),
    "HS256 with the client's secret": ({}, hs256(SECRET.encode())),
    "no token": ({}, lambda issuer, claims: ""),
    "no token at all": ({}, lambda issuer, claims: None),  # type: ignore[arg-type,return-value]
    "not three parts": ({}, lambda issuer, claims: "a.b"),
    "an array": ({}, lambda issuer, claims: rs256({"alg": "RS256", "kid": "first"}, [claims], issuer.key)),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_true_lets_nobody_in(app: Any, ann: Browser, issuer: Issuer, lie: str, caplog: pytest.LogCaptureFixture) -> None:
    issuer.claims, issuer.sign = LIES[lie]
    browser = Browser(app)
    answer = sign_in(browser)
    assert answer.status_code == 503
    assert told(answer) == (
        "What Example University says of you could not be verified. Begin again. If it stays, tell whoever runs this server."
    )
    assert not is_in(browser)
    assert "signing in by there: " in caplog.text  # whoever runs it finds the reason
    issuer.claims, issuer.sign = {}, None
    assert sign_in(browser).status_code == 303  # it was the lie
    assert is_in(browser)


@pytest.mark.parametrize(
    "claims", [{"aud": ["heedful"]}, {"aud": ["heedful", "x"], "azp": "heedful"}, {"exp": NOW - 30}, {"iat": NOW + 30}, {"more": [1]}]
)
def test_what_is_true_is_taken_in_whatever_form(app: Any, ann: Browser, issuer: Issuer, claims: dict[str, Any]) -> None:
    issuer.claims = claims
    assert sign_in(browser := Browser(app)).status_code == 303
    assert is_in(browser)


def test_an_answer_is_taken_once_soon_and_from_the_browser_that_asked(app: Any, ann: Browser, clock: Clock, issuer: Issuer) -> None:
    browser = Browser(app)
    back = back_from(browser.fill("/oidc/there"))
    thief = Browser(app)
    thief.get("/login")
    refused = "This sign-in was used already, took too long, or began in another browser. Begin again."
    assert told(thief.get(back)) == refused
    assert told(browser.get(back.replace("/oidc/there/", "/oidc/other/"))) == refused  # one provider does not answer for another
    assert browser.get(back).status_code == 303
    assert told(browser.get(back)) == refused
    state = parse_qs(urlsplit(back).query)["state"][0]
    for query in (
        f"state={state}&code=x",
        "code=x",
        "state=&code=",
        "",
        f"state={state[:-1]}&code=x",
        "state=%00&code=%ff",
        "state=é" * 2000,
    ):
        assert told(browser.get(f"/oidc/there/callback?{query}")) == refused
    fresh = Browser(app)
    late = back_from(fresh.fill("/oidc/there"))
    clock.turn(minutes=10, seconds=1)
    assert told(fresh.get(late)) == refused
    assert not is_in(thief)
    assert not is_in(fresh)


def test_a_code_of_somebody_elses_sign_in_does_not_fit(app: Any, ann: Browser, issuer: Issuer) -> None:
    """Whoever puts their own code into another's answer, or steals one, fails at PKCE, over there; without that, at the nonce."""
    victim, attacker = Browser(app), Browser(app)
    theirs, stolen = (parse_qs(urlsplit(back_from(one.fill("/oidc/there"))).query) for one in (victim, attacker))
    answer = victim.get("/oidc/there/callback", params={"state": theirs["state"][0], "code": stolen["code"][0]})
    assert "cannot be asked" in told(answer)
    assert not is_in(victim)
    assert not is_in(attacker)


def test_an_answer_that_names_another_provider_is_refused(app: Any, ann: Browser, issuer: Issuer) -> None:
    issuer.document = {"authorization_response_iss_parameter_supported": True}
    forget(app, issuer)
    browser = Browser(app)
    assert "could not be verified" in told(sign_in(browser))  # it says it names itself, and does not
    back = back_from(browser.fill("/oidc/there"))
    assert "could not be verified" in told(browser.get(f"{back}&iss=https://evil.example"))
    back = back_from(browser.fill("/oidc/there"))
    assert browser.get(f"{back}&iss={issuer.url}").status_code == 303


def test_the_secret_goes_to_the_provider_alone(
    app: Any, ann: Browser, store: Store, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    shown = base64.b64encode(b"heedful:a+secret%3A+with+%25+and+%2B+in+it").decode()
    with caplog.at_level("DEBUG"):
        issuer.sign = unsigned("none")
        pages = [sign_in(Browser(app)).text, ann.get("/account").text, ann.get("/login").text, ann.fill("/oidc/there").text]
    said = [caplog.text, repr(app.state.parties), repr(issuer.provider()), *pages]
    for path, form, headers in issuer.heard:
        if path != "/token":
            said += [repr(form), repr(headers)]
    assert not [one for one in said if SECRET in one or shown in one]
    assert [headers.get("Authorization", headers.get("authorization")) for path, _, headers in issuer.heard if path == "/token"] == 2 * [
        f"Basic {shown}"
    ]


def test_what_would_let_somebody_in_is_in_no_row_and_no_log(
    app: Any, ann: Browser, store: Store, issuer: Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    browser = Browser(app)
    with caplog.at_level("DEBUG"):
        page = browser.fill("/oidc/there", next="/label/1")
        rows = store.read(lambda c: repr([tuple(row) for table in metadata.sorted_tables for row in c.execute(sa.select(table))]))
        browser.get(back := back_from(page))
    [nonce], [state] = (parse_qs(urlsplit(address_in(page)).query)[name] for name in ("nonce", "state"))
    [code] = parse_qs(urlsplit(back).query)["code"]
    verifier = [form["code_verifier"] for path, form, _ in issuer.heard if path == "/token"][-1]
    assert hashlib.sha256(state.encode()).hexdigest() in rows
    logged = "".join(record.getMessage() for record in caplog.records if record.name.startswith(("heedful", "uvicorn")))
    assert not [secret for secret in (state, code, nonce, verifier) if secret in rows or secret in logged]
