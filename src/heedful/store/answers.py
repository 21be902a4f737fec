"""What a labeler answers, and whether it is an answer to what was asked. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from heedful.errors import AnswerProblem
from heedful.store.projects import Project

LONGEST_TEXT = 100_000
"""Characters of a reason or a correction."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One labeler's answer to one task. Completions are named by their position, 0 for the one shown first.

    ``ranks`` (ranking): one per completion; 1 holds most of the criterion, equal numbers tie,
    ``None`` is F. ``reasons``: why a completion got its F. ``thumbs``: one per completion, true
    is up. ``corrections``: what a completion should have said; welcome in every type of task.
    ``active_ms``: time spent on it since the task was opened, in milliseconds.
    """

    ranks: Sequence[int | None] | None = None
    reasons: Mapping[int, str] = field(default_factory=dict)
    thumbs: Sequence[bool] | None = None
    corrections: Mapping[int, str] = field(default_factory=dict)
    active_ms: int | None = None


def refuse_bad_answer(answer: Answer, shown: int, asked: Project) -> None:
    """Raise AnswerProblem where ``answer`` does not answer a task of ``shown`` completions."""
    _REFUSALS[asked.task](answer, shown)
    if asked.task != "ranking" and (answer.ranks is not None or answer.reasons):
        raise _problem(f"a task of type {asked.task} was answered with ranks")
    if asked.task != "thumbs" and answer.thumbs is not None:
        raise _problem(f"a task of type {asked.task} was answered with thumbs")
    _refuse_bad_texts(answer, shown)
    if asked.tie_policy == "none" and (tied := _tied(answer)):
        raise AnswerProblem(f"{tied} completions share a rank", "This project has no ties: put every completion on a rank of its own.")
    if answer.active_ms is not None and not (_whole(answer.active_ms) and answer.active_ms >= 0):
        raise _problem(f"active_ms is {answer.active_ms!r}")


def warnings(answer: Answer, asked: Project) -> list[str]:
    """What a labeler might think about once more; it never keeps an answer out."""
    tied = _tied(answer)
    if asked.tie_policy == "sparing" and tied:
        return [f"{tied} completions share a rank: only those that are truly equal should."]
    return []


def to_row(answer: Answer, shown: Sequence[int]) -> dict[str, Any]:
    """As it is stored, by the ids of the completions ``shown``: it then means the same whatever order they are shown in."""
    row: dict[str, Any] = {}
    if answer.ranks is not None:
        row["ranks"] = {str(c): rank for c, rank in zip(shown, answer.ranks, strict=True)}
    if answer.thumbs is not None:
        row["thumbs"] = {str(c): thumb for c, thumb in zip(shown, answer.thumbs, strict=True)}
    for name, texts in (("reasons", answer.reasons), ("corrections", answer.corrections)):
        if texts:
            row[name] = {str(shown[position]): text for position, text in texts.items()}
    return row


def from_row(row: Mapping[str, Any], shown: Sequence[int], active_ms: int | None = None) -> Answer:
    """The inverse of :func:`to_row`."""
    position = {str(c): i for i, c in enumerate(shown)}
    texts = {name: {position[c]: text for c, text in row.get(name, {}).items()} for name in ("reasons", "corrections")}
    ranks, thumbs = ([row[name][str(c)] for c in shown] if name in row else None for name in ("ranks", "thumbs"))
    return Answer(ranks, texts["reasons"], thumbs, texts["corrections"], active_ms)


def _refuse_bad_ranks(answer: Answer, shown: int) -> None:
    if answer.ranks is None or len(answer.ranks) != shown:
        raise _problem(f"{shown} completions were shown, and {len(answer.ranks or ())} have a rank")
    for rank in answer.ranks:
        if rank is not None and not (_whole(rank) and 1 <= rank <= shown):
            raise _problem(f"a rank is {rank!r}; of {shown} completions it is a whole number from 1 to {shown}, or none for an F")
    for position in answer.reasons:
        if not (_whole(position) and 0 <= position < shown) or answer.ranks[position] is not None:
            raise _problem(f"position {position!r} has a reason for an F, but no F")


def _refuse_bad_thumbs(answer: Answer, shown: int) -> None:
    if answer.thumbs is None or len(answer.thumbs) != shown:
        raise _problem(f"{shown} completions were shown, and {len(answer.thumbs or ())} have a thumb")
    if not all(isinstance(thumb, bool) for thumb in answer.thumbs):
        raise _problem(f"thumbs are {list(answer.thumbs)!r}; each is true or false")


def _refuse_no_correction(answer: Answer, shown: int) -> None:
    if not answer.corrections:
        raise _problem("nothing was corrected")


_REFUSALS: dict[str, Callable[[Answer, int], None]] = {
    "ranking": _refuse_bad_ranks,
    "thumbs": _refuse_bad_thumbs,
    "correction": _refuse_no_correction,
}


def _refuse_bad_texts(answer: Answer, shown: int) -> None:
    for position in answer.corrections:
        if not (_whole(position) and 0 <= position < shown):
            raise _problem(f"position {position!r} was corrected, and {shown} completions were shown")
    for text in (*answer.reasons.values(), *answer.corrections.values()):
        if not isinstance(text, str):
            raise _problem(f"a text is {text!r}")
        if len(text) > LONGEST_TEXT:
            raise _problem(f"a text has {len(text)} characters; at most {LONGEST_TEXT} are kept")


def _tied(answer: Answer) -> int:
    """How many completions share their rank with another. Two Fs are no tie."""
    counts = Counter(rank for rank in answer.ranks or () if rank is not None)
    return sum(count for count in counts.values() if count > 1)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _problem(what: str) -> AnswerProblem:
    return AnswerProblem(what, "Mend the answer and send it again; the task stays yours.")
