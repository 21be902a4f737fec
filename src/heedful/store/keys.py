"""Secrets that are shown once: invitations, sessions, API tokens. The store keeps their hash only.

They have 256 random bits, so a plain hash does: there is nothing to guess, and nothing to look up.
"""

from __future__ import annotations

import hashlib
import secrets


def new_secret() -> str:
    """A secret that nobody can guess, fit for a link, a cookie or a header."""
    return secrets.token_urlsafe(32)


def hashed(secret: str) -> str:
    """What the store keeps of a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
