"""Ctrl-C is heard even where Python drops it."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading

import pytest

from heedful.cli.interrupt import insistent_ctrl_c

SWALLOWED = {
    "a destructor": """
        class Held:
            def __del__(self):
                signal.raise_signal(signal.SIGINT)
                time.sleep(0)

        Held()
        """,
    "a bare except": """
        try:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0)
        except:
            pass
        """,
}
PROGRAM = """
import signal, time
from heedful.cli.interrupt import insistent_ctrl_c
with insistent_ctrl_c({seconds}):
{swallow}
    for _ in range(60):
        time.sleep(0.05)
print("nobody heard it")
"""


def run(where: str, seconds: float) -> subprocess.CompletedProcess[str]:
    swallow = textwrap.indent(textwrap.dedent(SWALLOWED[where]), "    ")
    program = PROGRAM.format(seconds=seconds, swallow=swallow)
    restore = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    return subprocess.run(
        [sys.executable, "-c", "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n" + program],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=restore,
    )


@pytest.mark.parametrize("where", SWALLOWED)
def test_ctrl_c_that_was_swallowed_is_asked_again(where: str) -> None:
    lost = run(where, seconds=3600)
    assert (lost.returncode, lost.stdout) == (0, "nobody heard it\n"), "this place swallows it"
    heard = run(where, seconds=0.2)
    assert heard.returncode == -signal.SIGINT, heard.stderr
    assert heard.stdout == ""


def test_ctrl_c_ends_the_block_at_once_and_is_not_asked_again_after_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), insistent_ctrl_c(0.05):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        threading.Event().wait(0.2)
    finally:
        signal.signal(signal.SIGINT, before)


def test_who_decides_what_ctrl_c_means_keeps_deciding() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with insistent_ctrl_c(0.05):
            signal.raise_signal(signal.SIGINT)
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
