"""Finished processes are kept beside the row's work, so that an interrupted row goes on where it stopped.

Each is kept with the fingerprint of what made it (code, settings, pins, machine, threads): when
that changes, the old figure is not believed and the process runs again, and only that one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.peers.runs import ROOT, Finished, processor

PEERS = ROOT / "benchmarks" / "peers"
SHARED_CODE = [PEERS / "work.py", PEERS / "prepare.py", ROOT / "benchmarks" / "texts.py", ROOT / "benchmarks" / "models.py"]
"""What writes and reads the row's work, on both sides."""


def fingerprint(files: Iterable[Path], settings: Mapping[str, Any]) -> str:
    """Of the content of files, the settings, this machine and the threads that a process may use."""
    digest = hashlib.sha256(json.dumps([settings, processor(), threads()]).encode())
    for path in sorted(set(files)):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def our_code() -> list[Path]:
    """heedful's own side: the package, and what runs and counts it."""
    measuring = [PEERS / "ours.py", *(ROOT / "benchmarks" / f"{name}.py" for name in ("meter", "flops", "limits"))]
    return [*SHARED_CODE, *measuring, *(ROOT / "src" / "heedful").rglob("*.py")]


def threads() -> int:
    """How many threads a process may use."""
    return int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)


class Kept:
    """The finished processes of one row, one JSON file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def once(self, name: str, made_from: str, run: Callable[[], Finished]) -> tuple[Finished, bool]:
        """The process ``name``, run unless it is kept; and whether it was."""
        path = self.folder / f"{name}.json"
        if path.exists():
            known = json.loads(path.read_text())
            if known.pop("made_from") == made_from:
                return Finished(**known), True
        finished = run()
        self.folder.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        new.write_text(json.dumps({"made_from": made_from, **asdict(finished)}))
        new.replace(path)
        return finished, False
