"""The same work on a peer and on heedful, alternating, each as a process of its own.

    python -m benchmarks.peers ROW|all [--repeats 3] [--size full|smoke] [--variants defaults,tuned]

Both sides load the same weights and token ids, make the same number of optimiser steps with the
same settings, and are timed from after imports and loading. The peak of memory is that of the
whole process. The machine's limits are measured once per repeat, between the contestants.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.peers import runs
from benchmarks.peers.environments import QUIET
from benchmarks.peers.report import Result, Taken
from benchmarks.peers.rows import CHECK, ROWS, Row

WORK = runs.ROOT / "benchmarks" / ".work"


class Contest:
    """One row at one size."""

    def __init__(self, row: Row, size: str, variants: Sequence[str]) -> None:
        self.row, self.size, self.variants = row, size, [v for v in variants if v in row.variants]
        self.folder = WORK / f"{row.name}-{size}"
        self.peers, self.ours, self.ours_float32 = {v: Taken() for v in self.variants}, Taken(), Taken()
        self.share: list[float] = []
        self.decoding: list[float] = []
        self.precision = "float32"
        self.rate, self.bandwidth = 0.0, 0.0

    def prepare(self) -> None:
        """The peer's environment, and what both sides read."""
        self.row.environment.ensure()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self._ours("prepare", [self.row.name, self.size, self.folder], None)

    def check(self) -> dict[str, dict[str, float]]:
        """How far the two sides' numbers lie apart on one batch, by precision and quantity."""
        self._peer(CHECK)
        return self._ours_variant(CHECK).result["differences"]

    def repeat(self, number: int) -> None:
        """Every contestant once, in turn; every second time backwards, so that nobody always runs on a warmer machine."""
        turns = [*(partial(self._time_peer, variant) for variant in self.variants), self._time_ours, self._time_float32]
        for turn in turns if number % 2 == 0 else turns[::-1]:
            turn()

    def _time_peer(self, variant: str) -> None:
        self._note(variant, self._peer(variant), self.peers[variant])

    def _time_float32(self) -> None:
        self._note("heedful float32", self._ours_variant("float32"), self.ours_float32)

    def _time_ours(self) -> None:
        finished = self._ours_variant("auto")
        self._note("heedful", finished, self.ours)
        self.precision = finished.result["precision"]
        self._measure_limits()
        parts = ("scoring", "learning")
        operations, seconds = (sum(finished.result[what][part] for part in parts) for what in ("operations", "phases"))
        self.share.append(operations / seconds / self.rate)
        if "new_tokens" in self.row.full:
            step = self._ours_variant("decoding").result["decoding"]
            self.decoding.append(max(step["bytes"] / self.bandwidth, step["operations"] / self.rate) / step["seconds"])

    def _measure_limits(self) -> None:
        model, result = self.row.settings(self.size)["model"], self.folder / "limits.json"
        sizes = [word for name in ("hidden", "intermediate", "vocabulary") for word in (f"--{name}", str(model[name]))]
        command: list[str | Path] = [sys.executable, "-m", "benchmarks.limits", result, "--precision", self.precision, *sizes]
        found = runs.run(command, result, self.folder / "limits.log", _environment()).result
        self.rate, self.bandwidth = found["rate"], found["bandwidth"]
        rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in found["products"].items())
        print(f"  GFLOP/s in {self.precision}: {rates}; memory {self.bandwidth / 1e9:.1f} GB/s", flush=True)

    def _peer(self, variant: str) -> runs.Finished:
        environment, result = self.row.environment, self.folder / f"{variant}.json"
        command: list[str | Path] = [environment.python, "-m", f"benchmarks.peers.{self.row.script}", self.folder, result, variant]
        return runs.run(command, result, result.with_suffix(".log"), environment.variables())

    def _ours_variant(self, variant: str) -> runs.Finished:
        result = self.folder / f"heedful-{variant}.json"
        return self._ours("ours", [self.folder, result, variant], result)

    def _ours(self, script: str, words: Sequence[str | Path], result: Path | None) -> runs.Finished:
        command: list[str | Path] = [sys.executable, "-m", f"benchmarks.peers.{script}", *words]
        return runs.run(command, result, self.folder / f"heedful-{script}.log", _environment())

    def _note(self, name: str, finished: runs.Finished, taken: Taken) -> None:
        steps = finished.result["optimiser_steps"]
        taken.seconds.append(finished.result["seconds"]["total"])
        taken.peaks.append(finished.peak)
        print(f"  {name}: {taken.seconds[-1]:.2f} s, {finished.peak / 2**30:.2f} GiB, {steps} optimiser steps", flush=True)


def _environment() -> dict[str, str]:
    return {**os.environ, **QUIET}


def compare(row: Row, size: str, repeats: int, variants: Sequence[str]) -> bool:
    """Run a row and say what came out; whether it counts."""
    print(f"{row.name} ({size}): {row.work}\n  peer: {row.peer}; {runs.processor()} with {os.cpu_count()} cores", flush=True)
    contest = Contest(row, size, variants)
    contest.prepare()
    differences = contest.check()
    for number in range(repeats):
        contest.repeat(number)
    result = Result(row.name, contest.peers, contest.ours, contest.ours_float32, contest.share, contest.decoding, differences)
    print("\n".join(result.lines(row.peer, row.variants, contest.precision)))
    print(result.to_json(), flush=True)
    return result.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=[*ROWS, "all"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", choices=["full", "smoke"], default="full", help="smoke: minutes of proof that it works, no figures")
    parser.add_argument("--variants", type=lambda text: text.split(","), default=["defaults", "tuned"])
    chosen = parser.parse_args()
    rows = list(ROWS.values()) if chosen.row == "all" else [ROWS[chosen.row]]
    counted = [compare(row, chosen.size, chosen.repeats, chosen.variants) for row in rows]
    raise SystemExit(0 if all(counted) else 1)


if __name__ == "__main__":
    main()
