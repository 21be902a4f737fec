"""What the code that the server runs has no means for: to fetch what a visitor names, unpickle, unpack, run programs or text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import heedful

SOURCE = Path(heedful.__file__).parent
SERVED = ("web", "store", "feedback", "pairs", "report")
NETWORK = {"urllib.request", "urllib.error", "http.client", "socket", "ssl", "requests", "httpx", "httpx2", "aiohttp", "smtplib", "ftplib"}
HARM = {"pickle", "marshal", "shelve", "dill", "joblib", "zipfile", "tarfile", "gzip", "bz2", "lzma", "subprocess", "ctypes", "torch"}
RUNS = {"eval", "exec", "compile", "__import__", "from_string", "system", "popen"}
EXCEPT = {"web/oidc/fetching.py": NETWORK, "web/client.py": NETWORK, "pairs/formats/files.py": {"gzip"}}
"""Who talks to a provider of sign-ins, within its configured hosts; what programs elsewhere use, which the server does not load; and
what reads files that are named on the command line (uploads are read by ``web/uploads.py``)."""


def means_in(code: str) -> set[str]:
    """The modules and functions of a file's text, also inside functions, by which it could do any of this."""
    found, calls = set(), set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            calls |= {node.func.id} & RUNS
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            calls |= {node.func.attr} & (RUNS - {"compile"})  # re.compile makes a pattern
    return {f"{name}()" for name in calls} | {
        risk for risk in NETWORK | HARM for name in found if name == risk or name.startswith(f"{risk}.")
    }


def test_nothing_that_is_served_could_do_it() -> None:
    files = [path for part in SERVED for path in sorted((SOURCE / part).rglob("*.py"))]
    assert len(files) > 100
    found = {str(path.relative_to(SOURCE)): means_in(path.read_text(encoding="utf-8")) for path in files}
    assert {name: means for name, there in found.items() if (means := there - EXCEPT.get(name, set()))} == {}
    assert [path.name for path in files if "heedful.web.client" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize(
    ("code", "means"),
    [
        ("import pickle", {"pickle"}),
        ("def f():\n    from urllib import request", {"urllib.request"}),
        ("import http.client as h", {"http.client"}),
        ("from zipfile import ZipFile", {"zipfile"}),
        ("x = eval('1')", {"eval()"}),
        ("environment.from_string(text)", {"from_string()"}),
        ("os.system('x')", {"system()"}),
        ("re.compile('x')\nfrom urllib.parse import quote\nimport json", set()),
    ],
)
def test_what_could_is_found(code: str, means: set[str]) -> None:
    assert means_in(code) == means
