"""What labelers say together of single items: thumbs, yes or no, or any set of labels.

As for rankings there are two methods. The **model** (``heedful.maths.dawid_skene``) finds how each
labeler errs and a probability for every label; votes whose labeler is unknown are taken as one
average labeler's, so that what they still teach (how common each label is, and which labels are
taken for which) is used. With too little to learn that from, the **majority** decides.

Two numbers are given, which answer different questions. ``p``: the label is the true one, if
there is one truth. ``next_vote``: what one more labeler would say, which leaves room for items that
divide people; it is calibrated on held-out votes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from heedful.errors import DataProblem, SettingProblem
from heedful.feedback.agreed import LEAST_LABELERS, Method, refuse_bad_exclusion
from heedful.records import Record, Thumb, settled

if TYPE_CHECKING:
    from heedful.maths.dawid_skene import LabelPrior, Votes

MODEL = "Dawid-Skene with pooled confusion; next vote calibrated on held-out votes"
VERSION = "1"
LEAST_VOTES = 20
"""Votes per labeler, on average, from which the model is worth having; of unknown labelers as many as three of these."""
SMOOTHING = 0.5
"""Votes that each label begins with in a majority (Jeffreys' prior)."""


@dataclass(frozen=True, slots=True)
class LabelVote(Record):
    """One labeler's label of one item; ``labeler`` is empty where it is not known who said so."""

    item: str
    label: str
    labeler: str = ""


@dataclass(frozen=True, slots=True)
class ItemLabel(Record):
    """An item's most probable label, ``None`` if two are equally so; its probability, raw counts, and what one more labeler would say."""

    item: str
    label: str | None
    p: float
    votes: dict[str, int]
    next_vote: dict[str, float]


@dataclass(frozen=True, slots=True)
class LabelConsensus:
    """All items in alphabetical order, and how the consensus was found; ``right``: how often each labeler gives the true label."""

    items: list[ItemLabel]
    labels: list[str]
    right: dict[str, float]
    method: Method
    reason: str
    algorithm: str
    version: str
    parameters: dict[str, Any] = field(default_factory=dict)
    input_sha256: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**plain, "items": [item.to_dict() for item in self.items]}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> LabelConsensus:
        """The inverse of :meth:`to_dict`."""
        known = {f.name: row[f.name] for f in dataclasses.fields(cls) if f.name in row}
        items = [ItemLabel(**{"label": None, **item}) for item in row["items"]]
        return cls(**{**known, "items": items})


def label_consensus(
    votes: Iterable[LabelVote],
    labels: Sequence[str] | None = None,
    method: Method | Literal["auto"] = "auto",
    assumed: LabelPrior | None = None,
) -> LabelConsensus:
    """A label for every item, with its probability.

    Args:
        votes: any order; of several by one known labeler on one item the last counts.
        labels: all that can be said; by default those that were.
        method: ``auto`` takes the model where there is enough to learn from.

    Raises DataProblem where there are no votes or an unknown label, SettingProblem where the method is unknown.
    """
    if method not in ("auto", "model", "majority"):
        raise SettingProblem(f"the method of consensus is {method!r}", "Choose 'auto', 'model' or 'majority'.")
    rows = _latest(votes)
    known = sorted({row.label for row in rows}) if labels is None else list(labels)
    for row in rows:
        if row.label not in known:
            raise DataProblem(f"item {row.item!r} has the label {row.label!r}", f"Labels are {', '.join(known)}.")
    items, names = sorted({row.item for row in rows}), sorted({row.labeler for row in rows})
    lacking = _lacking(len(rows), names)
    chosen: Method = ("majority" if lacking else "model") if method == "auto" else method
    reason = f"The {chosen} was asked for."
    if method == "auto":
        reason = lacking or f"Model: {len(rows)} votes on {len(items)} items show how labels are given."
    asked = _numbers(rows, items, names, known)
    truth, following, right, parameters = _modelled(asked, assumed) if chosen == "model" else _majority(asked)
    found = [_item(*cells, known) for cells in zip(items, truth, asked.counts(), following, strict=True)]
    shares = {name: round(float(value), 6) for name, value in zip(names, right, strict=False) if name}
    algorithm = MODEL if chosen == "model" else "majority"
    return LabelConsensus(found, known, shares, chosen, reason, algorithm, VERSION, parameters, _hash(rows))


def thumb_consensus(thumbs: Iterable[Thumb], method: Method | Literal["auto"] = "auto", exclude: Collection[str] = ()) -> LabelConsensus:
    """``up`` or ``down`` for every completion. Repeats are no further voice and left out; a ruling settles its prompt.

    ``exclude``: labelers whose thumbs do not count here. Raises as :func:`label_consensus`, and SettingProblem for an
    excluded labeler who has judged nothing, or where nobody is left.
    """
    rows = list(thumbs)
    refuse_bad_exclusion(exclude, {t.labeler for t in rows})
    counted = settled(t for t in rows if t.purpose != "repeat" and t.labeler not in exclude)
    said = [LabelVote(t.completion_id, "up" if t.label else "down", t.labeler) for t in counted]
    return label_consensus(said, ["down", "up"], method)


def share_up(agreed: LabelConsensus) -> dict[str, float]:
    """The probability that it is up of every completion that a consensus of thumbs speaks of."""
    return {item.item: 1 - item.p if item.label == "down" else item.p for item in agreed.items}


def _latest(votes: Iterable[LabelVote]) -> list[LabelVote]:
    """Votes in order of item, labeler and label; of several by one known labeler on one item the last."""
    named: dict[tuple[str, str], LabelVote] = {}
    unnamed: list[LabelVote] = []
    for vote in votes:
        if vote.labeler:
            named[vote.item, vote.labeler] = vote
        else:
            unnamed.append(vote)
    rows = sorted([*named.values(), *unnamed], key=lambda v: (v.item, v.labeler, v.label))
    if not rows:
        raise DataProblem("there are no votes", "Collect some first.")
    return rows


def _lacking(votes: int, names: Sequence[str]) -> str:
    """Why the model cannot be used; empty where it can."""
    people = [name for name in names if name]
    if len(people) == len(names) and len(people) < LEAST_LABELERS:
        return f"Majority: of {len(people)} labeler(s) nobody can say who is to be believed; the model needs {LEAST_LABELERS}."
    least = LEAST_VOTES * max(len(people), LEAST_LABELERS)
    return f"Majority: {votes} votes are too few to learn how labels are given; the model needs {least}." if votes < least else ""


def _numbers(rows: Sequence[LabelVote], items: Sequence[str], names: Sequence[str], labels: Sequence[str]) -> Votes:
    from heedful.maths.dawid_skene import Votes

    number = [{word: i for i, word in enumerate(words)} for words in (items, names, labels)]
    item, labeler, label = np.array([(number[0][r.item], number[1][r.labeler], number[2][r.label]) for r in rows], dtype=np.int64).T
    return Votes(item, labeler, label, len(items), len(names), len(labels))


def _modelled(votes: Votes, assumed: LabelPrior | None) -> tuple[Any, Any, Any, dict[str, Any]]:
    from heedful.maths.dawid_skene import LabelPrior, fit, next_vote

    assumed = assumed or LabelPrior()
    found = fit(votes, assumed)
    following, worth = next_vote(votes, found)
    right = np.einsum("k,jkk->j", found.share, found.confusion)
    parameters = {"prior": dataclasses.asdict(assumed), "model_worth_votes": round(worth, 6), "rounds": found.rounds}
    return found.truth, following, right, parameters


def _majority(votes: Votes) -> tuple[Any, Any, Any, dict[str, Any]]:
    counts = votes.counts() + SMOOTHING
    share = counts / counts.sum(axis=1, keepdims=True)
    return share, share, [], {"smoothing": SMOOTHING}


def _item(item: str, truth: Any, counts: Any, following: Any, labels: Sequence[str]) -> ItemLabel:
    best = np.flatnonzero(truth >= truth.max() - 1e-9)
    label = labels[best[0]] if len(best) == 1 else None
    votes = {name: int(n) for name, n in zip(labels, counts, strict=True)}
    return ItemLabel(item, label, round(float(truth.max()), 6), votes, dict(zip(labels, following.round(6).tolist(), strict=True)))


def _hash(rows: Sequence[LabelVote]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps([row.item, row.labeler, row.label], ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
