"""Read a user's own pairs: rows ``{"prompt", "chosen", "rejected", "p"?, "prompt_id"?}``, or dialogues in the HH text format.

The formats themselves are in :mod:`heedful.pairs.formats`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from heedful.pairs.formats import hh, trl
from heedful.pairs.formats.files import read_rows
from heedful.pairs.formats.rows import Row, useful
from heedful.pairs.snapshot import prompt_hash
from heedful.records import Pair


def load_pairs(path: Path, say: Callable[[str], None] = lambda _: None) -> list[Pair]:
    """The pairs of a file in its order; rows that cannot teach anything are left out.

    Left out are rows with an empty completion, with equal completions, and dialogues whose two
    sides do not answer the same turns. ``say`` receives a sentence with the number of each. A
    prompt without a ``prompt_id`` gets one from its text, so that equal prompts share it.

    Raises:
        FileProblem: the file cannot be read.
        DataProblem: a row lacks a column or holds something else than it should, or nothing is left.
    """
    return list(useful(read_rows(path), _pair, f"rows of {path}", "pairs", say))


def _pair(row: Row) -> Pair:
    pair = hh.read_pair(row) if hh.is_dialogue(row) else trl.read_pair(row)
    return pair if pair.prompt_id else replace(pair, prompt_id=prompt_hash(pair.prompt))
