"""Main memory between the phases of a run.

A rollout and an update ask for blocks of other sizes, and what one leaves behind does not fit the
other: left alone, a process grows by half over a few iterations. Between phases, memory that is
free goes back to the system.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    """glibc's ``malloc_trim``; ``None`` where there is no glibc."""
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim if sys.platform.startswith("linux") else None
    except (OSError, AttributeError):
        return None


def give_back_free_memory() -> None:
    """Let the system have what is free."""
    trim = _trim()
    if trim is not None:
        trim(0)
