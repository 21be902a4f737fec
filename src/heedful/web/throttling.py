"""How often a visitor may guess, and how often do what costs much: by address, by account, by name."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address, ip_network

import sqlalchemy as sa
from starlette.requests import HTTPConnection

from heedful.errors import HeedfulError
from heedful.store import Store, throttle

FREE_LINKS = 20
"""Failures by an address before links, tokens and sign-ins elsewhere have to wait. Nobody guesses 256 bits: it is for what they cost."""
MOST_WINDOWS = 20_000
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


@dataclass(frozen=True, slots=True)
class Try:
    """A try that counts as a failure until it is known to be none; ``before``: when the last failure was, by key."""

    at: datetime
    before: Mapping[str, datetime | None]

    def was_right(self, connection: sa.Connection, forget: str, keep: Sequence[str] = ()) -> None:
        """It was none: ``forget`` earlier failures under one key; under others they stay, as anybody can succeed once."""
        throttle.succeeded(connection, [forget])
        for key in keep:
            throttle.no_failure(connection, key, self.at, self.before[key])


def count_first(store: Store, keys: Sequence[str]) -> Try:
    """Count a try before anything is done for it, so that many at once are as many. Raises TooManyTries where there were too many."""

    def work(c: sa.Connection) -> Try:
        now = store.clock()
        throttle.hold(c, keys, now)
        refuse_guessing(c, keys, now)
        return Try(now, throttle.counted(c, keys, now))

    return store.write(work)


def spend(store: Store, key: str, most: int, seconds: int) -> None:
    """Raise TooManyTries where something was done ``most`` times already in so many seconds."""
    _refuse(store.write(lambda c: throttle.spend(c, key, most, timedelta(seconds=seconds), store.clock())))


class Paces:
    """How often something was done lately, as far as this worker knows. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, tuple[datetime, int]] = {}

    def spend(self, key: str, most: int, seconds: int, now: datetime) -> None:
        """Raise TooManyTries where something was done ``most`` times already in so many seconds."""
        with self._lock:
            began, times = self._windows.get(key, (now, 0))
            if not began <= now < began + timedelta(seconds=seconds):
                began, times = now, 0
            if times >= most:
                _refuse(began + timedelta(seconds=seconds) - now)
            if key not in self._windows and len(self._windows) >= MOST_WINDOWS:
                self._windows.pop(next(iter(self._windows)))  # the one that was begun first
            self._windows[key] = began, times + 1


def _refuse(pause: timedelta) -> None:
    if pause:
        raise TooManyTries(int(pause.total_seconds()) + 1)
