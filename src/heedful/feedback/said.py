"""What people said by one criterion, with all that is known of it: what the command line and the app report on alike."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from heedful.errors import DataProblem
from heedful.feedback.criteria import Criterion, criterion_in
from heedful.records import Completion, Correction, Labeler, Prompt, Ranking, Thumb, settled

if TYPE_CHECKING:
    from heedful.store import Snapshot, Store

Told = TypeVar("Told", bound=Ranking | Thumb | Correction)
GOLD = "gold_ranks"
"""The column of a prompt that holds its right ranks by completion id, where they are known."""


@dataclass(frozen=True)
class Said:
    """What was said by one criterion, in a store's project or in a file.

    ``words``: how many each completion has whose text is known; ``gold``: rankings that are known to be right.
    ``quarantined``: whose judgements are in quarantine, by a person's decision, and why. ``snapshot`` names what was
    taken from a store. ``retired``: rankings that no longer count, made under older instructions.
    """

    name: str
    criterion: Criterion
    rankings: list[Ranking]
    thumbs: list[Thumb] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)
    labelers: list[Labeler] = field(default_factory=list)
    words: Mapping[str, int] = field(default_factory=dict)
    gold: list[Ranking] = field(default_factory=list)
    quarantined: Mapping[str, str] = field(default_factory=dict)
    snapshot: Snapshot | None = None
    retired: list[Ranking] = field(default_factory=list)

    @property
    def judgements(self) -> list[Ranking | Thumb | Correction]:
        """Everything, of every kind."""
        return [*self.rankings, *self.thumbs, *self.corrections]

    @property
    def on_thumbs(self) -> bool:
        """What one learns from: thumbs, where nothing was ranked; or else rankings. Corrections teach beside either."""
        return bool(self.thumbs) and not self.rankings

    def counting(self, rows: Iterable[Told]) -> list[Told]:
        """Those of some judgements whose labeler is not in quarantine."""
        return [row for row in rows if row.labeler not in self.quarantined]

    def not_quarantined(self, names: Iterable[str]) -> list[str]:
        """Those of some labelers who are not in quarantine."""
        return [name for name in names if name not in self.quarantined]

    def refuse_if_none_counts(self, rows: Sequence[Told]) -> None:
        """Raises DataProblem where there are some judgements, and everybody who made them is in quarantine."""
        if rows and not self.counting(rows):
            names = ", ".join(sorted({row.labeler for row in rows}))
            raise DataProblem(f"everybody who judged {self.name} is in quarantine ({names})", "Reinstate somebody, or ask others.")

    def about(self, completion_ids: set[str]) -> Said:
        """The same, of what was said about these completions only."""
        return replace(
            self,
            rankings=[row for row in self.rankings if completion_ids.issuperset(row.completion_ids)],
            thumbs=[row for row in self.thumbs if row.completion_id in completion_ids],
            corrections=[row for row in self.corrections if row.completion_id in completion_ids],
        )

    @property
    def counted(self) -> list[Ranking]:
        """The rankings of those who are not in quarantine."""
        return self.counting(self.rankings)

    @property
    def settled(self) -> list[Ranking]:
        """The rankings that a consensus is made of: of a prompt that somebody has ruled on, the ruling alone."""
        return settled(self.counted)

    @property
    def ruled_on(self) -> set[str]:
        """The prompts that somebody has settled."""
        told: list[Ranking | Thumb] = [*self.counted, *self.counting(self.thumbs)]
        return {row.prompt_id for row in told if row.purpose == "ruling"}


def said_in(store: Store, name: str) -> Said:
    """What was said in a store's project up to now. Raises SettingProblem where there is none of that name."""
    from heedful.store import labelers, projects

    _, asked = store.read(lambda c: projects.find(c, name))
    criterion = criterion_in(asked)
    snapshot = store.snapshot(name)
    rows = list(store.judgements(name, snapshot.event))
    return Said(
        name,
        criterion,
        [row for row in rows if isinstance(row, Ranking)],
        [row for row in rows if isinstance(row, Thumb)],
        [row for row in rows if isinstance(row, Correction)],
        store.labelers(),
        words_of(store.completions(name)),
        known_answers(store.prompts(name), criterion),
        store.read(lambda c: labelers.quarantined(c, name)),
        snapshot,
        [row for row in store.judgements(name, snapshot.event, retired=True) if isinstance(row, Ranking)],
    )


def words_of(completions: Iterable[Completion]) -> dict[str, int]:
    """How many words each completion has, by its id."""
    return {c.id: len(c.text.split()) for c in completions}


def known_answers(prompts: Iterable[Prompt], criterion: Criterion) -> list[Ranking]:
    """The right rankings that prompts bring along in their column ``gold_ranks``, as rankings by ``gold``.

    It maps completion ids to ranks: 1 holds most of the criterion, null is an F. Raises DataProblem where it holds anything else.
    """
    return [_known_answer(prompt, criterion) for prompt in prompts if GOLD in prompt.columns]


def _known_answer(prompt: Prompt, criterion: Criterion) -> Ranking:
    ranks = prompt.columns[GOLD]
    if not isinstance(ranks, dict) or not all(is_rank(rank) for rank in ranks.values()):
        raise DataProblem(
            f"the column {GOLD} of prompt {prompt.id!r} is {str(ranks)[:60]!r}", "Write a rank for each completion id, null for an F."
        )
    return Ranking(prompt.id, "gold", list(ranks), list(ranks.values()), criterion.name, "")


def is_rank(value: object) -> bool:
    """A whole number from 1 on, or ``None`` for an F."""
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)
