"""Processes that are watched, and the environments they run in."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from benchmarks.peers import environments, runs

MIB = 2**20
WRITES = "import json, sys; block = b'x' * ({} * 2**20); json.dump({{'seconds': {{'total': 1.5}}}}, open(sys.argv[1], 'w'))"


def test_the_peak_is_that_of_the_process(tmp_path):
    small, large = (
        runs.run([sys.executable, "-c", WRITES.format(size), tmp_path / "r.json"], tmp_path / "r.json", tmp_path / "log", os.environ)
        for size in (1, 300)
    )
    assert large.result == {"seconds": {"total": 1.5}}
    assert large.peak - small.peak == pytest.approx(299 * MIB, rel=0.1)


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
    code = "import sys\nfor n in ('ppo', 'pairs', 'grpo', 'encoder_decoder'): __import__(f'benchmarks.peers.trl_{n}')\nprint('heedful' in sys.modules)"
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
