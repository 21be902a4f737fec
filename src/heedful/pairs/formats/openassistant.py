"""Open-Assistant's conversation trees: ranked replies become rankings.

    {"message_tree_id": "...",
     "prompt": {"message_id": "...", "text": "...", "role": "prompter", "replies": [{..., "rank": 0, "replies": []}]}}

Wherever people replied and two or more replies of the assistant carry a rank (0 is the best), the
conversation so far is a prompt and the replies are its completions. The ranks are what Open-Assistant
made of several people's rankings, so there is one labeler. Deleted replies are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heedful.pairs.formats.files import read_rows
from heedful.pairs.formats.judgements import Item, completion, items, ranking
from heedful.pairs.formats.rows import LeftOut, Row, Say
from heedful.records import Message, Prompt

LABELER = "openassistant"
_ROLES = {"prompter": "user", "assistant": "assistant"}


def read(path: Path, criterion: str, say: Say = lambda _: None) -> Iterator[Item]:
    """Prompts, completions and a ranking for every place in the trees where replies are ranked."""

    def tree(row: Row) -> list[Item]:
        root = row.of_kind("prompt", dict)
        found = [item for node, path_here in _nodes(root, row) for item in _judged(node, path_here, criterion, row)]
        if not found:
            raise LeftOut("no two replies to one message are ranked")
        return found

    return items(read_rows(path), tree, path, say)


def _nodes(root: dict[str, Any], row: Row) -> Iterator[tuple[Row, list[Message]]]:
    """Each message of a tree with the conversation that ends in it. (Not recursive: a tree may be deeper than Python's stack.)"""
    waiting: list[tuple[Row, list[Message]]] = [(Row(root, row.number, row.path), [])]
    while waiting:
        node, before = waiting.pop()
        here = [*before, {"role": _ROLES.get(node.text("role"), node.text("role")), "content": node.text("text")}]
        yield node, here
        waiting += [(reply, here) for reply in reversed(_replies(node))]


def _judged(node: Row, conversation: list[Message], criterion: str, row: Row) -> Iterator[Item]:
    replies = [r for r in _replies(node) if r.values.get("rank") is not None and r.text("role") == "assistant"]
    if len(replies) < 2:
        return
    prompt_id = node.text("message_id")
    yield Prompt(prompt_id, conversation, columns={"message_tree_id": row.identifier("message_tree_id")})
    for reply in replies:
        yield completion(reply.text("message_id"), prompt_id, reply.text("text"), reply.identifier("model_name") or "person")
    ranks: dict[str, int | None] = {reply.text("message_id"): (reply.count("rank") or 0) + 1 for reply in replies}
    yield ranking(prompt_id, LABELER, ranks, criterion)


def _replies(node: Row) -> list[Row]:
    return [reply for reply in node.rows("replies") if not reply.values.get("deleted")]
