"""Join the four parts of HH-RLHF into one file of pairs.

    python examples/reward_hh/prepare.py [--shared FOLDER] [--output runs/reward-hh-data]

Every row keeps the two dialogues as they are, says which part it comes from, and belongs to the
prompt that its first human turn makes: all that began alike falls on one side of the split.
"""

from __future__ import annotations

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from heedful.pairs.snapshot import prompt_hash
from heedful.records import read_jsonl, write_jsonl

SHARED = Path(os.environ.get("HEEDFUL_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
SUBSETS = ("harmless_base", "helpful_base", "helpful_online", "helpful_rejection_sampled")


def pairs(folder: Path) -> Iterator[dict[str, Any]]:
    """The rows of all four files; the ids of the completions name the subset."""
    for subset in SUBSETS:
        for row in read_jsonl(folder / f"hh_rlhf_{subset}.jsonl.gz"):
            yield {
                "subset": subset,
                "prompt_id": prompt_hash(first_turn(row["chosen"])),
                "chosen_id": f"{row['id']}/chosen",
                "rejected_id": f"{row['id']}/rejected",
                "chosen": row["chosen"],
                "rejected": row["rejected"],
            }


def first_turn(dialogue: str) -> str:
    """What the person said first, in small letters with single spaces."""
    found = re.match(r"\s*Human:(.*?)(\n\nAssistant:|\Z)", dialogue, re.DOTALL)
    return " ".join((found[1] if found else dialogue).lower().split())


def main() -> None:
    """Write pairs.jsonl and say what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the development data folder")
    parser.add_argument("--output", type=Path, default=Path("runs/reward-hh-data"), help="where to write")
    chosen = parser.parse_args()
    rows = list(pairs(chosen.shared / "data" / "preferences"))
    write_jsonl(chosen.output / "pairs.jsonl", rows)
    for subset, number in Counter(row["subset"] for row in rows).items():
        print(f"{subset:<26} {number:>5} pairs")
    print(f"{'in all':<26} {len(rows):>5} pairs of {len({row['prompt_id'] for row in rows})} prompts -> {chosen.output / 'pairs.jsonl'}")


if __name__ == "__main__":
    main()
