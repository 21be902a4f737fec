"""The same work on a peer and on heedful, alternating, each as a process of its own.

    python -m benchmarks.peers ROW|all [--repeats 3] [--size full|part|smoke] [--variants defaults,tuned] [--fresh]

Both sides load the same weights and token ids, make the same number of optimiser steps with the
same settings, and are timed from after imports and loading. The peak of memory is that of the
whole process. The machine's limits are measured once per repeat, between the contestants.

What has finished is kept (``benchmarks/.work``): a row that was interrupted goes on where it
stopped, and what changed since is run again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.flops import DecodingStep
from benchmarks.peers import kept, runs
from benchmarks.peers.environments import QUIET
from benchmarks.peers.report import Result, Taken
from benchmarks.peers.rows import CHECK, ROWS, SIZES, Row

WORK = runs.ROOT / "benchmarks" / ".work"


class Contest:
    """One row at one size."""

    def __init__(self, row: Row, size: str, variants: Sequence[str]) -> None:
        self.row, self.size, self.variants = row, size, [v for v in variants if v in row.variants]
        self.folder = WORK / f"{row.name}-{size}"
        self.settings, self.kept = row.settings(size), kept.Kept(self.folder / "kept")
        self.peers, self.ours, self.ours_float32 = {v: Taken() for v in self.variants}, Taken(), Taken()
        self.share: list[float] = []
        self.decoding: list[float] = []
        self.precision = "float32"
        self.rate, self.bandwidth = 0.0, 0.0

    def prepare(self, fresh: bool = False) -> None:
        """The peer's environment, and what both sides read: made once, and again when what makes it has changed."""
        self.row.environment.ensure()
        stamp, made_from = self.folder / "prepared", kept.fingerprint(kept.SHARED_CODE, self.settings)
        if fresh or not stamp.exists() or stamp.read_text() != made_from:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            self._ours("prepare", [self.row.name, self.size, self.folder], None)
            stamp.write_text(made_from)

    def check(self) -> dict[str, dict[str, float]]:
        """How far the two sides' numbers lie apart on one batch, by precision and quantity."""
        made_from = [*kept.SHARED_CODE, *self.row.code]
        expected, _ = self.kept.once(CHECK, kept.fingerprint(made_from, self.settings), partial(self._peer, CHECK))
        ours_made_from = self._ours_made_from([*self.row.code, kept.PEERS / "agreement.py"])
        found, _ = self.kept.once(f"heedful-{CHECK}", ours_made_from, partial(self._ours_variant, CHECK))
        assert expected.result
        return found.result["differences"]

    def repeat(self, number: int) -> None:
        """Every contestant once, in turn; every second time backwards, so that nobody always runs on a warmer machine."""
        turns: list[Callable[[int], None]] = [partial(self._time_peer, variant) for variant in self.variants]
        turns += [self._time_ours, self._time_float32]
        for turn in turns if number % 2 == 0 else turns[::-1]:
            turn(number)

    def _time_peer(self, variant: str, number: int) -> None:
        made_from = kept.fingerprint([*kept.SHARED_CODE, *self.row.code], self.settings)
        self._note(variant, self.kept.once(f"{variant}-{number}", made_from, partial(self._peer, variant)), self.peers[variant])

    def _time_float32(self, number: int) -> None:
        self._note("heedful float32", self._ours_once("float32", number), self.ours_float32)

    def _time_ours(self, number: int) -> None:
        finished, was_kept = self._ours_once("auto", number)
        self._note("heedful", (finished, was_kept), self.ours)
        self.precision = finished.result["precision"]
        self._measure_limits(number)
        parts = ("scoring", "learning")
        operations, seconds = (sum(finished.result[what][part] for part in parts) for what in ("operations", "phases"))
        self.share.append(operations / seconds / self.rate)
        if "new_tokens" in self.row.full:
            step = DecodingStep(**self._ours_once("decoding", number)[0].result["decoding"])
            self.decoding.append(step.share(self.rate, self.bandwidth))

    def _measure_limits(self, number: int) -> None:
        model, result = self.settings["model"], self.folder / "limits.json"
        sizes = [word for name in ("hidden", "intermediate", "vocabulary") for word in (f"--{name}", str(model[name]))]
        command: list[str | Path] = [sys.executable, "-m", "benchmarks.limits", result, "--precision", self.precision, *sizes]
        run = partial(runs.run, command, result, self.folder / "limits.log", _environment())
        found = self.kept.once(f"limits-{number}", self._ours_made_from(), run)[0].result
        self.rate, self.bandwidth = found["rate"], found["bandwidth"]
        rates = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in found["products"].items())
        print(f"  GFLOP/s in {self.precision}: {rates}; memory {self.bandwidth / 1e9:.1f} GB/s", flush=True)

    def _peer(self, variant: str) -> runs.Finished:
        environment, result = self.row.environment, self.folder / f"{variant}.json"
        command: list[str | Path] = [environment.python, "-m", f"benchmarks.peers.{self.row.script}", self.folder, result, variant]
        return runs.run(command, result, result.with_suffix(".log"), environment.variables())

    def _ours_once(self, variant: str, number: int) -> tuple[runs.Finished, bool]:
        return self.kept.once(f"heedful-{variant}-{number}", self._ours_made_from(), partial(self._ours_variant, variant))

    def _ours_made_from(self, more: Sequence[Path] = ()) -> str:
        return kept.fingerprint([*kept.our_code(), *more], self.settings)

    def _ours_variant(self, variant: str) -> runs.Finished:
        result = self.folder / f"heedful-{variant}.json"
        return self._ours("ours", [self.folder, result, variant], result)

    def _ours(self, script: str, words: Sequence[str | Path], result: Path | None) -> runs.Finished:
        command: list[str | Path] = [sys.executable, "-m", f"benchmarks.peers.{script}", *words]
        return runs.run(command, result, self.folder / f"heedful-{script}.log", _environment())

    def _note(self, name: str, once: tuple[runs.Finished, bool], taken: Taken) -> None:
        finished, was_kept = once
        found = finished.result
        taken.seconds.append(found["seconds"])
        taken.cpu_seconds.append(found["cpu_seconds"])
        taken.peaks.append(finished.peak)
        taken.loads.append(max(finished.load))
        load = f"load {finished.load[0]:.1f} to {finished.load[1]:.1f}{', kept' if was_kept else ''}"
        figures = f"{found['seconds']:.2f} s ({found['cpu_seconds']:.2f} s of a core), {finished.peak / 2**30:.2f} GiB"
        print(f"  {name}: {figures}, {found['optimiser_steps']} optimiser steps; {load}", flush=True)


def _environment() -> dict[str, str]:
    return {**os.environ, **QUIET}


def compare(row: Row, size: str, repeats: int, variants: Sequence[str], fresh: bool) -> bool:
    """Run a row and say what came out; whether it counts."""
    print(f"{row.name} ({size}): {row.work}", flush=True)
    if size != "full":
        print(f"  but: {', '.join(f'{name} {value}' for name, value in row.changes(size).items())}")
    print(f"  peer: {row.peer}; {runs.processor()}, {os.cpu_count()} cores, {kept.threads()} threads a process", flush=True)
    contest = Contest(row, size, variants)
    contest.prepare(fresh)
    differences = contest.check()
    for number in range(repeats):
        contest.repeat(number)
    bars = (row.bar, row.memory_bar)
    result = Result(row.name, bars, contest.peers, contest.ours, contest.ours_float32, contest.share, contest.decoding, differences)
    print("\n".join(result.lines(row.peer, row.variants, contest.precision)))
    print(result.to_json(), flush=True)
    return result.counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=[*ROWS, "all"])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--size", choices=SIZES, default="full", help="part: the same shapes, stops early; smoke: proof that it works")
    parser.add_argument("--variants", type=lambda text: text.split(","), default=["defaults", "tuned"])
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have finished")
    chosen = parser.parse_args()
    rows = list(ROWS.values()) if chosen.row == "all" else [ROWS[chosen.row]]
    try:
        counted = [compare(row, chosen.size, chosen.repeats, chosen.variants, chosen.fresh) for row in rows]
    except KeyboardInterrupt:
        raise SystemExit("\ninterrupted; what has finished is kept, the same command goes on") from None
    raise SystemExit(0 if all(counted) else 1)


if __name__ == "__main__":
    main()
