"""Every error that a user can meet.

    HeedfulError
    ├── SettingProblem        a setting is unknown, of the wrong kind, or contradicts another
    ├── FileProblem           a file is missing, unreadable, unwritable or damaged
    ├── DataProblem           a row or column is not what it should be
    ├── ModelProblem          a model or tokenizer cannot be opened or does not fit the job
    ├── DeviceProblem         a device that is not there, or its memory
    ├── RewardProblem         a reward function or model gave no usable number
    ├── NotFinite             a loss or gradient became NaN or infinite
    ├── RunProblem            a run's folder cannot be used or resumed
    ├── StoreProblem          a store cannot be opened, read or written, or is damaged
    │   └── StoreBusy         it could not be written just now; the same call may be made again
    └── AnswerProblem         a labeler cannot be asked, or an answer cannot be taken as it is
        └── InstructionsChanged   a version of the instructions has to be read first

Each says what happened, with the value, and what to do next. The command line prints exactly
that and exits with 2; a traceback means that heedful, not its user, made the mistake.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HeedfulError(Exception):
    """Something that the user can mend. ``what`` happened, and the ``next_step``."""

    def __init__(self, what: str, next_step: str) -> None:
        self.what = what.rstrip(".")
        self.next_step = next_step
        super().__init__(f"{self.what}. {next_step}")


class SettingProblem(HeedfulError):
    """A setting is unknown, of the wrong kind, or contradicts another."""


class FileProblem(HeedfulError):
    """A file is missing, unreadable, unwritable or damaged."""


class DataProblem(HeedfulError):
    """A row or column is not what it should be."""


class ModelProblem(HeedfulError):
    """A model or tokenizer cannot be opened or does not fit the job."""


class DeviceProblem(HeedfulError):
    """A device that is not there, or that has too little memory."""


class RewardProblem(HeedfulError):
    """A reward function or model gave no usable number."""


class NotFinite(HeedfulError):
    """A loss or gradient became NaN or infinite."""


class RunProblem(HeedfulError):
    """A run's folder cannot be used or resumed."""


class StoreProblem(HeedfulError):
    """A store of judgements cannot be opened, read or written, or is damaged."""


class StoreBusy(StoreProblem):
    """A store could not be reached or written just now; the same call may be made again."""


class AnswerProblem(HeedfulError):
    """A labeler cannot be asked, or an answer cannot be taken as it is. Whoever sent it still has it."""


class InstructionsChanged(AnswerProblem):
    """The labeler has to read and acknowledge the current instructions first; the task stays theirs."""


def nearest(word: str, known: Iterable[str]) -> str:
    """``" Did you mean 'x'?"`` for the known word nearest to ``word``, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""
