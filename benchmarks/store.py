"""How fast the store is, on SQLite and on PostgreSQL, with every commit on the disk.

    python benchmarks/store.py concurrent           # 8 processes ask and answer for 20 s, on each database
    python benchmarks/store.py large                # 100,000 prompts, 1,000,000 judgements: import, status, export, check
    python benchmarks/store.py large --prompts 10000 --databases sqlite

PostgreSQL is started from this machine's own programs, in a temporary folder, and stopped at the end.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import postgres
from heedful.feedback.asking import ask
from heedful.records import Completion, Labeler, Prompt, write_jsonl
from heedful.store import Answer, Project, Store

COMPLETIONS = 4
PER_PROMPT = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["concurrent", "large"])
    parser.add_argument("--databases", nargs="+", default=["sqlite", "postgresql"])
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--prompts", type=int, default=100_000)
    options = parser.parse_args()
    for database in options.databases:
        with somewhere(database) as where:
            figures = (
                concurrent(where, options.processes, options.seconds) if options.what == "concurrent" else large(where, options.prompts)
            )
        print(json.dumps({"what": options.what, "database": database, **figures}), flush=True)


@contextmanager
def somewhere(database: str) -> Iterator[str]:
    """Where a new store may be made: a file, or a database of a PostgreSQL that flushes its commits."""
    if database == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            yield str(Path(folder) / "labels.db")
        return
    if reason := postgres.missing():
        sys.exit(reason)
    with postgres.server(durable=True) as url:
        yield url.format("postgres")


def items(first: int, last: int) -> Iterator[tuple[Prompt, list[Completion]]]:
    """Prompts of about 200 characters with four completions of about 150."""
    for i in range(first, last):
        texts = [f"Completion {j} of prompt {i}: " + "it depends on what you mean, but yes. " * 3 for j in range(COMPLETIONS)]
        rows = [Completion(f"p{i}:{j}", f"p{i}", text, list(range(40)), "stop", i, f"model-{j}", {}) for j, text in enumerate(texts)]
        yield Prompt(f"p{i}", f"Question {i}: " + "what would you say, and why would you say it? " * 4), rows


def set_up(where: str, prompts: int, labelers: int, **settings: Any) -> str:
    """A store with prompts, and labelers who have read the instructions; returns their version."""
    with Store.open(where, create=True) as store:
        store.create_project(Project("bench", "helpfulness", "Which helps most?", **settings))
        version = store.publish("bench", "Rank by how much it helps.")
        for first in range(0, prompts, 20_000):
            store.add_prompts("bench", items(first, min(first + 20_000, prompts)))
        store.add_labelers(*(Labeler(f"l{i}") for i in range(labelers)))
        for i in range(labelers):
            store.acknowledge("bench", f"l{i}", version)
    return version


def concurrent(where: str, processes: int, seconds: float) -> dict[str, Any]:
    """Judgements per second of processes that ask and answer as fast as they can; waits in milliseconds."""
    version = set_up(where, 5000, processes, repeat_share=0.0)
    context = multiprocessing.get_context("spawn")
    results, ready = context.Queue(), context.Barrier(processes)
    workers = [context.Process(target=labeler, args=(where, f"l{i}", version, seconds, ready, results)) for i in range(processes)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    with Store.open(where) as store:
        status, report = store.status()[0], store.check()
    done = sum(len(one["submit"]) for one in found)
    assert sum(status.judgements.values()) == done, "a judgement was lost"
    assert not report.problem, report.problem
    waits = {kind: percentiles([wait for one in found for wait in one[kind]]) for kind in ("ask", "submit")}
    return {"processes": processes, "judgements": done, "judgements_per_second": round(done / seconds, 1), **waits}


def labeler(where: str, name: str, version: str, seconds: float, ready: Any, results: Any) -> None:
    """One process: asks and answers until the time is over."""
    waits: dict[str, list[float]] = {"ask": [], "submit": []}
    with Store.open(where) as store:
        ready.wait()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            task = timed(waits["ask"], lambda: ask(store, "bench", name))
            said, key = Answer(ranks=[1, 2, 2, None], active_ms=40_000), f"{name} {len(waits['ask'])}"
            timed(waits["submit"], partial(store.submit, task.token, name, key, said, version))
    results.put(waits)


def large(where: str, prompts: int) -> dict[str, Any]:
    """A store with ten judgements per prompt, brought in by the importer, and 1,000 prompts that wait; what using it takes."""
    figures: dict[str, Any] = {"prompts": prompts, "judgements": prompts * PER_PROMPT}
    began = time.monotonic()
    version = set_up(where, prompts, 50)
    figures["add_prompts_s"] = round(time.monotonic() - began, 1)
    with Store.open(where) as store:
        figures["import_s"] = bring_in(store, prompts, version)
        store.add_prompts("bench", items(prompts, prompts + 1000))
        if store.database.file is None:  # as autovacuum does in its own time
            with store.database.engine.connect() as connection:
                connection.execution_options(isolation_level="AUTOCOMMIT").exec_driver_sql("VACUUM ANALYZE")
        store.status()
        figures["status_ms"] = [round(1000 * spent(store.status, 4)) for _ in range(5)]
        waits: dict[str, list[float]] = {"ask": [], "submit": []}
        for i in range(200):
            name = f"l{40 + i % 10}"
            task = timed(waits["ask"], partial(ask, store, "bench", name))
            said = Answer(ranks=[1, 2, 3, 4])
            timed(waits["submit"], partial(store.submit, task.token, name, f"k{i}", said, version))
        figures |= {kind: percentiles(found) for kind, found in waits.items()}
        figures["mib"] = size(store)
    for name in ("export", "snapshot", "check"):
        figures[f"{name}_s"], figures[f"{name}_mib"] = alone(name, where)
    return figures


def bring_in(store: Store, prompts: int, version: str) -> float:
    """Import ten rankings of every prompt from a file; seconds, without the writing of it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rankings.jsonl"
        write_jsonl(path, rankings(prompts, version))
        return spent(lambda: store.import_judgements("bench", path))


def alone(what: str, where: str) -> tuple[float, float]:
    """Seconds that something takes in a process of its own, and by how many MiB it raises that process's peak of memory."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(measured, (what, where))


def measured(what: str, where: str) -> tuple[float, float]:
    work: dict[str, Callable[[Store], object]] = {
        "export": lambda store: sum(1 for _ in store.judgements("bench")),
        "snapshot": lambda store: store.snapshot("bench"),
        "check": lambda store: store.check(),
    }
    with Store.open(where) as store:
        next(store.judgements("bench"))
        before = peak_mib()
        return spent(lambda: work[what](store)), round(peak_mib() - before, 1)


def peak_mib() -> float:
    """The peak of this process's memory by the kernel; getrusage would count what it inherited from its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def rankings(prompts: int, version: str) -> Iterator[dict[str, Any]]:
    """Ten labelers' rankings of every prompt."""
    orders = ([1, 2, 3, 4], [2, 1, 4, 3], [1, 1, 2, None], [4, 3, 2, 1], [1, 3, 2, 4])
    for i in range(prompts):
        for j in range(PER_PROMPT):
            shown = [f"p{i}:{(c + j) % COMPLETIONS}" for c in range(COMPLETIONS)]
            row = {"prompt_id": f"p{i}", "labeler": f"l{(i + j) % 40}", "completion_ids": shown, "ranks": orders[(i + j) % 5]}
            yield row | {
                "criterion": "helpfulness",
                "instructions_version": version,
                "judged_at": "2026-01-05T08:00:00+00:00",
                "active_ms": 9,
            }


def size(store: Store) -> float:
    if store.database.file:
        return round(store.database.file.stat().st_size / 2**20, 1)
    return round(store.read(lambda c: c.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one()) / 2**20, 1)


def timed(waits: list[float], work: Callable[[], Any]) -> Any:
    began = time.perf_counter()
    found = work()
    waits.append(time.perf_counter() - began)
    return found


def spent(work: Callable[[], Any], digits: int = 1) -> float:
    """Seconds."""
    waits: list[float] = []
    timed(waits, work)
    return round(waits[0], digits)


def percentiles(waits: list[float]) -> dict[str, float]:
    """Milliseconds."""
    cuts = statistics.quantiles(waits, n=100)
    return {
        "p50": round(1000 * cuts[49], 1),
        "p95": round(1000 * cuts[94], 1),
        "p99": round(1000 * cuts[98], 1),
        "max": round(1000 * max(waits), 1),
    }


if __name__ == "__main__":
    main()
