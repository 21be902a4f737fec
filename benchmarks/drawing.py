"""How pictures of benchmarks are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def save(figure: Any, path: Path) -> None:
    """Without a date, and with ids that are not drawn by chance: the same figures give the same file."""
    import matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context({"svg.hashsalt": "heedful"}):
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
