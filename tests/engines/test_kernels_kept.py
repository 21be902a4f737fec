"""What torch's library keeps for products of many sizes stays small."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux, to see how much memory a process takes")

PROGRAM = """
{first}
import torch
def taken():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) / 256
one = torch.ones(64, 64, dtype=torch.bfloat16)
torch.matmul(one, one)
before = taken()
for rows in range(1, 901):
    torch.matmul(torch.ones(rows, 64, dtype=torch.bfloat16), one)
print(taken() - before)
"""


def grown(first: str) -> float:
    """By how many MiB a process grows that multiplies in 900 sizes."""
    clean = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}  # these tests import heedful, too
    found = subprocess.run([sys.executable, "-c", PROGRAM.format(first=first)], capture_output=True, text=True, check=True, env=clean)
    return float(found.stdout)


def test_products_of_many_sizes_take_little_memory():
    """Where a product in bfloat16 is not the library's, there is nothing to save, and both take little."""
    plainly, ours = grown(""), grown("import heedful.engines")
    assert ours < 0.6 * plainly or plainly < 150


def test_whoever_set_it_is_obeyed():
    program = "import os, heedful.engines; print(os.environ['LRU_CACHE_CAPACITY'])"
    told = {**os.environ, "LRU_CACHE_CAPACITY": "7"}
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=told).stdout == "7\n"
