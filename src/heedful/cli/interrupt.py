"""Ctrl-C ends the work at whatever moment it is pressed.

Python turns Ctrl-C into ``KeyboardInterrupt`` wherever the program happens to be. Inside a
destructor, a weak reference's callback or a library's bare ``except`` it is swallowed, and the
work would go on as if nobody had asked.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def insistent_ctrl_c(seconds: float = 1.0) -> Iterator[None]:
    """Within this context Ctrl-C is asked again every ``seconds`` until it has ended the block.

    Does nothing where there are no timers (Windows), outside the main thread, or where somebody else
    decides what Ctrl-C means (a shell that told its background jobs to ignore it, a server with a
    handler of its own).
    """
    here = threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        raise KeyboardInterrupt

    before = {kind: signal.signal(kind, ask) for kind in (signal.SIGINT, signal.SIGALRM)}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for kind, handler in before.items():
            signal.signal(kind, handler)
