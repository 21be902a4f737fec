"""Passwords and signing in."""

from __future__ import annotations

import threading

import sqlalchemy as sa
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from heedful.errors import AnswerProblem, SettingProblem
from heedful.store import Store, accounts, sessions
from heedful.store.accounts import Account
from heedful.web.throttling import count_first

SHORTEST_PASSWORD = 12
LONGEST_PASSWORD = 200
AT_ONCE = 2
_COMMON = [
    "123456789012",
    "1234567890123",
    "12345678901234",
    "password1234",
    "password12345",
    "passwordpassword",
    "qwertyuiop12",
    "qwertyuiopasdf",
    "qwertyuiop123",
    "qwerty123456",
    "letmeinplease",
    "iloveyou1234",
    "iloveyouforever",
    "administrator",
    "changeme1234",
    "changemeplease",
    "welcome12345",
    "correcthorsebatterystaple",
    "1q2w3e4r5t6y",
    "1qaz2wsx3edc",
    "q1w2e3r4t5y6",
    "abcdefghijkl",
    "abcdefghijklm",
    "abc123abc123",
    "123qweasdzxc",
    "zaq12wsxcde3",
    "thisisapassword",
    "mypassword123",
    "football1234",
    "baseball1234",
    "superman1234",
    "princess1234",
    "sunshine1234",
    "trustno1trustno1",
    "monkeymonkey",
    "dragondragon",
    "secretsecret",
    "adminadminadmin",
]


class Passwords:
    """Argon2id with the library's own cost, see its changelog for how that follows RFC 9106.

    Each takes 64 MiB for a moment, so only AT_ONCE are worked on at the same time.
    """

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher, self._turn = hasher or PasswordHasher(), threading.BoundedSemaphore(AT_ONCE)
        self._nobodys = self._hasher.hash("nobody's")

    def hash(self, name: str, password: str) -> str:
        """What is kept of a password. Raises SettingProblem for one that is soon guessed."""
        refuse_weak(name, password)
        with self._turn:
            return self._hasher.hash(password.encode("utf-8", "surrogatepass"))

    def matches(self, hashed: str | None, password: str) -> bool:
        """Whether it is the password. It takes the same time where there is no such account (``None``)."""
        try:
            with self._turn:
                right = self._hasher.verify(hashed or self._nobodys, password.encode("utf-8", "surrogatepass"))
        except (VerificationError, InvalidHashError):
            return False
        return right and hashed is not None


def refuse_weak(name: str, password: str) -> None:
    """Raise SettingProblem for a password that would be among the first to be tried."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        raise SettingProblem(
            f"the password has {len(password)} characters",
            f"Choose one of {SHORTEST_PASSWORD} to {LONGEST_PASSWORD}: a sentence does well.",
        )
    plain = password.casefold()
    if plain in _COMMON or len(set(plain)) < 5 or (len(name) > 3 and name.casefold() in plain):
        raise SettingProblem("the password is easily guessed", "Choose another: a sentence that nobody else would write does well.")


def sign_in(store: Store, passwords: Passwords, name: str, password: str, address: str, agent: str, instead_of: str = "") -> str:
    """The secret of a new session, ``instead_of`` an old one. Wrong names and wrong passwords are told alike, after the same time.

    Raises TooManyTries where this name or address has failed too often lately, and AnswerProblem
    where name and password do not fit.
    """
    by_name, by_address = f"name {name.casefold()}", f"address {address}"
    this_try = count_first(store, (by_name, by_address))
    found = store.read(lambda c: accounts.credentials(c, name))
    who = found[0] if found else None
    if not passwords.matches(found[1] if found else None, password) or who is None or who.state != "active":
        raise AnswerProblem("the name or the password is not right", "Try again, or ask whoever invited you.")
    store.write(lambda c: this_try.was_right(c, by_name, keep=[by_address]))
    return begin_session(store, who, agent, instead_of)


def confirm(store: Store, passwords: Passwords, who: Account, password: str) -> None:
    """Raise SettingProblem where it is not the password of somebody who is signed in, and TooManyTries where that was guessed at."""
    key = f"password {who.id}"
    this_try = count_first(store, [key])
    known = store.read(lambda c: accounts.credentials(c, who.name))
    if not passwords.matches(known[1] if known else None, password):
        raise SettingProblem("that is not your password", "Type the one that you sign in with now.")
    store.write(lambda c: this_try.was_right(c, key))


def begin_session(store: Store, who: Account, agent: str, instead_of: str = "") -> str:
    """The secret of a new session of somebody who has shown who they are; the one that their browser had until now ends."""

    def work(c: sa.Connection) -> str:
        sessions.end(c, instead_of)
        return sessions.begin(c, who.id, agent, store.clock())

    return store.write(work)
