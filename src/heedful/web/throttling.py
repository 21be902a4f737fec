"""How often a visitor may guess, and how often do what costs much: by address, by account, by name."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

import sqlalchemy as sa
from starlette.requests import HTTPConnection

from heedful.errors import HeedfulError
from heedful.store import Store, throttle

FREE_LINKS = 20
"""Failures by an address before links, tokens and sign-ins elsewhere have to wait. Nobody guesses 256 bits: it is for what they cost."""
_HOUSE = 64
"""A visitor with IPv6 has a whole network of so many bits to choose addresses from."""


class TooManyTries(HeedfulError):
    """Guessing, or what costs much, is slowed down for so many ``seconds``."""

    def __init__(self, seconds: int) -> None:
        super().__init__("there were too many tries", f"Wait {seconds} seconds, then try again.")
        self.seconds = seconds


def address_of(request: HTTPConnection) -> str:
    """Where a request comes from, as far as one visitor can be told from another."""
    told = request.client.host if request.client else ""
    try:
        address = ip_address(told.partition("%")[0])
    except ValueError:
        return told
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or ip_network((address, _HOUSE), strict=False))
    return str(address)


def refuse_guessing(connection: sa.Connection, keys: Sequence[str], now: datetime, free: int = throttle.FREE) -> None:
    """Raise TooManyTries where there were too many failures under one of the keys."""
    _refuse(max(throttle.wait(connection, key, now, free) for key in keys))


def spend(store: Store, key: str, most: int, seconds: int) -> None:
    """Raise TooManyTries where something was done ``most`` times already in so many seconds."""
    _refuse(store.write(lambda c: throttle.spend(c, key, most, timedelta(seconds=seconds), store.clock())))


def _refuse(pause: timedelta) -> None:
    if pause:
        raise TooManyTries(int(pause.total_seconds()) + 1)
