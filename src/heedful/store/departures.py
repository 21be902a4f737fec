"""Departures: browsers that have left for a provider of sign-ins, and what they want when they come back.

Each comes back once, within minutes, to the browser that left. What would let somebody else come
back in its place (the state, the cookie) is kept as a hash only.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from heedful.errors import AnswerProblem
from heedful.store.keys import hashed
from heedful.store.schema_access import departure

LASTS = timedelta(minutes=10)
_D = departure.c


@dataclass(frozen=True, slots=True)
class Departure:
    """What for. ``errand``: ``sign_in`` and go to ``path``; ``join`` by an invitation under a ``name``; ``link`` to an account."""

    errand: str
    path: str = "/"
    invitation_id: int | None = None
    name: str | None = None
    account_id: int | None = None


def leave(connection: sa.Connection, what_for: Departure, provider: str, state: str, cookie: str, now: datetime) -> None:
    """Somebody leaves. Those who did not come back in time are forgotten."""
    connection.execute(sa.delete(departure).where(_D.left_at < now - LASTS))
    keys = {"sha256": hashed(state), "cookie_sha256": hashed(cookie), "provider": provider, "left_at": now}
    connection.execute(sa.insert(departure).values(keys | asdict(what_for)))


def come_back(connection: sa.Connection, provider: str, state: str, cookie: str, now: datetime) -> Departure:
    """What somebody left for; it is used up. Raises AnswerProblem where it is unknown, used, too old or another browser's: all alike."""
    mine = (_D.sha256 == hashed(state), _D.cookie_sha256 == hashed(cookie), _D.provider == provider, _D.left_at >= now - LASTS)
    row = connection.execute(sa.select(departure).where(*mine).with_for_update()).first()
    if row is None:
        raise AnswerProblem("this sign-in was used already, took too long, or began in another browser", "Begin again.")
    connection.execute(sa.delete(departure).where(_D.sha256 == row.sha256))
    return Departure(row.errand, row.path, row.invitation_id, row.name, row.account_id)
