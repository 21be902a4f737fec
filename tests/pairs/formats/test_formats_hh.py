"""The HH format: what it can hold comes back, what it cannot is told."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from formats_strategies import TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.errors import DataProblem
from heedful.pairs.formats import hh
from heedful.pairs.formats.files import read_rows
from heedful.pairs.formats.rows import useful
from heedful.records import Message, Pair

STRIPPED = TEXTS.map(str.strip).filter(lambda text: "\n\nHuman:" not in text and "\n\nAssistant:" not in text)


@st.composite
def dialogues(draw: st.DrawFn) -> list[Message]:
    """People and assistant in turn, people first and last."""
    said = draw(st.lists(STRIPPED, min_size=1, max_size=5).filter(lambda texts: len(texts) % 2))
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(said)]


def read(path: Path) -> list[Pair]:
    return [hh.read_pair(row) for row in read_rows(path)]


@given(st.lists(st.tuples(dialogues(), STRIPPED, STRIPPED).filter(lambda row: row[1] != row[2]), min_size=1, max_size=4))
@settings(max_examples=60)
def test_dialogues_come_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[list[Message], str, str]]) -> None:
    given_pairs = [Pair(*row) for row in rows]
    path = tmp_path_factory.mktemp("hh") / "a.jsonl"
    assert hh.write_pairs(path, given_pairs, pytest.fail) == len(rows)
    assert read(path) == given_pairs


def test_the_format_by_hand(tmp_path: Path) -> None:
    hh.write_pairs(tmp_path / "a.jsonl", [Pair("Why? ", " Because.", "No.")], print)
    row = json.loads((tmp_path / "a.jsonl").read_text())
    assert row == {"chosen": "\n\nHuman: Why?\n\nAssistant: Because.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."}


def test_what_the_format_cannot_hold_is_told(tmp_path: Path) -> None:
    system = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    rows = [Pair("a", "b", "c"), Pair(system, "b", "c"), Pair("a", "b\n\nHuman: thanks", "c"), Pair(system[1:] * 2, "b", "c")]
    said: list[str] = []
    path = tmp_path / "a.jsonl"
    assert hh.write_pairs(path, rows, said.append) == 1
    assert said == [
        f"2 of 4 pairs for {path} were left out: people and assistant do not take turns in the dialogue.",
        f"1 of 4 pairs for {path} were left out: a text holds the mark of a turn itself.",
    ]
    with pytest.raises(DataProblem, match="give no dialogues"):
        hh.write_pairs(tmp_path / "b.jsonl", rows[1:], said.append)
    assert [p.name for p in tmp_path.iterdir()] == ["a.jsonl"]


@pytest.mark.parametrize("subset", ["harmless_base", "helpful_base", "helpful_online", "helpful_rejection_sampled"])
def test_anthropics_own_files_read_and_write_the_same(shared: Path, tmp_path: Path, subset: str) -> None:
    path = shared / "data" / "preferences" / f"hh_rlhf_{subset}.jsonl.gz"
    found = list(useful(read_rows(path), hh.read_pair, path, "pairs", lambda _: None))
    assert len(found) > 0.98 * len(gzip.decompress(path.read_bytes()).splitlines())
    assert hh.write_pairs(tmp_path / "a.jsonl", found, pytest.fail) == len(found)
    assert [(p.prompt, p.chosen, p.rejected) for p in read(tmp_path / "a.jsonl")] == [(p.prompt, p.chosen, p.rejected) for p in found]
