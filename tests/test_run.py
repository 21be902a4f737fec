"""A run's folder: locks, stages done once, metrics, and checkpoints that survive a kill."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from heedful.checkpoints import Checkpoints
from heedful.errors import FileProblem, RunProblem
from heedful.run import Run, peak_memory_gib, plain, read_metrics, versions

SETTINGS: dict[str, Any] = {"seed": 7, "ppo": {"clip": 0.2, "max_steps": 10}}


class Work:
    """A stage's work that counts how often it is done."""

    def __init__(self, text: str = "data") -> None:
        self.calls, self.text, self.found = 0, text, []  # type: ignore[var-annotated]

    def __call__(self, folder: Path) -> dict[str, Any]:
        self.found = sorted(path.name for path in folder.iterdir())
        (folder / "out.txt").write_text(self.text)
        self.calls += 1
        return {"call": self.calls, "loss": float("nan"), "path": folder / "out.txt"}


def run_child(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), *arguments], stdout=subprocess.PIPE, text=True)


def test_a_run_says_what_it_was(tmp_path: Path) -> None:
    with Run.create(tmp_path / "run", SETTINGS, "heed run", {"data": "abc"}):
        pass
    record = json.loads((tmp_path / "run/run.json").read_text())
    assert record["settings"] == SETTINGS
    assert (record["seed"], record["command"], record["parents"]) == (7, "heed run", {"data": "abc"})
    assert record["versions"]["heedful"] == versions()["heedful"]
    assert (tmp_path / "run/config.toml").read_text() == "seed = 7\n\n[ppo]\nclip = 0.2\nmax_steps = 10\n"


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(RunProblem, match=r"thesis\.txt"):
        Run.create(tmp_path, SETTINGS, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(RunProblem, match="is a file"):
        Run.create(tmp_path / "thesis.txt", SETTINGS)


def test_a_run_is_not_overwritten_but_resumed_with_the_same_settings(tmp_path: Path) -> None:
    Run.create(tmp_path, SETTINGS).close()
    with pytest.raises(RunProblem, match="already holds a run"):
        Run.create(tmp_path, SETTINGS)
    other = {"seed": 7, "ppo": {"clip": 0.3, "max_steps": 10}}
    with pytest.raises(RunProblem, match=r"ppo\.clip was 0\.2 and is now 0\.3"):
        Run.create(tmp_path, other, resume=True)
    with pytest.raises(RunProblem, match=r"ppo\.clip was 0\.2 and is now None"):
        Run.create(tmp_path, {"seed": 7, "ppo": {"max_steps": 10}}, resume=True)
    Run.create(tmp_path, {"seed": 7, "ppo": {"clip": 0.2, "max_steps": 20}}, resume=True, may_differ={"ppo.max_steps"}).close()
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["settings"]["ppo"]["max_steps"] == 20
    assert record["resumed"][0]["changed"] == ["ppo.max_steps"]


def test_one_writer_at_a_time_and_a_dead_one_holds_nothing(tmp_path: Path) -> None:
    first = Run.create(tmp_path, SETTINGS)
    with pytest.raises(RunProblem, match=f"in use by process {os.getpid()}"):
        Run.create(tmp_path, SETTINGS, resume=True)
    first.close()
    code = f"""
        import time
        from heedful.run import Run
        run = Run.create({str(tmp_path)!r}, {SETTINGS!r}, resume=True)
        print("held", flush=True)
        time.sleep(60)
    """
    child = run_child(code)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == "held"
    with pytest.raises(RunProblem, match=f"process {child.pid}"):
        Run.create(tmp_path, SETTINGS, resume=True)
    child.kill()
    child.wait()
    Run.create(tmp_path, SETTINGS, resume=True).close()


def test_a_refused_run_lets_go_of_its_lock(tmp_path: Path) -> None:
    Run.create(tmp_path, SETTINGS).close()
    for _ in range(2):
        with pytest.raises(RunProblem, match="already holds"):
            Run.create(tmp_path, SETTINGS)


def test_a_stage_is_done_once(tmp_path: Path) -> None:
    work = Work()
    with Run.create(tmp_path, SETTINGS) as run:
        first = run.stage("pairs", work, {"rankings": "abc"})
        assert run.stage("pairs", work, {"rankings": "abc"}) == first
    with Run.create(tmp_path, SETTINGS, resume=True) as run:
        assert run.stage("pairs", work, {"rankings": "abc"}) == first
    assert work.calls == 1
    assert first == {"call": 1, "loss": None, "path": str(tmp_path / "pairs/out.txt")}


def test_changed_inputs_and_damaged_files_are_said_and_done_again(tmp_path: Path) -> None:
    said: list[str] = []
    work = Work()
    with Run.create(tmp_path, SETTINGS, warn=said.append) as run:
        run.stage("pairs", work, {"rankings": "abc"})
        run.stage("pairs", work, {"rankings": "xyz"})
        assert (work.calls, "rankings" in said[0]) == (2, True)
        (tmp_path / "pairs/out.txt").write_text("edited by hand")
        assert run.stage("pairs", work, {"rankings": "xyz"})["call"] == 3
        assert "out.txt differs" in said[1]
        (tmp_path / "pairs/out.txt").unlink()
        run.stage("pairs", work, {"rankings": "xyz"})
        assert "out.txt is missing" in said[2]
        (tmp_path / "stages/pairs.json").write_text("{half")
        run.stage("pairs", work, {"rankings": "xyz"})
        assert "record cannot be read" in said[3]
    assert work.found == []  # it began in an empty folder
    assert (tmp_path / "pairs.2/out.txt").read_text() == "edited by hand"


def test_an_interrupted_stage_finds_its_folder_again(tmp_path: Path) -> None:
    def interrupted(folder: Path) -> dict[str, Any]:
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    with Run.create(tmp_path, SETTINGS) as run:
        with pytest.raises(KeyboardInterrupt):
            run.stage("policy", interrupted, {"reward": "a"})
        work = Work()
        run.stage("policy", work, {"reward": "a"})
        assert work.found == ["half.txt"]
        with pytest.raises(KeyboardInterrupt):
            run.stage("policy", interrupted, {"reward": "b"})
        run.stage("policy", work, {"reward": "c"})
        assert work.found == []  # what belongs to other inputs is not gone on with


@pytest.mark.parametrize("name", ["../up", "Stage", "stages", ""])
def test_a_stage_name_stays_inside_the_run(tmp_path: Path, name: str) -> None:
    with Run.create(tmp_path, SETTINGS) as run, pytest.raises(ValueError, match="cannot name a stage"):
        run.stage(name, Work())


def test_metrics_are_lines_and_steps_do_not_stand_twice(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as run:
        for step in (1, 2, 3):
            run.log(step, {"score": step / 2, "kl": float("nan")}, "policy")
        run.log(9, {"loss": float("inf")}, "reward")
        assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2, 3, 9]  # flushed at once
        assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
        run.truncate_metrics("policy", 1)
        run.log(2, {"score": 7.0}, "policy")
        with pytest.raises(ValueError, match="'step'"):
            run.log(2, {"step": 1}, "policy")
    rows = read_metrics(tmp_path)
    assert [(row["stage"], row["step"]) for row in rows] == [("policy", 1), ("reward", 9), ("policy", 2)]
    assert (rows[0]["score"], rows[0]["kl"], rows[1]["loss"], rows[2]["score"]) == (0.5, None, None, 7.0)
    assert [row["step"] for row in read_metrics(tmp_path, "reward")] == [9]


def test_half_a_last_line_is_cut_off_at_resume(tmp_path: Path) -> None:
    with Run.create(tmp_path, SETTINGS) as run:
        run.log(1, {"score": 1.0}, "policy")
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"stage": "policy", "st')
    assert len(read_metrics(tmp_path)) == 1
    with Run.create(tmp_path, SETTINGS, resume=True) as run:
        run.log(2, {"score": 2.0}, "policy")
    assert [row["step"] for row in read_metrics(tmp_path)] == [1, 2]


def test_numbers_of_other_libraries_become_plain() -> None:
    numpy = pytest.importorskip("numpy")
    value = {"a": numpy.float32(0.5), "b": numpy.array([1, 2]), "c": (numpy.float64("nan"), True), 3: None}
    assert plain(value) == {"a": 0.5, "b": [1, 2], "c": [None, True], "3": None}
    with pytest.raises(TypeError, match="object"):
        plain(object())


def test_peak_memory_is_that_of_a_python_process() -> None:
    assert 0.005 < peak_memory_gib() < 64
    block = bytearray(200 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_memory_gib() > 200 / 1024


# ---------------------------------------------------------------- checkpoints


def write(text: str) -> Any:
    def fill(folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep/weights").write_text(text)
        (folder / "state").write_text(text)

    return fill


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    assert checkpoints.newest() is None
    for step in (9, 10, 100):
        checkpoints.save(step, write(str(step)))
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == ["step-00000010", "step-00000100"]
    step, folder = checkpoints.newest()  # type: ignore[misc]
    assert (step, (folder / "deep/weights").read_text()) == (100, "100")


@pytest.mark.parametrize("harm", ["edit", "remove", "checksums"])
def test_a_damaged_checkpoint_is_said_and_passed_over(tmp_path: Path, harm: str) -> None:
    said: list[str] = []
    checkpoints = Checkpoints(tmp_path, warn=said.append)
    checkpoints.save(1, write("one"))
    folder = checkpoints.save(2, write("two"))
    if harm == "edit":
        (folder / "deep/weights").write_text("twO")
    elif harm == "remove":
        (folder / "state").unlink()
    else:
        (folder / "checksums.json").write_text("{")
    assert checkpoints.newest() == (1, tmp_path / "step-00000001")
    assert len(said) == 1
    assert "step 2" in said[0]


def test_going_back_never_costs_the_whole_checkpoint(tmp_path: Path) -> None:
    """With keep=1, a damaged step 9 and a new step 5, it is step 5 that stays."""
    checkpoints = Checkpoints(tmp_path, keep=1)
    (checkpoints.save(9, write("nine")) / "state").unlink()
    checkpoints.save(5, write("five"))
    assert checkpoints.newest() == (5, tmp_path / "step-00000005")


def test_the_same_step_can_be_saved_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, write("old"))
    folder = checkpoints.save(1, write("new"))
    assert (folder / "state").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    os.rename(folder, tmp_path / ".replaced-step-00000001")  # as a kill between the two renames leaves it
    assert (checkpoints.newest() or (0, folder))[0] == 1
    checkpoints.save(2, write("two"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")],
)
def test_a_full_disk_is_a_sentence_and_costs_nothing(tmp_path: Path, error: Exception) -> None:
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.save(1, write("one"))

    def full(folder: Path) -> None:
        write("half")(folder)
        raise error

    with pytest.raises(FileProblem, match="step 1 is untouched"):
        checkpoints.save(2, full)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoints.newest() == (1, tmp_path / "step-00000001")


def test_a_mistake_in_the_writer_is_not_called_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Checkpoints(tmp_path).save(1, lambda folder: (folder / "no/such").write_text("x") and None)
    assert list(tmp_path.iterdir()) == []


def test_a_real_write_that_fails_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    code = """
        import resource, sys
        from pathlib import Path
        from heedful.checkpoints import Checkpoints
        from heedful.errors import FileProblem
        checkpoints = Checkpoints(Path(sys.argv[1]), keep=1)
        checkpoints.save(1, lambda f: (f / "w").write_bytes(b"x" * 1000) and None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            checkpoints.save(2, lambda f: (f / "w").write_bytes(b"x" * 1_000_000) and None)
        except FileProblem as problem:
            print(problem)
    """
    out, _ = run_child(code, str(tmp_path)).communicate(timeout=30)
    assert "step 2 cannot be written" in out
    assert "step 1 is untouched" in out
    assert Checkpoints(tmp_path).newest() == (1, tmp_path / "step-00000001")


def test_the_time_of_killed_sessions_counts_up_to_what_they_wrote_last(tmp_path: Path) -> None:
    """Two sessions of 100 and of 40 seconds died in the stage; the clock is turned back in its record, as waiting would be long."""

    def die(folder: Path) -> dict[str, Any]:
        (folder / "checkpoint").write_text("half")
        raise KeyboardInterrupt

    record = tmp_path / "run/stages/train.json"
    for number, seconds in enumerate((100, 40)):
        with Run.create(tmp_path / "run", SETTINGS, resume=True) as run, pytest.raises(KeyboardInterrupt):
            run.stage("train", die)
        written = (tmp_path / "run/train/checkpoint").stat().st_mtime
        started = datetime.fromtimestamp(written - seconds, UTC).isoformat()
        record.write_text(json.dumps({**json.loads(record.read_text()), "started": started}))
        with Run.create(tmp_path / "run", SETTINGS, resume=True) as run:
            assert run.seconds_done() == pytest.approx((100, 140)[number], abs=0.1)
    with Run.create(tmp_path / "run", SETTINGS, resume=True) as run:
        run.stage("train", Work())
        assert 140 <= run.seconds_done() < 150
        run.stage("train", Work())
        assert run.seconds_done() < 150, "a finished stage is counted once"


def test_kill_9_at_any_moment_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """A child saves on and on; it is killed at random moments; what is newest is whole and never goes back."""
    code = """
        import sys
        from pathlib import Path
        from heedful.checkpoints import Checkpoints
        checkpoints = Checkpoints(Path(sys.argv[1]), keep=1)
        found = checkpoints.newest()
        step = found[0] if found else 0
        def fill(folder):
            for part in range(5):
                (folder / f"part{part}").write_text(str(step) * 20_000)
        while True:
            step += 1
            checkpoints.save(step, fill)
            print(step, flush=True)
    """
    chance, last = random.Random(0), 0
    for _ in range(6):
        child = run_child(code, str(tmp_path))
        assert child.stdout is not None
        told = [int(child.stdout.readline())]
        time.sleep(chance.uniform(0.0, 0.05))
        child.send_signal(signal.SIGKILL)
        told += [int(line) for line in child.stdout.read().split()]
        child.wait()
        said: list[str] = []
        step, folder = Checkpoints(tmp_path, warn=said.append).newest()  # type: ignore[misc]
        assert said == []
        assert step >= max(told) > last
        assert (folder / "part4").read_text() == str(step) * 20_000
        last = step
    Checkpoints(tmp_path, keep=1).save(last + 1, write("end"))
    assert [path.name for path in tmp_path.iterdir()] == [f"step-{last + 1:08d}"]


def test_killed_at_every_step_of_a_save(tmp_path: Path) -> None:
    """A child dies at its first, second, ... access to the file system while it replaces a checkpoint."""
    code = """
        import os, signal, sys
        from pathlib import Path
        from heedful.checkpoints import Checkpoints
        folder, step, moment = Path(sys.argv[1]), int(sys.argv[2]), 0
        def fill(folder):
            (folder / "deep").mkdir()
            for part in range(3):
                (folder / "deep" / f"part{part}").write_text("x" * 100)
        Checkpoints(folder, keep=1).save(1, fill)
        while True:
            moment += 1
            child = os.fork()
            if child == 0:
                left = [moment]
                def hook(event, arguments):
                    if event.startswith(("os.", "shutil.")) or event == "open":
                        left[0] -= 1
                        if left[0] == 0:
                            os.kill(os.getpid(), signal.SIGKILL)
                sys.addaudithook(hook)
                Checkpoints(folder, keep=1).save(step, fill)
                os._exit(0)
            died = os.waitpid(child, 0)[1]
            found = Checkpoints(folder, warn=print).newest()
            if found is None or not died:
                print("end", moment, found and found[0])
                break
    """
    for step in (1, 2):  # the same step again, and the next
        out, _ = run_child(code, str(tmp_path / str(step)), str(step)).communicate(timeout=60)
        word, moments, newest = out.split()  # one line: no warning of damage, and an end
        assert (word, int(newest)) == ("end", step)
        assert int(moments) > 15


def test_a_stages_record_that_is_cut_does_not_keep_a_run_from_resuming(tmp_path):
    with Run.create(tmp_path / "run", {}) as run:
        run.stage("prompts", lambda folder: {"n": 1})
    (tmp_path / "run/stages/prompts.json").write_text('{"name": "prom')
    with Run.create(tmp_path / "run", {}, resume=True) as run:
        assert run.seconds_done() == 0
        assert run.stage("prompts", lambda folder: {"n": 2}) == {"n": 2}


@pytest.mark.parametrize("torn", [b"\x00\x00\xff\n", b'{"stage": "po\n', b"[1]\n", b'{"stage": "policy"'])
def test_a_garbage_last_line_of_metrics_is_dropped_with_a_warning(torn, tmp_path):
    said = []
    with Run.create(tmp_path / "run", {}) as run:
        run.log(1, {"loss": 0.5}, "policy")
    with (tmp_path / "run/metrics.jsonl").open("ab") as handle:
        handle.write(torn)
    with Run.create(tmp_path / "run", {}, resume=True, warn=said.append) as run:
        run.log(2, {"loss": 0.25}, "policy")
    assert [row["loss"] for row in read_metrics(tmp_path / "run")] == [0.5, 0.25]
    assert len(said) == 1
    assert "last line of" in said[0]


def test_a_damaged_line_in_the_middle_of_metrics_is_named(tmp_path):
    with Run.create(tmp_path / "run", {}) as run:
        run.log(1, {"loss": 0.5}, "policy")
    path = tmp_path / "run/metrics.jsonl"
    path.write_bytes(b"garbage\n" + path.read_bytes())
    with pytest.raises(RunProblem, match=r"line 1 of .*metrics\.jsonl is damaged"):
        read_metrics(tmp_path / "run")
