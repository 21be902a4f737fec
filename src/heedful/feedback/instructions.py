"""What a labeler reads before the first task, under a version that every judgement records."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from heedful.feedback.criteria import Criterion

if TYPE_CHECKING:
    from heedful.store.projects import TiePolicy

TIES: dict[TiePolicy, str] = {
    "none": "Every completion gets a rank of its own: look for the difference, however small.",
    "sparing": "Completions that are truly equal may share a rank. Do so sparingly: a small difference is a difference.",
    "free": "Completions between which you see no difference share a rank.",
}
_RULES = """\
Judge how correct and how informative a completion is by your own perception. You may look facts up.
{ties}
If a completion is nonsensical, confusing or irrelevant, give it an F instead of a rank.
"""
_TASK = "Your task: put the completions of each prompt in order by {name}. {question}"
_SCALE = "Rank 1 goes to the completion that holds most of it, the last rank to the one that holds least."
_DIRECTIONS = {"better": "So rank 1 is the best completion.", "worse": "So rank 1 is the worst completion: less of it is better."}
_USUAL = _RULES.format(ties=TIES["sparing"])
DEFAULT_TEXT = f"Your task: put the completions of each prompt in order by the criterion you are shown. {_SCALE}\n\n{_USUAL}"
"""Fits any criterion; :func:`instructions_for` also says which end of the scale is good."""


@dataclass(frozen=True, slots=True)
class Instructions:
    """The text, as labelers see it."""

    text: str = DEFAULT_TEXT

    @property
    def version(self) -> str:
        """The first 12 digits of the text's sha256: another text is another version."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]


def instructions_for(criterion: Criterion, ties: TiePolicy = "sparing") -> Instructions:
    """The default text for a criterion; it says which end of the scale is good, and whether completions may share a rank."""
    task = _TASK.format(name=criterion.name, question=criterion.question)
    return Instructions(f"{task}\n{_SCALE} {_DIRECTIONS[criterion.higher_is]}\n\n{_RULES.format(ties=TIES[ties])}")
