"""Accounts, invitations, sessions, tokens, throttling: in either database, by a clock that one can turn."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from heedful.errors import AnswerProblem, DataProblem, SettingProblem
from heedful.store import Store, accounts, api_tokens, departures, identities, invitations, schema_access, sessions, throttle
from heedful.store.accounts import Account
from heedful.store.departures import Departure
from heedful.store.schema import event
from stores import Clock, project


@pytest.fixture
def ann(store: Store) -> Account:
    store.create_project(project())
    return store.write(lambda c: accounts.create(c, "ann", "a hash", False, {}, "test", store.clock()))


def test_secrets_are_in_no_row(store: Store, ann: Account) -> None:
    now = store.clock()
    secrets = [
        store.write(lambda c: invitations.make(c, "labeler", 1, {}, ann, now)),
        store.write(lambda c: sessions.begin(c, ann.id, "a browser", now)),
        store.write(lambda c: api_tokens.make(c, ann, "nightly", ["read"], 1, now)),
        "the state of a departure",
        "the cookie of a departure",
    ]
    store.write(lambda c: departures.leave(c, Departure("sign_in"), "there", secrets[3], secrets[4], now))
    rows = store.read(lambda c: [tuple(row) for table in schema_access.metadata.sorted_tables for row in c.execute(sa.select(table))])
    assert len(rows) > 5
    assert not [secret for secret in secrets if secret in repr(rows) or secret.removeprefix("heed_") in repr(rows)]


def test_an_invitation_is_used_by_one_of_two_who_race(store: Store, ann: Account) -> None:
    secret = store.write(lambda c: invitations.make(c, "labeler", 1, {"age": "60+"}, ann, store.clock()))
    who = store.write(lambda c: invitations.accept(c, secret, "ben", "a hash", store.clock()))
    assert store.read(lambda c: accounts.part_in(c, who, 1)) == ("labeler", False)
    with pytest.raises(AnswerProblem, match="not valid, or no longer"):
        store.write(lambda c: invitations.accept(c, secret, "eve", "a hash", store.clock()))
    assert {one.name: one.strata for one in store.labelers()} == {"ann": {}, "ben": {"age": "60+"}}


def test_a_name_is_taken_once(store: Store, ann: Account) -> None:
    with pytest.raises(DataProblem, match="already"):
        store.write(lambda c: accounts.create(c, "ann", "x", False, {}, "test", store.clock()))


def test_a_session_ends_idle_and_in_any_case(store: Store, ann: Account, clock: Clock) -> None:
    secret = store.write(lambda c: sessions.begin(c, ann.id, "", clock()))
    found = lambda: store.read(lambda c: sessions.find(c, secret, clock()))  # noqa: E731
    assert found() == (ann, False)
    clock.turn(hours=12)
    assert found() == (ann, True)  # just in time, and touch is due
    clock.turn(seconds=1)
    assert found() is None
    secret = store.write(lambda c: sessions.begin(c, ann.id, "", clock()))
    for _ in range(14 * 24 // 6):
        clock.turn(hours=6)
        store.write(lambda c: sessions.touch(c, secret, clock()))
    assert found() == (ann, False)
    clock.turn(seconds=1)
    assert found() is None


def test_a_session_is_ended_by_its_owner_by_a_role_and_by_leaving(store: Store, ann: Account, clock: Clock) -> None:
    def signed_in() -> list[str]:
        return [store.write(lambda c: sessions.begin(c, ann.id, "", clock())) for _ in range(2)]

    def alive(secrets: list[str]) -> list[bool]:
        return [store.read(lambda c, s=s: sessions.find(c, s, clock())) is not None for s in secrets]  # type: ignore[misc]

    secrets = signed_in()
    store.write(lambda c: sessions.end_others(c, ann.id, secrets[0]))
    assert alive(secrets) == [True, False]
    secrets = signed_in()
    store.write(lambda c: accounts.set_role(c, ann.id, 1, "viewer", "test", clock()))
    assert alive(secrets) == [False, False]
    secrets = signed_in()
    store.write(lambda c: accounts.set_state(c, ann.id, "deactivated", "test", clock()))
    store.write(lambda c: accounts.set_state(c, ann.id, "active", "test", clock()))
    assert alive(secrets) == [False, False]


def test_a_token_ends_is_revoked_and_does_not_outlive_its_owner(store: Store, ann: Account, clock: Clock) -> None:
    made = [store.write(lambda c: api_tokens.make(c, ann, "x", ["label", "read"], 2, clock())) for _ in range(2)]
    found = lambda secret: store.read(lambda c: api_tokens.find(c, secret, clock()))  # noqa: E731
    assert found(made[0]) == (ann, ["label", "read"], True)
    store.write(lambda c: api_tokens.touch(c, made[0], clock()))
    assert found(made[0])[2] is False
    store.write(lambda c: api_tokens.revoke(c, ann, 1, clock()))
    assert found(made[0]) is None
    assert found(made[1].upper()) is None
    store.write(lambda c: accounts.set_state(c, ann.id, "deactivated", "test", clock()))
    store.write(lambda c: accounts.set_state(c, ann.id, "active", "test", clock()))
    assert found(made[1]) is None
    last = store.write(lambda c: api_tokens.make(c, ann, "x", ["read"], 2, clock()))
    clock.turn(days=2)
    assert found(last) is None


def test_guessing_gets_slower_and_is_forgotten(store: Store, clock: Clock) -> None:
    wait = lambda: store.read(lambda c: throttle.wait(c, "name ann", clock()))  # noqa: E731
    for _ in range(throttle.FREE):
        assert wait() == timedelta(0)
        store.write(lambda c: throttle.failed(c, ["name ann", "address x"], clock()))
    waits = []
    for _ in range(12):
        waits.append(wait().total_seconds())
        clock.turn(seconds=waits[-1])
        assert wait() == timedelta(0)
        store.write(lambda c: throttle.failed(c, ["name ann"], clock()))
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]
    assert store.read(lambda c: throttle.wait(c, "name ben", clock())) == timedelta(0)
    store.write(lambda c: throttle.succeeded(c, ["name ann"]))
    assert wait() == timedelta(0)


def test_the_last_owner_stays(store: Store) -> None:
    owner = store.write(lambda c: accounts.create(c, "olga", "x", True, {}, "test", store.clock()))
    with pytest.raises(SettingProblem, match="the only owner"):
        store.write(lambda c: accounts.set_state(c, owner.id, "deactivated", "test", store.clock()))
    other = store.write(lambda c: accounts.create(c, "otto", "x", True, {}, "test", store.clock()))
    store.write(lambda c: accounts.set_state(c, owner.id, "deactivated", "test", store.clock()))
    assert store.read(accounts.any_owner)
    assert other.actor == "account 2"  # the log has no names


def test_what_may_be_done_so_often_begins_anew_with_every_window(store: Store, clock: Clock) -> None:
    spend = lambda key="a": store.write(lambda c: throttle.spend(c, key, 3, timedelta(minutes=1), clock()))  # noqa: E731
    assert [spend() for _ in range(3)] == 3 * [timedelta(0)]
    clock.turn(seconds=20)
    assert [spend() for _ in range(2)] == 2 * [timedelta(seconds=40)]
    assert spend("b") == timedelta(0)
    clock.turn(seconds=40)
    assert [spend() for _ in range(4)] == [*3 * [timedelta(0)], timedelta(minutes=1)]
    clock.turn(hours=-1)  # a clock that was put right keeps nobody waiting
    assert spend() == timedelta(0)


def test_an_identity_is_one_persons(store: Store, ann: Account) -> None:
    ben = store.write(lambda c: accounts.create(c, "ben", None, False, {}, "test", store.clock()))
    for _ in range(2):  # the second time it is there already
        store.write(lambda c: identities.link(c, ben, "https://there", "1", store.clock()))
    with pytest.raises(DataProblem, match="belongs to another account"):
        store.write(lambda c: identities.link(c, ann, "https://there", "1", store.clock()))
    store.write(lambda c: identities.link(c, ann, "https://elsewhere", "1", store.clock()))
    found = lambda issuer, subject: store.read(lambda c: identities.find(c, issuer, subject))  # noqa: E731
    assert found("https://there", "1") == ben
    assert found("https://elsewhere", "1") == ann
    for issuer, subject in (("https://there/", "1"), ("https://THERE", "1"), ("https://there", "01"), ("https://there", "")):
        assert found(issuer, subject) is None
    with pytest.raises(SettingProblem, match="only way you can sign in"):
        store.write(lambda c: identities.unlink(c, ben, 1, store.clock()))
    store.write(lambda c: identities.unlink(c, ben, 2, store.clock()))  # ann's: nothing happens
    assert found("https://elsewhere", "1") == ann
    store.write(lambda c: identities.unlink(c, ann, 2, store.clock()))  # she has a password
    assert found("https://elsewhere", "1") is None
    log = store.read(lambda c: c.execute(sa.select(event.c.kind, event.c.details)).all())
    assert [row.kind for row in log if "identity" in row.kind] == ["identity.linked", "identity.linked", "identity.unlinked"]
    assert not [row for row in log if "there" in repr(row.details)]  # the log cannot forget, so it does not know


def test_two_who_link_one_identity_at_once(store: Store, ann: Account) -> None:
    ben = store.write(lambda c: accounts.create(c, "ben", "a hash", False, {}, "test", store.clock()))
    ready, problems = threading.Barrier(2), []

    def link(who: Account) -> None:
        ready.wait(10)
        try:
            store.write(lambda c: identities.link(c, who, "https://there", "1", store.clock()))
        except DataProblem as problem:
            problems.append(problem)

    threads = [threading.Thread(target=link, args=(who,)) for who in (ann, ben)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(problems) == 1
    assert store.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(schema_access.identity)).scalar()) == 1


def test_one_comes_back_once_in_time_and_as_the_same(store: Store, ann: Account, clock: Clock) -> None:
    what_for = Departure("link", account_id=ann.id)
    leave = lambda: store.write(lambda c: departures.leave(c, what_for, "there", "state", "cookie", clock()))  # noqa: E731
    come_back = lambda *by: store.write(lambda c: departures.come_back(c, *by, clock()))  # noqa: E731
    leave()
    for wrong in (("elsewhere", "state", "cookie"), ("there", "State", "cookie"), ("there", "state", "another"), ("there", "", "")):
        with pytest.raises(AnswerProblem, match="used already, took too long"):
            come_back(*wrong)
    clock.turn(minutes=10)
    assert come_back("there", "state", "cookie") == what_for
    with pytest.raises(AnswerProblem):
        come_back("there", "state", "cookie")
    leave()
    clock.turn(minutes=10, seconds=1)
    with pytest.raises(AnswerProblem):
        come_back("there", "state", "cookie")
    store.write(lambda c: departures.leave(c, what_for, "there", "another state", "cookie", clock()))
    assert store.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(schema_access.departure)).scalar()) == 1


@pytest.mark.parametrize(
    "wrong", [Departure("stay"), Departure("join"), Departure("sign_in", name="x"), Departure("link"), Departure("sign_in", account_id=1)]
)
def test_a_departure_says_what_it_is_for_and_no_more(store: Store, ann: Account, wrong: Departure) -> None:
    with pytest.raises(sa.exc.IntegrityError):
        store.write(lambda c: departures.leave(c, wrong, "there", "state", "cookie", store.clock()))
