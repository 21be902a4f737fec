"""Each peer's own pinned environment, made when it is first needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / ".envs"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"
QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false", "TQDM_DISABLE": "1"}
"""No network and no telemetry for anybody; both count as tuning for TRL, which else asks a hub at every start."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and one package that is laid over it where only that package differs."""

    name: str
    overlay: str | None = None

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return FOLDER / self.name / "bin" / "python"

    def variables(self) -> dict[str, str]:
        """The process environment: ours, without our packages."""
        found = {**os.environ, **QUIET}
        found.pop("PYTHONPATH", None)
        if self.overlay:
            found["PYTHONPATH"] = str(FOLDER / self.overlay)
        return found

    def ensure(self) -> None:
        """Make what is missing, or was made from other pins."""
        if _outdated(self.name):
            print(f"making the environment {self.name} (about 1.5 GB)", flush=True)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER / self.name)], check=True)
            _install(self.python, self.name)
        if self.overlay and _outdated(self.overlay):
            shutil.rmtree(FOLDER / self.overlay, ignore_errors=True)
            _install(self.python, self.overlay, "--no-deps", "--target", str(FOLDER / self.overlay))


CURRENT = Environment("trl")
LAST_WITH_PPO = Environment("trl", overlay="trl-1.12")
LAST_WITH_ENCODER_DECODER = Environment("trl-0.11")


def _install(python: Path, name: str, *options: str) -> None:
    pins = REQUIREMENTS / f"{name}.txt"
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *options, "--requirement", str(pins)]
    subprocess.run(command, check=True)
    _stamp(name).write_text(pins.read_text())


def _outdated(name: str) -> bool:
    stamp = _stamp(name)
    return not stamp.exists() or stamp.read_text() != (REQUIREMENTS / f"{name}.txt").read_text()


def _stamp(name: str) -> Path:
    return FOLDER / name / "installed.txt"
