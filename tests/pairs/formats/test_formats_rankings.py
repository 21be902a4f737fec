"""Raw rankings: nothing is lost; what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from formats_strategies import streams
from hypothesis import given, settings

from heedful.errors import DataProblem
from heedful.pairs.formats import rankings
from heedful.pairs.formats.judgements import Item, by_prompt, gather
from heedful.records import Completion, Labeler, Prompt, Ranking, write_jsonl

PROMPT = {"record": "prompt", "id": "p", "prompt": "Ask."}
COMPLETION = {
    "record": "completion",
    "id": "a",
    "prompt_id": "p",
    "text": "t",
    "token_ids": [],
    "finish_reason": "stop",
    "seed": 0,
    "model": "m",
}
RANKING = {
    "prompt_id": "p",
    "labeler": "x",
    "completion_ids": ["a", "b"],
    "ranks": [1, None],
    "criterion": "h",
    "instructions_version": "v",
}


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    path = folder / "raw.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".json"])
@given(stream=streams())
@settings(max_examples=40)
def test_everything_comes_back(tmp_path_factory: pytest.TempPathFactory, ending: str, stream: list[Item]) -> None:
    """Labelers and strata, reasons, times, purposes, versions, token ids: every field of every record, in order."""
    path = tmp_path_factory.mktemp("raw") / f"raw{ending}"
    assert rankings.write(path, iter(stream)) == len(stream)
    assert list(rankings.read(path)) == stream


def test_rows_without_a_kind_are_rankings_or_what_is_said(tmp_path: Path) -> None:
    one = Ranking("p", "x", ["a", "b"], [2, 1], "h", "v", judged_at="2025-01-01T00:00:00Z")
    write_jsonl(tmp_path / "rankings.jsonl", [one])
    assert list(rankings.read(tmp_path / "rankings.jsonl")) == [one]
    answer = Completion("a", "p", "t", [1], "stop", 2, "m")
    write_jsonl(tmp_path / "completions.jsonl", [answer])
    assert list(rankings.read(tmp_path / "completions.jsonl", default="completion")) == [answer]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**RANKING, "completion_ids": ["a"], "ranks": [1]}, "row 2 of .* ranks 1 completion"),
        ({**RANKING, "ranks": [1]}, "row 2 of .* is no ranking: 2 completions but 1 ranks"),
        ({**RANKING, "ranks": [0, 1]}, "ranks start at 1"),
        ({**RANKING, "completion_ids": ["a", "a"]}, "stands twice"),
        ({**RANKING, "completion_ids": "ab"}, "'completion_ids': Input should be a valid list"),
        ({**RANKING, "purpose": "fun"}, "'purpose': Input should be 'overlap'"),
        ({"prompt_id": "p"}, r"no ranking: 'labeler': Field required\. Each row is .\"prompt_id\", \"labeler\""),
        ({"record": "rankin", "id": "p"}, "'record' in row 2 .* is 'rankin'. Did you mean 'ranking'"),
        ({**PROMPT, "prompt": "Other."}, "row 2 of .* has the prompt id 'p', which already stands for another text"),
        ({**COMPLETION, "token_ids": ["x"]}, "row 2 of .* is no completion: 'token_ids'"),
        ({"record": "labeler"}, "row 2 of .* is no labeler: 'name': Field required"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataProblem, match=message):
        list(rankings.read(written(tmp_path, PROMPT, row)))


def test_an_id_stands_for_one_text(tmp_path: Path) -> None:
    assert len(list(rankings.read(written(tmp_path, PROMPT, COMPLETION, PROMPT, COMPLETION)))) == 4, "the same once more is no harm"
    with pytest.raises(DataProblem, match=r"row 3 of .* has the completion id 'a', which already stands for another text"):
        list(rankings.read(written(tmp_path, PROMPT, COMPLETION, {**COMPLETION, "text": "u"})))
    with pytest.raises(DataProblem, match="give no judgements: of 0 rows"):
        list(rankings.read(written(tmp_path)))


@given(streams())
@settings(max_examples=30)
def test_a_stream_falls_apart_by_prompt(stream: list[Item]) -> None:
    together = [[j.prompt, *j.completions, *j.rankings, *j.thumbs, *j.corrections] for j in by_prompt(stream)]
    assert [item for group in together for item in group] == [item for item in stream if not isinstance(item, Labeler)]
    found = gather(stream)
    assert list(found.prompts.values()) == [item for item in stream if isinstance(item, Prompt)]
    assert found.rankings == [item for item in stream if isinstance(item, Ranking)]
    assert list(found.labelers.values()) == [item for item in stream if isinstance(item, Labeler)]


def test_a_judgement_stands_below_its_prompt() -> None:
    p, q, one = Prompt("p", "a"), Prompt("q", "b"), Ranking("p", "x", ["a", "b"], [1, 2], "h", "v")
    with pytest.raises(DataProblem, match="record 3, a ranking of prompt 'p', does not stand below that prompt"):
        list(by_prompt([p, q, one]))
    with pytest.raises(DataProblem, match="does not stand below"):
        list(by_prompt([one]))
    assert [len(j.rankings) for j in by_prompt([p, one, q, p, one])] == [1, 0, 1], "a prompt may come again"
