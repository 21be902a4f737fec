"""Read prompts from JSON lines, CSV, parquet or the hub.

A row is a mapping of columns; its prompt is the template filled from them. Everything else of the
row travels along in ``Prompt.columns``, so that reward functions can ask for it by name.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from heedful.errors import DataProblem, FileProblem, SettingProblem, nearest
from heedful.records import Prompt, PromptText, open_text, read_jsonl
from heedful.settings import PromptSettings

Row = Mapping[str, Any]

_ENDINGS = {".jsonl": "jsonl", ".json": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet"}
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}")


def load_prompts(settings: PromptSettings, say: Callable[[str], None] = lambda _: None) -> list[Prompt]:
    """The prompts that ``settings`` describe, in the order of the file.

    ``say`` receives a sentence for what was left out. Raises ``FileProblem`` for a file or data
    set that cannot be read, ``DataProblem`` for a row that is not a prompt, for ids that occur
    twice, and when nothing is left.
    """
    _check_template(settings.template)
    source = settings.path
    prompts, empty, outside, read = [], 0, 0, 0
    for number, row in enumerate(read_rows(settings), 1):
        read = number
        where = f"row {number} of {source}"
        text = _fill(settings, row, where)
        if _is_empty(text):
            empty += 1
        elif not _fits(settings, row, text, where):
            outside += 1
        else:
            prompts.append(Prompt(_given_id(settings, row), text, _reference(settings, row, where), _other_columns(settings, row)))
    if empty:
        say(f"{empty} of {read} rows of {source} have an empty prompt and were left out.")
    if outside:
        say(f"{outside} of {read} rows of {source} are outside {_bounds(settings)} and were left out.")
    if not prompts:
        raise DataProblem(
            f"{source} gives no prompts: of {read} rows {empty} are empty and {outside} outside the length bounds", "Check the file."
        )
    return _with_ids(prompts, source)


def read_rows(settings: PromptSettings) -> Iterator[Row]:
    """The rows of the file or data set, as they are."""
    kind = _format(settings)
    path = Path(settings.path)
    if kind == "hub":
        return _hub_rows(settings.path, settings.split)
    readers: dict[str, Callable[[Path], Iterator[Row]]] = {"jsonl": read_jsonl, "csv": _csv_rows, "parquet": _parquet_rows}
    return _readable(path, readers[kind](path))


def _format(settings: PromptSettings) -> str:
    if settings.format != "auto":
        return settings.format
    path = Path(settings.path)
    kind = _ENDINGS.get((Path(path.stem) if path.suffix == ".gz" else path).suffix.lower())
    if kind:
        return kind
    if _HUB_NAME.fullmatch(settings.path) and not path.exists():
        return "hub"
    raise FileProblem(
        f"{settings.path!r} is no file of prompts that heedful knows by its ending", "Use .jsonl, .csv or .parquet, or set prompts.format."
    )


def _readable(path: Path, rows: Iterator[Row]) -> Iterator[Row]:
    try:
        yield from rows
    except UnicodeDecodeError as error:
        raise FileProblem(f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        raise FileProblem(f"{path} cannot be read to its end: {error}", "It may be damaged: fetch or write it again.") from None


def _csv_rows(path: Path) -> Iterator[Row]:
    csv.field_size_limit(2**31 - 1)  # prompts may be longer than the 128 KiB that csv allows by default
    with open_text(path) as handle:
        reader = csv.reader(handle, strict=True)
        try:
            header = [name.removeprefix("\ufeff") for name in next(reader, [])]
            if len(set(header)) < len(header):
                raise DataProblem(f"a column name stands twice in the first line of {path}: {', '.join(header)}", "Rename one of them.")
            for cells in reader:
                if cells and len(cells) != len(header):
                    what = f"line {reader.line_num} of {path} has {len(cells)} cells, the first line {len(header)}"
                    raise DataProblem(what, 'Put cells that hold commas or line ends in double quotes (").')
                if cells:
                    yield dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise DataProblem(f"line {reader.line_num} of {path} is not CSV: {error}", "Mend that line.") from None


def _parquet_rows(path: Path) -> Iterator[Row]:
    if not path.is_file():
        raise FileProblem(f"there is no file {path}", "Check the path; it is relative to the folder heed runs in.")
    parquet = _import("pyarrow.parquet", "pyarrow")
    import pyarrow

    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise FileProblem(f"{path} is not a parquet file: {str(error).splitlines()[0]}", "Fetch or write it again.") from None


def _hub_rows(name: str, split: str) -> Iterator[Row]:
    datasets = _import("datasets", "datasets")
    repository, _, configuration = name.partition(":")
    try:
        rows = datasets.load_dataset(repository, configuration or None, split=split)
    except Exception as error:  # the hub client raises many kinds, from connection errors to plain ValueError
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        next_step = "Check the name, prompts.split and the connection, or download it and set prompts.path to its file."
        raise FileProblem(f"the data set {name!r} (split {split!r}) cannot be had from the hub: {reason}", next_step) from None
    yield from rows


def _import(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise FileProblem(
            f"reading this needs the package {package}, which is not installed", "Install it with: pip install 'heedful[train]'"
        ) from None


def _fill(settings: PromptSettings, row: Row, where: str) -> PromptText:
    """The prompt of a row. ``{prompt}`` is the prompt column whatever its name; alone it may hold chat messages."""
    if settings.template == "{prompt}":
        value = _column(row, settings.prompt_column, where)
        return _messages(value, where) if isinstance(value, list) else _text(value, settings.prompt_column, where)

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        name = settings.prompt_column if match[1] == "prompt" else match[1]
        return _text(_column(row, name, where), name, where)

    # One pass: braces that come in with the data are never looked at.
    return _PLACEHOLDER.sub(replace, settings.template)


def _check_template(template: str) -> None:
    """A brace that is neither doubled nor closed is a slip of the pen: taken as text, every prompt would be the same."""
    left = _PLACEHOLDER.sub("", template)
    for brace in "{}":
        if brace in left:
            raise SettingProblem(
                f"prompts.template {template!r} has an unpaired {brace!r}",
                f"Close the column's name, as in {{prompt}}, or write {2 * brace} for a brace.",
            )


def _column(row: Row, name: str, where: str) -> Any:
    if name in row:
        return row[name]
    hint = nearest(name, row) or f" It has {', '.join(map(str, row)) or 'none'}."
    raise DataProblem(
        f"{where} has no column {name!r}", f"Check the columns named under [prompts], and in its template {{{{ for a brace.{hint}"
    )


def _text(value: Any, name: str, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise DataProblem(f"column {name!r} in {where} holds a {type(value).__name__}, not a text", "Name another column, or write it as text.")


def _messages(value: list[Any], where: str) -> PromptText:
    for message in value:
        good = isinstance(message, Mapping) and all(isinstance(message.get(key), str) for key in ("role", "content"))
        if not good:
            raise DataProblem(
                f"{where} holds a chat message that is {message!r:.80}", 'Each message is {"role": "user", "content": "..."}.'
            )
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _is_empty(text: PromptText) -> bool:
    return not text.strip() if isinstance(text, str) else not any(message["content"].strip() for message in text)


def _fits(settings: PromptSettings, row: Row, text: PromptText, where: str) -> bool:
    """Whether the row's length, in characters and both bounds included, is wanted."""
    if settings.length_column:
        counted = _text(_column(row, settings.length_column, where), settings.length_column, where)
    else:
        counted = text if isinstance(text, str) else "".join(message["content"] for message in text)
    return settings.min_characters <= len(counted) <= (len(counted) if settings.max_characters is None else settings.max_characters)


def _bounds(settings: PromptSettings) -> str:
    most = "any number of" if settings.max_characters is None else str(settings.max_characters)
    return f"{settings.min_characters} to {most} characters" + (f" in {settings.length_column!r}" if settings.length_column else "")


def _reference(settings: PromptSettings, row: Row, where: str) -> list[str] | None:
    name = settings.reference_column
    default = PromptSettings.model_fields["reference_column"].default
    value = row.get(name) if name in (default, "") else _column(row, name, where)
    if value is None or value == "" or value == []:
        return None
    return [_text(item, name, where) for item in (value if isinstance(value, list) else [value])]


def _given_id(settings: PromptSettings, row: Row) -> str:
    value = row.get(settings.id_column)
    return "" if value is None else str(value).strip()


def _other_columns(settings: PromptSettings, row: Row) -> dict[str, Any]:
    taken = {settings.reference_column, settings.id_column}
    if settings.template == "{prompt}":
        taken.add(settings.prompt_column)
    return {str(name): value for name, value in row.items() if name not in taken}


def _with_ids(prompts: Iterable[Prompt], source: str) -> list[Prompt]:
    """Give an id made from the content to prompts without one; equal prompts are told apart by a number."""
    seen: set[str] = set()
    named = []
    for prompt in prompts:
        name = prompt.id or _content_id(prompt.prompt, seen)
        if name in seen:
            raise DataProblem(
                f"the id {name!r} stands twice in {source}", "Ids name a prompt: mend them, or name another column in prompts.id_column."
            )
        seen.add(name)
        named.append(Prompt(name, prompt.prompt, prompt.reference, prompt.columns))
    return named


def _content_id(text: PromptText, seen: set[str]) -> str:
    digest = hashlib.sha256(json.dumps(text, ensure_ascii=False, sort_keys=True).encode(errors="surrogatepass")).hexdigest()[:16]
    name, number = digest, 1
    while name in seen:
        number += 1
        name = f"{digest}-{number}"
    return name
