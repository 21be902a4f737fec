"""Memory, within the phases of a run and between them, and what is done when it runs out.

Left alone, glibc gives memory back to the system whenever much of it is free, so that every
micro-batch asks the system for the same pages again, and the system fills them with zeros again: up to a
quarter of the time of a small model. So within a phase free memory is kept.

A rollout and an update ask for blocks of other sizes, and what one leaves behind does not fit the
other: a process would grow by half over a few iterations. So between phases free memory goes back.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import torch

from heedful.errors import DeviceProblem

Found = TypeVar("Found")

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


def with_less(work: Callable[[int], Found], budget: int, smallest: int, say: Callable[[str], None]) -> tuple[Found, int]:
    """``work(budget)``, with half the budget of tokens whenever memory runs out; and the budget that sufficed.

    Raises ``DeviceProblem`` where as few as ``smallest`` are too many.
    """
    while True:
        try:
            return work(budget), budget
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if budget <= smallest:
                raise out_of_memory(budget) from None
        budget = max(smallest, budget // 2)
        say(f"Memory ran out: going on with {budget} tokens at once.")


def is_out_of_memory(error: BaseException) -> bool:
    """Does the error say that memory ran out? On a CPU torch has no kind of its own for that."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def out_of_memory(tokens: int) -> DeviceProblem:
    """There is not enough memory even for little."""
    return DeviceProblem(
        f"memory ran out with as few as {tokens} tokens at once",
        "Use a smaller model, adapters (lora.enabled), bfloat16 (model.precision), shorter prompts, or a machine with more memory.",
    )
