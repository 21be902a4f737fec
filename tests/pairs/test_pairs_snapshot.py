"""Snapshots: the same content is the same snapshot, and any damage is seen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from heedful.errors import DataProblem, FileProblem
from heedful.pairs.snapshot import freeze, open_snapshot, split_pairs
from heedful.records import Pair

PAIRS = [
    Pair(f"Prompt {n}?", "gut – \u2028", f"bad {k}", 0.75, prompt_id=f"p{n}", chosen_id="c", rejected_id=f"r{k}")
    for n in range(50)
    for k in range(3)
]
SPLIT = {"train": PAIRS[:120], "held_out": PAIRS[120:]}
PARENTS = {"rankings": "0" * 64}


def test_what_is_written_is_what_opens(tmp_path: Path) -> None:
    frozen = freeze(SPLIT, tmp_path, PARENTS, "majority", 2, {"smoothing": 0.5})
    opened = open_snapshot(tmp_path)
    assert opened == frozen
    assert opened.pairs == SPLIT
    assert opened.counts == {"train": 120, "held_out": 30}
    assert opened.made["parents"] == PARENTS
    manifest = json.loads((tmp_path / "snapshot.json").read_text())
    assert manifest["splits"]["held_out"] == {
        "pairs": 30,
        "prompts": 10,
        "sha256": hashlib.sha256((tmp_path / "held_out.jsonl").read_bytes()).hexdigest(),
    }


def test_the_same_content_is_the_same_snapshot(tmp_path: Path) -> None:
    first = freeze(SPLIT, tmp_path / "a", PARENTS)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert freeze(SPLIT, tmp_path / "a", PARENTS).sha256 == freeze(SPLIT, tmp_path / "b", PARENTS).sha256 == first.sha256
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == before
    others = [
        freeze({**SPLIT, "held_out": PAIRS[120:149]}, tmp_path / "c", PARENTS),
        freeze(SPLIT, tmp_path / "d", {"rankings": "1" * 64}),
        freeze(SPLIT, tmp_path / "e", PARENTS, parameters={"smoothing": 1}),
        freeze(SPLIT, tmp_path / "f", PARENTS, version=2),
    ]
    assert len({snapshot.sha256 for snapshot in [first, *others]}) == 5


def test_another_snapshot_is_never_overwritten(tmp_path: Path) -> None:
    kept = freeze(SPLIT, tmp_path, PARENTS)
    with pytest.raises(FileProblem, match="already holds"):
        freeze({"train": PAIRS[:3]}, tmp_path, PARENTS)
    assert open_snapshot(tmp_path) == kept


@pytest.mark.parametrize("name", ["train.jsonl", "held_out.jsonl"])
def test_every_changed_or_missing_byte_of_pairs_is_seen(tmp_path: Path, name: str) -> None:
    freeze(SPLIT, tmp_path, PARENTS)
    data = bytearray((tmp_path / name).read_bytes())
    data[len(data) // 2] ^= 1
    for damaged in (bytes(data), bytes(data[:-1]), b""):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(FileProblem, match=name):
            open_snapshot(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileProblem, match=name):
        open_snapshot(tmp_path)


def test_a_changed_manifest_is_seen(tmp_path: Path) -> None:
    freeze(SPLIT, tmp_path, PARENTS)
    sound = (tmp_path / "snapshot.json").read_text()
    for damaged in (
        sound.replace('"majority"', '"dice"'),
        sound.replace('"pairs": 30', '"pairs": 31'),
        sound[:40],
        "[]",
        "{}",
        '{"splits": 3}',
    ):
        (tmp_path / "snapshot.json").write_text(damaged)
        with pytest.raises(FileProblem, match=r"snapshot\.json"):
            open_snapshot(tmp_path)
    with pytest.raises(FileProblem, match="no snapshot"):
        open_snapshot(tmp_path / "elsewhere")


def test_splits_are_by_prompt_and_follow_the_seed() -> None:
    split = split_pairs(PAIRS, 0.2, seed=1)
    assert {name: len(rows) for name, rows in split.items()} == {"train": 120, "held_out": 30}
    assert {p.prompt_id for p in split["train"]}.isdisjoint(p.prompt_id for p in split["held_out"])
    assert split == split_pairs(PAIRS, 0.2, seed=1)
    assert split != split_pairs(PAIRS, 0.2, seed=2)
    shuffled = split_pairs(PAIRS[::-1], 0.2, seed=1)
    assert {p.prompt_id for p in shuffled["held_out"]} == {p.prompt_id for p in split["held_out"]}


def test_small_sets_keep_a_prompt_on_either_side() -> None:
    assert {name: len(rows) for name, rows in split_pairs(PAIRS[:6], 0.01).items()} == {"train": 3, "held_out": 3}
    assert {name: len(rows) for name, rows in split_pairs(PAIRS[:6], 0.99).items()} == {"train": 3, "held_out": 3}
    with pytest.raises(DataProblem, match="two prompts"):
        split_pairs(PAIRS[:3], 0.2)


def test_pairs_without_ids_go_by_their_prompt() -> None:
    split = split_pairs([replace(p, prompt_id="") for p in PAIRS], 0.2)
    assert {p.prompt for p in split["train"]}.isdisjoint(p.prompt for p in split["held_out"])


def test_a_prompt_in_two_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match="'p39'"):
        freeze({"train": PAIRS[:119], "held_out": PAIRS[119:]}, tmp_path, PARENTS)
    with pytest.raises(DataProblem, match="no pairs"):
        freeze({"train": []}, tmp_path, PARENTS)
    with pytest.raises(DataProblem, match="name"):
        freeze({"../train": PAIRS}, tmp_path, PARENTS)
    assert not list(tmp_path.iterdir())
