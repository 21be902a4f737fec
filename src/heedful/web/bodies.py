"""What labelers send, as JSON, to pages and API alike."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from heedful.errors import AnswerProblem
from heedful.store import Answer

LONGEST_NOTE = 10_000


def _without_nul(text: str) -> str:
    if "\x00" in text:
        raise ValueError("it holds a NUL, which not every database takes")
    return text


Plain = Annotated[StrictStr, AfterValidator(_without_nul)]
"""A text by which something is looked up. What is only kept may hold anything: models write NULs."""


class Body(BaseModel):
    """JSON with these fields and no others."""

    model_config = ConfigDict(extra="forbid")


class OfTask(Body):
    """A task by its token."""

    token: Plain = Field(max_length=100)


class Skipped(OfTask):
    """A task that somebody would rather not judge."""

    reason: StrictStr = Field("", max_length=LONGEST_NOTE)


class AnswerBody(Body):
    """What was answered. Completions are named by their position, "0" for the one shown first; see heedful.store.Answer."""

    ranks: list[StrictInt | None] | None = Field(None, max_length=20)
    reasons: dict[str, StrictStr] = Field({}, max_length=20)
    thumbs: list[StrictBool] | None = Field(None, max_length=20)
    corrections: dict[str, StrictStr] = Field({}, max_length=20)
    note: StrictStr = Field("", max_length=LONGEST_NOTE)
    active_ms: StrictInt | None = Field(None, ge=0, le=2**53)

    def answer(self) -> Answer:
        """The same for the store."""
        return Answer(self.ranks, _positions(self.reasons), self.thumbs, _positions(self.corrections), self.active_ms)


class Submitted(OfTask):
    """An answer, under the key that makes sending it twice the same as once."""

    key: Plain = Field(min_length=1, max_length=200)
    version: Plain = Field(max_length=100)
    answer: AnswerBody


def _positions(texts: dict[str, str]) -> dict[int, str]:
    """Texts by position, from JSON, whose keys are text."""
    if strange := [key for key in texts if not (key.isascii() and key.isdigit() and len(key) < 3)]:
        raise AnswerProblem(f"a text is for position {strange[0][:20]!r}", "Name completions by their position: 0 is the first shown.")
    return {int(key): text for key, text in texts.items()}
