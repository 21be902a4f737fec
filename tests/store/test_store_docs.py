"""``docs/store.md`` runs, and prints what it says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path


def test_the_worked_examples_run_and_print_what_the_page_says(repository: Path, tmp_path: Path) -> None:
    page = (repository / "docs" / "store.md").read_text()
    examples = re.findall(r"```python\n(.*?)```\n\nIt prints:\n\n```\n(.*?)```", page, re.DOTALL)
    assert len(examples) == page.count("```python") == 2
    for code, expected in examples:
        found = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert found.stdout == expected, found.stderr
    assert (tmp_path / "labels.db").exists()


def test_every_module_of_the_table_is_there(repository: Path) -> None:
    page = (repository / "docs" / "store.md").read_text()
    named = {name for row in re.findall(r"^\| (`\w+`.*?) \|", page, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert len(named) > 10
    assert [name for name in sorted(named) if not (repository / "src/heedful/store" / f"{name}.py").exists()] == []


def test_every_test_that_the_page_names_is_there(repository: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", (repository / "docs" / "store.md").read_text())) - {"test_store_migrate"}
    assert len(named) > 20
    files = [path.read_text() for path in (repository / "tests").rglob("test_*.py")]
    written = {name for text in files for name in re.findall(r"^def (test_\w+)", text, re.MULTILINE)}
    assert sorted(named - written) == []
