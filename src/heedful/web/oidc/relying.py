"""One provider at work: the address to leave for, and whom it says that has come back.

Nothing of a departure is kept but hashes (``heedful.store.departures``): the nonce, and the secret
half of PKCE, follow from the state and from the browser's cookie, which together nobody else has.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from joserfc.jwk import KeySet

from heedful.errors import HeedfulError
from heedful.web.oidc import tokens
from heedful.web.oidc.fetching import Unreachable, fetch
from heedful.web.oidc.providers import Provider

_log = logging.getLogger("heedful.web")
LASTS = 3600.0
"""Seconds for which a provider's addresses and keys are remembered."""
REREAD = 60.0
"""Seconds before its keys are read again because something is signed by another: whoever makes tokens up may not keep us reading."""


class ProviderProblem(HeedfulError):
    """A provider cannot be asked, or what it says cannot be taken for true. The reason stands in the log: it is not for the visitor."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a provider is asked what, and how: the secret as ``basic`` or in the form; whether its answers name it."""

    authorization: str
    token: str
    keys: str
    basic: bool
    names_itself: bool


class RelyingParty:
    """This app, as one provider knows it."""

    def __init__(self, provider: Provider, url: str, ticks: Callable[[], float] = time.monotonic) -> None:
        self.provider, self.ticks = provider, ticks
        self.callback = f"{url}/oidc/{provider.name}/callback"
        self._addresses: tuple[Addresses, float] | None = None
        self._keys: tuple[KeySet, float] | None = None

    def leave_for(self, state: str, cookie: str) -> str:
        """The address at which somebody signs in over there. Raises ProviderProblem."""
        try:
            address = self._found().authorization
        except (Unreachable, tokens.NotTrue) as reason:
            raise self._problem(reason) from None
        asked = {
            "response_type": "code",
            "client_id": self.provider.client_id,
            "redirect_uri": self.callback,
            "scope": "openid",  # no name, no e-mail: what is not asked for cannot leak
            "state": state,
            "nonce": _derived("nonce", state, cookie),
            "code_challenge": _challenge(_derived("verifier", state, cookie)),
            "code_challenge_method": "S256",
        }
        return f"{address}{'&' if urlsplit(address).query else '?'}{urlencode(asked)}"

    def subject(self, code: str, issuer: str | None, state: str, cookie: str, now: datetime) -> str:
        """Who came back with a code, as the provider calls them. ``issuer``: who the answer says it is from. Raises ProviderProblem."""
        try:
            found = self._found()
            if issuer != self.provider.issuer and (issuer is not None or found.names_itself):
                raise tokens.NotTrue("the answer is another provider's")
            token = self._exchange(found, code, _derived("verifier", state, cookie)).get("id_token")
            return self._subject(token, _derived("nonce", state, cookie), now)
        except (Unreachable, tokens.NotTrue) as reason:
            raise self._problem(reason) from None

    def _subject(self, token: object, nonce: str, now: datetime) -> str:
        try:
            return tokens.subject_of(token, self._keys_of_now(), self.provider, nonce, now)
        except tokens.UnknownKey:  # keys change, and a new one is used at once
            return tokens.subject_of(token, self._keys_of_now(REREAD), self.provider, nonce, now)

    def _exchange(self, found: Addresses, code: str, verifier: str) -> dict[str, Any]:
        form = {"grant_type": "authorization_code", "code": code, "redirect_uri": self.callback, "code_verifier": verifier}
        user, secret = self.provider.client_id, self.provider.client_secret
        if not found.basic:
            return fetch(found.token, form | {"client_id": user, "client_secret": secret})
        shown = base64.b64encode(f"{quote_plus(user)}:{quote_plus(secret)}".encode()).decode()
        return fetch(found.token, form, {"authorization": f"Basic {shown}"})

    def _found(self) -> Addresses:
        if self._addresses is None or self.ticks() - self._addresses[1] > LASTS:
            self._addresses = _discover(self.provider), self.ticks()
        return self._addresses[0]

    def _keys_of_now(self, lasts: float = LASTS) -> KeySet:
        if self._keys is None or self.ticks() - self._keys[1] > lasts:
            self._keys = tokens.keys_of(fetch(self._found().keys).get("keys")), self.ticks()
        return self._keys[0]

    def _problem(self, reason: Exception) -> ProviderProblem:
        title = self.provider.title
        _log.warning("signing in by %s: %r", self.provider.name, str(reason))
        if isinstance(reason, Unreachable):
            return ProviderProblem(f"{title} cannot be asked who you are just now", "Try again in a while, or sign in with a password.")
        return ProviderProblem(
            f"what {title} says of you could not be verified", "Begin again. If it stays, tell whoever runs this server."
        )


def _discover(provider: Provider) -> Addresses:
    """What the provider's own document says; an address that is not its own is refused, as the secret would go there."""
    told = fetch(f"{provider.issuer.rstrip('/')}/.well-known/openid-configuration")
    if told.get("issuer") != provider.issuer:
        raise tokens.NotTrue(f"its document is of the issuer {str(told.get('issuer'))[:200]!r}, not of {provider.issuer!r}")
    found = [told.get(name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")]
    if strange := [address for address in found if not provider.takes(address)]:
        raise tokens.NotTrue(f"its document names {str(strange[0])[:200]!r}; if that is right, name its host in hosts = [...]")
    methods = told.get("token_endpoint_auth_methods_supported")
    basic = not isinstance(methods, list) or "client_secret_basic" in methods
    names_itself = told.get("authorization_response_iss_parameter_supported") is True
    return Addresses(str(found[0]), str(found[1]), str(found[2]), basic, names_itself)


def _derived(use: str, state: str, cookie: str) -> str:
    """A secret for one use, of 256 bits."""
    return _base64(hmac.digest(cookie.encode("utf-8", "surrogatepass"), f"{use} {state}".encode("utf-8", "surrogatepass"), "sha256"))


def _challenge(verifier: str) -> str:
    return _base64(hashlib.sha256(verifier.encode()).digest())


def _base64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
