"""Progress: lines where stderr is no terminal, a bar where it is, nothing when silent."""

from __future__ import annotations

import io
import re

from heedful.progress import Progress, RichProgress, SilentProgress, _duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def work(progress: Progress) -> None:
    progress.say("== policy")
    with progress.track(3, "updates") as outer:
        for _ in range(3):
            with progress.track(None, "sampling") as inner:
                inner.advance(2)
            progress.say("half [way]")
            outer.advance(score=1.25)


def test_plain_lines_without_a_terminal() -> None:
    stream = io.StringIO()
    work(RichProgress(stream, seconds=0.0))
    lines = stream.getvalue().splitlines()
    assert lines[:3] == ["== policy", "updates ...", "sampling ..."]
    assert re.fullmatch(r"updates: 3/3, .*/s, score 1\.25, done in 0:00", lines[-1])
    assert any(re.match(r"updates: 1/3, .* left, score 1\.25", line) for line in lines)
    assert "\x1b" not in stream.getvalue()


def test_lines_are_rare() -> None:
    stream = io.StringIO()
    with RichProgress(stream, seconds=1000).track(100, "x") as bar:
        for _ in range(100):
            bar.advance()
    assert len(stream.getvalue().splitlines()) == 2


def test_a_bar_on_a_terminal(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    work(RichProgress(stream))
    assert "\x1b[" in stream.getvalue()
    assert "3/3" in stream.getvalue()
    assert "score 1.25" in stream.getvalue()
    assert "half [way]" in stream.getvalue()  # brackets of the user's are no markup


def test_silence_and_durations(capsys) -> None:  # type: ignore[no-untyped-def]
    work(SilentProgress())
    assert capsys.readouterr() == ("", "")
    assert (_duration(75.3), _duration(3661)) == ("1:15", "1:01:01")


def staged(progress: Progress) -> None:
    with progress.track(None, "pairs"):
        progress.say("looking")
        with progress.track(2, "inner") as bar:
            bar.advance(2)
    progress.say("pairs: 7 pairs")


def test_work_that_only_holds_other_work_ends_without_a_line_of_its_own() -> None:
    stream = io.StringIO()
    staged(RichProgress(stream))
    lines = stream.getvalue().splitlines()
    assert lines[:3] == ["pairs ...", "looking", "inner ..."]
    assert lines[3].startswith("inner: 2/2")
    assert lines[4:] == ["pairs: 7 pairs"]


def test_on_a_terminal_a_stage_leaves_its_line_and_no_bar() -> None:
    stream = Terminal()
    staged(RichProgress(stream))
    assert "pairs" in stream.getvalue().partition("looking")[0]
    last = stream.getvalue().rpartition("pairs: 7 pairs")[0]
    assert "\u2501" not in last.rpartition("\x1b[2K")[2]
