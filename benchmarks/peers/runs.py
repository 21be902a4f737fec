"""Run a process and see what it took.

Peak memory is that of the whole process, as the kernel counts it (``ru_maxrss``). A child starts
its life with its parent's peak, so the parent must stay small: nothing heavy is imported here.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def processor() -> str:
    """The name of this machine's processor."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


@dataclass(frozen=True)
class Finished:
    """What a process wrote to its result file, its peak memory in bytes, and how busy the machine was: the load
    (processes that want a core, the last minute's mean, this one's threads among them) before and after."""

    result: dict[str, Any]
    peak: int
    load: tuple[float, float]


def run(command: Sequence[str | Path], result: Path | None, log: Path, environment: Mapping[str, str]) -> Finished:
    """Run a command that writes JSON to ``result``, if to anything; what it prints goes to ``log``. A failure shows the
    end of the log; whoever interrupts us ends the command, too."""
    if result is not None:
        result.unlink(missing_ok=True)
    before = os.getloadavg()[0]
    with log.open("w") as output:
        process = subprocess.Popen([str(word) for word in command], cwd=ROOT, env=dict(environment), stdout=output, stderr=output)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or (result is not None and not result.exists()):
        end = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise SystemExit(f"{command[0]} ended with {process.returncode}:\n{end}\nthe whole log: {log}")
    return Finished({} if result is None else json.loads(result.read_text()), usage.ru_maxrss * 1024, (before, os.getloadavg()[0]))
