"""Memory that was freed is kept for the next tensor.

glibc gives large blocks back to the system at once, and the system clears every page of a new one:
for a training step on a CPU, which allocates the same sizes over and over, that costs a tenth of the time.
"""

from __future__ import annotations

import ctypes
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h


def keep_freed_memory() -> bool:
    """Ask glibc to keep blocks of up to 32 MiB (the most it allows); ``False`` where there is no glibc to ask."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(MMAP_THRESHOLD, 32 * 2**20)) and bool(mallopt(TRIM_THRESHOLD, 2**31 - 1))
