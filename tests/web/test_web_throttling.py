"""How often one may guess, and how often do what costs much: links, tokens, passwords, uploads, exports."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from apps import PASSWORD, Browser, person
from argon2 import PasswordHasher
from starlette.requests import HTTPConnection

from heedful.errors import HeedfulError
from heedful.store import Store, accounts, api_tokens, invitations, projects, throttle
from heedful.store.throttle import FREE
from heedful.web import throttling
from heedful.web.auth import AT_ONCE, Passwords, sign_in
from heedful.web.routes import ACCESS, PACE, PACE_OF_WORK
from heedful.web.throttling import FREE_LINKS, address_of
from stores import Clock, project


@pytest.fixture
def store(store: Store) -> Store:
    """With a project in it."""
    store.create_project(project())
    store.publish("helpful", "Read.")
    return store


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_invitations_are_not_guessed_at_for_ever(app: Any, store: Store, clock: Clock, method: str) -> None:
    secret = store.write(lambda c: invitations.make(c, "labeler", 1, {}, None, store.clock()))
    browser = Browser(app)
    data = {"data": {"csrf": browser.csrf()}} if method == "POST" else {}
    found = [browser.request(method, f"/join/guess{n}", **data) for n in range(FREE_LINKS + 2)]
    assert [answer.status_code for answer in found] == [422] * FREE_LINKS + [429] * 2
    assert found[-1].headers["retry-after"] == "2"
    assert "Wait 2 seconds" in found[-1].text
    assert browser.get(f"/join/{secret}").status_code == 429  # whether it is right is not looked at meanwhile
    clock.turn(seconds=2)
    assert browser.get(f"/join/{secret}").status_code == 200


def test_tokens_are_not_guessed_at_for_ever(app: Any, store: Store, clock: Clock) -> None:
    who = person(store, "olga", "owner", None)
    token = store.write(lambda c: api_tokens.make(c, who, "a test", ["read"], 1, store.clock()))

    def call(shown: str) -> Any:
        return Browser(app).get("/api/v1/me", headers={"authorization": f"Bearer {shown}"})

    assert {call("").status_code for _ in range(30)} == {401}  # who shows none does not guess
    found = [call(f"heed_{n}") for n in range(FREE_LINKS + 1)]
    assert [answer.status_code for answer in found] == [401] * FREE_LINKS + [429]
    assert found[-1].json()["error"] == "too_many_tries"
    assert call(token).status_code == 429
    clock.turn(seconds=2)
    assert call(token).status_code == 200


def test_a_password_is_not_guessed_at_by_who_has_found_a_browser_open(app: Any, store: Store, clock: Clock) -> None:
    ann = Browser(app).sign_in(store, person(store, "ann", "labeler"))
    new = "another sentence of hers"

    def change(old: str) -> int:
        return int(ann.fill("/account/password", old=old, password=new, again=new).status_code)

    assert [change(f"guess {n}") for n in range(6)] == [422] * 5 + [429]
    assert change(PASSWORD) == 429
    clock.turn(seconds=2)
    assert change(PASSWORD) == 303
    assert [change("wrong") for _ in range(5)] == [422] * 5  # whoever knows it begins anew


def test_one_who_is_slowed_down_slows_down_nobody_else(app: Any, store: Store, clock: Clock) -> None:
    ann, ben = (Browser(app).sign_in(store, person(store, name, "labeler")) for name in ("ann", "ben"))
    for _ in range(6):
        ann.fill("/account/password", old="wrong", password="x" * 12, again="x" * 12)
    new = "another sentence of his"
    assert ben.fill("/account/password", old=PASSWORD, password=new, again=new).status_code == 303


@pytest.mark.parametrize("key", [key for key in PACE if "oidc" not in key and "identities" not in key])
def test_what_costs_much_is_done_so_often_and_then_later(app: Any, store: Store, clock: Clock, key: str) -> None:
    method, path = key.split(" ")
    path = path.replace("{project}", "1").replace("{name}", "labelers.csv")
    people = [person(store, name, "owner", None) for name in ("olga", "otto")]
    tokens = [store.write(lambda c, who=who: api_tokens.make(c, who, "x", ["read", "manage"], 1, store.clock())) for who in people]  # type: ignore[misc]
    browsers = [Browser(app).sign_in(store, who) for who in people]
    csrf = [browser.csrf() for browser in browsers]

    def do(number: int) -> int:
        headers = {"authorization": f"Bearer {tokens[number]}", "x-csrf-token": csrf[number]}
        return int(browsers[number].request(method, path, headers=headers).status_code)

    most, seconds = PACE[key]
    assert 429 not in {do(0) for _ in range(most)}
    assert do(0) == 429
    assert do(1) != 429
    clock.turn(seconds=seconds)
    assert do(0) != 429


@pytest.mark.parametrize("key", PACE_OF_WORK)
def test_what_people_do_all_day_is_paced_too(app: Any, store: Store, clock: Clock, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    most, seconds = PACE_OF_WORK[key]
    assert most / seconds >= (1 if "check" in key else 10), "nobody who judges meets it"
    monkeypatch.setitem(PACE_OF_WORK, key, (3, seconds))
    method, path = key.split(" ")
    browsers = [Browser(app).sign_in(store, person(store, name, "owner", None)) for name in ("olga", "otto")]
    people = store.read(accounts.everybody)
    tokens = [store.write(lambda c, who=who: api_tokens.make(c, who, "x", ["label"], 1, store.clock())) for who in people]  # type: ignore[misc]
    csrf = [browser.csrf() for browser in browsers]

    def do(number: int) -> Any:
        headers = {"authorization": f"Bearer {tokens[number]}", "x-csrf-token": csrf[number], "accept": "application/json"}
        return browsers[number].request(method, path.replace("{project}", "1"), headers=headers)

    assert 429 not in {do(0).status_code for _ in range(3)}
    refused = do(0)
    assert (refused.status_code, refused.json()["error"], refused.headers["retry-after"]) == (429, "too_many_tries", str(seconds + 1))
    assert do(1).status_code != 429
    clock.turn(seconds=seconds)
    assert do(0).status_code != 429


def test_as_many_windows_as_memory_is_for(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttling, "MOST_WINDOWS", 2)
    paces = throttling.Paces()
    for key in ("a", "b", "c"):
        paces.spend(key, 1, 60, clock())
    for key in ("b", "c"):
        with pytest.raises(throttling.TooManyTries):
            paces.spend(key, 1, 60, clock())
    paces.spend("a", 1, 60, clock())  # forgotten, as it was begun first


def test_the_tables_of_paces_name_routes() -> None:
    assert set(PACE) | set(PACE_OF_WORK) <= set(ACCESS)


def guess(app: Any, name: str, password: str = "not it") -> int:
    return int(Browser(app).fill("/login", name=name, password=password).status_code)


def test_signing_in_forgets_the_failures_of_that_name_alone(app: Any, store: Store, clock: Clock) -> None:
    for name in ("ann", "eve"):
        person(store, name, "labeler")
    assert [guess(app, "ann") for _ in range(2)] + [guess(app, f"name {n}") for n in range(2)] == [401] * 4
    assert guess(app, "eve", PASSWORD) == 303
    assert [guess(app, "other"), guess(app, "another")] == [401, 429], "five failures are five, whoever signs in between them"
    clock.turn(seconds=1)
    assert guess(app, "eve", PASSWORD) == 303
    assert guess(app, "ann", PASSWORD) == 303, "and whoever succeeds keeps nobody waiting"
    assert store.read(lambda c: throttle.wait(c, "name ann", clock(), free=1)) == timedelta(0)
    assert guess(app, "yet another") == 401
    assert guess(app, "eve", PASSWORD) == 429


def test_people_of_one_house_sign_in_one_after_the_other(app: Any, store: Store) -> None:
    person(store, "ann", "labeler")
    assert [guess(app, "ann", PASSWORD) for _ in range(FREE + 2)] == [303] * (FREE + 2)


class Counting(PasswordHasher):
    """Counts how many passwords are looked at, and how many at the same time."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.looked, self.now, self.most, self._lock = 0, 0, 0, threading.Lock()

    def verify(self, hash: Any, password: Any) -> Any:
        with self._lock:
            self.looked, self.now = self.looked + 1, self.now + 1
            self.most = max(self.most, self.now)
        time.sleep(0.05)
        with self._lock:
            self.now -= 1
        return super().verify(hash, password)


def test_many_tries_at_once_are_as_many(where: str, clock: Clock) -> None:
    """Counted before any password is looked at, in either database; and few are looked at together, as each takes 64 MiB."""
    hasher = Counting()
    passwords = Passwords(hasher)
    with Store.open(where, clock=clock) as store, ThreadPoolExecutor(12) as pool:

        def guess(number: int) -> str:
            try:
                return sign_in(store, passwords, f"name {number}", "not it", "192.0.2.7", "a test")
            except HeedfulError as problem:
                return type(problem).__name__

        told = list(pool.map(guess, range(12)))
    assert sorted(set(told)) == ["AnswerProblem", "TooManyTries"]
    assert (told.count("AnswerProblem"), hasher.looked) == (FREE, FREE)
    assert hasher.most <= AT_ONCE


@pytest.mark.parametrize(
    ("told", "house"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a socket", "a socket"),
        ("", ""),
    ],
)
def test_one_visitor_is_one_address_however_many_they_have(told: str, house: str) -> None:
    assert address_of(HTTPConnection({"type": "http", "client": (told, 1) if told else None})) == house


def test_whoever_joins_lands_on_their_work(app: Any, store: Store) -> None:
    def join(role: str, project_id: int | None = 1, browser: Browser | None = None, name: str = "") -> str:
        secret = store.write(lambda c: invitations.make(c, role, project_id, {}, None, store.clock()))
        fields = {"name": name or role, "password": PASSWORD, "again": PASSWORD}
        return str((browser or Browser(app)).fill(f"/join/{secret}", **fields).headers["location"])

    ann = Browser(app)
    assert join("labeler", browser=ann) == "/label/1"
    assert ann.get("/label/1").headers["location"] == "/label/1/instructions"
    for role in ("viewer", "adjudicator", "manager"):
        assert join(role) == "/"
    assert join("owner", None) == "/"
    store.create_project(project("other"))
    assert join("labeler", 2, ann) == "/"  # now there are two to choose from
    assert join("labeler", 2, name="ben") == "/label/2"
    projects_of_ann = store.read(lambda c: accounts.projects_of(c, accounts.everybody(c)[0]))
    assert [number for number, _, _ in projects_of_ann] == [store.read(lambda c, n=n: projects.find(c, n))[0] for n in ("helpful", "other")]  # type: ignore[misc]
