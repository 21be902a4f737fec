"""How often one may guess, and how often do what costs much: links, tokens, passwords, uploads, exports."""

from __future__ import annotations

from typing import Any

import pytest
from apps import PASSWORD, Browser, person
from starlette.requests import HTTPConnection

from heedful.store import Store, accounts, api_tokens, invitations, projects
from heedful.web.routes import ACCESS, PACE
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


def test_the_table_of_paces_names_routes() -> None:
    assert set(PACE) <= set(ACCESS)


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
