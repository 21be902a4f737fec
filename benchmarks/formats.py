"""How fast and in how much memory pairs are exported: one process per format, peak memory as the system saw it.

Time is the process's own (user and system), so that it means the same on a machine that does something else as well.

python benchmarks/formats.py               a million pairs in every format, and a tenth to show that memory does not grow
python benchmarks/formats.py --pairs 20000 --formats trl.jsonl,hh.jsonl
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from heedful.feedback.criteria import CRITERIA
from heedful.pairs.convert import Choices, convert, format_named
from heedful.pairs.formats.judgements import Item
from heedful.records import Completion, Pair, Prompt, Ranking

FORMATS = (
    "trl.jsonl",
    "trl.jsonl.gz",
    "trl.csv",
    "trl.parquet",
    "hh.jsonl",
    "rankings.jsonl",
    "openai.jsonl",
    "argilla.json",
    "label-studio.json",
)
LENGTHS = (300, 400)
"""Characters of a prompt and of a completion, about those of the HH data."""
GOAL = 20_000
MOST_SECONDS = 3600


def pairs(number: int) -> Iterator[Pair]:
    """Six pairs of four completions to a prompt, made as they are asked for."""
    asked, said = ("word " * 200)[: LENGTHS[0]], ("text " * 200)[: LENGTHS[1]]
    for k in range(number):
        prompt, which = divmod(k, 6)
        yield Pair(
            f"{prompt} {asked}", f"{which} {said}", f"{k} {said}", 0.75, 0.5, f"p{prompt}", f"c{k}", f"r{k}", 3, 1, 0, "helpfulness", "v"
        )


def judgements(number: int) -> Iterator[Item]:
    """As many rankings of four completions as give ``number`` pairs, one for each prompt."""
    asked, said = ("word " * 200)[: LENGTHS[0]], ("text " * 200)[: LENGTHS[1]]
    for k in range(-(-number // 6)):
        ids = [f"p{k}:{i}" for i in range(4)]
        yield Prompt(f"p{k}", f"{k} {asked}")
        yield from (Completion(name, f"p{k}", f"{name} {said}", [], "stop", 0, "m") for name in ids)
        yield Ranking(f"p{k}", "ann", ids, [2, 1, 4, 3], "helpfulness", "v", active_ms=9000, judged_at="2025-01-01T00:00:00Z")


def measure(name: str, number: int, folder: Path) -> dict[str, float]:
    """Write ``number`` pairs in this process, or with the name ``convert`` turn raw rankings into a trainer's pairs."""
    choices = Choices(CRITERIA["helpfulness"])
    if name == "convert":
        _write("rankings", folder / "rankings.jsonl", number, choices)
        began = time.process_time()
        rows, path = convert(folder / "rankings.jsonl", folder / "trl.jsonl", "rankings", "trl", choices), folder / "trl.jsonl"
    else:
        began, path = time.process_time(), folder / name
        rows = _write(name.partition(".")[0], path, number, choices)
    seconds = time.process_time() - began
    return {"rows": rows, "pairs_per_second": number / seconds, "peak_mb": _megabytes(), "file_mb": path.stat().st_size / 2**20}


def _write(format_name: str, path: Path, number: int, choices: Choices) -> int:
    known = format_named(format_name)
    assert known.write is not None
    return known.write(path, pairs(number) if known.holds == "pairs" else judgements(number), choices)


def _megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_its_own_process(name: str, number: int) -> dict[str, float]:
    """So that no other format's memory is counted."""
    command = [sys.executable, __file__, "--pairs", str(number), "--only", name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, check=True)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--formats", default=",".join([*FORMATS, "convert"]), help="as FORMAT.ENDING, separated by commas")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.only:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(chosen.only, chosen.pairs, Path(folder))))
        return
    print("| format | pairs | rows | pairs/s | peak MB | peak MB of a tenth | file MB |\n|---|---|---|---|---|---|---|")
    for name in chosen.formats.split(","):
        whole, tenth = (in_its_own_process(name, number) for number in (chosen.pairs, max(1, chosen.pairs // 10)))
        slow = "" if whole["pairs_per_second"] >= GOAL else " (below the goal)"
        figures = f"{whole['pairs_per_second']:,.0f}{slow} | {whole['peak_mb']:.0f} | {tenth['peak_mb']:.0f} | {whole['file_mb']:.0f}"
        print(f"| {name} | {chosen.pairs:,} | {whole['rows']:,.0f} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
