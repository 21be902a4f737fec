"""Checkpoints that survive a kill, a full disk and a damaged file.

A checkpoint is written into a hidden folder, hashed, flushed to the disk, and only then renamed
to ``step-00000123``; older ones are removed after that. So at every moment the newest complete
checkpoint is whole. Reading never changes anything, since the writer may be another process.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from heedful.errors import FileProblem

Warn = Callable[[str], None]
CHECKSUMS = "checksums.json"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}
# torch and safetensors report a failed write as an error of their own, without its number.
_NO_ROOM_WORDS = ("no space left", "file write failed", "failed writing file", "disk quota", "file too large")


def ignore(sentence: str) -> None:
    """The warning callback of those who do not want any."""


def file_sha256(path: Path) -> str:
    """The sha256 of a file, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def folder_checksums(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder, by its path relative to it."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}


def damage(folder: Path, checksums: Mapping[str, str]) -> str:
    """What is wrong with the first file that is not as ``checksums`` says; empty when all are."""
    for name, sha256 in checksums.items():
        if not (folder / name).is_file():
            return f"{name} is missing"
        if file_sha256(folder / name) != sha256:
            return f"{name} differs from its checksum"
    return ""


class Checkpoints:
    """The checkpoints of one training, the newest ``keep`` of them."""

    def __init__(self, folder: Path, keep: int = 2, warn: Warn = ignore) -> None:
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        self.folder, self.keep, self._warn = Path(folder), keep, warn

    def save(self, step: int, write: Callable[[Path], None]) -> Path:
        """Let ``write`` fill a new checkpoint for ``step`` and return its folder.

        Checkpoints of later steps belong to a future that was given up, and go. Raises
        ``FileProblem`` when the disk is full or cannot be written; earlier checkpoints stay.
        """
        final = self.folder / f"step-{step:08d}"
        temporary = self.folder / f".saving-{final.name}"
        try:
            self._tidy()
            temporary.mkdir(parents=True)
            write(temporary)
            _seal(temporary)
            self._publish(temporary, final)
        except BaseException as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if is_full_disk(error):
                raise self._no_room(step, error) from error
            raise
        self._prune(step)
        return final

    def clear(self) -> None:
        """Remove every checkpoint."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def newest(self) -> tuple[int, Path] | None:
        """The newest checkpoint whose files are whole, as ``(step, folder)``; ``None`` without one."""
        for step, folder in sorted(self._complete().items(), reverse=True):
            problem = _damage_of_checkpoint(folder)
            if not problem:
                return step, folder
            self._warn(f"The checkpoint of step {step} in {self.folder} is damaged: {problem}. Looking for an earlier one.")
        return None

    def _complete(self) -> dict[int, Path]:
        """Folders by step; one that was being replaced when the writer died counts until its successor is there."""
        found: dict[int, Path] = {}
        for prefix in (r"\.replaced-", ""):
            for path in self.folder.glob("*"):
                if match := re.fullmatch(prefix + r"step-(\d+)", path.name):
                    found[int(match[1])] = path
        return found

    def _publish(self, temporary: Path, final: Path) -> None:
        replaced = self.folder / f".replaced-{final.name}"
        if final.exists():
            os.rename(final, replaced)
        os.rename(temporary, final)
        _sync_folder(self.folder)
        shutil.rmtree(replaced, ignore_errors=True)

    def _tidy(self) -> None:
        """Remove what a killed writer left behind."""
        for path in self.folder.glob(".replaced-step-*"):
            if not (final := self.folder / path.name.removeprefix(".replaced-")).exists():
                os.rename(path, final)
        for pattern in (".saving-*", ".replaced-*"):
            for path in self.folder.glob(pattern):
                shutil.rmtree(path)

    def _prune(self, newest: int) -> None:
        complete = self._complete()
        kept = sorted(step for step in complete if step <= newest)[-self.keep :]
        for step in complete.keys() - kept:
            shutil.rmtree(complete[step], ignore_errors=True)

    def _no_room(self, step: int, error: BaseException) -> FileProblem:
        steps = sorted(self._complete())
        kept = f"the checkpoint of step {steps[-1]} is untouched" if steps else "there was no earlier one"
        reason = getattr(error, "strerror", None) or str(error)
        return FileProblem(
            f"the checkpoint of step {step} cannot be written to {self.folder}: {reason}",
            f"Free some disk space or mend its permissions, then resume; {kept}.",
        )


def _seal(folder: Path) -> None:
    """Write the checksums and flush every file and folder to the disk."""
    (folder / CHECKSUMS).write_text(json.dumps(folder_checksums(folder), indent=1))
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as handle:
                os.fsync(handle.fileno())
        else:
            _sync_folder(path)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened, and renames are already in the journal
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _damage_of_checkpoint(folder: Path) -> str:
    try:
        checksums = json.loads((folder / CHECKSUMS).read_text())
        return damage(folder, checksums)
    except (OSError, ValueError, AttributeError):
        return f"{CHECKSUMS} cannot be read"


def is_full_disk(error: BaseException) -> bool:
    """Whether a write failed for want of room, or of permission."""
    if isinstance(error, OSError):
        return error.errno in _NO_ROOM
    return isinstance(error, Exception) and any(words in str(error).lower() for words in _NO_ROOM_WORDS)
