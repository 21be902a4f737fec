"""The store: projects, prompts, labelers, who was asked what, and every judgement. No torch, no HTTP.

    with Store.open("labels.db", create=True) as store:
        ...

``docs/store.md`` is a worked example.
"""

from heedful.store.answers import Answer
from heedful.store.judgements import Receipt
from heedful.store.projects import Project
from heedful.store.reading import Snapshot
from heedful.store.store import Store

__all__ = ["Answer", "Project", "Receipt", "Snapshot", "Store"]
