"""Rows in files, by their ending: JSON lines, one JSON list, CSV, parquet. One row, or one batch, is in memory at a time.

``.jsonl``, ``.ndjson``, ``.json`` and ``.csv`` may be gzipped (``.gz``). A ``.json`` may hold lines or one list.
Files are written all or nothing.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, BinaryIO

from heedful.errors import DataProblem, FileProblem
from heedful.pairs.formats.rows import Columns, Row
from heedful.records import LONGEST_LINE, json_line, open_binary, read_jsonl, replacing

PIECE = 2**18
"""Bytes of a JSON list that are read at once."""
_TOO_LONG = f"longer than {LONGEST_LINE // 2**20} MiB"
_SPACE = re.compile(r"\s*")


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file. Raises FileProblem, with the number of the row, for what cannot be read."""
    from heedful.pairs.formats.tables import read_csv, read_parquet

    readers: dict[str, Callable[[Path], Iterator[Mapping[str, Any]]]] = {"json": _read_json, "csv": read_csv, "parquet": read_parquet}
    for number, values in enumerate(readers[_kind(path)](path), 1):
        yield Row(values, number, path)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], columns: Columns | None = None) -> int:
    """Write rows and return their number; CSV and parquet need to know the ``columns``, which every row has."""
    from heedful.pairs.formats.tables import write_csv, write_parquet

    kind = _kind(path)
    with replacing(path) as handle:
        if kind == "json":
            with _packed(path, handle) as out:
                return _write_json(path, out, rows)
        if columns is None:
            raise FileProblem(f"rows of this format do not fit into a table such as {path}", "Choose a name that ends in .jsonl or .json.")
        if kind == "parquet":
            return write_parquet(path, handle, rows, columns)
        with _packed(path, handle) as out:
            return write_csv(path, out, rows, columns)


def _kind(path: Path) -> str:
    name = path.name.lower().removesuffix(".gz")
    kinds = {".jsonl": "json", ".ndjson": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
    for ending, kind in kinds.items():
        if name.endswith(ending) and not (kind == "parquet" and path.suffix.lower() == ".gz"):
            return kind
    raise FileProblem(f"{path} has no ending that heedful knows", "Use .jsonl, .json, .csv (each also with .gz) or .parquet.")


def _packed(path: Path, handle: BinaryIO) -> Any:
    # Without name and time in the header, the same rows give the same bytes.
    return gzip.GzipFile("", "wb", 6, handle, mtime=0) if path.suffix == ".gz" else nullcontext(handle)


def _write_json(path: Path, out: BinaryIO, rows: Iterable[Mapping[str, Any]]) -> int:
    as_list = path.name.lower().removesuffix(".gz").endswith(".json")
    number = 0
    for number, row in enumerate(rows, 1):
        if as_list:
            out.write(b"[" if number == 1 else b",")
        out.write(json_line(row, number, path))
    if as_list:
        out.write(b"]\n" if number else b"[]\n")
    return number


def _read_json(path: Path) -> Iterator[Mapping[str, Any]]:
    with closing(open_binary(path)) as handle:
        try:
            start = handle.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        except (OSError, EOFError):
            start = b""  # the reader of lines says what is wrong with the file
    yield from _elements(path) if start.startswith(b"[") else read_jsonl(path)


def _elements(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a file that is one JSON list, without reading it whole."""
    decoder, pieces = json.JSONDecoder(), _pieces(path)
    text = ""
    while "[" not in text:
        text += next(pieces)
    position, number = text.index("[") + 1, 0
    while True:
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]
        if text.startswith("]", position):
            return
        if number and text.startswith(",", position):
            position = _SPACE.match(text, position + 1).end()  # type: ignore[union-attr]
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            piece = next(pieces, None)
            if piece is None or len(text) - position > LONGEST_LINE:
                fault = "cut off" if piece is None else _TOO_LONG
                what = f"row {number + 1} of {path} is not JSON, or {fault}: {error.msg}"
                raise FileProblem(what, "Mend or remove that row, or fetch the file again.") from None
            text, position = text[position:] + piece, 0
            continue
        number += 1
        if end - position > LONGEST_LINE:
            raise FileProblem(f"row {number} of {path} is {_TOO_LONG}", "Mend or remove that row.")
        if not isinstance(value, dict):
            raise DataProblem(f"row {number} of {path} is a {type(value).__name__}, not an object", "Check that it is the right file.")
        position = end
        yield value


def _pieces(path: Path) -> Iterator[str]:
    """The text of a file in pieces."""
    import codecs
    import zlib

    decode, read = codecs.getincrementaldecoder("utf-8-sig")().decode, 0
    try:
        with open_binary(path) as handle:
            while piece := handle.read(PIECE):
                yield decode(piece)
                read += len(piece)
            yield decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} is not UTF-8 text (near byte {read + error.start})", "Save it as UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise FileProblem(f"{path} cannot be read to its end: {error}", "It may be damaged: fetch or write it again.") from None
