"""``make install`` where Python cannot make environments, as on a fresh Debian."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BARE = """#!/bin/sh
# A Python without ensurepip, as Debian's is before python3-venv is installed.
shift
exec "{python}" -c 'import sys; sys.modules["ensurepip"] = None; sys.argv = sys.argv[1:]; exec(sys.argv[0])' "$@"
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("python", ["bare", "missing"])
def test_a_python_that_cannot_make_an_environment_is_one_sentence(python: str, repository: Path, tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(repository / name, tmp_path)
    bare = tmp_path / "bare"
    bare.write_text(BARE.format(python=sys.executable))
    bare.chmod(0o755)
    words = ["make", "install", f"PYTHON={tmp_path / python}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    ended = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert f"{tmp_path / python} cannot make a virtual environment" in ended.stderr
    assert "sudo apt install python3 python3-venv" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (tmp_path / ".venv").exists()
