"""Runs that are stopped, at any moment and however often, end with the same weights and figures as one that nobody stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from command import MINUTE, Heed, assert_self_contained, overrides, read, rows_of

OF_THE_MACHINE = ("seconds", "peak_memory_gib")


@pytest.fixture
def heed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Heed:
    monkeypatch.chdir(tmp_path)
    return Heed(monkeypatch, capsys)


def heed_ctrl_c() -> None:
    """Where the tests run in the background of a script, the shell has told them to ignore it, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Interrupted:
    """One run of the demo in a folder of its own, stopped by signals as it goes."""

    def __init__(self, folder: Path, *words: str) -> None:
        folder.mkdir()
        self.folder, self.run = folder, folder / "run"
        self.command = [sys.executable, "-m", "heedful.cli.main", "demo", "--quick", "-q", "-o", "run", *words, *overrides(MINUTE)]
        self.seen: set[str] = set()

    def go(self, stop: Callable[[], bool] = lambda: False, by: signal.Signals = signal.SIGKILL) -> tuple[int, str]:
        """Start or resume; send the signal as soon as ``stop`` says so. The exit code and what stood on stderr."""
        command = [*self.command, *(["--resume"] if (self.run / "run.json").exists() else [])]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(
            command,
            cwd=self.folder,
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            preexec_fn=heed_ctrl_c,
        ) as process:
            while process.poll() is None:
                self.look()
                if stop():
                    process.send_signal(by)
                    break
                time.sleep(0.02)
            _, err = process.communicate(timeout=300)
        self.look()
        return process.returncode, err

    def look(self) -> None:
        """Note every path that has ever been there: their number tells how far the run is."""
        for base, _, files in os.walk(self.run):
            self.seen.update(os.path.join(base, file) for file in files)

    def outcome(self) -> dict[str, object]:
        """All that must be the same however often a run was stopped."""
        weights = {
            f"{name}": (self.run / name).read_bytes()
            for name in ("policy/model/model.safetensors", "policy/adapter/adapter_model.safetensors")
        }
        metrics = [{k: v for k, v in row.items() if k != "time"} for row in rows_of(self.run / "metrics.jsonl")]
        summary = {k: v for k, v in read(self.run / "summary.json").items() if k not in OF_THE_MACHINE}
        completions = {name: (self.run / f"evaluation/{name}.jsonl").read_text() for name in ("before", "after")}
        return {"weights": weights, "metrics": metrics, "summary": summary, "completions": completions}


def kill_again_and_again(whole: Interrupted, killed: Interrupted, kills: int, chance: random.Random) -> int:
    """Kill at moments spread over the whole run, then let it end; how many kills hit."""
    hits = 0
    for number in range(kills):
        wanted = int((number + chance.random()) / kills * len(whole.seen))
        late, reached = chance.uniform(0, 0.1), 0.0

        def stop(wanted: int = wanted, late: float = late) -> bool:
            nonlocal reached
            reached = reached or (time.monotonic() if len(killed.seen) >= max(wanted, 1) else 0.0)
            return bool(reached) and time.monotonic() - reached >= late

        code, err = killed.go(stop)
        assert code in (0, -signal.SIGKILL), err
        hits += code != 0
        if code == 0:
            return hits
    code, err = killed.go()
    assert code == 0, err
    return hits


def assert_same_outcome(one: Interrupted, other: Interrupted) -> None:
    expected, found = one.outcome(), other.outcome()
    assert found["summary"] == expected["summary"]
    assert found["completions"] == expected["completions"]
    assert found["metrics"] == expected["metrics"]
    assert found["weights"] == expected["weights"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Interrupted:
    """The uninterrupted run that the others are compared with."""
    run = Interrupted(tmp_path_factory.mktemp("whole") / "whole")
    code, err = run.go()
    assert code == 0, err
    return run


def test_a_finished_run_is_not_done_again(heed: Heed, whole: Interrupted, tmp_path: Path) -> None:
    shutil.copytree(whole.run, tmp_path / "run")
    words = ["demo", "--quick", "-q", "--json", "-o", "run", *overrides(MINUTE)]
    first, written = read(tmp_path / "run/summary.json"), last_written(tmp_path / "run")
    again = json.loads(heed(*words, "--resume"))
    assert last_written(tmp_path / "run") == written, "no stage was done again"
    assert {k: v for k, v in again.items() if k not in OF_THE_MACHINE} == {k: v for k, v in first.items() if k not in OF_THE_MACHINE}
    assert "Mean toxicity" in heed("demo", "--quick", "-q", "-o", "run", "--resume", *overrides(MINUTE))
    (tmp_path / "run/report.html").unlink()
    heed("report", "run")
    assert_self_contained(tmp_path / "run/report.html")


def last_written(run: Path) -> dict[str, int]:
    """When each file of a stage was written; the report, and the model's card that quotes it, may be made anew."""
    files = [path for path in run.rglob("*") if path.is_file() and path.parent != run and path.name != "README.md"]
    return {str(path.relative_to(run)): path.stat().st_mtime_ns for path in files}


def test_ctrl_c_and_kill_9_change_nothing(whole: Interrupted, tmp_path: Path) -> None:
    stopped = Interrupted(tmp_path / "stopped")
    code, err = stopped.go(lambda: (stopped.run / "reward/reward/state").exists(), signal.SIGINT)
    assert code == 130
    assert err.splitlines() == ["heed: interrupted; what was done is kept, and the same command with --resume goes on."]
    code, err = stopped.go(lambda: any((stopped.run / "policy/checkpoints").glob("step-*2")))
    assert code == -signal.SIGKILL, err
    code, err = stopped.go()
    assert code == 0, err
    assert_same_outcome(whole, stopped)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_9_at_random_moments_changes_nothing(whole: Interrupted, tmp_path: Path, seed: int) -> None:
    killed = Interrupted(tmp_path / "killed")
    assert kill_again_and_again(whole, killed, 8, random.Random(seed)) >= 4
    assert_same_outcome(whole, killed)


@pytest.mark.slow
def test_kill_9_changes_nothing_for_an_encoder_decoder(tmp_path: Path) -> None:
    whole = Interrupted(tmp_path / "whole", "--architecture", "t5")
    assert whole.go()[0] == 0
    killed = Interrupted(tmp_path / "killed", "--architecture", "t5")
    assert kill_again_and_again(whole, killed, 6, random.Random(4)) >= 3
    assert_same_outcome(whole, killed)


def test_the_comparison_of_runs_can_fail(whole: Interrupted, tmp_path: Path) -> None:
    """One byte of a weight, or one line of metrics that stands twice, is enough."""
    other = Interrupted(tmp_path / "other")
    shutil.copytree(whole.run, other.run)
    assert_same_outcome(whole, other)
    weights, metrics = other.run / "policy/model/model.safetensors", other.run / "metrics.jsonl"
    data, lines = weights.read_bytes(), metrics.read_text()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(AssertionError):
        assert_same_outcome(whole, other)
    weights.write_bytes(data)
    metrics.write_text(lines + lines.splitlines()[-1] + "\n")
    with pytest.raises(AssertionError):
        assert_same_outcome(whole, other)
