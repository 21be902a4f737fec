"""Accounts, invitations, sessions, tokens, throttling: in either database, by a clock that one can turn."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from heedful.errors import AnswerProblem, DataProblem, SettingProblem
from heedful.store import Store, accounts, api_tokens, invitations, schema_access, sessions, throttle
from heedful.store.accounts import Account
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
    ]
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
