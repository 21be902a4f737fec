"""The wheel, really built: all that a user gets, the demo's models, pages, templates and migrations among it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"
LARGEST = 5 * 10**6
"""Bytes of a shipped model."""


@pytest.fixture(scope="module")
def wheel(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the build backend itself, from a copy: a build leaves things behind."""
    pytest.importorskip("setuptools", reason="the build backend is not installed")
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    shutil.copytree(repository / "src", source / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, source)
    built = subprocess.run([sys.executable, "-c", BUILD, folder], cwd=source, capture_output=True, text=True, timeout=300, check=False)
    assert built.returncode == 0, built.stderr
    [found] = folder.glob("heedful-*.whl")
    return found


def inside(wheel: Path) -> dict[str, int]:
    """The names of the files in it, and their sizes."""
    with zipfile.ZipFile(wheel) as file:
        return {one.filename: one.file_size for one in file.infolist()}


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path, repository: Path) -> None:
    files = [path for path in (repository / "src/heedful").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    expected = {str(path.relative_to(repository / "src")) for path in files}
    assert {name for name in inside(wheel) if ".dist-info/" not in name} == expected
    for part in (
        "demo/models/causal",
        "demo/models/seq2seq",
        "report/templates",
        "web/templates/manage",
        "web/static",
        "store/migrations/versions",
    ):
        assert any(name.startswith(f"heedful/{part}/") for name in expected), f"this test looks for {part} in vain"


def test_a_shipped_model_is_small(wheel: Path) -> None:
    found = inside(wheel)
    for name in ("causal", "seq2seq"):
        assert 0 < sum(size for file, size in found.items() if file.startswith(f"heedful/demo/models/{name}/")) <= LARGEST


def test_what_is_in_the_wheel_works(wheel: Path, tmp_path: Path) -> None:
    """The models are whole, the command answers, and a store gets its tables from the migrations."""
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path)
        assert "heed = heedful.cli.main:main" in file.read(next(n for n in file.namelist() if n.endswith("entry_points.txt"))).decode()
    code = """
import sys, heedful, heedful.cli.main
from heedful.demo.build import shipped_model
from heedful.store import Store
print(heedful.__file__)
for name in ("causal", "seq2seq"):
    print(shipped_model(name))
Store.open("labels.db", create=True).close()
assert "torch" not in sys.modules
sys.argv = ["heed", "--help"]
heedful.cli.main.main()
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stderr
    places, usage, _ = ran.stdout.partition("Usage: heed")
    assert usage
    assert len(places.split()) == 3
    assert all(place.startswith(str(tmp_path)) for place in places.split())
