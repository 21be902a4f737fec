"""A real PostgreSQL for tests and benchmarks: its own server in a folder of its own, gone afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("initdb", "pg_ctl", "postgres")
ACCOUNTS = ("postgres", "nobody")
"""Who runs the server when the tests run as root, which it refuses."""


def missing() -> str:
    """Why no server can be started; empty where one can."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"PostgreSQL's {', '.join(absent)} is not on PATH"
    return "" if os.getuid() or _account() else f"the tests run as root, and there is no account {' or '.join(ACCOUNTS)} for PostgreSQL"


@contextmanager
def server(durable: bool = False) -> Iterator[str]:
    """The URL of a running server, up to the name of a database; ``durable``: commits reach the disk, as they do in earnest."""
    folder = Path(tempfile.mkdtemp(prefix="heedful-pg-", dir=None if durable else _memory()))
    data = folder / "data"
    try:
        if account := _account():
            shutil.chown(folder, account)
        _run("initdb", "-D", str(data), "-U", "heedful", "--auth=trust", "--encoding=UTF8", "--no-sync", "--locale=C.UTF-8")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c max_connections=60"
        options += "" if durable else " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
        _run("pg_ctl", "-D", str(data), "-l", str(folder / "log"), "-w", "-o", options, "start")
        try:
            yield f"postgresql://heedful@/{{}}?host={folder}"
        finally:
            _run("pg_ctl", "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def create_database(server: str, name: str, template: str = "template0") -> None:
    """A new database on a running server."""
    administer(server, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')


def administer(server: str, command: str) -> None:
    """One command to the server itself."""
    import psycopg

    with psycopg.connect(server.format("postgres"), autocommit=True) as connection:
        connection.execute(command)


def _memory() -> Path | None:
    """A folder in memory with room for a server that need not be durable; ``None`` where there is none."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 * 2**30 else None


def _account() -> str | None:
    """The account that runs the server; ``None`` where it is one's own."""
    if os.getuid():
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ACCOUNTS if name in known), None)


def _run(*command: str) -> None:
    account = _account()
    options = {"user": account, "group": pwd.getpwnam(account).pw_gid, "extra_groups": []} if account else {}
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd="/", text=True, check=False, **options
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stdout}")
