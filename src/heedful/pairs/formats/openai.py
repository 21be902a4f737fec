"""OpenAI's comparisons, as in summarize_from_feedback: which of two summaries a worker chose.

    {"info": {"id": "t3_...", "post": "...", "title": "...", "subreddit": "..."},
     "summaries": [{"text": "...", "policy": "...", "note": null}, {...}], "choice": 1,
     "worker": "...", "batch": "...", "split": "train", "extra": {}}

Each row becomes the post as a prompt, two completions in the order shown, and the worker's ranking of
them. Notes and confidence are not kept. Source: Stiennon et al. (2020); github.com/openai/summarize-from-feedback.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

from heedful.errors import DataProblem
from heedful.pairs.build import Criterion
from heedful.pairs.formats.files import read_rows, write_rows
from heedful.pairs.formats.judgements import Item, Judged, by_prompt, completion, items, ranking
from heedful.pairs.formats.rows import LeftOut, Row, Say, useful
from heedful.records import Prompt, Ranking, plain_text

_PARTS = (("subreddit", "SUBREDDIT: r/"), ("title", "TITLE: "), ("post", "POST: "), ("article", "Article: "))


def read(path: Path, criterion: str, say: Say = lambda _: None) -> Iterator[Item]:
    """A prompt, two completions and a ranking for every comparison; the chosen one holds more of the criterion."""

    def comparison(row: Row) -> list[Item]:
        info, summaries = row.of_kind("info", dict), row.rows("summaries")
        choice = row.get("choice")
        if len(summaries) != 2 or isinstance(choice, bool) or choice not in (0, 1):
            what = f"{row.where} chooses {choice!r} of {len(summaries)} summaries"
            raise DataProblem(what, "Each row compares two summaries, and its choice is 0 or 1.")
        prompt = Prompt(
            str(info.get("id") or _digest(str(info))), _asked(info, row), columns={"info": info, "split": row.values.get("split", "")}
        )
        shown = [completion(*_named(prompt.id, summary)) for summary in summaries]
        if shown[0].id == shown[1].id:
            raise LeftOut("both summaries are the same")
        ranks: dict[str, int | None] = {c.id: 1 if number == choice else 2 for number, c in enumerate(shown)}
        return [prompt, *shown, ranking(prompt.id, row.identifier("worker"), ranks, criterion)]

    return items(read_rows(path), comparison, path, say)


def write(path: Path, stream: Iterable[Item], criterion: Criterion, say: Say) -> int:
    """A comparison for every two completions that a labeler ranked differently, the preferred one chosen; returns their number."""
    rankings = ((judged, one) for judged in by_prompt(stream) for one in judged.rankings)

    def comparisons(given: tuple[Judged, Ranking]) -> list[dict[str, Any]]:
        found = list(_comparisons(*given, criterion))
        if not found:
            raise LeftOut(f"no two completions are ranked differently by {criterion.name}")
        return found

    return write_rows(path, (row for found in useful(rankings, comparisons, f"rankings for {path}", "comparisons", say) for row in found))


def _comparisons(judged: Judged, one: Ranking, criterion: Criterion) -> Iterator[dict[str, Any]]:
    if one.criterion != criterion.name or one.purpose == "repeat":
        return
    shown = {name: judged.completion(name) for name in one.completion_ids}
    summaries = {name: {"text": c.text, "policy": c.model, "note": None} for name, c in shown.items()}
    info = judged.prompt.columns.get("info") or {"id": judged.prompt.id, "post": plain_text(judged.prompt.prompt)}
    for (a, rank_a), (b, rank_b) in combinations(zip(one.completion_ids, one.ranks, strict=True), 2):
        first_wins = criterion.preferred(rank_a, rank_b)
        if first_wins is not None:
            row = {"info": info, "summaries": [summaries[a], summaries[b]], "choice": 0 if first_wins else 1, "worker": one.labeler}
            yield {**row, "batch": "", "split": judged.prompt.columns.get("split", ""), "extra": {}}


def _asked(info: dict[str, Any], row: Row) -> str:
    """The post as the paper put it to its models, or as it is where nothing but the post is known."""
    known = [(name, mark) for name, mark in _PARTS if info.get(name)]
    if not known or not all(isinstance(info[name], str) for name, _ in known):
        raise DataProblem(f"'info' in {row.where} holds no post and no article", "Check that it is a file of comparisons.")
    if [name for name, _ in known] == ["post"]:
        return str(info["post"])
    return "\n\n".join([*(mark + info[name] for name, mark in known), "TL;DR:"])


def _named(prompt_id: str, summary: Row) -> tuple[str, str, str, str]:
    """Id, prompt id, text and model of a summary; the id is made from the rest, as summaries come again in other comparisons."""
    text, model = summary.text("text"), summary.identifier("policy")
    return f"{prompt_id}/{_digest(model + chr(0) + text)}", prompt_id, text, model


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:12]
