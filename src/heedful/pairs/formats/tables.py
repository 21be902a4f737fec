"""Rows as tables: CSV that a spreadsheet opens without harm, and parquet.

A spreadsheet runs a cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a carriage return as a
formula. Such texts get an apostrophe in front, which reading takes away again; so do texts that begin
with one already. In CSV, chat messages are JSON.
"""

from __future__ import annotations

import csv
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from heedful.errors import DataProblem, FileProblem
from heedful.pairs.formats.rows import Columns
from heedful.records import LONGEST_LINE, open_binary

GUARDED = ("=", "+", "-", "@", "\t", "\r", "'", "[{")
"""How a text begins that would be taken for a formula, for a guarded text or for messages."""
BATCH_ROWS, BATCH_CHARACTERS = 4096, 2**22
"""Most of what is in memory before parquet writes it."""


def write_csv(path: Path, out: BinaryIO, rows: Iterable[Mapping[str, Any]], columns: Columns) -> int:
    """Write a header and the rows for ``path`` into ``out``; return their number."""
    number = 0
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    try:
        for row in rows:
            number += 1
            writer.writerow([_cell(row[name]) for name in columns])
    except UnicodeEncodeError:
        raise DataProblem(f"row {number} for {path} holds half a character", "Mend that text: it is not Unicode.") from None
    text.detach()
    return number


def read_csv(path: Path) -> Iterator[dict[str, Any]]:
    """The rows, by the names in the first line."""
    csv.field_size_limit(LONGEST_LINE)
    reader: Any = None
    try:
        with io.TextIOWrapper(open_binary(path), encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(_bounded(lines, path), strict=True)
            header: list[str] = next(reader, [])
            if len(set(header)) < len(header):
                raise DataProblem(f"a column name stands twice in the first line of {path}: {', '.join(header)}", "Rename one of them.")
            for number, cells in enumerate(filter(None, reader), 1):
                if len(cells) != len(header):
                    what = f"row {number} of {path} (to line {reader.line_num}) has {len(cells)} cells, the first line {len(header)}"
                    raise DataProblem(what, 'Put cells that hold commas or line ends in double quotes (").')
                yield {name: _uncell(cell) for name, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise DataProblem(f"line {reader.line_num} of {path} is not CSV: {error}", "Mend that line.") from None
    except UnicodeDecodeError as error:
        line = reader.line_num + 1 if reader else 1
        raise FileProblem(f"{path} is not UTF-8 text (byte {error.start} after line {line})", "Save it as UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise FileProblem(f"{path} cannot be read to its end: {error}", "It may be damaged: fetch or write it again.") from None


def write_parquet(path: Path, out: BinaryIO, rows: Iterable[Mapping[str, Any]], columns: Columns) -> int:
    """Write the rows for ``path`` into ``out``, in batches; return their number."""
    import pyarrow
    from pyarrow import parquet

    message = pyarrow.struct([("role", pyarrow.string()), ("content", pyarrow.string())])
    kinds = {"text": pyarrow.string(), "number": pyarrow.float64(), "integer": pyarrow.int64(), "boolean": pyarrow.bool_()}
    kinds["messages"] = pyarrow.list_(message)
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in columns.items()])
    number = 0
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in _batches(rows):
            try:
                writer.write_table(pyarrow.Table.from_pylist(batch, schema))
            except (pyarrow.ArrowException, UnicodeEncodeError) as error:
                reason = str(error).partition("\n")[0]
                what = f"one of the rows {number + 1} to {number + len(batch)} for {path} does not fit into parquet: {reason}"
                raise DataProblem(what, "Write JSON lines instead: they name the row.") from None
            number += len(batch)
    return number


def read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a parquet file."""
    import pyarrow
    from pyarrow import parquet

    open_binary(path).close()  # says it in a sentence where there is no such file
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise FileProblem(f"{path} is not a sound parquet file: {str(error).splitlines()[0]}", "Fetch or write it again.") from None


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(GUARDED) else value
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else repr(value)


def _uncell(cell: str) -> Any:
    if cell.startswith("'") and cell[1:].startswith(GUARDED):
        return cell[1:]
    if cell.startswith("[{"):
        try:
            return json.loads(cell)
        except json.JSONDecodeError:
            return cell
    return cell


def _bounded(lines: Any, path: Path) -> Iterator[str]:
    """The lines of a file, none of them longer than what fits into memory."""
    number = 0
    while line := lines.readline(LONGEST_LINE + 1):
        number += 1
        if len(line) > LONGEST_LINE:
            raise FileProblem(f"line {number} of {path} is longer than {LONGEST_LINE // 2**20} MiB", "Mend or remove that line.")
        yield line


def _batches(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    """Rows in lists that are bounded in number and, roughly, in characters."""
    rows = iter(rows)
    while batch := list(islice(rows, 64)):
        size = _characters(batch)
        while len(batch) < BATCH_ROWS and size < BATCH_CHARACTERS and (more := list(islice(rows, 64))):
            batch += more
            size += _characters(more)
        yield batch


def _characters(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(
        len(value if isinstance(value, str) else str(value)) for row in rows for value in row.values() if isinstance(value, str | list)
    )
