"""What the machine can do at most, measured: matrix products and memory.

python -m benchmarks.limits RESULT --precision bfloat16 --hidden 384 --intermediate 1024 --vocabulary 8192
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from heedful.engines.local import SUITABLE

TOKENS = SUITABLE[True]
"""Rows of the products at a model's shapes: as many tokens as heedful computes at once on a CPU."""
LARGE = 2048
REPEATS = 7


@dataclass(frozen=True)
class Limits:
    """Operations per second of matrix products, by shape, and bytes per second of a large triad."""

    precision: str
    products: dict[str, float]
    bandwidth: float

    @property
    def rate(self) -> float:
        """The highest rate seen: no share of it flatters."""
        return max(self.products.values())


def measure(precision: torch.dtype, hidden: int, intermediate: int, vocabulary: int) -> Limits:
    """Of the processor. Each rate is that of the fastest of several repeats."""
    return Limits(str(precision).removeprefix("torch."), products(precision, hidden, intermediate, vocabulary), bandwidth())


def products(
    precision: torch.dtype, hidden: int, intermediate: int, vocabulary: int, device: str = "cpu", large: int = LARGE
) -> dict[str, float]:
    """Operations per second at a model's shapes, and of one large square product."""
    head_rows = max(16, 2**21 // vocabulary)
    shapes = {
        f"{TOKENS} x {hidden} x {hidden}": (TOKENS, hidden, hidden),
        f"{TOKENS} x {hidden} x {intermediate}": (TOKENS, hidden, intermediate),
        f"{TOKENS} x {intermediate} x {hidden}": (TOKENS, intermediate, hidden),
        f"{head_rows} x {hidden} x {vocabulary}": (head_rows, hidden, vocabulary),
        f"{large}^3": (large, large, large),
    }
    return {name: product_rate(*shape, precision, device) for name, shape in shapes.items()}


def product_rate(rows: int, inner: int, columns: int, precision: torch.dtype, device: str) -> float:
    """Operations per second of ``[rows, inner] @ [columns, inner]'``, as a linear layer computes it."""
    a = torch.randn(rows, inner, device=device, dtype=precision)
    b = torch.randn(columns, inner, device=device, dtype=precision)
    return 2 * rows * inner * columns / fastest(lambda: torch.nn.functional.linear(a, b), device)


def bandwidth(megabytes: int = 256) -> float:
    """Bytes per second of ``a = b + s c`` over arrays far larger than any cache (McCalpin's triad): two read, one written."""
    count = megabytes * 2**20 // 4
    a, b, c = (torch.ones(count) for _ in range(3))
    return 3 * 4 * count / fastest(lambda: torch.add(b, c, alpha=3.0, out=a), "cpu")


def clock() -> float:
    """Seconds. On one thread of a processor those of that thread: what else the machine does then lengthens nothing."""
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    return time.process_time() if alone else time.perf_counter()


def fastest(work: Callable[[], object], device: str, repeats: int = REPEATS) -> float:
    """Seconds of the fastest of several repeats, each long enough to be timed."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    work()
    wait()
    began = clock()
    work()
    wait()
    times = max(1, int(0.02 / max(clock() - began, 1e-6)))
    found = []
    for _ in range(repeats):
        began = clock()
        for _ in range(times):
            work()
        wait()
        found.append((clock() - began) / times)
    return min(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--precision", default="bfloat16")
    for name in ("hidden", "intermediate", "vocabulary"):
        parser.add_argument(f"--{name}", type=int, required=True)
    chosen = parser.parse_args()
    found = measure(getattr(torch, chosen.precision), chosen.hidden, chosen.intermediate, chosen.vocabulary)
    chosen.result.write_text(json.dumps({**asdict(found), "rate": found.rate}))


if __name__ == "__main__":
    main()
