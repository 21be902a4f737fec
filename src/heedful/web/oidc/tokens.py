"""Whether what a provider says of somebody is true: signature, issuer, audience, time, and that it was said to this very browser."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet, import_key
from joserfc.jws import JWSRegistry

from heedful.web.oidc.providers import Provider

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""Signatures by a key that only the provider has. Never ``none``, and no HMAC, whose key would be something that both know."""
KINDS = ("RSA", "EC")
"""Kinds of keys that make such signatures; others in a provider's set are left out."""
LEEWAY = 60
"""Seconds by which clocks may differ."""
LONGEST_SUBJECT = 255


class NotTrue(Exception):
    """What was said cannot be taken for true; why, for the log."""


class UnknownKey(NotTrue):
    """It is signed by a key that was not there when the keys were read."""


def keys_of(rows: object) -> KeySet:
    """The keys of a provider's set that can verify its signatures; those that cannot be read are left out, as others may do."""
    found = []
    for row in rows if isinstance(rows, list) else []:
        if not isinstance(row, dict) or row.get("kty") not in KINDS or row.get("use", "sig") != "sig":
            continue
        try:
            found.append(import_key(row))
        except (JoseError, ValueError, TypeError, KeyError):
            continue
    return KeySet(found)


def subject_of(token: object, keys: KeySet, provider: Provider, nonce: str, now: datetime) -> str:
    """Who it is, as the provider calls them. Raises NotTrue."""
    if not isinstance(token, str):
        raise NotTrue("there is no identity token")
    try:
        claims = jwt.decode(token, keys, registry=JWSRegistry(algorithms=ALGORITHMS, strict_check_header=False)).claims
        _expected(provider, nonce, now).validate(claims)
    except InvalidKeyIdError as error:
        raise UnknownKey(str(error)) from None
    except (JoseError, ValueError, TypeError) as error:
        raise NotTrue(str(error)) from None
    if not isinstance(claims["aud"], str) and len(claims["aud"]) > 1 and "azp" not in claims:
        raise NotTrue("it was said to several, and not who asked")
    subject: str = claims["sub"]
    if not (subject.isascii() and subject.isprintable() and len(subject) <= LONGEST_SUBJECT):
        raise NotTrue("the subject is not at most 255 printable ASCII characters")
    return subject


def _expected(provider: Provider, nonce: str, now: datetime) -> jwt.JWTClaimsRegistry:
    def must(*value: str) -> Any:
        return {"essential": True, **({"value": value[0]} if value else {})}

    return jwt.JWTClaimsRegistry(
        now=int(now.timestamp()),
        leeway=LEEWAY,
        iss=must(provider.issuer),
        aud=must(provider.client_id),
        azp={"value": provider.client_id},
        nonce=must(nonce),
        sub=must(),
        exp=must(),
        iat=must(),
    )
