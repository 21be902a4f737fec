"""Rankings that were collected elsewhere: all of them, or none and a sentence that names the row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import sqlalchemy as sa

from heedful.errors import DataProblem
from heedful.records import Labeler, Purpose, Ranking, read_jsonl
from heedful.store import instructions, labelers, projects
from heedful.store.audit import Digest, hold_chain, record
from heedful.store.database import take_stock
from heedful.store.judgements import seal
from heedful.store.names import LONGEST_ID, refuse_bad_name
from heedful.store.prompts import MOST, external_ids
from heedful.store.schema import completion, judgement_revision, prompt, slot

Named = tuple[str, Ranking]
"""A ranking, and where it stands: ``row 3 of labels.jsonl``."""
_AT_ONCE = 2000
_EXAMPLE = 'A row is {"prompt_id", "labeler", "completion_ids", "ranks", "criterion", "instructions_version"}. Nothing was imported.'


def read_rankings(path: Path) -> Iterator[Named]:
    """The rankings of a file of JSON lines. Raises DataProblem or FileProblem, naming the row."""
    for number, row in enumerate(read_jsonl(path), 1):
        where = f"row {number} of {path.name}"
        try:
            ranking = Ranking.from_dict(row)
        except (TypeError, ValueError) as error:
            raise DataProblem(f"{where} is no ranking: {str(error).removeprefix('Ranking.__init__() ')}", _EXAMPLE) from None
        yield where, ranking


def add_rankings(connection: sa.Connection, project_name: str, rankings: Iterable[Named], source: str, actor: str, now: datetime) -> int:
    """Store rankings of prompts and completions that the project has; returns their number.

    Labelers who are not known yet are added as persons. A ranking for the overlap fills an open
    place of its prompt, or adds one. While this goes on nobody can be asked or answer, so a large
    import belongs before the work or into a break.

    Raises DataProblem, naming the row, where one does not fit.
    """
    if connection.dialect.name == "postgresql":  # so that no place is taken meanwhile; SQLite has but one writer anyway
        connection.execute(sa.text("LOCK TABLE slot IN SHARE ROW EXCLUSIVE MODE"))
    project_id, asked = projects.find(connection, project_name, lock=True)
    if asked.task != "ranking":
        raise DataProblem(
            f"project {project_name!r} asks for {asked.task}, not for rankings", "Name another project. Nothing was imported."
        )
    adder = _Adder(connection, project_id, asked.criterion, now)
    remaining = iter(rankings)
    while some := list(islice(remaining, _AT_ONCE)):
        adder.add(some)
    if adder.digest.count:
        details = {"source": source, "new_labelers": adder.new_labelers, "stored_judgements": adder.digest.details()}
        record(connection, "judgements.imported", actor, now, project=project_id, **details)
        take_stock(connection)
    return adder.digest.count


class _Adder:
    """Adds one lot after another, under one event."""

    def __init__(self, connection: sa.Connection, project_id: int, criterion: str, now: datetime) -> None:
        self.connection, self.project_id, self.criterion, self.now = connection, project_id, criterion, now
        self.event = hold_chain(connection)
        self.digest = Digest()
        self.new_labelers: list[int] = []
        self._labelers: dict[str, int] = {}
        self._versions: dict[str, int] = {}

    def add(self, rankings: Sequence[Named]) -> None:
        """Check a lot, then write it."""
        for where, ranking in rankings:
            if fault := _fault(ranking, self.criterion):
                raise _problem(where, fault)
        self._learn_labelers({ranking.labeler for _, ranking in rankings})
        lot = _Lot(self.connection, self.project_id, {ranking.prompt_id for _, ranking in rankings})
        slots = [lot.slot_for(where, ranking, self._labelers[ranking.labeler]) for where, ranking in rankings]
        lot.free_taken_places()
        slots = [of_slot | {"id": i} for of_slot, i in zip(slots, _new_ids(self.connection, len(slots)), strict=True)]
        self.connection.execute(sa.insert(slot), slots)
        rows = [self._revision(of_slot, ranking, lot) for of_slot, (_, ranking) in zip(slots, rankings, strict=True)]
        self.connection.execute(sa.insert(judgement_revision), rows)

    def _learn_labelers(self, names: set[str]) -> None:
        self._labelers |= labelers.ids(self.connection, names - self._labelers.keys())
        for name in sorted(names - self._labelers.keys()):
            self._labelers[name] = labelers.insert(self.connection, Labeler(name), self.now)
            self.new_labelers.append(self._labelers[name])

    def _revision(self, of_slot: dict[str, Any], ranking: Ranking, lot: _Lot) -> dict[str, Any]:
        version = ranking.instructions_version
        if version not in self._versions:
            self._versions[version] = instructions.version_id(self.connection, self.project_id, version)
        ranks = {str(c): rank for c, rank in zip(of_slot["shown"], ranking.ranks, strict=True)}
        reasons = {str(lot.completion_id(ranking.prompt_id, c)): text for c, text in ranking.reasons.items()}
        row = {
            "slot_id": of_slot["id"],
            "number": 1,
            "key": f"import {self.event} {self.digest.count}",
            "instructions_id": self._versions[version],
            "answer": {"ranks": ranks, "reasons": reasons} if reasons else {"ranks": ranks},
            "active_ms": ranking.active_ms,
            "judged_at": datetime.fromisoformat(ranking.judged_at) if ranking.judged_at else None,
            "event": self.event,
        }
        seal(row, of_slot, lot.sha256(ranking.prompt_id), version)
        self.digest.add(row["sha256"])
        return row


class _Lot:
    """What the store knows of the prompts that a lot of rankings speaks of."""

    def __init__(self, connection: sa.Connection, project_id: int, prompt_ids: set[str]) -> None:
        self.connection, self.project_id = connection, project_id
        p, s = prompt.c, slot.c
        known = sa.select(p.id, p.external_id, p.sha256, p.overlap).where(p.project_id == project_id, p.external_id.in_(prompt_ids))
        self._prompts = {row.external_id: row for row in connection.execute(known)}
        numbers = {row.id for row in self._prompts.values()}
        self._completions = _completions_by_prompt(connection, numbers)
        self._overlap = {row.id: row.overlap for row in self._prompts.values()}
        self._open: dict[int, list[Any]] = {}
        self._voices: set[tuple[int, int, bool]] = set()
        held = sa.select(s.id, s.prompt_id, s.k, s.purpose, s.state, s.stratum_id, s.labeler_id)
        for row in connection.execute(held.where(s.prompt_id.in_(numbers), s.state != "lapsed").order_by(s.k.desc())):
            if row.state != "open":
                self._voices.add((row.prompt_id, row.labeler_id, row.purpose == "repeat"))
            elif row.stratum_id is None:
                self._open.setdefault(row.prompt_id, []).append(row)
        self._taken: list[int] = []
        self._raised: set[int] = set()

    def completion_id(self, prompt_id: str, completion_id: str) -> int:
        """The store's own id of a completion."""
        return self._completions[self._prompts[prompt_id].id][completion_id]

    def sha256(self, prompt_id: str) -> str:
        """The hash of a prompt."""
        return str(self._prompts[prompt_id].sha256)

    def slot_for(self, where: str, ranking: Ranking, labeler_id: int) -> dict[str, Any]:
        """The slot that a ranking fills. Raises DataProblem where it speaks of something else, or was there before."""
        if (known := self._prompts.get(ranking.prompt_id)) is None:
            raise _problem(where, f"there is no prompt {ranking.prompt_id!r} in the project")
        voice = (known.id, labeler_id, ranking.purpose == "repeat")
        if voice in self._voices:
            raise _problem(where, f"labeler {ranking.labeler!r} has judged prompt {ranking.prompt_id!r} already")
        self._voices.add(voice)
        completions = self._completions.get(known.id, {})
        if strange := [c for c in ranking.completion_ids if c not in completions]:
            raise _problem(where, f"{strange[0]!r} is no completion of prompt {ranking.prompt_id!r}")
        row = {"project_id": self.project_id, "prompt_id": known.id, "purpose": ranking.purpose, "state": "judged", "at_random": False}
        shown = [completions[c] for c in ranking.completion_ids]
        return row | {"labeler_id": labeler_id, "shown": shown, "k": self._place(known.id) if ranking.purpose == "overlap" else None}

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


def _fault(ranking: Ranking, criterion: str) -> str:
    """What is wrong with a ranking by itself; empty where nothing is."""
    try:
        refuse_bad_name("prompt", ranking.prompt_id, LONGEST_ID)
        refuse_bad_name("labeler", ranking.labeler)
        refuse_bad_name("instructions version", ranking.instructions_version, 64)
        if ranking.judged_at and datetime.fromisoformat(ranking.judged_at).tzinfo is None:
            return f"judged_at is {ranking.judged_at!r}, without a time zone"
    except DataProblem as problem:
        return problem.what
    except (TypeError, ValueError):
        return f"judged_at is {ranking.judged_at!r}, which is no time in ISO 8601"
    if not 2 <= len(ranking.completion_ids) <= MOST:
        return f"it ranks {len(ranking.completion_ids)} completion(s); a ranking is of 2 to {MOST}"
    if not all(rank is None or type(rank) is int for rank in ranking.ranks):
        return f"ranks are {ranking.ranks!r}; each is a whole number, or null for an F"
    if ranking.criterion != criterion:
        return f"it is by {ranking.criterion!r}, and the project is about {criterion!r}"
    if ranking.purpose not in get_args(Purpose):
        return f"its purpose is {ranking.purpose!r}; choose one of {', '.join(get_args(Purpose))}"
    if not (ranking.active_ms is None or type(ranking.active_ms) is int) or (ranking.active_ms or 0) < 0:
        return f"active_ms is {ranking.active_ms!r}"
    return _fault_of_reasons(ranking)


def _fault_of_reasons(ranking: Ranking) -> str:
    for completion_id, reason in ranking.reasons.items():
        if completion_id not in ranking.completion_ids or ranking.rank_of(completion_id) is not None:
            return f"{completion_id!r} has a reason for an F, but no F"
        if not isinstance(reason, str):
            return f"the reason for the F of {completion_id!r} is {reason!r}"
    return ""


def _problem(where: str, fault: str) -> DataProblem:
    return DataProblem(f"{where}: {fault}", "Mend or leave out the row. Nothing was imported.")
