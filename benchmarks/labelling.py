"""People at work in the labelling app, against real workers of `heed label`, some of which are killed half-way.

    python benchmarks/labelling.py people                            # 100 labelers on SQLite, 1,000 on PostgreSQL, a minute each
    python benchmarks/labelling.py people --databases sqlite --labelers 20 --seconds 15
    python benchmarks/labelling.py pages --prompts 100000            # 1,000,000 judgements: how long managers' pages take

Everybody is signed in already, keeps one connection, reads for a while (--think seconds, on average), answers, and sends an
answer again under its key until it is stored. At half-time every worker is killed once, one after the other;
"calm" figures leave out the 12 seconds after each kill. At the end every
receipt has to be in the store, once, and no prompt may have more judgements than its overlap, which the database itself
refuses; "extras" are judgements that came after somebody else had filled the place: work that was done for little.
Server, database and the people share this machine's processors.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import sqlalchemy as sa

from benchmarks import store as store_benchmark
from heedful.store import Store, accounts, sessions
from heedful.store.schema import judgement_revision, slot
from heedful.web.analysis import work_out
from heedful.web.security import csrf_of

LABELERS = {"sqlite": 100, "postgresql": 1000}
OVERLAP = 3
RECOVERY = 12.0
"""Seconds in which a killed worker's successor is up, also on a machine that does something else."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["people", "pages"])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--labelers", type=int, help="100 on SQLite and 1,000 on PostgreSQL unless given")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--think", type=float, default=30, help="seconds between a task and its answer, on average")
    parser.add_argument("--prompts", type=int, default=10_000)
    options = parser.parse_args()
    for database in options.databases:
        with store_benchmark.somewhere(database) as where:
            if options.what == "pages":
                figures = pages(where, options.prompts)
            else:
                figures = people(where, options.labelers or LABELERS[database], options)
        print(json.dumps({"what": options.what, "database": database, "load": os.getloadavg()[0], **figures}), flush=True)


def people(where: str, labelers: int, options: argparse.Namespace) -> dict[str, Any]:
    """Latencies in milliseconds of everybody's requests; raises where something was lost or doubled."""
    needed = int(labelers * (options.seconds / options.think + 3) / OVERLAP) + 50
    prompts = max(needed, 200)
    version = store_benchmark.set_up(where, prompts, 0, overlap=OVERLAP, max_overlap=OVERLAP, repeat_share=0.0, calibration_share=0.0)
    cookies = sign_in(where, labelers, version)
    with serving(where, options.workers) as (port, server):
        found = asyncio.run(everybody(port, cookies, version, options, server))
    judged, extras = check(where, found["receipts"])
    waits = {kind: store_benchmark.percentiles([wait for _, wait in found[kind]]) for kind in ("next", "submit")}
    calm = {f"{kind}_calm": store_benchmark.percentiles(calm_waits(found, kind)) for kind in ("next", "submit")}
    asked = {"labelers": labelers, "workers": options.workers, "think_s": options.think, "seconds": options.seconds, "prompts": prompts}
    return {
        **asked,
        "killed": len(found["killed"]),
        "judgements": judged,
        "sent_again": found["retries"],
        "lost": 0,
        "over_assigned": 0,
        "extras": extras,
        **waits,
        **calm,
    }


def calm_waits(found: dict[str, Any], kind: str) -> list[float]:
    """Waits for what was not sent within the seconds after a worker was killed, in which another one starts."""
    return [wait for began, wait in found[kind] if not any(began < at + RECOVERY and began + wait > at for at in found["killed"])]


def sign_in(where: str, labelers: int, version: str) -> list[str]:
    """Accounts with a session each, as if they had come by invitation."""
    with Store.open(where) as store:

        def work(c: sa.Connection, first: int) -> list[str]:
            found = []
            for number in range(first, min(first + 100, labelers)):
                who = accounts.create(c, f"labeler {number}", "no password", False, {}, "benchmark", store.clock())
                accounts.set_role(c, who.id, 1, "labeler", "benchmark", store.clock())
                found.append(sessions.begin(c, who.id, "benchmark", store.clock()))
            return found

        cookies = [cookie for first in range(0, labelers, 100) for cookie in store.write(partial(work, first=first))]
        for number in range(labelers):
            store.acknowledge("bench", f"labeler {number}", version)
    return cookies


@contextmanager
def serving(where: str, workers: int) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """``heed label`` on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "heedful.cli.main", "label", where, "--port", str(port), "--workers", str(workers)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).read()
                break
            except OSError:
                time.sleep(0.1)
        yield port, server
    finally:
        server.terminate()
        server.wait(30)


async def everybody(
    port: int, cookies: list[str], version: str, options: argparse.Namespace, server: subprocess.Popen[bytes]
) -> dict[str, Any]:
    """All labelers at once, and whoever kills the workers."""
    found: dict[str, Any] = {"next": [], "submit": [], "receipts": [], "retries": 0, "killed": []}
    until = time.monotonic() + options.seconds
    people = [labeler(Person(port, cookie, found), number, version, options, until) for number, cookie in enumerate(cookies)]
    await asyncio.gather(*people, kill_workers(server, options, found))
    return found


async def kill_workers(server: subprocess.Popen[bytes], options: argparse.Namespace, found: dict[str, Any]) -> None:
    """At half-time each worker once, without a word, and the next when the one before is back."""
    await asyncio.sleep(options.seconds / 2)
    for pid in workers_of(server.pid):
        os.kill(pid, signal.SIGKILL)
        found["killed"].append(time.perf_counter())
        await asyncio.sleep(min(RECOVERY, options.seconds / 8))


def workers_of(parent: int) -> list[int]:
    """The processes that a server started and that serve (not multiprocessing's own helper)."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def labeler(person: Person, number: int, version: str, options: argparse.Namespace, until: float) -> None:
    """One labeler's work: reads, answers, sends again what was not confirmed."""
    chance = random.Random(number)
    await asyncio.sleep(chance.random() * options.think)
    while time.monotonic() < until:
        task = (await person.post("next", {}))["task"]
        if task is None:
            return
        think = chance.expovariate(1 / options.think)
        if time.monotonic() + think > until:
            return  # goes home with the task open, as people do
        await asyncio.sleep(think)
        answer = {"ranks": [1, 2, 2, None], "active_ms": 1000}
        key = f"{number} {task['token']}"
        receipt = await person.post("submit", {"token": task["token"], "key": key, "version": version, "answer": answer})
        assert receipt["stored"], receipt
        person.found["receipts"].append(key)


class Person:
    """One browser: a connection that is kept, and opened anew when it breaks."""

    def __init__(self, port: int, cookie: str, found: dict[str, Any]) -> None:
        self.port, self.found = port, found
        headers = (
            f"host: 127.0.0.1:{port}\r\norigin: http://127.0.0.1:{port}\r\ncookie: heedful={cookie}\r\nx-csrf-token: {csrf_of(cookie)}"
        )
        self.headers = f"{headers}\r\ncontent-type: application/json\r\naccept: application/json"
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send until an answer comes. What an answer took is counted from the sending that it came to."""
        for attempt in range(60):
            began = time.perf_counter()
            try:
                status, told = await asyncio.wait_for(self._once(what, json.dumps(body).encode()), 15)
            except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError, IndexError):
                status, told = 0, b""
                self.streams = None
            if status == 200:
                self.found[what].append((began, time.perf_counter() - began))
                return dict(json.loads(told))
            if status not in (0, 503):
                raise RuntimeError(f"{what}: {status} {told[:200]!r}")
            self.found["retries"] += 1
            await asyncio.sleep(min(0.2 * 2**attempt, 3))
        raise RuntimeError(f"{what}: nobody answers")

    async def _once(self, what: str, body: bytes) -> tuple[int, bytes]:
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(f"POST /label/1/{what} HTTP/1.1\r\n{self.headers}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        told = await reader.readexactly(length)
        if "connection: close" in head:
            writer.close()
            self.streams = None
        return int(head.split(" ")[1]), told


def check(where: str, receipts: list[str]) -> tuple[int, int]:
    """Every receipt is in the store, once; no prompt has more than its overlap; the store is whole.

    Returns how many judgements there are, and how many of them are extras.
    """
    with Store.open(where) as store:
        keys = set(store.read(lambda c: c.execute(sa.select(judgement_revision.c.key)).scalars().all()))
        assert len(receipts) == len(set(receipts)), "an answer was told stored twice"
        assert not set(receipts) - keys, "a judgement was lost"
        rows = store.read(lambda c: c.execute(sa.select(slot.c.prompt_id, slot.c.purpose).where(slot.c.state == "judged")).all())
        over = [prompt for prompt, n in Counter(row.prompt_id for row in rows if row.purpose == "overlap").items() if n > OVERLAP]
        assert not over, "a prompt has more judgements than its overlap"
        assert not (report := store.check()).problem, report.problem
        return len(keys), sum(row.purpose == "extra" for row in rows)


def pages(where: str, prompts: int) -> dict[str, Any]:
    """Milliseconds that managers' pages take in a store with ten judgements per prompt, whose figures were worked out."""
    version = store_benchmark.set_up(where, prompts, 50)
    with Store.open(where) as store:
        store_benchmark.bring_in(store, prompts, version)
        took = store_benchmark.spent(lambda: work_out(store, "bench"))
        figures: dict[str, Any] = {"judgements": prompts * store_benchmark.PER_PROMPT, "work_out_s": took}
        owner = store.write(lambda c: accounts.create(c, "olga", "no password", True, {}, "benchmark", store.clock()))
        cookie = store.write(lambda c: sessions.begin(c, owner.id, "benchmark", store.clock()))
    with serving(where, 1) as (port, _):
        for name in ("", "/people", "/undecided", "/prompts", "/settings", "/instructions", "/exports"):
            figures[name or "/"] = sorted(fetched(port, f"/projects/1{name}", cookie) for _ in range(5))[2]
    return figures


def fetched(port: int, path: str, cookie: str) -> int:
    """Milliseconds until a page is there."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers={"cookie": f"heedful={cookie}"})
    began = time.perf_counter()
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200
        answer.read()
    return round(1000 * (time.perf_counter() - began))


if __name__ == "__main__":
    main()
