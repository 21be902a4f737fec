"""A browser on its way to the provider and back."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import urlsplit

import httpx2
from apps import Browser
from issuer import Issuer

from heedful.store import Store, invitations
from heedful.web.oidc.relying import RelyingParty


def invited(store: Store, role: str = "labeler") -> str:
    return store.write(lambda c: invitations.make(c, role, 1, {}, None, store.clock()))


def address_in(page: Any) -> str:
    """Where a page leads that says it leads to the provider; both ways are the same."""
    assert page.status_code == 200, page.text
    [refresh] = re.findall(r'http-equiv="refresh" content="0;url=([^"]+)"', page.text)
    [link] = re.findall(r'class="button primary" href="([^"]+)"', page.text)
    assert refresh == link
    return html.unescape(link)


def back_from(page: Any) -> str:
    """Go where a page leads, sign in there, and say with which path one is sent back."""
    answer = httpx2.get(address_in(page), follow_redirects=False)
    back = urlsplit(answer.headers["location"])
    assert f"{back.scheme}://{back.netloc}" == "http://testserver"
    return f"{back.path}?{back.query}"


def sign_in(browser: Browser, path: str = "/") -> Any:
    return browser.get(back_from(browser.fill("/oidc/there", next=path)))


def is_in(browser: Browser) -> bool:
    return browser.get("/account").status_code == 200


def forget(app: Any, issuer: Issuer) -> None:
    """Let the app ask the provider everything anew."""
    app.state.parties["there"] = RelyingParty(issuer.provider(), "http://testserver")


def told(answer: Any) -> str:
    """The sentence of a page on which something went wrong."""
    [sentence] = re.findall(r'<p class="flash bad" role="alert">(.*?)</p>', answer.text)
    assert "Traceback" not in answer.text
    return html.unescape(sentence)
