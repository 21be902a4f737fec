"""Where a store's file lies: on a disk, or on something that vanishes with the machine or container."""

from __future__ import annotations

from pathlib import Path

VANISHING = {
    "tmpfs": "memory: it is gone when the machine restarts",
    "ramfs": "memory: it is gone when the machine restarts",
    "overlay": "the container's own layer: it is gone when the container is replaced",
    "aufs": "the container's own layer: it is gone when the container is replaced",
}
_MOUNTS = Path("/proc/self/mountinfo")


def warning(file: Path, mounts: str | None = None) -> str:
    """A sentence where the file's folder would not outlive the machine or container; else, or where one cannot know, empty."""
    kind = filesystem(file, mounts)
    if kind not in VANISHING:
        return ""
    return f"{file} lies on {kind}, {VANISHING[kind]}. Keep it on a disk or a mounted volume, or you will lose every judgement."


def filesystem(file: Path, mounts: str | None = None) -> str:
    """The kind of file system below a file, by the kernel's list of mounts; empty where there is none."""
    if mounts is None:
        mounts = _MOUNTS.read_text(encoding="utf-8", errors="replace") if _MOUNTS.exists() else ""
    folder, best, kind = file.resolve().parent, -1, ""
    for line in mounts.splitlines():
        # 36 35 98:0 /root /mount/point rw,noatime master:1 - ext4 /dev/root rw
        fields, _, rest = line.partition(" - ")
        point = Path(fields.split()[4].replace("\\040", " "))
        if folder.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), rest.split()[0]
    return kind
