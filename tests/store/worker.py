"""A labeler's process, which may be killed at any moment: asks, answers, and keeps a diary of what it sent and what was stored.

As a browser does, it writes down an answer before it sends it, and sends it again, under the same
key, until it hears that it is stored; also when it was killed in between.

    python worker.py WHERE LABELER DIARY SEED
"""

from __future__ import annotations

import json
import sys
import time
import uuid
from pathlib import Path
from random import Random
from typing import Any

from heedful.errors import StoreBusy
from heedful.feedback.asking import ask
from heedful.store import Answer, Store, instructions
from heedful.store.tasks import Task


class Diary:
    """One line per answer sent, one per answer stored, each on its way before the next step is taken."""

    def __init__(self, path: Path) -> None:
        self.entries = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")] if path.exists() else []
        self._file = path.open("a")

    def write(self, **entry: Any) -> None:
        self._file.write("\n" + json.dumps(entry))  # a line that a kill cut off ends here
        self._file.flush()

    def unheard(self) -> dict[str, Any] | None:
        """The last answer that was sent and of which nothing was heard."""
        stored = {entry["stored"] for entry in self.entries if "stored" in entry}
        sent = [entry["sent"] for entry in self.entries if "sent" in entry]
        return sent[-1] if sent and sent[-1]["key"] not in stored else None


def main(where: str, labeler: str, diary: Diary, chance: Random) -> None:
    """Work until everything is done."""
    with Store.open(where) as store:
        version = store.read(lambda c: instructions.current(c, "helpful"))[0]
        if unheard := diary.unheard():
            send(store, labeler, diary, unheard, version)
        idle = 0
        while idle < 20:
            task = patiently(lambda: ask(store, "helpful", labeler))
            idle = 0 if task else idle + 1
            if task is None:
                time.sleep(0.1)  # somebody who was killed may hold the last place
            else:
                judge(store, labeler, diary, task, chance)


def judge(store: Store, labeler: str, diary: Diary, task: Task, chance: Random) -> None:
    """Mostly answer; now and then skip, dawdle until the lease is over, send twice, or think again."""
    what = chance.random()
    if what < 0.04:
        patiently(lambda: store.skip(task.token, labeler, "no"))
        return
    if what < 0.07:
        time.sleep(1.2)
    for _ in range(1 + (what > 0.9)):
        ranks = [chance.randint(1, 3) for _ in task.completions]
        answer = {"token": task.token, "key": str(uuid.uuid4()), "ranks": ranks}
        diary.write(sent=answer)
        for _ in range(1 + (chance.random() < 0.2)):
            send(store, labeler, diary, answer, task.instructions_version)


def send(store: Store, labeler: str, diary: Diary, answer: dict[str, Any], version: str) -> None:
    """Until it is stored."""
    said = Answer(ranks=answer["ranks"])
    patiently(lambda: store.submit(answer["token"], labeler, answer["key"], said, version))
    diary.write(stored=answer["key"])


def patiently(work: Any) -> Any:
    """As a client does: busy is no reason to give up."""
    for _ in range(20):
        try:
            return work()
        except StoreBusy:
            time.sleep(0.1)
    return work()


if __name__ == "__main__":
    _, where, labeler, diary, seed = sys.argv
    main(where, labeler, Diary(Path(diary)), Random(f"{seed} {time.time()}"))
