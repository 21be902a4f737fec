"""Imports go one way. The table below is the architecture; the code is held to it."""

from __future__ import annotations

import ast
import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parent.parent / "src" / "heedful"

FOUNDATION = {"errors", "records", "settings", "config", "maths", "checkpoints", "progress", "run"}
ENGINES = FOUNDATION | {"engines"}
STAGES = ("prompts", "completions", "feedback", "pairs", "reward", "policy", "evaluation", "report")
EVERY_STAGE = ENGINES | {"store"} | set(STAGES)
WORLD = {"demo.words", "demo.world", "demo.tokenizer"}

ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "records": {"errors"},
    "settings": {"errors"},
    "config": {"errors", "settings"},
    "maths": set(),
    "progress": set(),
    "checkpoints": {"errors"},
    "run": {"errors", "records", "config", "checkpoints"},
    "engines.base": {"records"},
    "engines": FOUNDATION | {"engines.base"},
    "store": {"errors", "records", "config", "settings"},
    "prompts.chat": {"errors", "records"},
    "prompts.budget": ENGINES | {"prompts.chat"},
    **dict.fromkeys(STAGES, ENGINES | {"store", "prompts.chat", "prompts.budget"}),
    "web": {"__init__", "errors", "records", "config", "store", "feedback", "pairs", "report"},
    "jobs": EVERY_STAGE,
    "lifecycle": EVERY_STAGE | {"jobs"},
    "demo.words": set(),
    "demo.world": {"demo.words"},
    "demo.tokenizer": WORLD,
    "demo.architectures": WORLD,
    "demo.settings": WORLD | {"demo.architectures"},
    "demo": EVERY_STAGE | WORLD | {"jobs", "demo.architectures", "demo.settings"},
    "cli": EVERY_STAGE | WORLD | {"web", "jobs", "lifecycle", "demo", "__init__"},
}
"""What each part may import, beside itself. The longest name that fits a module decides: ``engines.base`` before ``engines``.
Who may import ``engines`` may import ``engines.base``, not the other way round."""

BLOCK = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'torch':
            raise ModuleNotFoundError("No module named 'torch'", name='torch')
sys.meta_path.insert(0, NoTorch())
"""
"""As on a machine without torch. (``sys.modules['torch'] = None`` would be shorter, but trips scipy, which looks there.)"""

IMPORT_EACH = """
import importlib, json
problems = {{}}
for module in {modules}:
    try:
        importlib.import_module(module)
        problems[module] = ""
    except Exception as problem:
        problems[module] = repr(problem)
print(json.dumps(problems))
"""

WITHOUT_TORCH = (
    "feedback",
    "pairs",
    "pairs.formats",
    "report",
    "store",
    "web",
    "web.pages",
    "cli.label",
    "maths.statistics",
    "maths.agreement",
    "maths.rankings",
    "maths.disclosure",
    "completions.describe",
    "jobs.dataset",
    "jobs.exchange",
    "jobs.feedback",
    "jobs.said",
)


def part_of(module: str) -> str:
    """``heedful.engines.base`` -> ``engines.base``; ``heedful.engines.local`` -> ``engines``."""
    words = module.split(".")[1:] or ["__init__"]
    longest = ".".join(words[:2])
    return longest if longest in ALLOWED else words[0]


@functools.cache
def imported(code: str) -> list[tuple[int, str]]:
    """(line, module) of every import of heedful in a file's text, also inside functions and under TYPE_CHECKING."""
    found = []
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "heedful"]
        elif isinstance(node, ast.ImportFrom) and node.level:
            found.append((node.lineno, "relative"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "heedful":
            # ``from heedful.jobs import policy`` names the package; what is taken from it may be a module of another part.
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def faults(source: Path) -> list[str]:
    """Every import that the table does not allow, as ``file:line part -> part``."""
    found = []
    for path in sorted(source.rglob("*.py")):
        words = path.relative_to(source).with_suffix("").parts
        here = part_of(".".join(["heedful", *(word for word in words if word != "__init__")]))
        if here not in ALLOWED:
            found.append(f"{path.relative_to(source)}: {here} has no place in the architecture")
            continue
        for line, module in imported(path.read_text(encoding="utf-8")):
            there = "relative" if module == "relative" else part_of(_module(source, module))
            if there != here and not {there, there.split(".")[0]} & ALLOWED[here]:
                found.append(f"{path.relative_to(source)}:{line} {here} -> {there}")
    return list(dict.fromkeys(found))


def _module(source: Path, name: str) -> str:
    """The module of a dotted name, whose last words may be names inside it."""
    words = name.split(".")
    while len(words) > 1 and not (source.joinpath(*words[1:]).is_dir() or source.joinpath(*words[1:]).with_suffix(".py").exists()):
        words.pop()
    return ".".join(words)


def test_imports_go_one_way():
    assert faults(SOURCE) == []


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        ("errors.py", "from heedful.records import Prompt", "errors -> records"),
        ("maths/kl.py", "import heedful.errors", "maths -> errors"),
        ("engines/base.py", "from heedful.engines.local import LocalLearner", "engines.base -> engines"),
        ("engines/local.py", "from heedful.policy import ppo", "engines -> policy"),
        ("store/slots.py", "from heedful.feedback import assign", "store -> feedback"),
        ("records.py", "from heedful.store import Store", "records -> store"),
        ("reward/train.py", "def f():\n    from heedful.policy.ppo import PPOLoss", "reward -> policy"),
        ("pairs/build.py", "import heedful.feedback.criteria", "pairs -> feedback"),
        ("report/build.py", "from heedful import evaluation", "report -> evaluation"),
        ("policy/ppo.py", "from heedful.jobs import policy", "policy -> jobs"),
        ("web/api.py", "from heedful.reward import score", "web -> reward"),
        ("store/sessions.py", "from heedful.web import auth", "store -> web"),
        ("jobs/policy.py", "import heedful.lifecycle", "jobs -> lifecycle"),
        ("lifecycle.py", "from heedful.cli import main", "lifecycle -> cli"),
        ("lifecycle.py", "from heedful.demo.source import WorldSource", "lifecycle -> demo"),
        ("demo/world.py", "from heedful.records import Prompt", "demo.world -> records"),
        ("jobs/data.py", "from . import reward", "jobs -> relative"),
        ("novelty.py", "", "novelty has no place"),
    ],
)
def test_a_planted_fault_is_found(tmp_path, file, line, fault):
    copy = tmp_path / "heedful"
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__", "models"))
    with (copy / file).open("a", encoding="utf-8") as handle:
        handle.write(f"\n{line}\n")
    [only] = faults(copy)
    assert fault in only


def test_the_table_has_no_circle():
    """Each part stands above everything that it may import."""
    height: dict[str, int] = {}

    def measure(part: str, below: tuple[str, ...] = ()) -> int:
        assert part not in below, f"{part} may import itself by way of {below}"
        if part not in height:
            height[part] = 1 + max((measure(other, (*below, part)) for other in ALLOWED[part] - {part}), default=0)
        return height[part]

    assert measure("cli") > measure("lifecycle") > measure("jobs") > measure("policy") > measure("engines") > measure("errors")


def child(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


def test_the_command_line_loads_nothing_heavy():
    heavy = {
        "torch",
        "transformers",
        "scipy",
        "matplotlib",
        "pandas",
        "peft",
        "sklearn",
        "datasets",
        "sqlalchemy",
        "alembic",
        "psycopg",
        "fastapi",
        "uvicorn",
    }
    found = child(f"import sys, heedful.cli.main; print(sorted({heavy!r} & set(sys.modules)))")
    assert found.stdout.strip() == "[]", found.stderr


def test_help_answers_at_once():
    """Within half a second of processor time: what else the machine does is not its fault."""
    took = []
    for _ in range(3):
        began = seconds_of_children()
        shown = child("from heedful.cli.main import main; import sys; sys.argv = ['heed', '--help']; main()")
        took.append(seconds_of_children() - began)
        assert shown.returncode == 0, shown.stderr
        assert "Usage: heed" in shown.stdout
    assert min(took) < 0.5, took


def seconds_of_children() -> float:
    """Processor time of all processes that were started from here and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def modules_below(part: str) -> list[str]:
    path = SOURCE.joinpath(*part.split("."))
    files = [path.with_suffix(".py")] if path.with_suffix(".py").exists() else sorted(path.glob("*.py"))
    return [".".join(["heedful", *file.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__") for file in files]


@pytest.fixture(scope="module")
def problems() -> dict[str, str]:
    """What each module of the parts below says when it is imported where there is no torch; empty where it is content."""
    modules = sorted({module for part in WITHOUT_TORCH for module in modules_below(part)})
    found = child(f"{BLOCK}\n{IMPORT_EACH.format(modules=modules)}")
    assert found.returncode == 0, found.stderr
    problems: dict[str, str] = json.loads(found.stdout.splitlines()[-1])
    assert sorted(problems) == modules
    return problems


@pytest.mark.parametrize("part", WITHOUT_TORCH)
def test_people_can_label_audit_and_report_without_torch(part, problems):
    modules = modules_below(part)
    assert modules
    assert {module: problem for module in modules if (problem := problems[module])} == {}


def test_the_block_on_torch_blocks():
    assert "No module named 'torch'" in child(f"{BLOCK}\nimport heedful.engines.base").stderr
