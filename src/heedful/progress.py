"""How far the work has come: a bar on a terminal, plain lines elsewhere, or nothing.

Stages take a ``Progress`` and know nothing about how it is shown. Everything goes to stderr, so
that results on stdout can be piped.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import IO, Any, Protocol


class Bar(Protocol):
    """One piece of work under way."""

    def advance(self, n: int = 1, **figures: float) -> None:
        """``n`` more units are done; ``figures`` such as ``score=1.2`` are shown beside the bar."""
        ...


class Progress(Protocol):
    """Where a stage tells how far it is."""

    def track(self, total: int | None, description: str) -> AbstractContextManager[Bar]:
        """A piece of work of ``total`` units begins; ``None`` when nobody knows how many, or what it consists of is tracked inside."""
        ...

    def say(self, line: str) -> None:
        """One sentence to the user."""
        ...


class SilentProgress:
    """Shows nothing; for tests and for use as a library."""

    @contextmanager
    def track(self, total: int | None, description: str) -> Iterator[Bar]:
        yield self

    def say(self, line: str) -> None: ...

    def advance(self, n: int = 1, **figures: float) -> None: ...


class RichProgress:
    """A bar with rate and time left on a terminal; otherwise a line at the start, every ``seconds`` and at the end."""

    def __init__(self, stream: IO[str] | None = None, seconds: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._seconds = seconds
        self._bars: Any = None

    def say(self, line: str) -> None:
        """Write a line, above the bar where there is one."""
        if self._bars is not None:
            self._bars.console.print(line, markup=False, highlight=False)
        else:
            self._stream.write(line + "\n")
            self._stream.flush()

    @contextmanager
    def track(self, total: int | None, description: str) -> Iterator[Bar]:
        """A bar, or lines; tracks may stand inside one another."""
        if self._stream.isatty():
            with self._bar(total, description) as bar:
                yield bar
        else:
            lines = _Lines(self.say, total, description, self._seconds)
            yield lines
            lines.end()

    @contextmanager
    def _bar(self, total: int | None, description: str) -> Iterator[Bar]:
        outermost = self._bars is None
        if outermost:
            self._bars = _rich_bars(self._stream)
            self._bars.start()
        task = self._bars.add_task(description, total=total, figures="")
        try:
            yield _RichBar(self._bars, task)
        finally:
            if total is None or not outermost:
                self._bars.remove_task(task)
            if outermost:
                self._bars.stop()
                self._bars = None


class _RichBar:
    def __init__(self, bars: Any, task: Any) -> None:
        self._bars, self._task = bars, task

    def advance(self, n: int = 1, **figures: float) -> None:
        shown = {"figures": _figures(figures)} if figures else {}
        self._bars.update(self._task, advance=n, **shown)


class _Lines:
    def __init__(self, say: Any, total: int | None, description: str, seconds: float) -> None:
        self._say, self._total, self._description, self._seconds = say, total, description, seconds
        self._done, self._figures = 0, ""
        self._began = self._spoke = time.monotonic()
        say(f"{description} ...")

    def advance(self, n: int = 1, **figures: float) -> None:
        self._done += n
        self._figures = _figures(figures) or self._figures
        if time.monotonic() - self._spoke >= self._seconds:
            self._spoke = time.monotonic()
            self._say(self._line())

    def end(self) -> None:
        if self._total is None and not self._done:
            return  # it never told how far it was: whoever tracked it says what came out
        self._say(f"{self._line()}, done in {_duration(time.monotonic() - self._began)}")

    def _line(self) -> str:
        rate = self._done / max(time.monotonic() - self._began, 1e-9)
        left = f", {_duration((self._total - self._done) / rate)} left" if self._total and 0 < self._done < self._total else ""
        of = f"/{self._total}" if self._total is not None else ""
        return f"{self._description}: {self._done}{of}, {rate:.3g}/s{left}{self._figures}"


def _figures(figures: dict[str, float]) -> str:
    return "".join(f", {name} {value:.4g}" for name, value in figures.items())


def _duration(seconds: float) -> str:
    """``75.3`` as ``1:15``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _rich_bars(stream: IO[str]) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars
    from rich.progress import Task as RichTask
    from rich.text import Text

    class RateColumn(ProgressColumn):
        def render(self, task: RichTask) -> Text:
            return Text(f"{task.speed:.3g}/s" if task.speed else "")

    text, figures = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[figures]}", markup=False)
    return Bars(text, BarColumn(), MofNCompleteColumn(), RateColumn(), TimeRemainingColumn(), figures, console=Console(file=stream))
