"""What is in a file of completions: how many per prompt, how many cut off, how long, how many the same."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from heedful.maths.statistics import wilson
from heedful.records import Completion


@dataclass
class _Seen:
    """Counts of one model's completions; texts are kept as hashes only."""

    per_prompt: Counter[str] = field(default_factory=Counter)
    texts: set[int] = field(default_factory=set)
    cut: int = 0
    empty: int = 0
    characters: int = 0
    tokens: int = 0
    longest: int = 0


def describe_completions(completions: Iterable[Completion]) -> list[dict[str, Any]]:
    """A row for each model, in the order in which they appear; nothing is kept of a completion but counts and a hash.

    ``cut off``: share that ended for want of room, with its 95 % interval. ``the same``: completions beyond
    the first that answer a prompt in the same words. ``most tokens`` is of one completion; 0 where no ids are known.
    """
    seen: dict[str, _Seen] = defaultdict(_Seen)
    for one in completions:
        row = seen[one.model]
        row.per_prompt[one.prompt_id] += 1
        row.texts.add(hash((one.prompt_id, one.text.strip())))
        row.cut += one.finish_reason == "length"
        row.empty += not one.text.strip()
        row.characters += len(one.text)
        row.tokens += len(one.token_ids)
        row.longest = max(row.longest, len(one.token_ids))
    return [_row(model, row) for model, row in seen.items()]


def _row(model: str, row: _Seen) -> dict[str, Any]:
    counts = row.per_prompt.values()
    total = row.per_prompt.total()
    return {
        "model": model,
        "completions": total,
        "prompts": len(row.per_prompt),
        "per prompt": {"least": min(counts), "median": median(counts), "most": max(counts)},
        "cut off": wilson(row.cut, total).to_dict(),
        "empty": row.empty,
        "the same": total - len(row.texts),
        "mean characters": row.characters / total,
        "mean tokens": row.tokens / total,
        "most tokens": row.longest,
    }
