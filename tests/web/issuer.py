"""A small OpenID Connect provider on a real port, which signs by hand: nothing of it is what the app verifies with."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from heedful.web.oidc.providers import Provider

CLIENT, SECRET = "heedful", "a secret: with % and + in it"


def key_pair() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


ITS_KEY = key_pair()


def encoded(value: bytes | dict[str, Any]) -> str:
    """base64url without padding, of JSON where it is an object."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def rs256(header: dict[str, Any], claims: dict[str, Any], key: rsa.RSAPrivateKey) -> str:
    """A token signed with RSASSA-PKCS1-v1_5 and SHA-256."""
    said = f"{encoded(header)}.{encoded(claims)}"
    return f"{said}.{encoded(key.sign(said.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def public_jwk(key: rsa.RSAPrivateKey, kid: str) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    whole = {name: encoded(value.to_bytes((value.bit_length() + 7) // 8, "big")) for name, value in (("n", numbers.n), ("e", numbers.e))}
    return {"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", **whole}


@dataclass
class Issuer:
    """The provider, its one person, and ways to make it lie. What it was asked stands in ``heard``: path, form, headers."""

    url: str = ""
    subject: str = "248289761001"
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    key: rsa.RSAPrivateKey = ITS_KEY
    kid: str = "first"
    asks: bool = False  # whether a person presses a button before it lets them back
    methods: list[str] = field(default_factory=lambda: ["client_secret_basic"])
    document: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    sign: Callable[[Issuer, dict[str, Any]], str] | None = None
    answers: dict[str, tuple[int, bytes, dict[str, str]]] = field(default_factory=dict)
    hangs: threading.Event | None = None
    heard: list[tuple[str, dict[str, str], dict[str, str]]] = field(default_factory=list)
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def provider(self, **changes: Any) -> Provider:
        """As the app is told of it."""
        return Provider(
            **{"name": "there", "title": "Example University", "issuer": self.url, "client_id": CLIENT, "client_secret": SECRET, **changes}
        )

    def configuration(self) -> dict[str, Any]:
        found = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "token_endpoint_auth_methods_supported": self.methods,
        }
        return found | self.document

    def authorize(self, asked: dict[str, str], subject: str) -> str:
        """The address at which the browser comes back."""
        assert (asked["response_type"], asked["client_id"], asked["scope"]) == ("code", CLIENT, "openid")
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(16)
        self.codes[code] = {**asked, "subject": subject}
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, form: dict[str, str], headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """What a code is exchanged for: once, by who may, with the secret half of what was asked."""
        asked = self.codes.pop(form.get("code", ""), None)
        shown = base64.b64decode(headers.get("authorization", "").removeprefix("Basic ")).decode()
        basic = shown == urlencode({"x": CLIENT})[2:] + ":" + urlencode({"x": SECRET})[2:]
        posted = (form.get("client_id"), form.get("client_secret")) == (CLIENT, SECRET)
        if not (basic if "client_secret_basic" in self.methods else posted):
            return 401, {"error": "invalid_client"}
        verifier = encoded(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if asked is None or asked["redirect_uri"] != form["redirect_uri"] or asked["code_challenge"] != verifier:
            return 400, {"error": "invalid_grant"}
        now = int(self.clock().timestamp())
        claims = {"iss": self.url, "aud": CLIENT, "sub": asked["subject"], "nonce": asked["nonce"], "iat": now, "exp": now + 300}
        claims = {name: value for name, value in (claims | self.claims).items() if value is not None}
        token = self.sign(self, claims) if self.sign else rs256({"alg": "RS256", "kid": self.kid}, claims, self.key)
        return 200, {"access_token": "opaque", "token_type": "Bearer", "id_token": token}


class _Handler(BaseHTTPRequestHandler):
    issuer: Issuer

    def do_GET(self) -> None:
        path, asked = urlsplit(self.path).path, {name: one for name, [one] in parse_qs(urlsplit(self.path).query).items()}
        if self._before(path, asked):
            return
        if path == "/.well-known/openid-configuration":
            self._send(200, self.issuer.configuration())
        elif path == "/keys":
            self._send(200, {"keys": [{"kty": "of tomorrow"}, {"kty": "RSA"}, public_jwk(self.issuer.key, self.issuer.kid)]})
        elif path == "/authorize" and self.issuer.asks and "as" not in asked:
            fields = "".join(f'<input type="hidden" name="{name}" value="{html.escape(value)}">' for name, value in asked.items())
            self._page(f"<title>University</title><form>{fields}<input name='as' aria-label='Who'><button>It is me</button></form>")
        elif path == "/authorize":
            self._send(302, {}, {"location": self.issuer.authorize(asked, asked.pop("as", self.issuer.subject))})
        else:
            self._send(404, {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        form = {name: one for name, [one] in parse_qs(body).items()}
        if not self._before(self.path, form):
            self._send(*self.issuer.token(form, {name.lower(): value for name, value in self.headers.items()}))

    def _before(self, path: str, form: dict[str, str]) -> bool:
        self.issuer.heard.append((path, form, dict(self.headers.items())))
        if self.issuer.hangs:
            self.issuer.hangs.wait(20)
        if path in self.issuer.answers:
            status, body, headers = self.issuer.answers[path]
            self._write(status, body, headers)
            return True
        return False

    def _send(self, status: int, found: dict[str, Any], headers: dict[str, str] | None = None) -> None:
        self._write(status, json.dumps(found).encode(), {"content-type": "application/json", **(headers or {})})

    def _page(self, text: str) -> None:
        self._write(200, f"<!doctype html><html lang=en>{text}".encode(), {"content-type": "text/html"})

    def _write(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        with suppress(ConnectionError):  # whoever had enough of a long answer, or of waiting
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serve_issuer(clock: Callable[[], datetime] | None = None, host: str = "127.0.0.1") -> Iterator[Issuer]:
    """The provider, listening; ``host``: how browsers call this machine when they go there."""
    issuer = Issuer(**({"clock": clock} if clock else {}))
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"issuer": issuer}))
    server.daemon_threads = True
    issuer.url = f"http://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
