"""Who gets in by a provider, and who does not."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import sqlalchemy as sa
from apps import PASSWORD, Browser, person, serving
from issuer import Issuer, serve_issuer
from travel import address_in, back_from, invited, is_in, sign_in, told

from heedful.store import Store, accounts, api_tokens, identities, invitations, sessions
from heedful.store.schema import event
from stores import Clock, project


def test_an_invitation_is_taken_up_and_one_signs_in_again(app: Any, store: Store, ann: Browser) -> None:
    assert is_in(ann)
    ann.fill("/logout")
    assert not is_in(ann)
    ann.get("/login")
    before = ann.cookies["heedful"]
    answer = sign_in(ann, "/label/1/mine")
    assert answer.headers["location"] == "/label/1/mine"
    assert ann.cookies["heedful"] != before
    assert is_in(ann)
    [who] = store.read(accounts.everybody)
    sign_in(ann)
    assert len(store.read(lambda c: sessions.of_account(c, who.id))) == 1, "the session before has ended"
    assert store.read(lambda c: accounts.credentials(c, "ann")) == (who, None)
    for password in ("", "nobody's", "None", PASSWORD):  # there is no password, so none is right
        assert Browser(app).fill("/login", name="ann", password=password).status_code == 401
    kinds = [row.kind for row in store.read(lambda c: c.execute(sa.select(event)).all())]
    assert kinds[-3:] == ["account.role", "invitation.used", "identity.linked"]
    assert store.check().problem == ""


def test_what_the_provider_is_asked_is_little_and_bound_to_the_browser(app: Any, issuer: Issuer) -> None:
    browser = Browser(app)
    asked = [parse_qs(urlsplit(address_in(browser.fill("/oidc/there"))).query) for _ in range(2)]
    assert asked[0]["scope"] == ["openid"]
    assert asked[0]["redirect_uri"] == ["http://testserver/oidc/there/callback"]
    for name in ("state", "nonce", "code_challenge"):
        assert len(asked[0][name][0]) == 43  # 256 bits
        assert asked[0][name] != asked[1][name]
    assert [path for path, _, _ in issuer.heard] == ["/.well-known/openid-configuration"]  # once, not at every sign-in


def test_an_account_is_connected_by_its_owner_and_by_nobody_else(app: Any, store: Store, issuer: Issuer) -> None:
    who = person(store, "ben", "labeler")
    ben = Browser(app).sign_in(store, who)
    assert "not your password" in told(ben.fill("/account/identities/there", password="guessed"))
    assert issuer.heard == []
    answer = ben.get(back_from(ben.fill("/account/identities/there", password=PASSWORD)))
    assert answer.headers["location"] == "/account?said=connected"
    assert "Example University" in ben.get("/account").text
    elsewhere = Browser(app)
    assert sign_in(elsewhere).status_code == 303
    assert is_in(elsewhere)
    cid = Browser(app).sign_in(store, person(store, "cid", "labeler"))
    answer = cid.get(back_from(cid.fill("/account/identities/there", password=PASSWORD)))
    assert "belongs to another account" in told(answer)
    [one] = store.read(lambda c: identities.of_account(c, who.id))
    assert cid.fill(f"/account/identities/{one.id}/remove").status_code == 303  # which does nothing to ben
    assert len(store.read(lambda c: identities.of_account(c, who.id))) == 1
    assert ben.fill(f"/account/identities/{one.id}/remove").headers["location"] == "/account?said=saved"
    assert "nobody here has connected" in told(sign_in(Browser(app)))


def test_no_manager_gets_a_token_of_somebody_who_signs_in_elsewhere(app: Any, store: Store, ann: Browser) -> None:
    """They have no password either, and a manager says whether a program judges under their name."""
    boss = Browser(app).sign_in(store, person(store, "mia", "manager"))
    assert boss.fill("/projects/1/people/1/kind", kind="ai").status_code == 303
    refused = boss.fill("/projects/1/people/1/token")
    assert (refused.status_code, "no program that acts by a token alone" in refused.text) == (422, True)
    assert "/people/1/token" not in boss.get("/projects/1/people").text
    assert store.read(lambda c: api_tokens.of_account(c, 1)) == []
    assert is_in(ann)


def test_nobody_locks_themselves_out(ann: Browser, store: Store) -> None:
    [one] = store.read(lambda c: identities.of_account(c, 1))
    assert "only way you can sign in" in told(ann.fill(f"/account/identities/{one.id}/remove"))
    assert len(store.read(lambda c: identities.of_account(c, 1))) == 1
    assert 'name="old"' not in ann.get("/account").text  # a password that is not there cannot be changed


def test_whoever_was_signed_out_meanwhile_connects_nothing(app: Any, store: Store, issuer: Issuer) -> None:
    ben = Browser(app).sign_in(store, person(store, "ben", "labeler"))
    back = back_from(ben.fill("/account/identities/there", password=PASSWORD))
    ben.sign_in(store, person(store, "cid", "labeler"))
    assert "in another browser" in told(ben.get(back))
    assert store.read(lambda c: identities.find(c, issuer.url, issuer.subject)) is None


def test_an_invitation_to_one_more_project_by_who_is_known(app: Any, store: Store, ann: Browser) -> None:
    store.create_project(project("other"))
    link = "/join/" + store.write(lambda c: invitations.make(c, "labeler", 2, {}, None, store.clock()))
    browser = Browser(app)
    answer = browser.get(back_from(browser.post(f"{link}/oidc/there", data={"csrf": browser.csrf(link), "name": "somebody new"})))
    assert answer.headers["location"] == "/"  # two projects: she chooses
    [who] = store.read(accounts.everybody)
    assert [role for _, _, role in store.read(lambda c: accounts.projects_of(c, who))] == ["labeler", "labeler"]


@pytest.mark.parametrize(("name", "why"), [("ann", "somebody called 'ann' already"), (" ", "Give it a name"), ("x" * 101, "at most 100")])
def test_a_name_that_will_not_do_is_told_before_leaving(app: Any, store: Store, ann: Browser, issuer: Issuer, name: str, why: str) -> None:
    browser, link, before = Browser(app), f"/join/{invited(store)}", len(issuer.heard)
    assert why in told(browser.post(f"{link}/oidc/there", data={"csrf": browser.csrf(link), "name": name}))
    assert len(issuer.heard) == before


def test_an_invitation_that_is_none_leads_nowhere(app: Any, issuer: Issuer) -> None:
    browser = Browser(app)
    answer = browser.post("/join/nothing/oidc/there", data={"csrf": browser.csrf(), "name": "eve"})
    assert answer.status_code == 422
    assert issuer.heard == []


def test_an_invitation_that_was_used_meanwhile_makes_nobody(app: Any, store: Store, issuer: Issuer) -> None:
    secret = invited(store)
    browser, link = Browser(app), f"/join/{secret}"
    back = back_from(browser.post(f"{link}/oidc/there", data={"csrf": browser.csrf(link), "name": "eve"}))
    store.write(lambda c: invitations.accept(c, secret, "first", "a hash", store.clock()))
    assert "not valid, or no longer" in told(browser.get(back))
    assert [who.name for who in store.read(accounts.everybody)] == ["first"]
    assert store.read(lambda c: identities.find(c, issuer.url, issuer.subject)) is None


def test_whoever_says_no_over_there_is_told_so(app: Any, ann: Browser, issuer: Issuer) -> None:
    browser = Browser(app)
    state = parse_qs(urlsplit(back_from(browser.fill("/oidc/there"))).query)["state"][0]
    answer = browser.get(f"/oidc/there/callback?error=access_denied&error_description=<script>&state={state}")
    assert told(answer) == "Example University did not say who you are. Begin again, or sign in with a password."
    assert "<script>" not in answer.text


def test_nobody_is_let_in_whom_nobody_knows_and_an_address_of_mail_links_nobody(app: Any, store: Store, issuer: Issuer) -> None:
    person(store, "ben@example.org", "labeler")
    issuer.claims = {"email": "ben@example.org", "email_verified": True, "name": "ben@example.org", "preferred_username": "ben@example.org"}
    browser = Browser(app)
    answer = sign_in(browser)
    assert answer.status_code == 403
    assert "nobody here has connected that account" in told(answer)
    assert not is_in(browser)
    assert len(store.read(accounts.everybody)) == 1


def test_the_same_subject_at_another_issuer_is_another_person(app: Any, store: Store, ann: Browser, issuer: Issuer, clock: Clock) -> None:
    with serve_issuer(clock) as elsewhere, serving(store.database.where, clock, providers=[elsewhere.provider()]) as other:
        assert elsewhere.subject == issuer.subject
        assert "nobody here has connected" in told(sign_in(Browser(other)))


def test_somebody_who_has_left_is_not_let_in_and_not_told_apart(app: Any, store: Store, ann: Browser, issuer: Issuer) -> None:
    store.write(lambda c: accounts.set_state(c, 1, "deactivated", "test", store.clock()))
    left, link = told(sign_in(Browser(app))), f"/join/{invited(store)}"
    browser = Browser(app)
    back = back_from(browser.post(f"{link}/oidc/there", data={"csrf": browser.csrf(link), "name": "ann again"}))
    assert told(browser.get(back)) == left
    issuer.subject = "unknown"
    assert told(sign_in(Browser(app))) == left
    assert len(store.read(accounts.everybody)) == 1


@pytest.mark.parametrize("path", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/\t/evil"])
def test_coming_back_leads_nowhere_else(ann: Browser, path: str) -> None:
    assert sign_in(ann, path).headers["location"] == "/"


def test_a_page_of_another_site_starts_nothing(app: Any, store: Store, ann: Browser, issuer: Issuer) -> None:
    before = len(issuer.heard)
    for path in ("/oidc/there", "/account/identities/there"):
        assert ann.post(path, data={"csrf": "0" * 64}).status_code == 403
        assert ann.post(path, data={"csrf": ann.csrf("/account")}, headers={"origin": "https://evil.example"}).status_code == 403
        assert ann.get(path).status_code in (404, 405)
    assert len(issuer.heard) == before


def test_a_provider_that_nobody_named_is_none(app: Any, issuer: Issuer) -> None:
    browser = Browser(app)
    assert browser.fill("/oidc/nowhere").status_code == 404
    assert browser.get("/oidc/nowhere/callback?state=x&code=y").status_code == 404
    assert "Sign in with Example University" in browser.get("/login").text


def test_without_providers_nothing_of_it_is_seen(store: Store, clock: Clock) -> None:
    with serving(store.database.where, clock) as app:
        assert "Sign in with" not in Browser(app).get("/login").text
        assert "Signing in elsewhere" not in Browser(app).sign_in(store, person(store, "ben", "labeler")).get("/account").text
