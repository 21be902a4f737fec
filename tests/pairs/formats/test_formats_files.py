"""Files of rows: every kind gives back what was written, and every fault is a sentence that names the place and leaves nothing behind."""

from __future__ import annotations

import csv
import gzip
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from formats_strategies import WORDS
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.errors import DataProblem, FileProblem
from heedful.pairs.formats.files import read_rows, write_rows
from heedful.records import LONGEST_LINE

COLUMNS = {"prompt": "text", "p": "number", "n": "integer", "tie": "boolean"}
ROWS = [{"prompt": "=SUM(A1)", "p": 0.25, "n": None, "tie": True}, {"prompt": "ü,\r\n", "p": -1.5, "n": 3, "tie": False}]
ENDINGS = [".jsonl", ".jsonl.gz", ".ndjson", ".json", ".json.gz", ".csv", ".csv.gz", ".parquet"]


def values(path: Path) -> list[dict[str, Any]]:
    return [dict(row.values) for row in read_rows(path)]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_of_file_gives_back_its_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    assert write_rows(path, iter(ROWS), COLUMNS) == 2
    found = list(read_rows(path))
    assert [row.number for row in found] == [1, 2]
    assert [(row.text("prompt"), row.number_or("p", 0), row.count("n"), row.flag("tie")) for row in found] == [
        ("=SUM(A1)", 0.25, None, True),
        ("ü,\r\n", -1.5, 3, False),
    ]
    before = path.read_bytes()
    write_rows(path, iter(ROWS), COLUMNS)
    assert path.read_bytes() == before, "the same rows are the same bytes"
    assert not ending.endswith(".gz") or before[4:8] == bytes(4), "whenever they are written"


def test_a_json_list_and_lines_are_told_apart_by_their_beginning(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(' \n[{"a": 1},\n {"a": [2, "]"]}  ]\n')
    (tmp_path / "lines.json").write_text('\ufeff{"a": 1}\n\n{"a": [2, "]"]}\n')
    assert values(tmp_path / "list.json") == values(tmp_path / "lines.json") == [{"a": 1}, {"a": [2, "]"]}]
    (tmp_path / "none.json").write_text("[]")
    assert values(tmp_path / "none.json") == []
    write_rows(tmp_path / "none2.json", [])
    assert json.loads((tmp_path / "none2.json").read_text()) == []


@given(st.lists(st.fixed_dictionaries({"text": WORDS, "deep": st.lists(WORDS, max_size=3)}), min_size=1, max_size=8), st.integers(3, 90))
@settings(max_examples=60)
def test_a_json_list_is_read_in_pieces_of_any_size(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], piece: int
) -> None:
    from heedful.pairs.formats import files

    path = tmp_path_factory.mktemp("list") / "rows.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "PIECE", piece)
        assert values(path) == rows


@given(st.lists(WORDS, min_size=1, max_size=5))
@settings(max_examples=150)
def test_no_cell_of_csv_is_a_formula_and_every_text_comes_back(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    write_rows(path, [{"text": text} for text in texts], {"text": "text"})
    with path.open(encoding="utf-8", newline="") as handle:
        cells = [cell for row in csv.reader(handle) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    assert [row["text"] for row in values(path)] == texts


def test_numbers_in_csv_stay_numbers(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", [{"margin": -0.5}], {"margin": "number"})
    assert (tmp_path / "rows.csv").read_bytes() == b"margin\r\n-0.5\r\n"


LONG = '{"prompt": "' + "x" * (LONGEST_LINE + 2) + '"}'
BROKEN: dict[str, tuple[str, bytes, str]] = {
    "a long line": ("a.jsonl", b'{"a": 1}\n' + LONG.encode() + b"\n", "line 2 of .* is longer than 8 MiB"),
    "a long line, packed": ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' + LONG.encode()), "line 2 of .* is longer than 8 MiB"),
    "a long row of a list": ("a.json", b'[{"a": 1}, ' + LONG.encode() + b"]", "row 2 of .* is longer than 8 MiB"),
    "a long line of csv": ("a.csv", b"prompt\n" + b"x" * (LONGEST_LINE + 2), "line 2 of .* is longer than 8 MiB"),
    "no UTF-8": ("a.jsonl", b'{"a": 1}\n{"a": "\xe9"}\n', "line 2 of .* is not UTF-8"),
    "no UTF-8 in a list": ("a.json", b'[{"a": "\xe9"}]', "not UTF-8 text .near byte 8"),
    "no UTF-8 in csv": ("a.csv", b"prompt\nx\n\xe9\n", "not UTF-8"),
    "cut gzip": ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 900)[:-9], "cannot be read to its end, only to line"),
    "cut gzip of a list": ("a.json.gz", gzip.compress(b"[" + b'{"a": 1},' * 900 + b'{"a": 1}]')[:-9], "cannot be read to its end"),
    "cut gzip of csv": ("a.csv.gz", gzip.compress(b"a,b\n" * 900)[:-9], "cannot be read to its end"),
    "damaged gzip": ("a.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 9)[:15] + b"\xff" * 40, "cannot be read to its end"),
    "no gzip": ("a.jsonl.gz", b'{"a": 1}\n', "cannot be read"),
    "a cut list": ("a.json", b'[{"a": 1}, {"a": ', "row 2 of .* is not JSON, or cut off"),
    "a broken list": ("a.json", b'[{"a": 1}, {"a" 2}]', "row 2 of .* is not JSON"),
    "a list of lists": ("a.json", b"[[1]]", "row 1 of .* is a list"),
    "a broken line": ("a.jsonl", b'{"a": 1}\n{"a":\n', "line 2 of .* is not JSON"),
    "a list in a line": ("a.jsonl", b'{"a": 1}\n[1]\n', "line 2 of .* holds a list"),
    "uneven csv": ("a.csv", b"a,b\n1,2\n1\n", "row 2 of .* has 1 cells, the first line 2"),
    "csv with an open quote": ("a.csv", b'a,b\n1,"2\n', "line 2 of .* is not CSV"),
    "csv with a name twice": ("a.csv", b"a,a\n1,2\n", "stands twice"),
    "no parquet": ("a.parquet", b"PAR1 nonsense", "not a sound parquet file"),
    "an unknown ending": ("a.xlsx", b"", "no ending that heedful knows"),
    "packed parquet": ("a.parquet.gz", b"", "no ending that heedful knows"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_cannot_be_read_is_named(tmp_path: Path, case: str) -> None:
    name, data, message = BROKEN[case]
    (tmp_path / name).write_bytes(data)
    with pytest.raises((FileProblem, DataProblem), match=message) as caught:
        list(read_rows(tmp_path / name))
    assert name in str(caught.value)


@pytest.mark.parametrize("name", ["absent.jsonl", "absent.csv", "absent.parquet", "absent.json"])
def test_what_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileProblem, match=f"no file .*{name}"):
        list(read_rows(tmp_path / name))


@pytest.mark.parametrize("ending", ENDINGS)
def test_nothing_half_written_stays(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows{ending}"
    write_rows(path, ROWS, COLUMNS)
    before = path.read_bytes()

    def failing() -> Iterator[dict[str, Any]]:
        yield from ROWS * 3000
        raise DataProblem("row 6001 is bad", "Mend it.")

    for rows in (failing(), [*ROWS, ROWS[0] | {"prompt": "half \ud83d"}]):
        with pytest.raises(DataProblem, match=r"row 6001|half a character|does not fit"):
            write_rows(path, rows, COLUMNS)
        assert path.read_bytes() == before
        assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_full_disk_is_a_sentence_and_the_old_file_stays(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "rows.jsonl"
    write_rows(path, ROWS)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(FileProblem, match="cannot be written"):
            write_rows(path, ROWS * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["rows.jsonl"]


def test_a_table_needs_its_columns(tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="do not fit into a table"):
        write_rows(tmp_path / "rows.csv", ROWS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".csv", ".parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, ending: str) -> None:
    """Python's own memory, which holds the rows; the benchmark looks at the whole process."""
    peaks = []
    for number in (4000, 16000):
        path = tmp_path / f"{number}{ending}"
        tracemalloc.start()
        write_rows(path, ({"prompt": f"{i} " + "x" * 2000, "p": 0.5, "n": i, "tie": False} for i in range(number)), COLUMNS)
        assert sum(1 for _ in read_rows(path)) == number
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
