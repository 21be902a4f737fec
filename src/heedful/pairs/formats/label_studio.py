"""Label Studio: tasks with annotations by the Ranker or the Pairwise tag, as its JSON export gives them.

    {"id": 1, "data": {"prompt": "...", "items": [{"id": "a", "body": "..."}, {"id": "b", "body": "..."}]},
     "annotations": [{"completed_by": 7, "lead_time": 12.5, "created_at": "...", "was_cancelled": false,
                      "result": [{"type": "ranker", "from_name": "rank", "to_name": "items", "value": {"ranker": {"rank": ["b", "a"]}}}]}]}

A Ranker without buckets gives an order. With buckets each is a rank: in the order of their numbers,
else in that of the file; a bucket ``F`` holds Fs, and ``_`` what was left lying. Pairwise gives
``{"selected": "left"}``. **A Ranker that nobody touched is stored in the order shown**, so reading tells
how many rankings are in it. Written are buckets ``1``, ``2``, ... and ``F``, which hold ties; versions,
reasons and purposes do not fit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from heedful.errors import DataProblem
from heedful.pairs.formats.files import read_rows, write_rows
from heedful.pairs.formats.judgements import Item, Judged, by_prompt, completion, find_prompt, items, ranking
from heedful.pairs.formats.rows import LeftOut, Row, Say, messages, useful
from heedful.records import Completion, Prompt, Ranking

SIDES = (("text1", "text2"), ("answer1", "answer2"), ("response1", "response2"), ("left", "right"))
"""Usual names of the two columns that Pairwise compares."""
Ranks = dict[str, int | None]


def read(path: Path, criterion: str, say: Say = lambda _: None, columns: Mapping[str, str] | None = None) -> Iterator[Item]:
    """Prompts, completions and rankings. ``columns``: ``prompt``, ``left`` and ``right`` may name columns of the tasks' data.

    At the end ``say`` receives how many rankings keep the order shown, where that is more than every second.
    """
    named = columns or {}
    untouched: Counter[bool] = Counter()

    def task(row: Row) -> list[Item]:
        data = row.of_kind("data", dict)
        texts, used = _texts(data, named, row)
        others = {name: value for name, value in data.items() if name not in ("prompt_id", *used)}
        asked = find_prompt(others, named.get("prompt", ""), row.where)
        prompt_id = Row(data, row.number, row.path).identifier("prompt_id") or row.identifier("id")
        # Ids of items need not differ between tasks, unless heedful wrote them.
        ids = {name: name if "prompt_id" in data else f"{prompt_id}/{name}" for name in texts}
        rankings = [
            ranking(
                prompt_id, _who(one), {ids[n]: ranks[n] for n in texts if n in ranks}, criterion, _ms(one), one.identifier("created_at")
            )
            for one, ranks in _annotations(row, texts)
        ]
        if not rankings:
            raise LeftOut("nobody ranked anything")
        untouched.update(one.ranks == list(range(1, len(one.ranks) + 1)) for one in rankings)
        prompt = Prompt(prompt_id, messages(asked, row.where) if isinstance(asked, list) else asked)
        return [prompt, *(completion(ids[name], prompt_id, text) for name, text in texts.items()), *rankings]

    yield from items(read_rows(path), task, path, say)
    if untouched[True] > untouched[False]:
        say(f"{untouched[True]} of {untouched.total()} rankings in {path} keep the order shown, which is also stored where nobody ranked.")


def write(path: Path, stream: Iterable[Item], criterion: str, say: Say) -> int:
    """Tasks with annotations by a Ranker with buckets; returns their number."""
    return write_rows(path, useful(by_prompt(stream), lambda judged: _task(judged, criterion), f"prompts for {path}", "tasks", say))


def _texts(data: Mapping[str, Any], named: Mapping[str, str], row: Row) -> tuple[dict[str, str], tuple[str, ...]]:
    """The completions of a task by the names that annotations give them, in the order shown, and the columns that hold them."""
    for name, value in data.items():
        if isinstance(value, list) and value and all(isinstance(one, dict) and "id" in one for one in value):
            return {str(one["id"]): str(one.get("body") or one.get("html") or one.get("title") or "") for one in value}, (name,)
    for sides in [(named["left"], named["right"])] if {"left", "right"} <= named.keys() else SIDES:
        if set(sides) <= data.keys():
            return dict(zip(("left", "right"), (str(data[side]) for side in sides), strict=True)), sides
    what = f"the data of {row.where} holds neither a list of items nor two texts to compare ({', '.join(data)})"
    raise DataProblem(what, "Name the two columns: --column left=NAME --column right=NAME.")


def _annotations(row: Row, texts: Mapping[str, str]) -> Iterator[tuple[Row, Ranks]]:
    """Each annotation that was not cancelled, with its ranks by item."""
    for one in row.rows("annotations"):
        for result in [] if one.values.get("was_cancelled") else one.rows("result"):
            value = result.of_kind("value", dict)
            ranks = _ranker(value["ranker"], row) if "ranker" in value else _pairwise(value.get("selected"))
            if unknown := ranks.keys() - texts.keys():
                raise DataProblem(f"{row.where} ranks {min(unknown)!r}, which is none of its items ({', '.join(texts)})", "Mend that task.")
            if len(ranks) > 1:
                yield one, ranks


def _ranker(value: Any, row: Row) -> Ranks:
    if isinstance(value, list):
        return {str(name): rank for rank, name in enumerate(value, 1)}
    if not isinstance(value, dict) or not all(isinstance(ids, list) for ids in value.values()):
        raise DataProblem(f"{row.where} has a ranker with {str(value)[:60]!r}", "It is a list of ids, or lists of ids by bucket.")
    if len(value) == 1 and "F" not in value:  # no buckets: the only key is the tag's name
        return _ranker(next(iter(value.values())), row)
    tiers = [(name, ids) for name, ids in value.items() if name not in ("F", "_")]
    numbered = all(name.isdecimal() and int(name) for name, _ in tiers)
    ranks: Ranks = {str(i): int(name) if numbered else place for place, (name, ids) in enumerate(tiers, 1) for i in ids}
    return ranks | {str(i): None for i in value.get("F", [])}


def _pairwise(selected: Any) -> Ranks:
    return {"left": 1, "right": 2} if selected == "left" else {"left": 2, "right": 1} if selected == "right" else {}


def _who(annotation: Row) -> str:
    by = annotation.values.get("completed_by")
    return str(by.get("email") or by.get("id")) if isinstance(by, dict) else annotation.identifier("completed_by")


def _ms(annotation: Row) -> int | None:
    seconds = annotation.number_or("lead_time", -1.0)
    return None if seconds < 0 else round(seconds * 1000)


def _task(judged: Judged, criterion: str) -> dict[str, Any]:
    done = [_annotation(one, judged) for one in judged.rankings if one.criterion == criterion and one.purpose != "repeat"]
    if not done:
        raise LeftOut(f"nobody ranked by {criterion}")
    shown: list[Completion] = judged.completions
    data = {"prompt_id": judged.prompt.id, "prompt": judged.prompt.prompt, "items": [{"id": c.id, "body": c.text} for c in shown]}
    return {"data": data, "annotations": done}


def _annotation(one: Ranking, judged: Judged) -> dict[str, Any]:
    buckets: dict[str, list[str]] = {}
    for rank in sorted({rank for rank in one.ranks if rank is not None}):
        buckets[str(rank)] = [judged.completion(name).id for name in one.completion_ids if one.rank_of(name) == rank]
    buckets["F"] = [judged.completion(name).id for name in one.completion_ids if one.rank_of(name) is None]
    result = {"type": "ranker", "from_name": "rank", "to_name": "items", "value": {"ranker": buckets}}
    return {
        "completed_by": {"email": one.labeler},
        "lead_time": None if one.active_ms is None else one.active_ms / 1000,
        "created_at": one.judged_at,
        "was_cancelled": False,
        "result": [result],
    }
