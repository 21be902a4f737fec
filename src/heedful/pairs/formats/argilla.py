"""Argilla 2: records with a ranking question, as its server and its Python client write them.

    {"id": "p1", "fields": {"prompt": "...", "response_1": "...", "response_2": "..."}, "metadata": {},
     "responses": {"ranking": [{"value": [{"value": "response_2", "rank": 1}, ...], "user_id": "..."}]}, ...}

Values of the ranking question are names of fields, which are the completions. The server gives
``responses`` as a list per person; the client's ``to_json`` as above, its ``to_datasets`` flattened
(``ranking.responses``). **The client (2.8) leaves out the ranks and gives the names alone, in the order
of the question's options whatever people did** (argilla-io/argilla#5712). Names alone are taken for an
order, as they are when a script logged them; a file in which they never differ from the fields is refused.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from heedful.errors import DataProblem
from heedful.pairs.formats.files import read_rows, write_rows
from heedful.pairs.formats.judgements import Item, Judged, by_prompt, completion, find_prompt, items, ranking
from heedful.pairs.formats.rows import LeftOut, Row, Say, messages, useful
from heedful.records import Prompt, Ranking


class _Response(NamedTuple):
    question: str
    user: str
    value: Any


def read(path: Path, criterion: str, say: Say = lambda _: None, columns: Mapping[str, str] | None = None) -> Iterator[Item]:
    """Prompts, completions and rankings. ``columns``: ``prompt`` and ``ranking`` may name the field and the question.

    Raises DataProblem at the end where ranks are missing and every order is that of the fields.
    """
    named = columns or {}
    orders: Counter[bool] = Counter()

    def record(row: Row) -> list[Item]:
        fields = row.of_kind("fields", dict) if "fields" in row.values else {k: v for k, v in row.values.items() if "." not in k}
        answers = [r for r in _responses(row) if _is_ranking(r.value) and named.get("ranking", r.question) == r.question]
        if not answers:
            raise LeftOut("nobody ranked anything")
        options = list(dict.fromkeys(name for r in answers for name in _order(r.value)))
        if strange := [name for name in options if not isinstance(fields.get(name), str)]:
            what = f"{row.where} ranks {strange[0]!r}, which is none of its fields ({', '.join(map(str, fields))})"
            raise DataProblem(what, "Name the fields that hold completions as the ranking question names its values.")
        orders.update(r.value == sorted(r.value, key=list(fields).index) for r in answers if isinstance(r.value[0], str))
        others = {name: value for name, value in fields.items() if name not in options and name not in ("id", "status", "_server_id")}
        asked = find_prompt(others, named.get("prompt", ""), row.where)
        prompt = Prompt(_id(row), messages(asked, row.where) if isinstance(asked, list) else asked)
        shown = [completion(f"{prompt.id}/{name}", prompt.id, fields[name]) for name in fields if name in options]
        rankings = [ranking(prompt.id, r.user, _ranks(r.value, prompt.id, fields, row), criterion) for r in answers]
        return [prompt, *shown, *rankings]

    yield from items(read_rows(path), record, path, say)
    if orders[True] and not orders[False]:
        what = f"the rankings in {path} have no ranks, and all {orders[True]} are in the order of the fields"
        raise DataProblem(what, "Argilla's client loses the ranks: export the records from the server's API, which has them.")


def write(path: Path, stream: Iterable[Item], criterion: str, say: Say) -> int:
    """Records with ranks; returns their number. A ranking with an F does not fit and is left out."""
    return write_rows(path, useful(by_prompt(stream), lambda judged: _record(judged, criterion), f"prompts for {path}", "records", say))


def _responses(row: Row) -> Iterator[_Response]:
    """Submitted answers of a record, in whichever of the three ways."""
    given = row.values.get("responses")
    if isinstance(given, dict):  # the client's, nested
        for name in given:
            for one in Row(given, row.number, row.path).rows(name):
                yield _Response(name, one.identifier("user_id"), one.values.get("value"))
    elif given is not None:  # the server's
        for one in row.rows("responses"):
            if one.values.get("status", "submitted") == "submitted" and one.values.get("values"):
                for name, value in one.of_kind("values", dict).items():
                    yield _Response(name, one.identifier("user_id"), value.get("value") if isinstance(value, dict) else None)
    else:  # the client's, flattened
        for name in [name for name in row.values if name.endswith(".responses") and row.values[name]]:
            values = row.of_kind(name, list)
            parts = [f"{name}.users", f"{name}.status"]
            users, states = (row.of_kind(part, list) if row.values.get(part) else [None] * len(values) for part in parts)
            for user, value, state in zip(users, values, states, strict=False):
                if state in (None, "submitted"):
                    yield _Response(name.removesuffix(".responses"), str(user), value)


def _is_ranking(value: Any) -> bool:
    """Two or more names, or names with ranks."""
    if not isinstance(value, list) or len(value) < 2:
        return False
    return all(isinstance(v, str) for v in value) or all(isinstance(v, dict) and isinstance(v.get("value"), str) for v in value)


def _order(value: list[Any]) -> list[str]:
    return [v if isinstance(v, str) else v["value"] for v in value]


def _ranks(value: list[Any], prompt_id: str, fields: Mapping[str, Any], row: Row) -> dict[str, int | None]:
    """Ranks by completion id, in the order of the fields, which is the order in which Argilla shows them."""
    ranks = {name: number for number, name in enumerate(_order(value), 1)}
    for one in value:
        if isinstance(one, dict) and one.get("rank") is not None:
            ranks[one["value"]] = max(1, Row(one, row.number, row.path).count("rank") or 0)
    return {f"{prompt_id}/{name}": ranks[name] for name in fields if name in ranks}


def _id(row: Row) -> str:
    found = row.identifier("external_id") or row.identifier("id") or row.identifier("_server_id")
    if not found:
        raise DataProblem(f"{row.where} has no id", "Export the records with their ids.")
    return found


def _record(judged: Judged, criterion: str) -> dict[str, Any]:
    names = {c.id: f"response_{number}" for number, c in enumerate(judged.completions, 1)}
    rankings = [one for one in judged.rankings if one.criterion == criterion and one.purpose != "repeat"]
    answers = [_answer(one, judged, names) for one in rankings if None not in one.ranks]
    if not answers:
        raise LeftOut(f"no ranking by {criterion} is without an F" if rankings else f"nobody ranked by {criterion}")
    texts = {names[c.id]: c.text for c in judged.completions}
    return {
        "id": judged.prompt.id,
        "fields": {"prompt": judged.prompt.prompt, **texts},
        "metadata": {},
        "suggestions": {},
        "responses": {"ranking": answers},
        "vectors": {},
        "status": "completed",
        "_server_id": None,
    }


def _answer(one: Ranking, judged: Judged, names: Mapping[str, str]) -> dict[str, Any]:
    value = [{"value": names[judged.completion(name).id], "rank": rank} for name, rank in zip(one.completion_ids, one.ranks, strict=True)]
    user = uuid.uuid5(uuid.NAMESPACE_URL, f"heedful:{one.labeler}")  # Argilla knows people by a UUID only
    return {"value": value, "user_id": str(user)}
