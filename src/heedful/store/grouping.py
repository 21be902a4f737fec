"""Rankings, thumbs and corrections from elsewhere, put together to answers: what one labeler said of one prompt. Pure.

An answer is a row (a ranking), or several: a thumb for each completion, and corrections beside either.
Rows of one answer share their column of times, version and purpose, as an export writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import get_args

from heedful.errors import DataProblem
from heedful.records import Correction, Purpose, Ranking, Thumb
from heedful.store.answers import LONGEST_TEXT, Answer
from heedful.store.names import LONGEST_ID, refuse_bad_name
from heedful.store.projects import Project, TaskType
from heedful.store.prompts import MOST
from heedful.store.reading import Judgement

Named = tuple[str, Judgement]
"""A judgement, and where it stands: ``row 3 of labels.jsonl``."""
_SHARED = ("purpose", "instructions_version", "active_ms", "judged_at")
_NAMES: dict[type[Judgement], TaskType] = {Ranking: "ranking", Thumb: "thumbs", Correction: "correction"}
_WORDS = {"ranking": "rankings", "thumbs": "thumbs", "correction": "corrections"}


@dataclass(frozen=True, slots=True)
class Given:
    """One answer from elsewhere.

    ``completion_ids`` are those that it speaks of, in the order in which they were shown as far as that is
    known. ``where`` it stands, and ``rows``: where each completion is spoken of first.
    """

    where: str
    prompt_id: str
    labeler: str
    completion_ids: Sequence[str]
    answer: Answer
    instructions_version: str
    judged_at: datetime | None
    purpose: Purpose
    rows: Mapping[str, str]

    @property
    def repeat(self) -> bool:
        """Whether the labeler had judged the same prompt before."""
        return self.purpose == "repeat"


def task_of(judgements: Iterable[Judgement]) -> TaskType:
    """What labelers were asked for who said this. Corrections are welcome in every type of task."""
    kinds = {type(row) for row in judgements}
    return next((_NAMES[kind] for kind in (Ranking, Thumb, Correction) if kind in kinds), "ranking")


def answers_in(rows: Iterable[Named], asked: Project) -> Iterator[Given]:
    """The answers that rows add up to, where those of one prompt stand together; one prompt is in memory at a time.

    Raises DataProblem, naming the row, where one is not as it should be or is no answer in this project.
    """
    for _, of_prompt in groupby(rows, key=lambda named: named[1].prompt_id):
        voices: dict[tuple[str, bool], list[Named]] = {}
        for where, row in of_prompt:
            if fault := _fault(row, asked):
                raise problem(where, fault)
            voices.setdefault((row.labeler, row.purpose == "repeat"), []).append((where, row))
        for said in voices.values():
            yield _answer(said, asked.task)


def problem(where: str, fault: str) -> DataProblem:
    """What is wrong with a row, in a sentence."""
    return DataProblem(f"{where}: {fault}", "Mend or leave out the row. Nothing was imported.")


def _answer(said: Sequence[Named], task: TaskType) -> Given:
    """What the rows of one labeler on one prompt say together."""
    where, first = said[0]
    _refuse_doubles(said)
    _refuse_what_differs(said)
    rows = [row for _, row in said]
    corrections = {row.completion_id: row.text for row in rows if isinstance(row, Correction)}
    thumbs = {row.completion_id: row.label for row in rows if isinstance(row, Thumb)}
    ranking = next((row for row in rows if isinstance(row, Ranking)), None)
    if task != "correction" and not (ranking or thumbs):
        raise problem(where, f"labeler {first.labeler!r} corrects prompt {first.prompt_id!r} without {_WORDS[task]}, which are asked for")
    shown = ranking.completion_ids if ranking else [*(thumbs or corrections)]
    places: dict[str, str] = {}
    for place, row in said:
        for completion_id in _spoken_of(row):
            places.setdefault(completion_id, place)
    if beside := [c for c in corrections if c not in shown]:
        what = "has no rank" if ranking else "has no thumb"
        raise problem(places[beside[0]], f"{beside[0]!r} is corrected by labeler {first.labeler!r}, and {what} by them")
    position = {c: i for i, c in enumerate(shown)}
    answer = Answer(
        ranks=ranking.ranks if ranking else None,
        reasons={position[c]: text for c, text in ranking.reasons.items()} if ranking else {},
        thumbs=[thumbs[c] for c in shown] if thumbs else None,
        corrections={position[c]: text for c, text in corrections.items()},
        active_ms=first.active_ms,
    )
    judged_at = datetime.fromisoformat(first.judged_at) if first.judged_at else None
    return Given(where, first.prompt_id, first.labeler, shown, answer, first.instructions_version, judged_at, first.purpose, places)


def _spoken_of(row: Judgement) -> Sequence[str]:
    return row.completion_ids if isinstance(row, Ranking) else [row.completion_id]


def _refuse_doubles(said: Sequence[Named]) -> None:
    """Nobody says the same thing twice."""
    known: set[tuple[type[Judgement], str]] = set()
    for where, row in said:
        about = "" if isinstance(row, Ranking) else row.completion_id
        if (type(row), about) in known:
            what = f"completion {about!r} of prompt {row.prompt_id!r}" if about else f"prompt {row.prompt_id!r}"
            verb = "corrected" if isinstance(row, Correction) else "judged"
            raise problem(where, f"labeler {row.labeler!r} has {verb} {what} already")
        known.add((type(row), about))


def _refuse_what_differs(said: Sequence[Named]) -> None:
    """Rows of one answer agree on when and why it was given."""
    where, first = said[0]
    for place, row in said[1:]:
        for column in _SHARED:
            if getattr(row, column) != getattr(first, column):
                fault = f"{column} is {getattr(row, column)!r}, and {getattr(first, column)!r} in {where}"
                raise problem(place, f"{fault}, which belongs to the same answer of labeler {row.labeler!r}")


def _fault(row: Judgement, asked: Project) -> str:
    """What is wrong with a row by itself; empty where nothing is."""
    kind = _NAMES[type(row)]
    if kind not in (asked.task, "correction"):
        return f"it is {'a ranking' if kind == 'ranking' else 'a thumb'}, and the project asks for {_WORDS[asked.task]}"
    try:
        refuse_bad_name("prompt", row.prompt_id, LONGEST_ID)
        refuse_bad_name("labeler", row.labeler)
        if row.instructions_version != "":  # nobody knows which
            refuse_bad_name("instructions version", row.instructions_version, 64)
    except DataProblem as bad:
        return bad.what
    if row.criterion != asked.criterion and (kind == "ranking" or row.criterion != ""):
        return f"it is by {row.criterion!r}, and the project is about {asked.criterion!r}"
    if row.purpose not in get_args(Purpose):
        return f"its purpose is {row.purpose!r}; choose one of {', '.join(get_args(Purpose))}"
    if not (row.active_ms is None or type(row.active_ms) is int) or (row.active_ms or 0) < 0:
        return f"active_ms is {row.active_ms!r}"
    return _fault_of_time(row.judged_at) or (_fault_of_ranking(row) if isinstance(row, Ranking) else _fault_of_one(row))


def _fault_of_time(judged_at: str) -> str:
    try:
        if judged_at and datetime.fromisoformat(judged_at).tzinfo is None:
            return f"judged_at is {judged_at!r}, without a time zone"
    except (TypeError, ValueError):
        return f"judged_at is {judged_at!r}, which is no time in ISO 8601"
    return ""


def _fault_of_ranking(row: Ranking) -> str:
    if not 2 <= len(row.completion_ids) <= MOST:
        return f"it ranks {len(row.completion_ids)} completion(s); a ranking is of 2 to {MOST}"
    if not all(rank is None or type(rank) is int for rank in row.ranks):
        return f"ranks are {row.ranks!r}; each is a whole number, or null for an F"
    for completion_id, reason in row.reasons.items():
        if completion_id not in row.completion_ids or row.rank_of(completion_id) is not None:
            return f"{completion_id!r} has a reason for an F, but no F"
        if fault := _fault_of_text(f"the reason for the F of {completion_id!r}", reason):
            return fault
    return ""


def _fault_of_one(row: Thumb | Correction) -> str:
    """Of a row about one completion."""
    if not isinstance(row.completion_id, str):
        return f"completion_id is {row.completion_id!r}, which is no text"
    if isinstance(row, Correction):
        return _fault_of_text("text", row.text)
    return "" if type(row.label) is bool else f"label is {row.label!r}; it is true for a thumb up, false for a thumb down"


def _fault_of_text(what: str, text: object) -> str:
    if not isinstance(text, str):
        return f"{what} is {text!r}"
    return f"{what} has {len(text)} characters; at most {LONGEST_TEXT} are kept" if len(text) > LONGEST_TEXT else ""
