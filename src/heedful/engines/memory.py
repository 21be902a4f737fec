"""Main memory, within the phases of a run and between them.

Left alone, glibc gives memory back to the system whenever much of it is free, so that every
micro-batch asks the system for the same pages again, and the system fills them with zeros again: up to a
quarter of the time of a small model. So within a phase free memory is kept.

A rollout and an update ask for blocks of other sizes, and what one leaves behind does not fit the
other: a process would grow by half over a few iterations. So between phases free memory goes back.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_THRESHOLD = 32 * 2**20
"""More is refused by some versions of glibc."""


@cache
def _glibc() -> Any:
    """The C library; ``None`` where it is not glibc."""
    try:
        library = ctypes.CDLL("libc.so.6") if sys.platform.startswith("linux") else None
    except OSError:
        return None
    return library if hasattr(library, "malloc_trim") else None


def keep_free_memory() -> None:
    """Let the process keep what is free until :func:`give_back_free_memory`."""
    if _glibc() is not None:
        _glibc().mallopt(M_MMAP_THRESHOLD, LARGEST_THRESHOLD)
        _glibc().mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def give_back_free_memory() -> None:
    """Let the system have what is free."""
    if _glibc() is not None:
        _glibc().malloc_trim(0)
