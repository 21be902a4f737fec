"""Every route, and what it takes to be let in.

``anyone``; ``account``: whoever is signed in; ``member``: whoever has any role in the project of the
address; else what a role has to allow there (see ``access.MAY``).
"""

from __future__ import annotations

ACCESS: dict[str, str] = {
    "GET /health": "anyone",
    "GET /": "account",
    "GET /login": "anyone",
    "POST /login": "anyone",
    "POST /logout": "anyone",
    "GET /join/{secret}": "anyone",
    "POST /join/{secret}": "anyone",
    # Labelling
    "GET /label/{project}": "label",
    "GET /label/{project}/instructions": "label",
    "POST /label/{project}/instructions": "label",
    "GET /label/{project}/check": "label",
    "POST /label/{project}/check": "label",
    "GET /label/{project}/mine": "label",
    "POST /label/{project}/next": "label",
    "POST /label/{project}/heartbeat": "label",
    "POST /label/{project}/submit": "label",
    "POST /label/{project}/skip": "label",
    "POST /label/{project}/reopen": "label",
}
