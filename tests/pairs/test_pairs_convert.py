"""From one format to another: what survives, what cannot be, and that nothing is half-written."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from heedful.errors import DataProblem, HeedfulError, SettingProblem
from heedful.feedback.criteria import CRITERIA
from heedful.pairs.convert import FORMATS, Choices, convert
from heedful.pairs.formats import hh, rankings, trl
from heedful.pairs.formats.files import read_rows
from heedful.pairs.formats.judgements import Item
from heedful.records import Completion, Correction, Pair, Prompt, Ranking, Thumb

FIXTURES = Path(__file__).parent / "formats" / "fixtures"
HELPFUL = Choices(CRITERIA["helpfulness"])


def two_prompts(criterion: str = "helpfulness") -> list[Item]:
    """Prompt r was only repeated; of p b is before a and c, who tie, and d is an F; of q all are Fs. A thumb and a correction."""
    only = [Prompt("r", "Ask r."), *(Completion(i, "r", f"text {i}", [], "stop", 0, "m") for i in ("ra", "rb"))]
    found: list[Item] = [*only, Ranking("r", "x", ["ra", "rb"], [1, 2], criterion, "v", purpose="repeat")]
    for prompt_id, ranks in (("p", [2, 1, 2, None]), ("q", [None, None, None, None])):
        ids = [f"{prompt_id}{name}" for name in "abcd"]
        found += [Prompt(prompt_id, f"Ask {prompt_id}."), *(Completion(i, prompt_id, f"text {i}", [], "stop", 0, "m") for i in ids)]
        found += [
            Ranking(prompt_id, "x", ids, ranks, criterion, "v"),
            Ranking(prompt_id, "x", ids, [1, 2, 3, 4], criterion, "v", purpose="repeat"),
        ]
    return [*found, Thumb("q", "x", "qa", True, criterion, "v"), Correction("q", "x", "qa", "Better.", criterion, "v")]


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    rankings.write(tmp_path / "raw.jsonl", two_prompts())
    return tmp_path / "raw.jsonl"


def pairs_of(path: Path) -> list[Pair]:
    return [trl.read_pair(row) for row in read_rows(path)]


def test_rankings_become_pairs_by_the_criterions_direction(tmp_path: Path, raw: Path) -> None:
    ranked = replace(HELPFUL, corrections=False)
    assert convert(raw, tmp_path / "a.jsonl", "rankings", "trl", ranked) == 5
    assert {(p.chosen, p.rejected, p.source) for p in pairs_of(tmp_path / "a.jsonl")} == {
        ("text pb", "text pa", "rank"),
        ("text pb", "text pc", "rank"),
        ("text pa", "text pd", "flag"),
        ("text pb", "text pd", "flag"),
        ("text pc", "text pd", "flag"),
    }
    worse = replace(HELPFUL, criterion=replace(CRITERIA["helpfulness"], higher_is="worse"), flags=False, corrections=False)
    assert convert(raw, tmp_path / "b.parquet", "rankings", "trl", worse) == 2
    assert {(p.chosen, p.rejected) for p in pairs_of(tmp_path / "b.parquet")} == {("text pa", "text pb"), ("text pc", "text pb")}
    assert convert(raw, tmp_path / "c.csv", "rankings", "trl", replace(ranked, ties=True)) == 6
    assert Counter(p.tie for p in pairs_of(tmp_path / "c.csv")) == {False: 5, True: 1}


def test_thumbs_and_corrections_become_pairs_where_nothing_was_ranked(tmp_path: Path, raw: Path) -> None:
    """Of q, whose rankings are Fs, the correction remains; of s, which nobody ranked, the thumbs."""
    ids = ["sa", "sb", "sc"]
    s = [Prompt("s", "Ask s."), *(Completion(i, "s", f"text {i}", [], "stop", 0, "m") for i in ids)]
    thumbs = [Thumb("s", "x", i, up) for i, up in zip(ids, (True, False, True), strict=True)]
    rankings.write(raw, [*two_prompts(), *s, *thumbs, Thumb("s", "y", "sa", False, "wit")])
    assert convert(raw, tmp_path / "a.csv", "rankings", "trl", HELPFUL) == 8
    found = {(p.chosen, p.rejected, p.source) for p in pairs_of(tmp_path / "a.csv")}
    beside = {("Better.", "text qa", "correction"), ("text sa", "text sb", "thumb"), ("text sc", "text sb", "thumb")}
    assert {row for row in found if row[2] not in ("rank", "flag")} == beside
    assert convert(raw, tmp_path / "b.jsonl", "rankings", "hh", replace(HELPFUL, corrections=False)) == 7


def test_rankings_become_unpaired_rows_and_demonstrations(tmp_path: Path, raw: Path) -> None:
    assert convert(raw, tmp_path / "a.jsonl", "rankings", "trl-unpaired", HELPFUL) == 6
    rows = [trl.read_unpaired(row) for row in read_rows(tmp_path / "a.jsonl")]
    assert {(r.completion, r.label, r.source) for r in rows} == {
        ("text pd", False, "flag"),
        ("text qa", True, "thumb"),
        *((f"text q{name}", False, "flag") for name in "abcd"),
    }
    assert convert(raw, tmp_path / "b.jsonl", "rankings", "trl-unpaired", replace(HELPFUL, flags=False)) == 1
    assert convert(raw, tmp_path / "c.jsonl", "rankings", "trl-sft", HELPFUL) == 1
    assert json.loads((tmp_path / "c.jsonl").read_text()) == {"prompt": "Ask q.", "completion": "Better.", "prompt_id": "q"}


@pytest.mark.parametrize(
    ("name", "format_name", "expected"),
    [
        ("argilla_server.json", "argilla", 3),
        ("label_studio_ranker.json", "label-studio", 1 + 1),
        ("label_studio_pairwise.json", "label-studio", 1),
        ("openai_comparisons.jsonl", "openai", 3),
    ],
)
def test_other_tools_files_become_pairs(tmp_path: Path, name: str, format_name: str, expected: int) -> None:
    """Counted by hand: where two people contradict each other there is no pair."""
    assert convert(FIXTURES / name, tmp_path / "a.jsonl", format_name, "trl", HELPFUL) == expected
    assert len(pairs_of(tmp_path / "a.jsonl")) == expected


def test_open_assistant_to_a_trainers_conversations(tmp_path: Path, shared: Path) -> None:
    source = shared / "data" / "preferences" / "oasst_ranked_trees_sample.jsonl.gz"
    rows = convert(source, tmp_path / "a.parquet", "openassistant", "trl", HELPFUL)
    pairs = pairs_of(tmp_path / "a.parquet")
    assert len(pairs) == rows > 400
    assert all(isinstance(p.prompt, list) and p.n_for == 1 and p.p == 1 for p in pairs)


def test_hh_to_parquet_and_back(tmp_path: Path, shared: Path) -> None:
    source = shared / "data" / "preferences" / "hh_rlhf_helpful_base.jsonl.gz"
    said: list[str] = []
    first = convert(source, tmp_path / "a.parquet", "hh", "trl", replace(HELPFUL, strict=True, say=said.append))
    assert said
    assert convert(tmp_path / "a.parquet", tmp_path / "b.jsonl.gz", "trl", "hh", HELPFUL) == first
    back = [hh.read_pair(row) for row in read_rows(tmp_path / "b.jsonl.gz")]
    assert [(p.prompt, p.chosen, p.rejected) for p in back] == [(p.prompt, p.chosen, p.rejected) for p in pairs_of(tmp_path / "a.parquet")]


def test_judgements_stay_judgements(tmp_path: Path, raw: Path) -> None:
    convert(raw, tmp_path / "tasks.json", "rankings", "label-studio", HELPFUL)
    convert(tmp_path / "tasks.json", tmp_path / "again.jsonl", "label-studio", "rankings", HELPFUL)
    before, after = (
        [r for r in rankings.read(path) if isinstance(r, Ranking) and r.purpose == "overlap"] for path in (raw, tmp_path / "again.jsonl")
    )
    assert [(r.prompt_id, r.labeler, r.completion_ids, r.ranks) for r in after] == [
        (r.prompt_id, r.labeler, r.completion_ids, r.ranks) for r in before
    ]


def test_what_cannot_become_the_other_is_refused(tmp_path: Path, raw: Path) -> None:
    refused = [
        ("trl", "rankings", "trl holds pairs, which cannot become the judgements of rankings. Choose one of trl, hh"),
        ("trl-sft", "trl", "trl-sft holds demonstrations, which cannot become the pairs of trl"),
        ("rankings", "openassistant", "openassistant is read, not written"),
        ("rankings", "trll", "no format 'trll'. Did you mean 'trl'"),
        ("huggingface", "trl", "no format 'huggingface'"),
    ]
    for source, target, message in refused:
        with pytest.raises(SettingProblem, match=message.replace(".", r"\.").replace("?", r"\?")):
            convert(raw, tmp_path / "a.jsonl", source, target, HELPFUL)
    assert [p.name for p in tmp_path.iterdir()] == ["raw.jsonl"]


@pytest.mark.parametrize("to_name", [name for name, format_name in FORMATS.items() if format_name.write and name != "rankings"])
def test_what_gives_nothing_is_told_and_leaves_nothing(tmp_path: Path, to_name: str) -> None:
    """Rankings, a thumb and a correction by another criterion."""
    rankings.write(tmp_path / "raw.jsonl", two_prompts("honesty"))
    with pytest.raises(DataProblem, match="give no"):
        convert(tmp_path / "raw.jsonl", tmp_path / "a.jsonl", "rankings", to_name, HELPFUL)
    assert [p.name for p in tmp_path.iterdir()] == ["raw.jsonl"]


@pytest.mark.parametrize("format_name", [name for name, format_name in FORMATS.items() if format_name.read])
def test_a_file_of_something_else_is_refused_with_its_row(tmp_path: Path, format_name: str) -> None:
    for name, text in (("other.jsonl", '{"url": "x", "text": 3}\n'), ("empty.jsonl", "")):
        (tmp_path / name).write_text(text)
        to_name = format_name if FORMATS[format_name].write else "trl"
        with pytest.raises(HeedfulError, match=rf"row 1 of .*{name}|{name} give no" if text else f"{name} give no|no rows to write"):
            convert(tmp_path / name, tmp_path / "a.jsonl", format_name, to_name, HELPFUL)
        assert not (tmp_path / "a.jsonl").exists()
