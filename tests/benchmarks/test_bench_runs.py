"""Processes that are watched, and the environments they run in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.peers import environments, kept, runs

MIB = 2**20
WRITES = "import json, sys; block = b'x' * (int(sys.argv[2]) * 2**20); json.dump({'seconds': 1.5}, open(sys.argv[1], 'w'))"


def test_the_peak_is_that_of_the_process(tmp_path):
    """Watched by a small process, as in a row: a child's peak begins with its parent's, and pytest's is large."""
    (tmp_path / "child.py").write_text(WRITES)
    parent = f"""
import os, sys
from pathlib import Path
from benchmarks.peers.runs import run
for size in (1, 100):
    found = run([sys.executable, {str(tmp_path / "child.py")!r}, "r.json", size], Path("r.json"), Path("log"), os.environ)
    print(found.peak, found.result["seconds"])
"""
    parent = parent.replace('"r.json"', repr(str(tmp_path / "r.json"))).replace('"log"', repr(str(tmp_path / "log")))
    found = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, cwd=runs.ROOT, check=True)
    (small, seconds), (large, _) = (map(float, line.split()) for line in found.stdout.splitlines())
    assert seconds == 1.5
    assert large - small == pytest.approx(99 * MIB, rel=0.1)


def test_a_failure_shows_what_the_process_said(tmp_path):
    with pytest.raises(SystemExit, match="no such thing"):
        runs.run([sys.executable, "-c", "raise ValueError('no such thing')"], tmp_path / "r.json", tmp_path / "log", os.environ)


def test_an_old_result_is_not_taken_for_a_new_one(tmp_path):
    (tmp_path / "r.json").write_text("{}")
    with pytest.raises(SystemExit):
        runs.run([sys.executable, "-c", "pass"], tmp_path / "r.json", tmp_path / "log", os.environ)


def test_the_parent_stays_small():
    """A child's peak begins with its parent's."""
    code = "import sys, benchmarks.peers.__main__; print(sorted({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=runs.ROOT, check=True)
    assert found.stdout.strip() == "[]"


def test_what_peers_run_imports_nothing_of_ours():
    names = [f"benchmarks.peers.trl_{name}" for name in ("ppo", "pairs", "grpo", "encoder_decoder")]
    code = f"import sys, {', '.join(names)}; print('heedful' in sys.modules)"
    found = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=runs.ROOT, check=True)
    assert found.stdout.strip() == "False"


def test_an_environment_is_outdated_until_it_was_made_from_these_pins(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "envs")
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "peer.txt").write_text("trl==1.0\n")
    (tmp_path / "envs" / "peer").mkdir(parents=True)
    assert environments._outdated("peer")
    (tmp_path / "envs" / "peer" / "installed.txt").write_text("trl==1.0\n")
    assert not environments._outdated("peer")
    (tmp_path / "peer.txt").write_text("trl==1.1\n")
    assert environments._outdated("peer")


def test_a_peer_does_not_see_our_packages_but_its_overlay(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "src")
    assert "PYTHONPATH" not in environments.CURRENT.variables()
    assert environments.LAST_WITH_PPO.variables()["PYTHONPATH"].endswith("trl-1.12")
    assert environments.CURRENT.variables()["HF_HUB_OFFLINE"] == "1"


@pytest.fixture
def counted(tmp_path):
    """A row's kept processes, and one that counts how often it runs."""
    runs_made = []

    def run():
        runs_made.append(1)
        return runs.Finished({"seconds": float(len(runs_made))}, 10 * MIB, (1.0, 2.0))

    return kept.Kept(tmp_path / "kept"), run, runs_made


def test_what_has_finished_is_not_run_again(counted):
    store, run, runs_made = counted
    first, again = store.once("tuned-0", "a", run), kept.Kept(store.folder).once("tuned-0", "a", run)
    assert (first[1], again[1]) == (False, True)
    assert again[0].result == first[0].result == {"seconds": 1.0}
    assert again[0].peak == 10 * MIB
    assert len(runs_made) == 1


def test_what_was_made_from_something_else_runs_again(counted):
    store, run, runs_made = counted
    assert store.once("tuned-0", "a", run)[0].result == {"seconds": 1.0}
    assert store.once("tuned-0", "b", run)[0].result == {"seconds": 2.0}
    assert store.once("tuned-1", "b", run)[0].result == {"seconds": 3.0}
    assert len(runs_made) == 3


def test_an_interrupted_process_leaves_nothing_behind(counted):
    store, run, _ = counted

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.once("tuned-0", "a", interrupted)
    assert store.once("tuned-0", "a", run)[1] is False


def test_a_fingerprint_knows_code_settings_and_threads(monkeypatch, tmp_path):
    monkeypatch.setattr(kept, "ROOT", tmp_path)
    file = tmp_path / "code.py"
    file.write_text("1")
    found = {kept.fingerprint([file], {"batch": 8})}
    found.add(kept.fingerprint([file], {"batch": 4}))
    file.write_text("2")
    found.add(kept.fingerprint([file], {"batch": 8}))
    monkeypatch.setenv("OMP_NUM_THREADS", str(kept.threads() + 1))
    found.add(kept.fingerprint([file], {"batch": 8}))
    assert len(found) == 4
    assert kept.fingerprint([file], {"batch": 8}) in found
