"""A full disk, a damaged file, a folder that will vanish: said in words, and nothing lost."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from heedful.errors import StoreProblem
from heedful.records import Ranking
from heedful.store import Store, place
from stores import answer, items, next_task, ready, work


@pytest.fixture
def path(tmp_path: Path, sqlite_template: Path) -> Path:
    return Path(shutil.copy(sqlite_template, tmp_path / "labels.db"))


def test_a_full_disk_is_said_in_words_and_nothing_is_half_stored(path: Path) -> None:
    with Store.open(path) as store:
        ready(store, prompts=2, labelers=1)
        work(store, "l0", 1)
        held = next_task(store, "l0")
        before = store.check()
        pages = store.read(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar_one())
        with store.database.engine.connect() as connection:  # the one in the pool: as if the disk had room for four pages more
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(StoreProblem, match=r"database or disk is full.*What was stored before is safe; of this, nothing was stored"):
            store.add_prompts("helpful", items(2000, first=10))
        after = store.check()
        assert (after.problem, after.last_sha256, after.prompts) == ("", before.last_sha256, 2)
        with store.database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        assert answer(store, held, "l0").purpose == "overlap"  # there is room again, and the work was kept
        assert store.check().problem == ""


LIMITED = """
import resource, signal, sys
from heedful.errors import StoreProblem
from heedful.store import Store
sys.path.insert(0, sys.argv[2])
from stores import items

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with Store.open(sys.argv[1]) as store:
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
    try:
        store.add_prompts("helpful", items(3000, first=10))
    except StoreProblem as problem:
        print(problem)
"""


def test_a_file_that_may_not_grow(path: Path) -> None:
    """The write-ahead log hits a limit of the system, which SQLite reports otherwise than a full disk."""
    with Store.open(path) as store:
        ready(store, prompts=2, labelers=1)
        before = store.check()
    code = [sys.executable, "-c", LIMITED, str(path), str(Path(__file__).parent.parent)]
    said = subprocess.run(code, capture_output=True, text=True, timeout=120, check=False)
    assert "cannot be written" in said.stdout, said.stderr
    with Store.open(path) as store:
        assert store.check() == before
        assert resource.getrlimit(resource.RLIMIT_FSIZE) != (400_000, 400_000)
        assert len(work(store, "l0")) == 2


def test_a_copy_that_finds_no_room_leaves_nothing_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import heedful.store.backup as backup
    from heedful.errors import FileProblem

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup.os, "fsync", full)
    with pytest.raises(FileProblem, match="No space left on device"):
        backup.back_up(path)
    assert list(backup.folder_of(path).iterdir()) == []


def test_a_damaged_file_is_said_in_words(path: Path) -> None:
    with Store.open(path) as store:
        ready(store, prompts=40, labelers=1)
        work(store, "l0")
    content = bytearray(path.read_bytes())
    for page in range(20, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(StoreProblem, match=r"damaged or no database.*heed store restore"):
        use(path)


def use(path: Path) -> None:
    """Open a store, read all of it, and write."""
    with Store.open(path) as store:
        list(store.judgements("helpful"))
        store.import_judgements("helpful", [Ranking("p0", "x", ["p0:a", "p0:b"], [1, 2], "helpfulness", "v")])


def test_a_file_cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(StoreProblem, match="damaged or no database"):
        Store.open(path)


MOUNTS = """\
21 1 259:1 / / rw,relatime - ext4 /dev/root rw
25 21 0:22 / /dev/shm rw,nosuid - tmpfs tmpfs rw
30 21 0:40 / /srv/my\\040box rw - overlay overlay rw,lowerdir=/a
31 30 8:1 /vol /srv/my\\040box/data rw - xfs /dev/sdb rw
"""


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("/srv/labels.db", "ext4"),
        ("/dev/shm/labels.db", "tmpfs"),
        ("/dev/shmall/labels.db", "ext4"),
        ("/srv/my box/labels.db", "overlay"),
        ("/srv/my box/data/x/labels.db", "xfs"),
    ],
)
def test_the_file_system_below_a_file(file: str, kind: str) -> None:
    assert place.filesystem(Path(file), MOUNTS) == kind
    assert bool(place.warning(Path(file), MOUNTS)) == (kind in ("tmpfs", "overlay"))


def test_where_the_kernel_tells_nothing_nothing_is_said() -> None:
    assert place.warning(Path("/srv/labels.db"), "") == ""


def test_a_store_in_memory_is_warned_of_loudly(sqlite_template: Path) -> None:
    memory = Path("/dev/shm")
    if place.filesystem(memory / "x") != "tmpfs":
        pytest.skip("this machine has no tmpfs at /dev/shm")
    file = memory / f"heedful-test-{id(memory)}.db"
    shutil.copy(sqlite_template, file)
    heard: list[str] = []
    try:
        Store.open(file, warn=heard.append).close()
    finally:
        for part in memory.glob(f"{file.name}*"):
            part.unlink()
    assert len(heard) == 1
    assert "tmpfs, memory: it is gone when the machine restarts" in heard[0]
