"""Every route, and what it takes to be let in; and how often those may be taken that cost much.

``anyone``; ``account``: whoever is signed in; else what a role has to allow in the project of the
address (see ``access.MAY``), and ``finish label`` also lets those in who are paused: what they have
begun is never lost.
"""

from __future__ import annotations

ACCESS: dict[str, str] = {
    "GET /health": "anyone",
    "GET /": "account",
    "GET /login": "anyone",
    "POST /login": "anyone",
    "POST /logout": "anyone",
    "POST /oidc/{provider}": "anyone",
    "GET /oidc/{provider}/callback": "anyone",
    "GET /join/{secret}": "anyone",
    "POST /join/{secret}": "anyone",
    "POST /join/{secret}/oidc/{provider}": "anyone",
    "GET /account": "account",
    "POST /account/password": "account",
    "POST /account/sessions/end": "account",
    "POST /account/identities/{provider}": "account",
    "POST /account/identities/{number}/remove": "account",
    "POST /account/tokens": "account",
    "POST /account/tokens/{number}/revoke": "account",
    "GET /accounts": "own",
    "POST /accounts/invite": "own",
    "POST /accounts/{number}/state": "own",
    "POST /accounts/{number}/password": "own",
    "POST /accounts/{number}/pseudonym": "own",
    # A project
    "GET /projects/new": "own",
    "POST /projects/new": "own",
    "GET /projects/{project}": "view",
    "POST /projects/{project}/findings": "manage",
    "GET /projects/{project}/settings": "manage",
    "POST /projects/{project}/settings": "manage",
    "GET /projects/{project}/instructions": "manage",
    "POST /projects/{project}/instructions": "manage",
    "GET /projects/{project}/prompts": "manage",
    "POST /projects/{project}/prompts": "manage",
    "GET /projects/{project}/notes": "manage",
    "POST /projects/{project}/notes": "manage",
    "GET /projects/{project}/people": "manage",
    "POST /projects/{project}/invitations": "manage",
    "POST /projects/{project}/judges": "manage",
    "POST /projects/{project}/invitations/{number}/revoke": "manage",
    "POST /projects/{project}/people/{number}/role": "manage",
    "POST /projects/{project}/people/{number}/pause": "manage",
    "POST /projects/{project}/people/{number}/check": "manage",
    "POST /projects/{project}/people/{number}/kind": "manage",
    "POST /projects/{project}/quarantine": "manage",
    "GET /projects/{project}/undecided": "adjudicate",
    "POST /projects/{project}/undecided": "adjudicate",
    "GET /projects/{project}/exports": "manage",
    "GET /projects/{project}/exports/{name}": "manage",
    # Labelling
    "GET /label/{project}": "label",
    "GET /label/{project}/instructions": "label",
    "POST /label/{project}/instructions": "label",
    "GET /label/{project}/check": "label",
    "POST /label/{project}/check": "label",
    "GET /label/{project}/mine": "label",
    "POST /label/{project}/next": "label",
    "POST /label/{project}/heartbeat": "finish label",
    "POST /label/{project}/submit": "finish label",
    "POST /label/{project}/skip": "finish label",
    "POST /label/{project}/reopen": "label",
    # The API
    "GET /api/v1/openapi.json": "anyone",
    "GET /api/v1/me": "account",
    "GET /api/v1/projects": "account",
    "POST /api/v1/projects": "own",
    "GET /api/v1/projects/{project}": "view",
    "PATCH /api/v1/projects/{project}": "manage",
    "POST /api/v1/projects/{project}/instructions": "manage",
    "POST /api/v1/projects/{project}/prompts": "manage",
    "GET /api/v1/projects/{project}/judgements": "manage",
    "GET /api/v1/projects/{project}/pairs": "manage",
    "GET /api/v1/projects/{project}/findings": "view",
    "POST /api/v1/projects/{project}/findings": "manage",
    "GET /api/v1/projects/{project}/people": "manage",
    "POST /api/v1/projects/{project}/invitations": "manage",
    "POST /api/v1/projects/{project}/judges": "manage",
    "POST /api/v1/projects/{project}/people/{number}/pause": "manage",
    "POST /api/v1/projects/{project}/people/{number}/kind": "manage",
    "POST /api/v1/projects/{project}/quarantine": "manage",
    "GET /api/v1/projects/{project}/undecided": "adjudicate",
    "POST /api/v1/projects/{project}/undecided": "adjudicate",
    "GET /api/v1/projects/{project}/instructions": "label",
    "POST /api/v1/projects/{project}/acknowledge": "label",
    "GET /api/v1/projects/{project}/check": "label",
    "POST /api/v1/projects/{project}/check": "label",
    "POST /api/v1/projects/{project}/next": "label",
    "POST /api/v1/projects/{project}/heartbeat": "finish label",
    "POST /api/v1/projects/{project}/submit": "finish label",
    "POST /api/v1/projects/{project}/skip": "finish label",
    "POST /api/v1/projects/{project}/reopen": "label",
}

PACE: dict[str, tuple[int, int]] = {
    "POST /oidc/{provider}": (120, 60),
    "POST /join/{secret}/oidc/{provider}": (120, 60),
    "POST /account/identities/{provider}": (60, 60),
    "POST /projects/{project}/prompts": (60, 60),
    "GET /projects/{project}/exports/{name}": (60, 60),
    "POST /projects/{project}/findings": (20, 60),
    "POST /api/v1/projects/{project}/prompts": (300, 60),
    "GET /api/v1/projects/{project}/judgements": (60, 60),
    "GET /api/v1/projects/{project}/pairs": (60, 60),
    "POST /api/v1/projects/{project}/findings": (20, 60),
}
"""What costs much: so often in so many seconds, by one account, or one address where nobody is signed in; counted over all workers."""

PACE_OF_WORK: dict[str, tuple[int, int]] = {
    **{f"POST /label/{{project}}/{what}": (600, 60) for what in ("next", "submit", "skip", "reopen", "heartbeat")},
    **{f"POST /api/v1/projects/{{project}}/{what}": (3000, 60) for what in ("next", "submit", "skip", "reopen", "heartbeat")},
    "POST /label/{project}/check": (60, 60),
    "POST /api/v1/projects/{project}/check": (60, 60),
}
"""What people do all day, counted by each worker for itself, as in the store the counting would cost as much as the work.

Ten tasks a second nobody judges, and a program hardly fifty; both then wait, and lose nothing.
"""
