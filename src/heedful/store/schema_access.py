"""The tables of who may come in, and of whether they have understood what is asked.

    account ── membership ── project     who signs in, and as what in which project
      ├── session                        browsers that are signed in
      ├── api_token                      programs that act for somebody
      ├── identity                       what a provider of sign-ins calls them
      └── invitation                     links that make an account, once
    departure                            browsers that have left for such a provider and are expected back
    tries                                how often something was tried that may not be tried for ever
    comprehension ── comprehension_attempt, comprehension_decision     questions on the instructions; who answered how

No secret stands here that could be used: of sessions, tokens, invitations and departures only the
sha256, of passwords the argon2 hash. ``comprehension``, its attempts and decisions are facts, as in ``schema``.
"""

from __future__ import annotations

import sqlalchemy as sa

from heedful.store.columns import Id, Json, Moment, metadata, reference, words

ROLES = ("manager", "adjudicator", "labeler", "viewer")
"""What somebody can be in a project. An owner is not in a project but of the whole store."""

account = sa.Table(
    "account",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("password", sa.String(500)),  # null: they sign in by an identity only
    sa.Column("labeler_id", Id, reference("labeler.id"), nullable=False, unique=True),
    sa.Column("owner", sa.Boolean, nullable=False),
    sa.Column("state", sa.String(11), nullable=False),
    sa.Column("made_at", Moment, nullable=False),
    words("state", "active", "deactivated"),
)

membership = sa.Table(
    "membership",
    metadata,
    sa.Column("account_id", Id, reference("account.id"), primary_key=True, autoincrement=False),
    sa.Column("project_id", Id, reference("project.id"), primary_key=True, autoincrement=False),
    sa.Column("role", sa.String(11), nullable=False),
    sa.Column("paused", sa.Boolean, nullable=False),  # is asked nothing new in this project
    words("role", *ROLES),
    sa.Index(None, "project_id"),
)

invitation = sa.Table(
    "invitation",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("role", sa.String(11), nullable=False),
    sa.Column("project_id", Id, reference("project.id")),
    sa.Column("strata", Json, nullable=False),
    sa.Column("made_by", Id, reference("account.id")),  # null: the program itself, for the first owner
    sa.Column("made_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Column("used_at", Moment),
    sa.Column("used_by", Id, reference("account.id")),
    sa.Column("revoked_at", Moment),
    words("role", "owner", *ROLES),
    sa.CheckConstraint("(role = 'owner') = (project_id IS NULL)", name="project"),
    sa.CheckConstraint("(used_at IS NULL) = (used_by IS NULL)", name="used"),
    sa.Index(None, "project_id"),
)

session = sa.Table(
    "session",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("account_id", Id, reference("account.id"), nullable=False),
    sa.Column("began_at", Moment, nullable=False),
    sa.Column("seen_at", Moment, nullable=False),
    sa.Column("agent", Json, nullable=False),  # what the browser calls itself, so that somebody can tell theirs apart
    sa.Index(None, "account_id"),
)

api_token = sa.Table(
    "api_token",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("account_id", Id, reference("account.id"), nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("scopes", Json, nullable=False),
    sa.Column("made_at", Moment, nullable=False),
    sa.Column("expires_at", Moment, nullable=False),
    sa.Column("used_at", Moment),
    sa.Column("revoked_at", Moment),
    sa.Index(None, "account_id"),
)

identity = sa.Table(
    "identity",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("account_id", Id, reference("account.id"), nullable=False),
    sa.Column("issuer", sa.String(500), nullable=False),
    sa.Column("subject", sa.String(255), nullable=False),
    sa.Column("linked_at", Moment, nullable=False),
    sa.UniqueConstraint("issuer", "subject"),
    sa.Index(None, "account_id"),
)

departure = sa.Table(
    "departure",
    metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),  # of the state, which the provider hands back
    sa.Column("cookie_sha256", sa.String(64), nullable=False),
    sa.Column("provider", sa.String(40), nullable=False),
    sa.Column("errand", sa.String(7), nullable=False),
    sa.Column("path", Json, nullable=False),  # where to go after signing in
    sa.Column("invitation_id", Id, reference("invitation.id")),
    sa.Column("name", sa.String(200)),  # of the account that the invitation will make
    sa.Column("account_id", Id, reference("account.id")),
    sa.Column("left_at", Moment, nullable=False),
    words("errand", "sign_in", "join", "link"),
    sa.CheckConstraint("(errand = 'join') = (invitation_id IS NOT NULL)", name="invitation"),
    sa.CheckConstraint("(errand = 'join') = (name IS NOT NULL)", name="name"),
    sa.CheckConstraint("(errand = 'link') = (account_id IS NOT NULL)", name="account"),
    sa.Index(None, "left_at"),
)

tries = sa.Table(
    "tries",
    metadata,
    sa.Column("key", sa.String(64), primary_key=True),
    sa.Column("times", sa.Integer, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Index(None, "at"),
)

comprehension = sa.Table(
    "comprehension",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("project_id", Id, reference("project.id"), nullable=False),
    sa.Column("questions", Json, nullable=False),
    sa.Column("published_at", Moment, nullable=False),
    sa.Index(None, "project_id", "id"),
)

comprehension_attempt = sa.Table(
    "comprehension_attempt",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("comprehension_id", Id, reference("comprehension.id"), nullable=False),
    sa.Column("labeler_id", Id, reference("labeler.id"), nullable=False),
    sa.Column("answers", Json, nullable=False),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Index(None, "comprehension_id", "labeler_id"),
)

comprehension_decision = sa.Table(
    "comprehension_decision",  # a person's, on somebody who has used up their tries; the latest holds
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("comprehension_id", Id, reference("comprehension.id"), nullable=False),
    sa.Column("labeler_id", Id, reference("labeler.id"), nullable=False),
    sa.Column("decision", sa.String(9), nullable=False),
    sa.Column("decided_by", sa.String(200), nullable=False),
    sa.Column("why", Json, nullable=False),
    sa.Column("at", Moment, nullable=False),
    words("decision", "passed", "try_again"),
    sa.Index(None, "comprehension_id", "labeler_id"),
)
