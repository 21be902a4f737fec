"""Frozen, hashed pairs: what a model was trained on can be shown, and cannot change unseen.

A snapshot is a folder with one ``<split>.jsonl`` per split and a ``snapshot.json`` that holds
their sha256, counts, how they were made and from what. Its own sha256 is over all of that, so
the same pairs made in the same way are the same snapshot, whenever and wherever it is written.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heedful.checkpoints import file_sha256
from heedful.errors import DataProblem, FileProblem
from heedful.records import Pair, PromptText, json_line, read_jsonl, write_atomically, write_jsonl

FORMAT = 1
MANIFEST = "snapshot.json"


@dataclass(frozen=True)
class Snapshot:
    """Pairs by split, the hash that names them, and ``made``: algorithm, version, parameters and parents."""

    folder: Path
    sha256: str
    pairs: dict[str, list[Pair]]
    made: dict[str, Any]

    @property
    def counts(self) -> dict[str, int]:
        """Number of pairs per split."""
        return {split: len(rows) for split, rows in self.pairs.items()}


def split_pairs(pairs: Sequence[Pair], held_out: float, seed: int = 0) -> dict[str, list[Pair]]:
    """Split into ``train`` and ``held_out``, by prompt and never by pair.

    Prompts stand in the order of a hash of their id and the seed; the first share ``held_out`` of
    them, at least one, is held out. Pairs without a prompt id go by their prompt's text.

    Raises DataProblem with fewer than two prompts, ValueError unless ``0 < held_out < 1``.
    """
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is a share between 0 and 1, got {held_out}")
    prompts = sorted({prompt_key(pair) for pair in pairs}, key=lambda key: hashlib.sha256(f"{seed}\n{key}".encode()).digest())
    if len(prompts) < 2:
        raise DataProblem(
            f"the {len(pairs)} pairs belong to {len(prompts)} prompt(s)", "Give pairs of at least two prompts, so that one can be held out."
        )
    size = min(max(1, round(held_out * len(prompts))), len(prompts) - 1)
    kept_apart = set(prompts[:size])
    split: dict[str, list[Pair]] = {"train": [], "held_out": []}
    for pair in pairs:
        split["held_out" if prompt_key(pair) in kept_apart else "train"].append(pair)
    return split


def prompt_key(pair: Pair) -> str:
    """The pair's prompt id, or a hash of its prompt where it has none."""
    return pair.prompt_id or prompt_hash(pair.prompt)


def prompt_hash(prompt: PromptText) -> str:
    """The first 16 digits of the sha256 of a prompt's text or messages."""
    return hashlib.sha256(_canonical(prompt).encode(errors="surrogatepass")).hexdigest()[:16]


def freeze(
    pairs_by_split: Mapping[str, Sequence[Pair]],
    folder: Path,
    parents: Mapping[str, str],
    algorithm: str = "majority",
    version: int | str = 1,
    parameters: Mapping[str, Any] | None = None,
) -> Snapshot:
    """Write a snapshot into ``folder``; ``snapshot.json`` comes last, so half of one never opens.

    Args:
        pairs_by_split: every split's pairs, each prompt in one split only.
        parents: what the pairs were made from, by name: a file's or another snapshot's sha256.
        algorithm, version, parameters: how they were made.

    Raises:
        DataProblem: a prompt is in two splits, a split's name is unfit for a file, or there are no pairs.
        FileProblem: the folder already holds another snapshot, which stays as it is, or cannot be written.
    """
    _check_splits(pairs_by_split)
    made = {"format": FORMAT, "algorithm": algorithm, "version": version, "parameters": dict(parameters or {}), "parents": dict(parents)}
    splits = {
        name: {"pairs": len(rows), "prompts": len({prompt_key(p) for p in rows}), "sha256": _hash(rows, folder / f"{name}.jsonl")}
        for name, rows in pairs_by_split.items()
    }
    name = _name(made, splits)
    _refuse_another(folder, name)
    for split, rows in pairs_by_split.items():
        write_jsonl(folder / f"{split}.jsonl", rows)
    manifest = {"sha256": name, **made, "splits": splits}
    write_atomically(folder / MANIFEST, (json.dumps(manifest, indent=2, ensure_ascii=False) + "\n").encode())
    return Snapshot(folder, name, {split: list(rows) for split, rows in pairs_by_split.items()}, made)


def open_snapshot(folder: Path) -> Snapshot:
    """Read a snapshot and verify every hash; raises FileProblem where something is missing or has changed."""
    manifest = _manifest(folder)
    try:
        made = {key: manifest[key] for key in ("format", "algorithm", "version", "parameters", "parents")}
        splits, name = manifest["splits"], manifest["sha256"]
        expected = {split: facts["sha256"] for split, facts in splits.items()}
    except (KeyError, TypeError, AttributeError):
        raise _damaged(folder / MANIFEST) from None
    if _name(made, splits) != name:
        raise _damaged(folder / MANIFEST)
    return Snapshot(folder, name, {split: _verified(folder / f"{split}.jsonl", sha256) for split, sha256 in expected.items()}, made)


def _check_splits(pairs_by_split: Mapping[str, Sequence[Pair]]) -> None:
    home: dict[str, str] = {}
    for split, rows in pairs_by_split.items():
        if not re.fullmatch(r"[A-Za-z0-9_-]+", split):
            raise DataProblem(f"{split!r} is no name for a split", "Use letters, digits, - and _ only.")
        for pair in rows:
            if home.setdefault(prompt_key(pair), split) != split:
                what = f"prompt {prompt_key(pair)!r} has pairs in {home[prompt_key(pair)]!r} and in {split!r}"
                raise DataProblem(what, "Split by prompt, so that no prompt is both trained on and tested.")
    if not home:
        raise DataProblem("there are no pairs to freeze", "Collect feedback in which some completions are preferred over others.")


def _refuse_another(folder: Path, name: str) -> None:
    if (folder / MANIFEST).exists() and (there := _manifest(folder).get("sha256")) != name:
        raise FileProblem(
            f"{folder} already holds the snapshot {str(there)[:12]}, which is other than {name[:12]}", "Choose another folder."
        )


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise FileProblem(f"there is no snapshot of pairs in {folder}", f"Name a folder that holds {MANIFEST}, or build the pairs again.")
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError:  # not JSON, or not UTF-8
        raise _damaged(path) from None
    if not isinstance(manifest, dict):
        raise _damaged(path)
    return manifest


def _verified(path: Path, sha256: str) -> list[Pair]:
    if not path.is_file() or file_sha256(path) != sha256:
        raise _damaged(path)
    return [Pair.from_dict(row) for row in read_jsonl(path)]


def _damaged(path: Path) -> FileProblem:
    return FileProblem(
        f"{path} is missing or not what it was when the snapshot was made",
        "Restore it from a copy, or build the pairs again in a new folder.",
    )


def _hash(rows: Sequence[Pair], path: Path) -> str:
    """The sha256 that :func:`heedful.records.write_jsonl` gives for the rows."""
    digest = hashlib.sha256()
    for number, row in enumerate(rows, 1):
        digest.update(json_line(row, number, path))
    return digest.hexdigest()


def _name(made: Mapping[str, Any], splits: Mapping[str, Any]) -> str:
    return hashlib.sha256(_canonical({**made, "splits": splits}).encode()).hexdigest()


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
