"""Many processes at once, some killed half-way: nothing lost, nothing twice, no place given to two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from random import Random

import pytest
import sqlalchemy as sa

from heedful.store import Store
from heedful.store.schema import judgement_revision, prompt, slot
from stores import ready

WORKER = Path(__file__).with_name("worker.py")


@pytest.mark.parametrize(
    ("workers", "prompts", "overlap", "kills"),
    [(4, 20, 2, 4), pytest.param(8, 150, 3, 40, marks=pytest.mark.slow)],
    ids=["small", "full"],
)
def test_nothing_is_lost_or_doubled_when_processes_are_killed(
    store: Store, where: str, tmp_path: Path, workers: int, prompts: int, overlap: int, kills: int
) -> None:
    ready(store, prompts=prompts, labelers=workers, overlap=overlap, max_overlap=overlap, lease=1, random_share=0.5)
    assert run(where, tmp_path, workers, kills) == kills
    lost_and_found(store, tmp_path)
    exact(store, overlap)
    assert store.check().problem == ""


def run(where: str, folder: Path, workers: int, kills: int) -> int:
    """Let them work; kill one at random moments and start it again, so many times; returns how many died so."""
    chance = Random(5)
    running = {i: start(where, folder, i) for i in range(workers)}
    killed = 0
    until = time.monotonic() + 240
    while any(process.poll() is None for process in running.values()) and time.monotonic() < until:
        time.sleep(chance.uniform(0.1, 0.5))
        at_work = [i for i in running if running[i].poll() is None and (folder / f"l{i}.diary").exists()]
        if at_work and killed < kills:
            victim = chance.choice(at_work)
            running[victim].send_signal(signal.SIGKILL)
            running[victim].wait()
            killed += running[victim].returncode == -signal.SIGKILL
            running[victim] = start(where, folder, victim)
    codes = {i: process.wait(timeout=60) for i, process in running.items()}
    assert set(codes.values()) == {0}, "\n".join((folder / f"l{i}.err").read_text()[-2000:] for i in codes if codes[i])
    return killed


def start(where: str, folder: Path, number: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(WORKER), where, f"l{number}", str(folder / f"l{number}.diary"), str(number)]
    with (folder / f"l{number}.err").open("ab") as errors:
        return subprocess.Popen(command, stderr=errors, env=os.environ)


def lost_and_found(store: Store, folder: Path) -> None:
    """Whatever was sent is there, once, as it was sent."""
    sent: dict[str, list[int]] = {}
    for diary in folder.glob("*.diary"):
        for line in diary.read_text().splitlines():
            if line.startswith('{"sent"') and line.endswith("}"):
                entry = json.loads(line)["sent"]
                sent[entry["key"]] = entry["ranks"]
    rows = sa.select(judgement_revision.c.key, judgement_revision.c.answer, slot.c.shown).join(slot)
    stored = {row.key: [row.answer["ranks"][str(c)] for c in row.shown] for row in store.read(lambda c: c.execute(rows).all())}
    assert stored == sent
    assert len(stored) > 30


def exact(store: Store, overlap: int) -> None:
    """Every place is filled, by somebody else each."""
    filled = sa.select(slot.c.prompt_id, slot.c.labeler_id).where(slot.c.k.is_not(None), slot.c.state == "judged")
    rows = store.read(lambda c: c.execute(filled).all())
    prompts = store.read(lambda c: c.execute(sa.select(sa.func.count()).select_from(prompt)).scalar_one())
    assert Counter(row.prompt_id for row in rows) == dict.fromkeys(range(1, prompts + 1), overlap)
    assert len(set(rows)) == len(rows) == prompts * overlap
    voices = Counter((row.prompt_id, row.labeler) for row in store.judgements("helpful") if row.purpose != "repeat")
    assert set(voices.values()) == {1}
