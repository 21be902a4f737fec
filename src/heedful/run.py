"""A run's folder: its settings, what it came from, what it measured, and which stages are done.

    config.toml    the settings, for people        run.json       the same with versions and parents
    metrics.jsonl  one line per measurement        stages/*.json  a record of every stage
    <stage>/       the files of a stage            .lock          held by the process that writes

One process writes a run at a time. A stage that is done is not done again, so a run that was
killed goes on where it stood.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from heedful.checkpoints import Checkpoints, Warn, damage, file_sha256, folder_checksums, ignore, is_full_disk
from heedful.config import to_toml
from heedful.errors import FileProblem, RunProblem
from heedful.records import write_atomically

__all__ = ["Checkpoints", "Run", "file_sha256", "folder_checksums", "peak_memory_gib", "plain", "read_metrics", "versions"]

_PACKAGES = ("heedful", "torch", "transformers", "peft", "tokenizers", "safetensors", "datasets", "numpy", "scipy", "pydantic")
_OURS = {".lock", "config.toml", "config.toml.tmp", "run.json.tmp"}


class Run:
    """One run, open for writing; a context manager that lets go of its lock at the end."""

    def __init__(self, folder: Path, settings: dict[str, Any], lock: IO[str], warn: Warn) -> None:
        self.folder, self.settings = folder, settings
        self._lock, self._warn = lock, warn
        self._metrics: IO[str] | None = None
        self._logged: set[str] = set()

    @classmethod
    def create(
        cls,
        folder: Path,
        settings: Mapping[str, Any],
        command: str = "",
        parents: Mapping[str, str] | None = None,
        *,
        resume: bool = False,
        may_differ: Collection[str] = (),
        warn: Warn = ignore,
    ) -> Self:
        """Start a run in a new or empty folder, or go on with the one there when ``resume``.

        ``parents``: what it came from, by name (another run's folder, a data set's hash).
        ``may_differ``: dotted settings such as ``ppo.max_steps`` that a resumed run may change.
        Raises ``RunProblem`` for a folder that is something else, is in use by another process,
        holds a run (without ``resume``), or holds one with other settings.
        """
        folder, wanted = Path(folder), plain(settings)
        _refuse_foreign(folder)
        lock = _take_lock(folder)
        try:
            if (folder / "run.json").exists():
                if not resume:
                    raise RunProblem(f"{folder} already holds a run", "Go on with it with --resume, or choose another output folder.")
                _resume_record(folder, wanted, command, may_differ)
                _mend_metrics(folder / "metrics.jsonl", warn)
            else:
                _write_record(folder, _new_record(wanted, command, parents or {}))
            return cls(folder, wanted, lock, warn)
        except BaseException:
            lock.close()
            raise

    def close(self) -> None:
        """Let go of the lock and the metrics file."""
        if self._metrics:
            self._metrics.close()
        self._metrics = None
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def stage(self, name: str, work: Callable[[Path], Mapping[str, Any]], inputs: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Do a stage's work once and return what it returned, as plain JSON types.

        ``work`` gets the stage's own folder. ``inputs`` are what the result depends on, by name,
        as hashes. A stage that was interrupted gets its folder as it left it, so that it can go
        on; when its inputs changed, or files of a finished one are damaged, the folder is set
        aside, a warning says so, and the work is done afresh.
        """
        folder, record_path = self._stage_paths(name)
        needs = dict(inputs or {})
        record = _read_record(record_path)
        reason = _why_again(record, folder, needs)
        if record.get("state") == "complete" and not reason:
            return dict(record["result"])
        spent = _seconds(record, folder)
        if reason:
            aside = _set_aside(folder)
            self._warn(f"The stage {name!r} is done again: {reason}. Its earlier files are in {aside}.")
        folder.mkdir(exist_ok=True)
        _write_json(record_path, {"name": name, "state": "started", "inputs": needs, "started": _now(), "seconds": spent})
        began = time.monotonic()
        try:
            result = plain(work(folder))
        except Exception as error:
            if is_full_disk(error):
                raise FileProblem(
                    f"the stage {name!r} cannot write to {folder}: {error}",
                    "Free some disk space or mend its permissions, then go on with --resume; what was finished before is untouched.",
                ) from error
            raise
        outcome = {"result": result, "files": folder_checksums(folder), "seconds": round(spent + time.monotonic() - began, 3)}
        _write_json(record_path, {"name": name, "state": "complete", "inputs": needs, "ended": _now(), **outcome})
        return dict(result)

    def reopen(self, name: str, unfinished: Callable[[Mapping[str, Any]], bool]) -> None:
        """Let a finished stage go on in its own folder where its result is not the end any more."""
        _, record_path = self._stage_paths(name)
        record = _read_record(record_path)
        if record.get("state") == "complete" and unfinished(record["result"]):
            _write_json(record_path, {**record, "state": "started", "started": _now()})

    def log(self, step: int, metrics: Mapping[str, Any], stage: str) -> None:
        """Append one line to ``metrics.jsonl``; numbers that are not finite are written as null.

        A stage that goes on after a kill may be behind its own metrics: where it begins to log
        again, what it had logged from that step on goes.
        """
        if stage not in self._logged:
            self._logged.add(stage)
            self.truncate_metrics(stage, int(step) - 1)
        if reserved := {"stage", "step", "time"} & metrics.keys():
            raise ValueError(f"a metric cannot be called {sorted(reserved)[0]!r}")
        row = {"stage": stage, "step": int(step), "time": round(time.time(), 3), **plain(metrics)}
        try:
            if self._metrics is None:
                self._metrics = (self.folder / "metrics.jsonl").open("a", encoding="utf-8")
            self._metrics.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            self._metrics.flush()
        except OSError as error:
            raise FileProblem(
                f"the metrics of {self.folder} cannot be written: {error.strerror}", "Free some disk space, then resume."
            ) from None

    def truncate_metrics(self, stage: str, after_step: int) -> None:
        """Remove a stage's lines after a step, those that it will write again from its checkpoint."""
        if self._metrics:
            self._metrics.close()
            self._metrics = None
        rows = read_metrics(self.folder)
        kept = [row for row in rows if row["stage"] != stage or row["step"] <= after_step]
        if len(kept) < len(rows):
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept)
            write_atomically(self.folder / "metrics.jsonl", lines.encode())

    def forget_if_nothing_was_done(self) -> None:
        """Empty the folder of a run that ended before its first stage was done and before anything was measured."""
        records = list((self.folder / "stages").glob("*.json"))
        if (self.folder / "metrics.jsonl").exists() or any(_read_record(path).get("state") != "started" for path in records):
            return
        for path in records:
            shutil.rmtree(self.folder / path.stem, ignore_errors=True)
        shutil.rmtree(self.folder / "stages", ignore_errors=True)
        (self.folder / "run.json").unlink(missing_ok=True)

    def seconds_done(self) -> float:
        """What the stages took so far, all sessions together; of one that was killed, up to the last file that it wrote."""
        return float(sum(_seconds(_read_record(path), self.folder / path.stem) for path in (self.folder / "stages").glob("*.json")))

    def _stage_paths(self, name: str) -> tuple[Path, Path]:
        if not re.fullmatch(r"[a-z][a-z0-9_-]*", name) or name == "stages":
            raise ValueError(f"{name!r} cannot name a stage: use small letters, digits, - and _")
        return self.folder / name, self.folder / "stages" / f"{name}.json"


def read_metrics(folder: Path, stage: str | None = None) -> list[dict[str, Any]]:
    """The rows of a run's ``metrics.jsonl``, of one stage or all; half a last line is left out.

    Raises ``RunProblem`` for a line that is no measurement, by its number.
    """
    path = Path(folder) / "metrics.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    rows = []
    for number, line in enumerate(lines, 1):
        row = _measurement(line)
        if row is None:
            raise RunProblem(f"line {number} of {path} is damaged", "Remove that line, or start a new run in another folder.")
        rows.append(row)
    return [row for row in rows if stage is None or row["stage"] == stage]


def _measurement(line: bytes) -> dict[str, Any] | None:
    """A line of ``metrics.jsonl``; ``None`` where it is none."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "stage" in row and "step" in row else None


def plain(value: Any) -> Any:
    """A value as plain JSON types: numpy and torch numbers as Python's, NaN and infinity as ``None``."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):  # numpy's float64 is one too
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"{value!r} ({type(value).__name__}) has no plain JSON form")


def versions() -> dict[str, str]:
    """The versions of the packages that decide results, of those that are installed; imports none of them."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_gib() -> float:
    """The most main memory this process has held so far, in GiB; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def _take_lock(folder: Path) -> IO[str]:
    """Hold ``.lock`` until it is closed; the system lets go of it when the process dies, however it does."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = (folder / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise RunProblem(f"{folder} cannot be written: {error.strerror}", "Choose another output folder.") from None
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # no flock on this system: go without
        return handle
    except OSError:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise RunProblem(f"{folder} is in use by process {owner}", "Wait until that ends, or choose another folder.") from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def _refuse_foreign(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise RunProblem(f"{folder} is a file", "A run needs a folder: choose another name for the output.")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if "run.json" not in names and names - _OURS:
        raise RunProblem(
            f"{folder} is not empty and not a run (it holds {min(names - _OURS)})",
            "Choose a new or empty output folder; nothing was changed.",
        )


def _new_record(settings: dict[str, Any], command: str, parents: Mapping[str, str]) -> dict[str, Any]:
    return {
        "command": command,
        "parents": dict(parents),
        "seed": settings.get("seed"),
        "started": _now(),
        "resumed": [],
        **_surroundings(),
        "settings": settings,
    }


def _surroundings() -> dict[str, Any]:
    return {"versions": versions(), "python": platform.python_version(), "platform": platform.platform()}


def _resume_record(folder: Path, wanted: dict[str, Any], command: str, may_differ: Collection[str]) -> None:
    record = _read_json(folder / "run.json")
    before, now = _flat(record.get("settings", {})), _flat(wanted)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    if refused := [name for name in changed if name not in may_differ]:
        was = "; ".join(f"{name} was {before.get(name)!r} and is now {now.get(name)!r}" for name in refused[:3])
        more = f"; and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise RunProblem(
            f"{folder} was started with other settings: {was}{more}", "Resume with the first settings, or choose another folder."
        )
    record["resumed"].append({"time": _now(), "command": command, "changed": changed, **_surroundings()})
    _write_record(folder, {**record, "settings": wanted})


def _write_record(folder: Path, record: dict[str, Any]) -> None:
    write_atomically(folder / "config.toml", to_toml(record["settings"]).encode())
    _write_json(folder / "run.json", record)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def _read_record(path: Path) -> dict[str, Any]:
    """A stage's record; empty without one, and of state ``unreadable`` when it is damaged."""
    try:
        return _read_json(path) if path.exists() else {}
    except RunProblem:
        return {"state": "unreadable"}


def _seconds(record: Mapping[str, Any], folder: Path) -> float:
    """What a stage took so far, from its record and, where it was interrupted, from when it last wrote into its folder."""
    before = float(record.get("seconds", 0.0))
    if record.get("state") != "started":
        return before
    started = datetime.fromisoformat(record["started"]).timestamp()
    written = max((path.stat().st_mtime for path in folder.rglob("*") if path.is_file()), default=started)
    return round(before + max(0.0, written - started), 3)


def _why_again(record: Mapping[str, Any], folder: Path, inputs: Mapping[str, str]) -> str:
    """Why a recorded stage cannot be taken or continued as it is; empty when it can."""
    if not record:
        return ""
    if record["state"] == "unreadable":
        return "its record cannot be read"
    changed = _differing(record.get("inputs", {}), inputs)
    if changed:
        return f"its inputs changed ({', '.join(changed)})"
    return damage(folder, record["files"]) if record["state"] == "complete" else ""


def _differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def _set_aside(folder: Path) -> Path:
    """Rename a stage's folder to the first free ``<name>.1``, ``<name>.2``, ...: its files are never deleted."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.{number}")).exists():
        number += 1
    if folder.exists():
        os.rename(folder, aside)
    return aside


def _mend_metrics(path: Path, warn: Warn) -> None:
    """Drop a torn last line, which a killed process or a power cut leaves."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    if lines and not (lines[-1].endswith(b"\n") and _measurement(lines[-1])):
        write_atomically(path, b"".join(lines[:-1]))
        warn(f"The last line of {path} was damaged and is dropped; what it measured is measured again.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise RunProblem(f"{path} cannot be read: {error}", "It is damaged: start a new run in another folder.") from None


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomically(path, (json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
