"""Users' own pairs, in both formats, and what is said of rows that are wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import DataProblem, FileProblem
from heedful.pairs.load import load_pairs
from heedful.records import Pair, write_jsonl

ROW = {"prompt": "Ask.", "chosen": "yes", "rejected": "no"}


def written(folder: Path, *rows: Any) -> Path:
    path = folder / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rows_become_pairs_with_equal_prompts_sharing_an_id(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hi."}]
    rows = [ROW, {**ROW, "p": 0.7, "prompt_id": 7}, {**ROW, "prompt": messages}, {**ROW, "rejected": "never", "other": [1]}]
    pairs = load_pairs(written(tmp_path, *rows))
    assert [(p.prompt, p.chosen, p.rejected, p.p) for p in pairs[:3]] == [
        ("Ask.", "yes", "no", 1),
        ("Ask.", "yes", "no", 0.7),
        (messages, "yes", "no", 1),
    ]
    assert pairs[1].prompt_id == "7"
    assert pairs[0].prompt_id == pairs[3].prompt_id != pairs[2].prompt_id
    assert pairs[0].prompt_id


def test_gzip_and_our_own_files(tmp_path: Path) -> None:
    pair = Pair("Ask.", "yes", "no", 0.8, 0.5, "p", "c", "r")
    write_jsonl(tmp_path / "a.jsonl", [pair])
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress((tmp_path / "a.jsonl").read_bytes()))
    assert load_pairs(tmp_path / "a.jsonl") == load_pairs(tmp_path / "a.jsonl.gz") == [pair]


def test_dialogues_are_split_at_the_last_assistant_turn(tmp_path: Path) -> None:
    start = "\n\nHuman: Hello\n\nAssistant: Hi, you.\n\nHuman: Two\nlines?\n\nAssistant:"
    (pair,) = load_pairs(written(tmp_path, {"chosen": start + " Yes.\n\nAnd more.", "rejected": start + " No."}))
    assert (pair.chosen, pair.rejected) == ("Yes.\n\nAnd more.", "No.")
    assert pair.prompt == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi, you."},
        {"role": "user", "content": "Two\nlines?"},
    ]


def test_useless_rows_are_counted_and_left_out(tmp_path: Path) -> None:
    asked, other = "\n\nHuman: A?\n\nAssistant:", "\n\nHuman: B?\n\nAssistant:"
    rows = [
        ROW,
        {**ROW, "rejected": "yes "},
        {**ROW, "chosen": " \n"},
        {**ROW, "rejected": ""},
        {"chosen": asked + " 1", "rejected": other + " 2"},
        {"chosen": asked + " 1\n\nHuman: Thanks", "rejected": asked + " 2"},
        {"chosen": "\n\nAssistant: 1", "rejected": "\n\nAssistant: 2"},
    ]
    said: list[str] = []
    path = written(tmp_path, *rows)
    assert len(load_pairs(path, said.append)) == 1
    assert said == [
        f"1 of 7 rows of {path} were left out: both completions are the same.",
        f"2 of 7 rows of {path} were left out: a completion is empty.",
        f"1 of 7 rows of {path} were left out: the two dialogues differ before their last assistant turn.",
        f"1 of 7 rows of {path} were left out: the dialogue does not end with the assistant.",
        f"1 of 7 rows of {path} were left out: people and assistant do not take turns in the dialogue.",
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            {"prompt": "a", "choosen": "b", "rejected": "c"},
            r"row 2 of .* has no column 'chosen', only prompt, choosen, rejected.*'choosen'",
        ),
        ({"promt": "a", "chosen": "b", "rejected": "c"}, "has no column 'prompt'.*Did you mean 'promt'"),
        ({**ROW, "chosen": 3}, "'chosen' in row 2 .* is a int"),
        ({**ROW, "chosen": None}, "'chosen' in row 2 .* is a NoneType"),
        ({**ROW, "p": 1.5}, "p in row 2 .* is 1.5"),
        ({**ROW, "p": "often"}, "'p' in row 2 .* is 'often'"),
        ({**ROW, "p": float("nan")}, "'p' in row 2 .* is nan"),
        ({**ROW, "prompt": ""}, "the prompt in row 2"),
        ({**ROW, "prompt": [{"role": "user"}]}, "row 2 .* where a chat message should be"),
        ({**ROW, "prompt_id": [1]}, "'prompt_id' in row 2"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, row: dict[str, Any], expected: str) -> None:
    with pytest.raises(DataProblem, match=expected):
        load_pairs(written(tmp_path, ROW, row))


def test_files_that_give_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match="give no pairs: of 1 rows 1"):
        load_pairs(written(tmp_path, {**ROW, "chosen": "no"}))
    with pytest.raises(DataProblem, match="of 0 rows"):
        load_pairs(written(tmp_path))
    with pytest.raises(FileProblem, match="no file"):
        load_pairs(tmp_path / "absent.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}\n')
    with pytest.raises(FileProblem, match="UTF-8"):
        load_pairs(tmp_path / "latin.jsonl")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(json.dumps(ROW).encode() * 1000)[:-9])
    with pytest.raises(FileProblem, match="cut"):
        load_pairs(tmp_path / "cut.jsonl.gz")


def test_real_dialogues(shared: Path) -> None:
    path = shared / "data" / "preferences" / "hh_rlhf_harmless_base.jsonl.gz"
    rows = gzip.decompress(path.read_bytes()).splitlines()
    said: list[str] = []
    pairs = load_pairs(path, said.append)
    assert len(pairs) > 0.98 * len(rows)
    assert len(pairs) + sum(int(sentence.split()[0]) for sentence in said) == len(rows)
    assert all(isinstance(p.prompt, list) and p.prompt[-1]["role"] == "user" for p in pairs)
    assert all("\n\nHuman:" not in p.chosen + p.rejected for p in pairs)
