"""A store with a project, a provider on a port, the app that knows it, and somebody who came by it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from apps import Browser, serving
from issuer import Issuer, serve_issuer
from travel import back_from, invited

from heedful.store import Store
from stores import Clock, items, project


@pytest.fixture
def store(store: Store) -> Store:
    """With a project in it."""
    store.create_project(project())
    store.publish("helpful", "Read.")
    store.add_prompts("helpful", items(3))
    return store


@pytest.fixture
def issuer(clock: Clock) -> Iterator[Issuer]:
    with serve_issuer(clock) as serving_now:
        yield serving_now


@pytest.fixture
def app(store: Store, clock: Clock, issuer: Issuer) -> Iterator[Any]:
    """With two names for one provider, as if there were two."""
    with serving(store.database.where, clock, providers=[issuer.provider(), issuer.provider(name="other", title="Other")]) as running:
        yield running


@pytest.fixture
def ann(app: Any, store: Store, issuer: Issuer) -> Browser:
    """Somebody who took an invitation up by the provider, and has no password; her browser."""
    browser, link = Browser(app), f"/join/{invited(store)}"
    answer = browser.get(back_from(browser.post(f"{link}/oidc/there", data={"csrf": browser.csrf(link), "name": "ann"})))
    assert (answer.status_code, answer.headers["location"]) == (303, "/label/1")
    return browser
