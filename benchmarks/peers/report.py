"""From what processes took to what is said: medians, ratios, the table and the JSON line of a row. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.peers.rows import TOLERANCE


@dataclass
class Taken:
    """What one contestant took, one entry per repeat: seconds of its work, the same of one core, peak bytes of its
    process, and the machine's highest load meanwhile."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)
    loads: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """One row. ``peers`` by variant, ``ours`` in the precision that suits the machine and in float32.

    ``share`` is the share of the machine's matrix-product rate that scoring and learning reach, ``decoding`` that of
    the time that bytes and operations allow, one entry per repeat. ``differences`` by precision and quantity.
    """

    row: str
    bars: tuple[float, float | None]
    """At least so many times quicker; at most this share of the memory, where the row has such a bar."""
    peers: Mapping[str, Taken]
    ours: Taken
    ours_float32: Taken
    share: Sequence[float]
    decoding: Sequence[float]
    differences: Mapping[str, Mapping[str, float]]

    @property
    def time_ratios(self) -> dict[str, float]:
        """The peer's time over ours, by the peer's variant."""
        return {name: median_ratio(taken.seconds, self.ours.seconds) for name, taken in self.peers.items()}

    @property
    def cpu_ratios(self) -> dict[str, float]:
        """The same of the seconds of a core: what a busy machine leaves comparable."""
        return {name: median_ratio(taken.cpu_seconds, self.ours.cpu_seconds) for name, taken in self.peers.items()}

    @property
    def memory_ratios(self) -> dict[str, float]:
        """Our peak over the peer's, by the peer's variant."""
        return {name: median_ratio(self.ours.peaks, taken.peaks) for name, taken in self.peers.items()}

    @property
    def max_difference(self) -> float:
        """Of everything that both sides computed on one batch, in float32."""
        return max(self.differences["float32"].values())

    @property
    def load(self) -> float:
        """The highest."""
        return max(load for taken in (*self.peers.values(), self.ours, self.ours_float32) for load in taken.loads)

    @property
    def counts(self) -> bool:
        """A row whose results differ, in the precision that is timed or in float32, is no comparison."""
        return all(max(found.values()) <= TOLERANCE[precision] for precision, found in self.differences.items())

    @property
    def time_ratios_float32(self) -> dict[str, float]:
        """As ``time_ratios``, of ours in float32."""
        return {name: median_ratio(taken.seconds, self.ours_float32.seconds) for name, taken in self.peers.items()}

    def to_json(self) -> str:
        """One line. ``time_ratio`` is against the peer's quickest variant, ``memory_ratio`` against its leanest."""
        found: dict[str, Any] = {
            "row": self.row,
            "time_ratio": significant(min(self.time_ratios.values())),
            "time_ratio_float32": significant(min(self.time_ratios_float32.values())),
            "memory_ratio": significant(max(self.memory_ratios.values())),
            "share_of_limit": significant(median(self.share)),
            "max_difference": significant(self.max_difference),
            "share_of_limit_decoding": significant(median(self.decoding)) if self.decoding else None,
            "max_difference_bfloat16": significant(max(self.differences["bfloat16"].values())),
            "bar": self.bars[0],
            "cpu_ratio": significant(min(self.cpu_ratios.values())),
            "time_ratios": {name: significant(ratio) for name, ratio in self.time_ratios.items()},
            "cpu_ratios": {name: significant(ratio) for name, ratio in self.cpu_ratios.items()},
            "memory_ratios": {name: significant(ratio) for name, ratio in self.memory_ratios.items()},
            "load": significant(self.load),
            "repeats": len(self.ours.seconds),
            "counts": self.counts,
        }
        return json.dumps(found)

    def lines(self, peer: str, meanings: Mapping[str, str], precision: str) -> list[str]:
        """For people."""
        contestants = [(f"{peer}, {name}", taken, meanings[name]) for name, taken in self.peers.items()]
        contestants += [(f"heedful, {precision}", self.ours, ""), ("heedful, float32", self.ours_float32, "")]
        found = ["| side | seconds: median (min-max) | seconds of a core | peak GiB | |", "|---|---|---|---|---|"]
        for name, taken, meaning in contestants:
            figures = (taken.seconds, taken.cpu_seconds, [peak / 2**30 for peak in taken.peaks])
            found.append(f"| {name} | {' | '.join(map(spread, figures))} | {meaning} |")
        found += [self._against(name) for name in self.peers]
        found.append(f"the machine's load (processes that want a core) was up to {self.load:.1f}: beyond its cores, seconds say little")
        found.append(f"scoring and learning at {median(self.share):.0%} of the matrix-product rate measured in the same run")
        if self.decoding:
            found.append(f"decoding at {median(self.decoding):.0%} of what bytes and operations allow")
        for name, gap in self.differences["float32"].items():
            drift = self.differences["bfloat16"][name]
            allowed = f"(allowed: {TOLERANCE['float32']:.0e} and {TOLERANCE['bfloat16']:.0e})"
            found.append(f"largest difference in {name}: {gap:.1e} in float32, {drift:.1e} in bfloat16 {allowed}")
        return [*found, "" if self.counts else "DOES NOT COUNT: the two sides compute different things"]

    def _against(self, variant: str) -> str:
        """A bar is met by seconds and by seconds of a core, or it is not: other work on the machine must not help anybody."""
        ratio, cores, memory = self.time_ratios[variant], self.cpu_ratios[variant], self.memory_ratios[variant]
        quicker, leaner = self.bars
        wide = self.time_ratios_float32[variant]
        times = f"{ratio:.2f} times quicker ({cores:.2f} by seconds of a core; {wide:.2f} in float32)"
        times += f", bar {quicker:g}: {met(min(ratio, cores) >= quicker)}"
        bar = "" if leaner is None else f", bar {leaner:g}: {met(memory <= leaner)}"
        return f"{variant}: {times}; {memory:.2f} of the memory{bar}"


def met(is_met: bool) -> str:
    """In a word."""
    return "met" if is_met else "missed"


def median_ratio(above: Sequence[float], below: Sequence[float]) -> float:
    """The median of the ratios of the repeats: what slowed a whole repeat down falls out."""
    return median(a / b for a, b in zip(above, below, strict=True))


def spread(values: Sequence[float]) -> str:
    """``median (min-max)``."""
    return f"{median(values):.2f} ({min(values):.2f}-{max(values):.2f})"


def significant(value: float, digits: int = 3) -> float:
    """Rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")
