"""Judgements that were collected elsewhere: all of them, or none and a sentence that names the row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from heedful.errors import DataProblem, nearest
from heedful.records import Correction, Labeler, Ranking, Thumb, read_jsonl
from heedful.store import answers, instructions, labelers, projects
from heedful.store.audit import Digest, hold_chain, record
from heedful.store.columns import lots
from heedful.store.database import take_stock
from heedful.store.grouping import Given, Named, answers_in, problem
from heedful.store.judgements import IMPORTED, seal
from heedful.store.prompts import external_ids
from heedful.store.reading import Judgement
from heedful.store.schema import completion, judgement_revision, prompt, slot
from heedful.store.schema import instructions as version

_AT_ONCE = 2000
_EXAMPLE = 'A row is {"prompt_id", "labeler", "completion_ids", "ranks", "criterion", "instructions_version"}. Nothing was imported.'
_KINDS: dict[str, type[Judgement]] = {"ranking": Ranking, "thumb": Thumb, "correction": Correction}
_OTHERS = ("prompt", "completion", "labeler")
_CALLED_ONCE = {"ruling": "extra"}
"""What exports from before schema 0005 call a purpose: a ruling was an extra by somebody who might settle things."""
_NOT_JUDGED = {"leased": "is being asked about", "skipped": "has skipped"}
"""What a labeler does with a task whose slot is theirs and not judged, by its state."""
_R = judgement_revision.c


@dataclass(frozen=True, slots=True)
class Imported:
    """How many answers were stored, how many were there before, just so, and how many labelers are new."""

    stored: int
    there_before: int
    new_labelers: int


def read_judgements(path: Path) -> Iterator[Named]:
    """The judgements of a file of JSON lines; a line without ``record`` is a ranking, one of another kind is passed over.

    Raises DataProblem or FileProblem, naming the row.
    """
    for number, row in enumerate(read_jsonl(path), 1):
        where = f"row {number} of {path.name}"
        name = str(row.get("record", "ranking"))
        if (kind := _KINDS.get(name)) is None:
            if name not in _OTHERS:
                raise DataProblem(f"'record' in {where} is {name!r}.{nearest(name, (*_KINDS, *_OTHERS))}", _EXAMPLE)
            continue
        try:
            yield where, kind.from_dict(row)
        except (TypeError, ValueError) as error:
            raise DataProblem(f"{where} is no {name}: {str(error).removeprefix(f'{kind.__name__}.__init__() ')}", _EXAMPLE) from None


def add_judgements(connection: sa.Connection, project_name: str, rows: Iterable[Named], source: str, actor: str, now: datetime) -> Imported:
    """Store judgements of prompts and completions that the project has; those of one prompt stand together.

    Labelers who are not known yet are added as persons. An answer for the overlap fills an open
    place of its prompt, or adds one. An answer that the store holds already, just as it is, is left
    as it is, so that a file may come twice. While this goes on nobody can be asked or answer, so a
    large import belongs before the work or into a break.

    Raises DataProblem, naming the row, where one does not fit.
    """
    if connection.dialect.name == "postgresql":  # so that no place is taken meanwhile; SQLite has but one writer anyway
        connection.execute(sa.text("LOCK TABLE slot IN SHARE ROW EXCLUSIVE MODE"))
    project_id, asked = projects.find(connection, project_name, lock=True)
    adder = _Adder(connection, project_id, now)
    for some in lots(answers_in(rows, asked), _AT_ONCE):
        adder.add(some)
    if adder.digest.count:
        details = {"source": source, "new_labelers": adder.new_labelers, "stored_judgements": adder.digest.details()}
        record(connection, "judgements.imported", actor, now, project=project_id, **details)
        take_stock(connection)
    return Imported(adder.digest.count, adder.there_before, len(adder.new_labelers))


class _Adder:
    """Adds one lot after another, under one event."""

    def __init__(self, connection: sa.Connection, project_id: int, now: datetime) -> None:
        self.connection, self.project_id, self.now = connection, project_id, now
        self.event = hold_chain(connection)
        self.digest = Digest()
        self.there_before = 0
        self.new_labelers: list[int] = []
        self._counted = 0
        self._labelers: dict[str, int] = {}
        self._versions: dict[str, int] = {}

    def add(self, given: Sequence[Given]) -> None:
        """Check a lot, then write what is new in it."""
        self._learn_labelers({one.labeler for one in given})
        lot = _Lot(self.connection, self.project_id, {one.prompt_id for one in given})
        lot.learn_revisions([(one, self._labelers[one.labeler]) for one in given])
        new = [one for one in given if not lot.holds(one, self._labelers[one.labeler], self.event)]
        self.there_before += len(given) - len(new)
        slots = [lot.slot_for(one, self._labelers[one.labeler]) for one in new]
        lot.free_taken_places()
        slots = [of_slot | {"id": i} for of_slot, i in zip(slots, _new_ids(self.connection, len(slots)), strict=True)]
        rows = [self._revision(of_slot, one, lot) for of_slot, one in zip(slots, new, strict=True)]
        if rows:
            self.connection.execute(sa.insert(slot), slots)
            self.connection.execute(sa.insert(judgement_revision), rows)
            self._take_stock()

    def _take_stock(self) -> None:
        """Whenever there is twice as much: PostgreSQL would go on as it planned for empty tables, and walk through all for each place."""
        if self.digest.count >= 2 * self._counted:
            self._counted = self.digest.count
            take_stock(self.connection)

    def _learn_labelers(self, names: set[str]) -> None:
        self._labelers |= labelers.ids(self.connection, names - self._labelers.keys())
        for name in sorted(names - self._labelers.keys()):
            self._labelers[name] = labelers.insert(self.connection, Labeler(name), self.now)
            self.new_labelers.append(self._labelers[name])

    def _revision(self, of_slot: dict[str, Any], given: Given, lot: _Lot) -> dict[str, Any]:
        name = given.instructions_version
        if name not in self._versions:
            self._versions[name] = instructions.version_id(self.connection, self.project_id, name)
        row = {
            "slot_id": of_slot["id"],
            "number": 1,
            "key": f"{IMPORTED}{self.event} {self.digest.count}",
            "instructions_id": self._versions[name],
            "answer": answers.to_row(given.answer, of_slot["shown"]),
            "active_ms": given.answer.active_ms,
            "judged_at": given.judged_at,
            "event": self.event,
        }
        seal(row, of_slot, lot.sha256(given.prompt_id), name)
        self.digest.add(row["sha256"])
        return row


Voice = tuple[int, int, bool]
"""Who judged which prompt, by the store's own ids, and whether once more."""


class _Lot:
    """What the store knows of the prompts that a lot of answers speaks of."""

    def __init__(self, connection: sa.Connection, project_id: int, prompt_ids: set[str]) -> None:
        self.connection, self.project_id = connection, project_id
        p, s = prompt.c, slot.c
        known = sa.select(p.id, p.external_id, p.sha256, p.overlap).where(p.project_id == project_id, p.external_id.in_(prompt_ids))
        self._prompts = {row.external_id: row for row in connection.execute(known)}
        numbers = {row.id for row in self._prompts.values()}
        self._completions = _completions_by_prompt(connection, numbers)
        self._overlap = {row.id: row.overlap for row in self._prompts.values()}
        self._open: dict[int, list[Any]] = {}
        self._voices: dict[Voice, Any] = {}
        self._retired: dict[Voice, list[Any]] = defaultdict(list)
        held = sa.select(s.id, s.prompt_id, s.k, s.purpose, s.state, s.stratum_id, s.labeler_id, s.shown)
        for row in connection.execute(held.where(s.prompt_id.in_(numbers), s.state != "lapsed").order_by(s.k.desc())):
            voice = (row.prompt_id, row.labeler_id, row.purpose == "repeat")
            if row.state == "retired":
                self._retired[voice].append(row)
            elif row.state != "open":
                self._voices[voice] = row
            elif row.stratum_id is None:
                self._open.setdefault(row.prompt_id, []).append(row)
        self._revisions: dict[int, list[Any]] = defaultdict(list)
        self._taken: list[int] = []
        self._raised: set[int] = set()

    def sha256(self, prompt_id: str) -> str:
        """The hash of a prompt."""
        return str(self._prompts[prompt_id].sha256)

    def learn_revisions(self, given: Sequence[tuple[Given, int]]) -> None:
        """Read what is stored where these labelers have or had a voice. Raises DataProblem for a prompt that is not there."""
        slots = {row.id for one, labeler_id in given for row in self._there(one, labeler_id)}
        found = sa.select(_R.slot_id, _R.answer, _R.active_ms, _R.judged_at, _R.event, version.c.version)
        found = found.join(version, version.c.id == _R.instructions_id).where(_R.slot_id.in_(slots))
        for row in self.connection.execute(found) if slots else ():
            self._revisions[row.slot_id].append(row)

    def holds(self, given: Given, labeler_id: int, event: int) -> bool:
        """Whether the store held this very answer before ``event``, as a labeler's latest, as an earlier revision, or as retired."""
        return any(self._said_in(there, given, event) for there in self._there(given, labeler_id))

    def _said_in(self, there: Any, given: Given, event: int) -> bool:
        """Whether this very answer stands in a slot since before ``event``."""
        shown = self._shown(given)
        if there.shown != shown or given.purpose not in (there.purpose, _CALLED_ONCE.get(there.purpose)):
            return False
        said = (answers.to_row(given.answer, shown), given.answer.active_ms, given.judged_at, given.instructions_version)
        rows = self._revisions[there.id]
        return any(row.event < event and (row.answer, row.active_ms, row.judged_at, row.version) == said for row in rows)

    def _there(self, given: Given, labeler_id: int) -> list[Any]:
        """The slots that hold what a labeler said of the prompt of an answer, or once held it."""
        voice = self._voice(given, labeler_id)
        return [row for row in (self._voices.get(voice), *self._retired.get(voice, ())) if row]

    def slot_for(self, given: Given, labeler_id: int) -> dict[str, Any]:
        """The slot that an answer fills. Raises DataProblem where it speaks of something else, or the labeler said something before."""
        voice = self._voice(given, labeler_id)
        if voice in self._voices:
            there = self._voices[voice]
            does = _NOT_JUDGED.get(there.state, "has judged") if there else "has judged"
            raise problem(given.where, f"labeler {given.labeler!r} {does} prompt {given.prompt_id!r} already")
        shown, prompt_id = self._shown(given), voice[0]
        self._voices[voice] = None
        row = {"project_id": self.project_id, "prompt_id": prompt_id, "purpose": given.purpose, "state": "judged", "at_random": False}
        return row | {"labeler_id": labeler_id, "shown": shown, "k": self._place(prompt_id) if given.purpose == "overlap" else None}

    def _voice(self, given: Given, labeler_id: int) -> Voice:
        if (known := self._prompts.get(given.prompt_id)) is None:
            raise problem(given.where, f"there is no prompt {given.prompt_id!r} in the project")
        return known.id, labeler_id, given.repeat

    def _shown(self, given: Given) -> list[int]:
        """The store's own ids of the completions that an answer speaks of."""
        known = self._completions.get(self._prompts[given.prompt_id].id, {})
        if strange := [c for c in given.completion_ids if c not in known]:
            raise problem(given.rows[strange[0]], f"{strange[0]!r} is no completion of prompt {given.prompt_id!r}")
        return [known[c] for c in given.completion_ids]

    def free_taken_places(self) -> None:
        """Remove the open slots whose places are to be filled, and add the places that there were not."""
        if self._taken:
            self.connection.execute(sa.delete(slot).where(slot.c.id.in_(self._taken), slot.c.state == "open"))
        raised = sa.update(prompt).where(prompt.c.id == sa.bindparam("raised"))
        rows = [{"raised": prompt_id, "overlap": self._overlap[prompt_id]} for prompt_id in self._raised]
        if rows:
            self.connection.execute(raised.values(overlap=sa.bindparam("overlap")), rows)

    def _place(self, prompt_id: int) -> int:
        if places := self._open.get(prompt_id):
            place = places.pop()
            self._taken.append(place.id)
            return int(place.k)
        self._overlap[prompt_id] += 1
        self._raised.add(prompt_id)
        return self._overlap[prompt_id]


def _new_ids(connection: sa.Connection, n: int) -> Iterable[int]:
    """Ids for new slots, rising. Fetching them beforehand is many times faster than asking for them row by row."""
    if connection.dialect.name == "postgresql":
        drawn = "SELECT nextval(pg_get_serial_sequence('slot', 'id')) FROM generate_series(1, :n)"
        return connection.execute(sa.text(drawn), {"n": n}).scalars()
    first = 1 + (connection.execute(sa.select(sa.func.max(slot.c.id))).scalar() or 0)
    return range(first, first + n)


def _completions_by_prompt(connection: sa.Connection, prompt_ids: set[int]) -> dict[int, dict[str, int]]:
    """The store's own ids of completions, by prompt and by the id under which they came."""
    names = external_ids(connection, prompt_ids)
    found: dict[int, dict[str, int]] = {}
    for row in connection.execute(sa.select(completion.c.id, completion.c.prompt_id).where(completion.c.prompt_id.in_(prompt_ids))):
        found.setdefault(row.prompt_id, {})[names[row.id]] = row.id
    return found
