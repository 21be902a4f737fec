"""Long work beside the answering of requests: one piece at a time, the same piece never twice at once."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from heedful.errors import HeedfulError

_log = logging.getLogger("heedful.web")


class Worker:
    """A thread that is started when there is something to do."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._names = threading.Lock()
        self._waiting: dict[str, threading.Thread] = {}

    def start(self, name: str, work: Callable[[], object]) -> None:
        """Do some work, unless work of that name waits or goes on already."""
        with self._names:
            if name in self._waiting:
                return
            thread = threading.Thread(target=self._do, args=(name, work), name=f"heedful {name}", daemon=True)
            self._waiting[name] = thread
        thread.start()

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
            _log.warning("figures of %s were not worked out: %s", name, problem)
        except Exception:
            _log.exception("figures of %s were not worked out", name)
        finally:
            with self._names:
                self._waiting.pop(name, None)
