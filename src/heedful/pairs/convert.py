"""From one format to another, one prompt at a time.

What a format holds decides what it can become: judgements become pairs, unpaired rows or
demonstrations, or judgements of another format; the others stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from heedful.errors import DataProblem, SettingProblem, nearest
from heedful.pairs import build
from heedful.pairs.formats import argilla, hh, label_studio, openai, openassistant, rankings, trl
from heedful.pairs.formats.files import read_rows
from heedful.pairs.formats.judgements import Item, Judged, by_prompt
from heedful.pairs.formats.rows import Row, Say, useful
from heedful.records import Correction, Ranking, Thumb

Holds = Literal["pairs", "unpaired", "demonstrations", "judgements"]
Stream = Iterable[Any]
Told = TypeVar("Told", Thumb, Correction)


@dataclass(frozen=True)
class Choices:
    """What reading and writing may need to know beside the rows.

    ``criterion``: which rankings count, and which of two ranks is preferred. ``style`` and ``strict`` are
    for TRL. ``flags`` and ``ties``: as in :func:`heedful.pairs.build.from_rankings`. ``corrections``:
    whether they are preferred to what they correct, or make no pair. ``columns`` names columns of
    Argilla's fields and Label Studio's data. ``say`` receives what was left out.
    """

    criterion: build.Criterion
    style: trl.Style | None = None
    strict: bool = False
    flags: bool = True
    ties: bool = False
    corrections: bool = True
    columns: Mapping[str, str] = field(default_factory=dict)
    say: Say = lambda _: None


@dataclass(frozen=True)
class Format:
    """One format: what it holds, and how it is read and written; ``None`` where it cannot be."""

    holds: Holds
    read: Callable[[Path, Choices], Iterator[Any]] | None
    write: Callable[[Path, Stream, Choices], int] | None


def _rows(read: Callable[[Row], Any], noun: str) -> Callable[[Path, Choices], Iterator[Any]]:
    return lambda path, c: useful(read_rows(path), read, f"rows of {path}", noun, c.say)


FORMATS: dict[str, Format] = {
    "trl": Format("pairs", _rows(trl.read_pair, "pairs"), lambda p, s, c: trl.write_pairs(p, s, c.style, c.strict)),
    "trl-unpaired": Format(
        "unpaired", _rows(trl.read_unpaired, "unpaired rows"), lambda p, s, c: trl.write_unpaired(p, s, c.style, c.strict)
    ),
    "trl-sft": Format(
        "demonstrations", _rows(trl.read_demonstration, "demonstrations"), lambda p, s, c: trl.write_demonstrations(p, s, c.style, c.strict)
    ),
    "hh": Format("pairs", _rows(hh.read_pair, "pairs"), lambda p, s, c: hh.write_pairs(p, s, c.say)),
    "rankings": Format("judgements", lambda p, c: rankings.read(p, c.say), lambda p, s, c: rankings.write(p, s)),
    "openai": Format(
        "judgements", lambda p, c: openai.read(p, c.criterion.name, c.say), lambda p, s, c: openai.write(p, s, c.criterion, c.say)
    ),
    "openassistant": Format("judgements", lambda p, c: openassistant.read(p, c.criterion.name, c.say), None),
    "argilla": Format(
        "judgements",
        lambda p, c: argilla.read(p, c.criterion.name, c.say, c.columns),
        lambda p, s, c: argilla.write(p, s, c.criterion.name, c.say),
    ),
    "label-studio": Format(
        "judgements",
        lambda p, c: label_studio.read(p, c.criterion.name, c.say, c.columns),
        lambda p, s, c: label_studio.write(p, s, c.criterion.name, c.say),
    ),
}
"""By name. Which kind of file (JSON lines, a JSON list, CSV, parquet) is decided by the path's ending."""


def format_named(name: str) -> Format:
    """The format of that name; raises SettingProblem where there is none."""
    if name not in FORMATS:
        raise SettingProblem(f"there is no format {name!r}.{nearest(name, FORMATS)}", f"Choose one of {', '.join(FORMATS)}.")
    return FORMATS[name]


def convert(source: Path, target: Path, from_name: str, to_name: str, choices: Choices) -> int:
    """Read ``source`` in one format and write ``target`` in another, all or nothing; returns the number of rows written.

    Raises SettingProblem where the one cannot become the other, FileProblem and DataProblem as the formats do.
    """
    reads, writes = format_named(from_name), format_named(to_name)
    if reads.read is None or writes.write is None:
        raise SettingProblem(f"{to_name} is read, not written", f"Choose one of {', '.join(n for n, f in FORMATS.items() if f.write)}.")
    if reads.holds not in (writes.holds, "judgements"):
        raise SettingProblem(
            f"{from_name} holds {reads.holds}, which cannot become the {writes.holds} of {to_name}",
            f"Choose one of {', '.join(n for n, f in FORMATS.items() if f.write and f.holds == reads.holds)}.",
        )
    stream = reads.read(source, choices)
    return writes.write(target, stream if reads.holds == writes.holds else learned(stream, writes.holds, choices), choices)


def learned(stream: Iterable[Item], holds: Holds, choices: Choices) -> Iterator[Any]:
    """What a reward model or policy can learn from judgements; people who judged a prompt together are counted together.

    Raises DataProblem at the end where that is nothing.
    """
    makers = {"pairs": _pairs, "unpaired": _unpaired, "demonstrations": _demonstrations}
    prompts = found = 0
    for judged in by_prompt(stream):
        prompts += 1
        for row in makers[holds](judged, choices):
            found += 1
            yield row
    if not found:
        what = f"the judgements by {choices.criterion.name!r} of {prompts} prompts give no {holds}"
        raise DataProblem(what, "Check --criterion, and that people were asked for what you want to learn from.")


def _pairs(judged: Judged, choices: Choices) -> list[Any]:
    """From rankings, or thumbs where nothing was ranked; and from corrections."""
    texts, name = ([judged.prompt], judged.completions), choices.criterion.name
    if found := _rankings(judged, choices):
        pairs = build.from_rankings(found, *texts, choices.criterion, flags=choices.flags, ties=choices.ties)
    else:
        pairs = build.pairs_from_thumbs(about(judged.thumbs, choices.criterion.name), *texts, name)
    corrections = about(judged.corrections, choices.criterion.name) if choices.corrections else []
    return [*pairs, *build.pairs_from_corrections(corrections, *texts, name)]


def _unpaired(judged: Judged, choices: Choices) -> list[Any]:
    found, texts = _rankings(judged, choices) if choices.flags else [], ([judged.prompt], judged.completions)
    flags = build.from_flags(found, *texts, choices.criterion) if found else []
    return [*build.from_thumbs(about(judged.thumbs, choices.criterion.name), *texts), *flags]


def _demonstrations(judged: Judged, choices: Choices) -> list[Any]:
    return build.from_corrections(about(judged.corrections, choices.criterion.name), [judged.prompt], judged.completions)


def _rankings(judged: Judged, choices: Choices) -> list[Ranking]:
    """Those that count; a prompt without any is no mistake here."""
    return [r for r in judged.rankings if r.criterion == choices.criterion.name and r.purpose != "repeat"]


def about(rows: Iterable[Told], criterion: str) -> list[Told]:
    """Thumbs or corrections by the criterion, or by none in particular."""
    return [row for row in rows if row.criterion in ("", criterion)]
