"""The rows that flow between stages, and how they are kept as JSON lines.

Every stage reads some of these and writes others; nothing else crosses a stage's border.

    Prompt -> Completion -> Ranking | Thumb | Correction -> Pair | Unpaired -> (reward model) -> (policy) -> Verdict

Conventions:

* A prompt is a string, or a list of chat messages ``{"role": ..., "content": ...}``.
* Rank 1 holds *most of the criterion*. Whether that is good is the criterion's business
  (``higher_is``), see ``heedful.feedback.criteria``. Equal ranks are ties. ``None`` is an F:
  nonsensical, confusing or irrelevant.
* In a pair ``chosen`` is the preferred completion, always.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, TypeVar

from heedful.errors import DataProblem, FileProblem

Message = dict[str, str]
PromptText = str | list[Message]
FinishReason = Literal["stop", "length"]

LONGEST_LINE = 8 * 2**20
"""Bytes of the longest line that is read: far more than any row of text needs, and a file without line ends
is refused before it fills the memory."""


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_names: Callable[[Any], tuple[str, ...]] = functools.cache(lambda kind: tuple(f.name for f in dataclasses.fields(kind)))
"""The names of a record's fields: looking them up afresh would take longer than writing the row."""


class Record:
    """Conversion to and from plain dictionaries; subclasses are frozen dataclasses."""

    def to_dict(self) -> dict[str, Any]:
        """The row as plain JSON types; fields that are ``None`` are left out."""
        return {name: value for name in _names(type(self)) if (value := getattr(self, name)) is not None}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; unknown keys are ignored, so newer files still open."""
        names = _names(cls)
        return cls(**{key: value for key, value in row.items() if key in names})


@dataclass(frozen=True, slots=True)
class Prompt(Record):
    """What the model is asked.

    ``reference``: one or more human answers to compare with, if there are any.
    ``columns``: the other columns of the user's row; reward functions receive them by name.
    """

    id: str
    prompt: PromptText
    reference: list[str] | None = None
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Completion(Record):
    """One sampled answer. ``token_ids`` are the truth, ``text`` is derived from them."""

    id: str
    prompt_id: str
    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    seed: int
    model: str
    sampling: dict[str, Any] = field(default_factory=dict)


LabelerKind = Literal["person", "ai", "simulated"]
Purpose = Literal["overlap", "calibration", "repeat", "extra", "ruling"]
"""Why a labeler was asked: for the prompt's overlap; as one of the items that everybody gets; to judge
the same prompt once more; for the overlap, but others had made it up when the answer came; or to settle
what others left undecided. A repeat never counts as another voice, and a ruling stands alone, see :func:`settled`."""


@dataclass(frozen=True, slots=True)
class Labeler(Record):
    """Who judges: a person, an AI judge or a simulated labeler, and the strata of the population they stand for.

    ``strata`` is like ``{"language": "native", "age": "30-44"}``.
    """

    name: str
    kind: LabelerKind = "person"
    strata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ranking(Record):
    """One labeler's judgement of several completions of one prompt.

    ``completion_ids`` stand in the order in which they were shown; ``ranks`` is aligned with it:
    1 holds most of the criterion, equal numbers tie, ``None`` is F. ``reasons`` says why a
    completion got its F, by completion id; ``active_ms`` is the time spent working on it, in
    milliseconds; ``judged_at`` is UTC in ISO 8601, empty where it is not known.
    """

    prompt_id: str
    labeler: str
    completion_ids: list[str]
    ranks: list[int | None]
    criterion: str
    instructions_version: str
    reasons: dict[str, str] = field(default_factory=dict)
    active_ms: int | None = None
    judged_at: str = ""
    purpose: Purpose = "overlap"

    def __post_init__(self) -> None:
        if len(self.ranks) != len(self.completion_ids):
            raise ValueError(f"{len(self.completion_ids)} completions but {len(self.ranks)} ranks")
        if len(set(self.completion_ids)) != len(self.completion_ids):
            raise ValueError(f"a completion stands twice in {self.completion_ids}")
        if any(rank is not None and rank < 1 for rank in self.ranks):
            raise ValueError(f"ranks start at 1, got {self.ranks}")

    def rank_of(self, completion_id: str) -> int | None:
        """The rank given to a completion, ``None`` for F."""
        return self.ranks[self.completion_ids.index(completion_id)]


@dataclass(frozen=True, slots=True)
class Thumb(Record):
    """One labeler's thumb on one completion: ``True`` is up. Times as in :class:`Ranking`."""

    prompt_id: str
    labeler: str
    completion_id: str
    label: bool
    criterion: str = ""
    instructions_version: str = ""
    active_ms: int | None = None
    judged_at: str = ""
    purpose: Purpose = "overlap"


@dataclass(frozen=True, slots=True)
class Correction(Record):
    """What a completion should have said, in a labeler's own words. Times as in :class:`Ranking`."""

    prompt_id: str
    labeler: str
    completion_id: str
    text: str
    criterion: str = ""
    instructions_version: str = ""
    active_ms: int | None = None
    judged_at: str = ""
    purpose: Purpose = "overlap"


Judged = TypeVar("Judged", Ranking, Thumb)


def settled(rows: Iterable[Judged]) -> list[Judged]:
    """The judgements that decide what is better: of a prompt on which somebody has ruled by a criterion, those rulings alone."""
    kept = list(rows)
    ruled = {(row.prompt_id, row.criterion) for row in kept if row.purpose == "ruling"}
    return [row for row in kept if (row.prompt_id, row.criterion) not in ruled or row.purpose == "ruling"]


PairSource = Literal["rank", "flag", "thumb", "correction"]


@dataclass(frozen=True, slots=True)
class Pair(Record):
    """A preference: ``chosen`` over ``rejected`` with probability ``p``.

    Completion ids are kept where they are known, so that each completion of a prompt is encoded
    once however many pairs it takes part in.

    ``n_for``, ``n_against`` and ``n_tie`` count the labelers behind it, ``None`` where that is not
    known. ``source``: ``rank``; ``flag`` where the rejected one got an F instead of a lower rank;
    ``thumb`` where chosen is up and rejected down; ``correction`` where chosen is what a labeler wrote
    in place of rejected (it has no id). ``tie``: neither is preferred, ``p`` is 0.5, and which one is
    called chosen means nothing.
    ``instructions_version`` names several with commas where labelers had read different ones.
    """

    prompt: PromptText
    chosen: str
    rejected: str
    p: float = 1.0
    margin: float = 0.0
    prompt_id: str = ""
    chosen_id: str = ""
    rejected_id: str = ""
    n_for: int | None = None
    n_against: int | None = None
    n_tie: int | None = None
    criterion: str = ""
    instructions_version: str = ""
    source: PairSource = "rank"
    tie: bool = False


@dataclass(frozen=True, slots=True)
class Unpaired(Record):
    """A completion by itself that is wanted (``label`` is ``True``) or not; from thumbs, or from an F.

    ``n_for`` and ``n_against`` count the labelers who say so and who say the opposite.
    """

    prompt: PromptText
    completion: str
    label: bool
    prompt_id: str = ""
    completion_id: str = ""
    n_for: int | None = None
    n_against: int | None = None
    criterion: str = ""
    instructions_version: str = ""
    source: Literal["thumb", "flag"] = "thumb"


@dataclass(frozen=True, slots=True)
class Score(Record):
    """A reward model's number for one completion."""

    completion_id: str
    value: float


@dataclass(frozen=True, slots=True)
class Verdict(Record):
    """One sentence on a run's outcome and the evidence for it, most important first."""

    sentence: str
    evidence: list[str]


def plain_text(prompt: PromptText) -> str:
    """A prompt as plain text: itself, or a chat with one ``role: content`` line per message."""
    return prompt if isinstance(prompt, str) else "\n".join(f"{m['role']}: {m['content']}" for m in prompt)


def write_jsonl(path: Path, rows: Iterable[Record | Mapping[str, Any]]) -> str:
    """Write rows as JSON lines, all or nothing, one row in memory at a time; return the file's sha256."""
    digest = hashlib.sha256()
    with replacing(path) as handle:
        for number, row in enumerate(rows, 1):
            line = json_line(row, number, path)
            digest.update(line)
            handle.write(line)
    return digest.hexdigest()


def json_line(row: Record | Mapping[str, Any], number: int, path: Path) -> bytes:
    """One row as a line of JSON; raises DataProblem where it holds what JSON and UTF-8 cannot."""
    try:
        return _encode(row.to_dict() if isinstance(row, Record) else dict(row)).encode() + b"\n"
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise DataProblem(f"row {number} for {path} holds half a character ({half!a})", "Mend that text: it is not Unicode.") from None
    except ValueError:
        raise DataProblem(f"row {number} for {path} holds a number that is not finite", "Mend or remove that row.") from None


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a JSON-lines file; a broken line is named by its number."""
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FileProblem(
                f"line {number} of {path} is not JSON: {error.msg} at column {error.colno}", "Mend or remove that line."
            ) from None
        if not isinstance(row, dict):
            raise FileProblem(
                f"line {number} of {path} holds a {type(row).__name__}, not an object",
                'Each line is one object, e.g. {"prompt": "..."}.',
            )
        yield row


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Number and text of each line that is not blank, of UTF-8 text, gzip or not; what cannot be read is named by its line."""
    number = 0
    try:
        with open_binary(path) as lines:
            while line := lines.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    what = f"line {number} of {path} is longer than {LONGEST_LINE // 2**20} MiB"
                    raise FileProblem(what, "Each row stands on a line of its own: mend or remove that line.")
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                if text.strip():
                    yield number, text
    except UnicodeDecodeError as error:
        raise FileProblem(f"line {number} of {path} is not UTF-8 text (byte {error.start} of the line)", "Save it as UTF-8.") from None
    except (OSError, EOFError, zlib.error) as error:
        what = f"{path} cannot be read to its end, only to line {number}: {error}"
        raise FileProblem(what, "It may be damaged: fetch or write it again.") from None


def open_text(path: Path) -> Any:
    """Open a UTF-8 text file, gzip or not, with a sentence where it cannot be."""
    import io

    return io.TextIOWrapper(open_binary(path), encoding="utf-8")


def open_binary(path: Path) -> Any:
    """Open a file for reading bytes, unpacked where its name ends in .gz, with a sentence where it cannot be."""
    import gzip

    if not path.exists():
        raise FileProblem(f"there is no file {path}", "Check the path; it is relative to the folder heed runs in.")
    if path.is_dir():
        raise FileProblem(f"{path} is a folder, not a file", "Name the file inside it.")
    try:
        return gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    except OSError as error:
        raise FileProblem(f"{path} cannot be read: {error.strerror}", "Check its permissions.") from None


def write_atomically(path: Path, data: bytes) -> str:
    """Write ``data`` so that a reader sees the old file or the new one, never half; return its sha256."""
    with replacing(path) as handle:
        handle.write(data)
    return hashlib.sha256(data).hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of ``path`` at the end of the block, or vanishes when the block fails."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise FileProblem(
            f"{path} cannot be written: {error.strerror}",
            "Free some disk space or choose another folder; what was there before is untouched.",
        ) from None
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
