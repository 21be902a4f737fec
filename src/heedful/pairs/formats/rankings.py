"""Rankings as they were given: one record a line, nothing lost.

    {"record": "prompt", "id": "p1", "prompt": "..."}
    {"record": "completion", "id": "p1:instruct:0", "prompt_id": "p1", "text": "...", ...}
    {"record": "ranking", "prompt_id": "p1", "labeler": "ann", "completion_ids": [...], "ranks": [2, 1, null], "reasons": {...}, ...}

``labeler``, ``thumb`` and ``correction`` lines likewise; the columns are those of :mod:`heedful.records`.
A line without ``record`` is a ranking, so the files that ``heed run`` reads and writes open as well.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from heedful.errors import DataProblem, nearest
from heedful.pairs.formats.files import read_rows, write_rows
from heedful.pairs.formats.judgements import Item, items
from heedful.pairs.formats.rows import Row, Say
from heedful.records import Completion, Correction, Labeler, Prompt, Ranking, Record, Thumb

Kind = TypeVar("Kind", bound=Record)
KINDS: dict[str, type[Any]] = {
    "prompt": Prompt,
    "completion": Completion,
    "labeler": Labeler,
    "ranking": Ranking,
    "thumb": Thumb,
    "correction": Correction,
}
_NAMES = {kind: name for name, kind in KINDS.items()}


def read(path: Path, say: Say = lambda _: None, default: str = "ranking") -> Iterator[Item]:
    """Every record of a file; ``default`` is what a line without ``record`` is."""

    def record(row: Row) -> list[Item]:
        name = str(row.values.get("record", default))
        if name not in KINDS:
            raise DataProblem(f"'record' in {row.where} is {name!r}.{nearest(name, KINDS)}", f"It is one of {', '.join(KINDS)}.")
        return [make(KINDS[name], row)]

    return items(read_rows(path), record, path, say)


def write(path: Path, stream: Iterable[Item]) -> int:
    """Write records, each with its kind; returns their number."""
    return write_rows(path, ({"record": _NAMES[type(item)], **item.to_dict()} for item in stream))


def make(kind: type[Kind], row: Row) -> Kind:
    """A record from a row; raises DataProblem for what is missing or wrong in it."""
    from pydantic import ValidationError

    try:
        found = _checker(_NAMES[kind]).validate_python(row.values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"][:1]))
        fault = f"{place!r}: {first['msg']}" if place else first["msg"].removeprefix("Value error, ")
        raise DataProblem(f"{row.where} is no {kind.__name__.lower()}: {fault}", f"Each row is {_columns(kind)}.") from None
    if isinstance(found, Ranking) and len(found.completion_ids) < 2:
        what = f"{row.where} ranks {len(found.completion_ids)} completion"
        raise DataProblem(what, "A ranking compares two completions or more; judge one by a thumb.")
    return found


def _columns(kind: type[Record]) -> str:
    from dataclasses import MISSING, fields

    known = fields(kind)  # type: ignore[arg-type]
    needed = [f.name for f in known if f.default is MISSING and f.default_factory is MISSING]
    return "{" + ", ".join(f'"{name}"' for name in needed) + "}"


@functools.cache
def _checker(name: str) -> Any:
    from pydantic import TypeAdapter

    return TypeAdapter(KINDS[name])
