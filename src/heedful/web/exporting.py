"""What may be taken away from a project, as files.

Working one out may take minutes of a large project, so the worker makes it, and it is kept beside the store until
there is a newer one: whoever asks for the same again gets it at once. Texts are read a lot of prompts at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa

from heedful import __version__
from heedful.errors import DataProblem, FileProblem, StoreProblem
from heedful.feedback import findings
from heedful.feedback.agreed import DECIDED, ConsensusPair
from heedful.feedback.labels import share_up
from heedful.feedback.said import Said, said_in
from heedful.pairs.build import (
    from_consensus,
    from_corrections,
    from_flags,
    from_thumbs,
    pairs_from_corrections,
    pairs_from_thumbs,
    versions_read,
)
from heedful.pairs.formats import trl
from heedful.pairs.formats.files import write_rows
from heedful.records import Completion, Correction, Pair, Prompt, Ranking, Thumb, Unpaired
from heedful.store import Store, derived, labelers
from heedful.store.columns import canonical
from heedful.store.database import beside
from heedful.web import analysis
from heedful.web.worker import Worker

OfPrompt = TypeVar("OfPrompt", Ranking, Thumb, Correction, ConsensusPair)
T = TypeVar("T")
Writer = Callable[[Store, str, Path], object]
SENTENCES = ("evidence", "recommendation")
NUMBERS = (
    *("judgements", "tasks", "pairs", "agreement", "low", "high", "reliability", "reliability_low", "reliability_high"),
    *("tie_share", "f_share", "earlier_share", "consistency", "gold", "active_s"),
)
"""Columns of the table of labelers."""
LOT = 1000
"""Prompts whose texts are in memory at a time."""
PATIENCE = 5.0
"""Seconds that somebody waits for a file before they are told to come back."""


def judgement_lines(store: Store, project: str) -> Iterator[bytes]:
    """What was said by those who are not in quarantine, a line of JSON each, in constant memory."""
    aside = store.read(lambda c: labelers.quarantined(c, project))
    for row in (row for row in store.judgements(project) if row.labeler not in aside):
        yield json.dumps({"record": type(row).__name__.lower(), **row.to_dict()}).encode() + b"\n"


def state_of(store: Store, project: str) -> str:
    """A name for everything that files are made of: as long as it stays the same, so do they."""
    snapshot, names = store.snapshot(project), sorted(one.name for one in store.labelers())

    def look(c: sa.Connection) -> list[Any]:
        run = derived.latest(c, project, summarised=True)
        return [sorted(labelers.quarantined(c, project)), run.id if run else None]

    return hashlib.sha256(canonical([__version__, snapshot.sha256, names, *store.read(look)]).encode()).hexdigest()[:24]


def ready(store: Store, worker: Worker, project: str, name: str, state: str) -> tuple[Path | None, str]:
    """A file as it stands in a ``state``, or now where none is named; ``None`` while it is still being worked out.

    Also returns the state by which to ask for it again. Raises what the work raised.
    """
    state = state if state and (_kept(store, project, name, state).is_file() or worker.is_at(_job(project, name, state))) else ""
    state = state or state_of(store, project)
    path, job = _kept(store, project, name, state), _job(project, name, state)
    if not path.is_file():
        if not worker.is_at(job):
            worker.start(job, lambda: make(store, project, name, state))
        worker.join(job, PATIENCE)
    return (path if path.is_file() else None), state


def make(store: Store, project: str, name: str, state: str) -> Path:
    """Work a file out, and let go of older ones."""
    path = _kept(store, project, name, state)
    try:
        WRITERS[name](store, project, path)
    except (DataProblem, FileProblem) as problem:  # whoever takes the file away knows it by its name, not by where it is kept
        raise type(problem)(problem.what.replace(str(path), name), problem.next_step) from problem
    for other in path.parent.glob(f"{path.name.partition('-')[0]}-*-{name}"):
        if other != path:
            other.unlink(missing_ok=True)
    return path


def _job(project: str, name: str, state: str) -> str:
    return f"{name} of {project} ({state})"


def _kept(store: Store, project: str, name: str, state: str) -> Path:
    """Where a file is kept; names of projects are no names of files."""
    folder = beside(store.database.file, "exports") if store.database.file else _elsewhere(store)
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if os.name == "posix" and (found.st_uid != os.getuid() or found.st_mode & 0o077):
        raise StoreProblem(f"{folder} is somebody else's, or open to others", "Remove it: files that people take away are kept there.")
    return folder / f"{hashlib.sha256(project.encode()).hexdigest()[:16]}-{state}-{name}"


def _elsewhere(store: Store) -> Path:
    """A folder for what is made from a database that is no file."""
    which = hashlib.sha256(store.database.where.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"heedful-exports-{which}"


def write_pairs(store: Store, project: str, path: Path) -> object:
    """Preferences by consensus of rankings or thumbs, and corrections before what they correct, as TRL and others read them."""
    said = said_in(store, project)
    name, corrections = said.criterion.name, _by_prompt(said.counting(said.corrections))
    pairs = _preferences(said)

    def of_lot(prompts: list[Prompt], completions: list[Completion]) -> Iterator[Pair]:
        yield from pairs(prompts, completions)
        yield from pairs_from_corrections(_of(corrections, prompts), prompts, completions, name)

    return trl.write_pairs(path, _rows(store, project, of_lot))


def _preferences(said: Said) -> Callable[[list[Prompt], list[Completion]], list[Pair]]:
    """What makes pairs of a lot of prompts: the consensus of rankings, or that of thumbs; nothing where there are corrections alone."""
    name = said.criterion.name
    if said.on_thumbs:
        thumbs, up = _by_prompt(said.counting(said.thumbs)), share_up(findings.agree_on_thumbs(said))
        return lambda prompts, completions: pairs_from_thumbs(_of(thumbs, prompts), prompts, completions, name, up, least=DECIDED)
    if not said.counted and said.counting(said.corrections):
        return lambda prompts, completions: []
    decided, versions = _by_prompt(findings.agree(said).decided), versions_read(said.counted)
    return lambda prompts, completions: from_consensus(_Lot(_of(decided, prompts)), prompts, completions, name, versions)


def write_unpaired(store: Store, project: str, path: Path) -> object:
    """Completions that are wanted or not: from thumbs, or from Fs."""
    said = said_in(store, project)
    thumbs, rankings = _by_prompt(said.counting(said.thumbs)), _by_prompt(said.counted)

    def of_lot(prompts: list[Prompt], completions: list[Completion]) -> list[Unpaired]:
        if said.on_thumbs:
            return from_thumbs(_of(thumbs, prompts), prompts, completions)
        judged = _of(rankings, prompts)
        return from_flags(judged, prompts, completions, said.criterion) if judged else []

    return trl.write_unpaired(path, _rows(store, project, of_lot))


def write_demonstrations(store: Store, project: str, path: Path) -> object:
    """Prompts with what should have been answered, from corrections."""
    said = said_in(store, project)
    corrections = _by_prompt(said.counting(said.corrections))
    rows = _rows(store, project, lambda prompts, completions: from_corrections(_of(corrections, prompts), prompts, completions))
    return trl.write_demonstrations(path, rows)


def write_labelers(store: Store, project: str, path: Path) -> object:
    """What was found of each labeler, as a table that a spreadsheet opens without harm."""
    found = analysis.newest(store, project)
    if found is None:
        raise DataProblem("nothing was worked out yet", "Work the figures out first.")
    columns = ("labeler", "verdict", *SENTENCES, *NUMBERS)
    rows = [
        {"labeler": one.labeler, "verdict": one.verdict} | {name: one.details.get(name) for name in columns[2:]} for one in found.labelers
    ]
    return write_rows(path, rows, dict.fromkeys(columns, "text"))


WRITERS: dict[str, Writer] = {
    "pairs.jsonl": write_pairs,
    "unpaired.jsonl": write_unpaired,
    "demonstrations.jsonl": write_demonstrations,
    "labelers.csv": write_labelers,
}
"""Files by name; ``judgements.jsonl`` is sent as it is read."""


@dataclass(frozen=True, slots=True)
class _Lot:
    """The decided pairs of some prompts."""

    decided: list[ConsensusPair]


def _rows(store: Store, project: str, of_lot: Callable[[list[Prompt], list[Completion]], Iterable[T]]) -> Iterator[T]:
    """What is made of all prompts, a lot at a time. Raises DataProblem where that is nothing."""
    found = chain.from_iterable(of_lot(*lot) for lot in _lots(store, project))
    first = next(found, None)
    if first is None:
        raise DataProblem("there is nothing to put into this file", "Collect judgements of its kind first.")
    yield first
    yield from found


def _lots(store: Store, project: str) -> Iterator[tuple[list[Prompt], list[Completion]]]:
    """Prompts with their completions. Both came in together, so they are read in the same order."""
    prompts = store.prompts(project)
    groups = groupby(store.completions(project), lambda completion: completion.prompt_id)
    while lot := list(islice(prompts, LOT)):
        yield lot, [completion for _, group in islice(groups, len(lot)) for completion in group]


def _by_prompt(rows: Iterable[OfPrompt]) -> dict[str, list[OfPrompt]]:
    found: dict[str, list[OfPrompt]] = defaultdict(list)
    for row in rows:
        found[row.prompt_id].append(row)
    return found


def _of(rows: Mapping[str, list[OfPrompt]], prompts: Iterable[Prompt]) -> list[OfPrompt]:
    """Those of some prompts."""
    return [row for prompt in prompts for row in rows.get(prompt.id, ())]
