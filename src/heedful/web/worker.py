"""Long work beside the answering of requests: one piece at a time, the same piece never twice at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from heedful.errors import HeedfulError

MOST_PROBLEMS = 100
"""Problems that are kept for whoever asks."""
_log = logging.getLogger("heedful.web")


class Worker:
    """A thread that is started when there is something to do."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._names = threading.Lock()
        self._waiting: dict[str, threading.Thread] = {}
        self._problems: dict[str, HeedfulError] = {}

    def start(self, name: str, work: Callable[[], object]) -> None:
        """Do some work, unless work of that name waits or goes on already."""
        with self._names:
            if name in self._waiting:
                return
            self._problems.pop(name, None)
            thread = threading.Thread(target=self._do, args=(name, work), name=f"heedful {name}", daemon=True)
            self._waiting[name] = thread
        thread.start()

    def is_at(self, name: str) -> bool:
        """Whether work of that name waits, goes on, or has ended in a problem that nobody has heard of."""
        with self._names:
            return name in self._waiting or name in self._problems

    def join(self, name: str, seconds: float) -> None:
        """Wait for some work, no longer than so many seconds. Raises the problem that it ended in, once."""
        with self._names:
            thread = self._waiting.get(name)
        if thread:
            thread.join(seconds)
        with self._names:
            problem = self._problems.pop(name, None)
        if problem:
            raise problem

    def wait(self) -> None:
        """Until everything is done that was started."""
        with self._names:
            threads = list(self._waiting.values())
        for thread in threads:
            thread.join()

    def _do(self, name: str, work: Callable[[], object]) -> None:
        try:
            with self._turn:
                work()
        except HeedfulError as problem:
            _log.warning("%s: not worked out: %s", name, problem)
            with self._names:
                self._problems = dict([*self._problems.items(), (name, problem)][-MOST_PROBLEMS:])
        except Exception:
            _log.exception("%s: not worked out", name)
        finally:
            with self._names:
                self._waiting.pop(name, None)
