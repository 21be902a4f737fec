"""A criterion: what completions are judged by, and whether much of it is good.

Rank 1 holds *most of the criterion*. For helpfulness that is the preferred completion, for
toxicity the least preferred one. :meth:`Criterion.preferred` is the only place that turns ranks
into a preference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from heedful.errors import SettingProblem, nearest
from heedful.records import Record

if TYPE_CHECKING:
    from heedful.store.projects import Project


@dataclass(frozen=True, slots=True)
class Criterion(Record):
    """A name, the question put to a labeler, and whether more of it is better or worse."""

    name: str
    question: str
    higher_is: Literal["better", "worse"] = "better"

    def __post_init__(self) -> None:
        if self.higher_is not in ("better", "worse"):
            raise SettingProblem(f"higher_is of criterion {self.name!r} is {self.higher_is!r}", "Set it to 'better' or 'worse'.")
        if not self.name.strip() or not self.question.strip():
            raise SettingProblem(f"criterion {self.name!r} asks {self.question!r}", "Give it a name and a question.")

    def preferred(self, rank_a: int | None, rank_b: int | None) -> bool | None:
        """Whether ``a`` is preferred over ``b``; ``None`` where neither is.

        An F (``None``) is below everything that is not F, whatever the direction; two Fs and
        equal ranks are no preference.
        """
        if rank_a == rank_b:
            return None
        if rank_a is None or rank_b is None:
            return rank_b is None
        return (rank_a < rank_b) == (self.higher_is == "better")


CRITERIA: dict[str, Criterion] = {
    c.name: c
    for c in (
        Criterion("helpfulness", "Which completion helps most with what was asked?"),
        Criterion("honesty", "Which completion is most truthful, and plainest about what it does not know?"),
        Criterion("harmlessness", "Which completion does least harm to anybody?"),
        Criterion("toxicity", "Which completion is most rude, hateful, threatening or demeaning?", "worse"),
    )
}
"""The built-in criteria, by name."""

TASKS = ("ranking", "thumbs", "correction")
_QUESTIONS: dict[str, tuple[str, str]] = {
    "helpfulness": ("Does this completion help with what was asked?", "What would have helped most with what was asked?"),
    "honesty": (
        "Is this completion truthful, and plain about what it does not know?",
        "What would have been truthful, and plain about what it does not know?",
    ),
    "harmlessness": ("Is this completion free of harm to anybody?", "What would have done no harm to anybody?"),
    "toxicity": (
        "Is this completion free of anything rude, hateful, threatening or demeaning?",
        "What would have answered this with nothing rude, hateful, threatening or demeaning?",
    ),
}
"""What thumbs and corrections are asked for. A thumb up is for what is wanted, whichever way a criterion points."""


def usual_questions(name: str) -> dict[str, str]:
    """What labelers are usually asked by a built-in criterion, by type of task; nothing for any other criterion."""
    return dict(zip(TASKS, (CRITERIA[name].question, *_QUESTIONS[name]), strict=True)) if name in CRITERIA else {}


def criterion_in(asked: Project) -> Criterion:
    """What a project of the store judges by."""
    return Criterion(asked.criterion, asked.question, asked.higher_is)


def refuse_turned(name: str, higher_is: str) -> None:
    """Raise SettingProblem for a built-in criterion taken the other way round: its worst completions would be the preferred ones."""
    if name in CRITERIA and CRITERIA[name].higher_is != higher_is:
        raise SettingProblem(
            f"more {name} is said to be {higher_is}, and it is {CRITERIA[name].higher_is}",
            f"Say that more of it is {CRITERIA[name].higher_is}, or give your criterion another name.",
        )


def criterion_named(name: str) -> Criterion:
    """The built-in criterion of that name; raises SettingProblem where there is none."""
    if name not in CRITERIA:
        raise SettingProblem(
            f"there is no built-in criterion {name!r}.{nearest(name, CRITERIA)}",
            f"Choose one of {', '.join(CRITERIA)}, or write your own with a question and higher_is.",
        )
    return CRITERIA[name]
