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

    Does nothing outside the main thread, or where somebody else decides what Ctrl-C means (a shell
    that told its background jobs to ignore it, a server with a handler of its own).
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    left = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if left.is_set():
            return
        again = threading.Timer(seconds, ask_again)
        again.daemon = True
        again.start()
        raise KeyboardInterrupt

    def ask_again() -> None:
        if not left.is_set():
            signal.raise_signal(signal.SIGINT)

    signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        left.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)
