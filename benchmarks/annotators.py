"""Is consensus worth more than a majority? Real annotators of public sets, each held out and predicted from the others.

``python benchmarks/consensus.py real`` prints the table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.texts import read
from heedful.feedback.agreed import Method
from heedful.feedback.labels import LabelVote, label_consensus

METHODS: tuple[Method, ...] = ("majority", "model")
UNNAMED = 3
"""Where nobody knows who voted, so many of each item's votes are held out in turn."""


@dataclass(frozen=True)
class Annotated:
    """A public set: who (empty if unknown) said what of which item; each fold's votes are held out in turn."""

    name: str
    votes: list[LabelVote]
    folds: list[int]

    @property
    def held_out_folds(self) -> int:
        """How many folds are held out: everybody's, or the first three votes of each item."""
        folds = max(self.folds) + 1
        return folds if self.votes[0].labeler else min(folds, UNNAMED)


def by_annotator(name: str, votes: list[LabelVote]) -> Annotated:
    """Hold out one annotator after the other."""
    number = {who: n for n, who in enumerate(sorted({v.labeler for v in votes}))}
    return Annotated(name, votes, [number[v.labeler] for v in votes])


def by_vote(name: str, labels: Iterable[tuple[str, Sequence[str]]], seed: int = 0) -> Annotated:
    """Nobody knows who voted: hold out the first, second and third of each item's votes, in an order drawn by chance."""
    chance = Random(seed)
    votes: list[LabelVote] = []
    folds: list[int] = []
    for item, said in labels:
        shuffled = chance.sample(list(said), len(said))
        votes += [LabelVote(item, label) for label in shuffled]
        folds += range(len(shuffled))
    return Annotated(name, votes, folds)


def annotated(data: Path) -> Iterator[Annotated]:
    """The sets that are there."""

    def rows(name: str) -> list[dict[str, Any]]:
        path = data / f"{name}.jsonl.gz"
        if not path.exists():
            print(f"(left out: {path.name} is not in {data})")
            return []
        return list(read(path))

    if found := rows("toxicity/hatexplain_three_labels"):
        yield by_vote("HateXplain", [(str(n), row["labels"]) for n, row in enumerate(found)])
    if found := rows("preferences/pandalm_three_annotators"):
        names = ("annotator1", "annotator2", "annotator3")
        yield by_annotator("PandaLM", [LabelVote(str(row["idx"]), str(row[name]), name) for row in found for name in names])
    if found := rows("annotator_disagreement/convabuse"):
        item = [json.dumps([row[key] for key in ("conv_id", "prev_agent", "prev_user", "agent", "user")]) for row in found]
        latest = {(i, row["annotator"]): str(row["severity"]) for i, row in zip(item, found, strict=True)}
        yield by_annotator("ConvAbuse", [LabelVote(i, label, who) for (i, who), label in latest.items()])
    if found := rows("toxicity/davidson_tweets"):
        kinds = ("hate_speech", "offensive_language", "neither")
        yield by_vote("Davidson", [(str(row["id"]), [kind for kind in kinds for _ in range(row[kind])]) for row in found])
    if found := rows("annotator_disagreement/hate_200x60"):
        for group in ("g1", "g2", "g3"):
            said = [LabelVote(str(row["id"]), label, who) for row in found for who, label in row["labels"][group].items()]
            yield by_annotator(f"hate_200x60 {group}", said)


@dataclass(frozen=True)
class HeldOut:
    """Of every held-out vote: its item, its annotator, and each method's accuracy (ties share it) and Brier score ``[votes]``."""

    item: Any
    annotator: Any
    right: dict[str, Any]
    brier: dict[str, Any]


def held_out(given: Annotated) -> HeldOut:
    """Predict each fold from the others. A held-out vote counts if somebody else voted on its item."""
    labels = sorted({v.label for v in given.votes})
    cells: list[tuple[str, str, dict[str, tuple[float, float]]]] = []
    for fold in range(given.held_out_folds):
        seen = [v for v, f in zip(given.votes, given.folds, strict=True) if f != fold]
        hidden = [v for v, f in zip(given.votes, given.folds, strict=True) if f == fold]
        said = {m: {i.item: i.next_vote for i in label_consensus(seen, labels, m).items} for m in METHODS}
        for vote in hidden:
            if vote.item in said[METHODS[0]]:
                cells.append((vote.item, vote.labeler, {m: scores(said[m][vote.item], vote.label) for m in METHODS}))
    items, people = ({key: n for n, key in enumerate(dict.fromkeys(c[k] for c in cells))} for k in (0, 1))
    return HeldOut(
        np.array([items[c[0]] for c in cells]),
        np.array([people[c[1]] for c in cells]),
        {m: np.array([c[2][m][0] for c in cells]) for m in METHODS},
        {m: np.array([c[2][m][1] for c in cells]) for m in METHODS},
    )


def scores(chances: dict[str, float], label: str) -> tuple[float, float]:
    """Accuracy, shared among equally probable labels, and the Brier score over all labels."""
    top = max(chances.values())
    best = [name for name, chance in chances.items() if chance >= top - 1e-9]
    return (label in best) / len(best), sum((chance - (name == label)) ** 2 for name, chance in chances.items())


def gains(found: HeldOut, seed: int, resamples: int = 1000) -> Any:
    """Model less majority ``[1 + resamples, 2]``: accuracy gained and Brier score saved; first the sample, then two-way resamples."""
    random = np.random.default_rng(seed)
    each = np.stack([found.right["model"] - found.right["majority"], found.brier["majority"] - found.brier["model"]], axis=1)
    drawn = [each.mean(axis=0)]
    several = found.annotator.max() > 0
    for _ in range(resamples):
        weight = random.exponential(size=found.item.max() + 1)[found.item]
        if several:
            weight = weight * random.exponential(size=found.annotator.max() + 1)[found.annotator]
        drawn.append(weight @ each / weight.sum())
    return np.array(drawn)


def real(data: Path) -> None:
    """The table of real annotators."""
    print("| data | held-out votes | accuracy: majority | model | gained | Brier: majority | model | saved |")
    print("|---|---|---|---|---|---|---|---|")
    every: dict[str, list[Any]] = {}
    for given in annotated(data):
        found = held_out(given)
        drawn = gains(found, seed=0)
        every.setdefault(given.name.split()[0], []).append(drawn)
        line = [f"{found.right[m].mean():.4f}" for m in METHODS] + [with_interval(drawn[:, 0])]
        line += [f"{found.brier[m].mean():.4f}" for m in METHODS] + [with_interval(drawn[:, 1])]
        print(f"| {given.name} | {len(found.item)} | " + " | ".join(line) + " |", flush=True)
    for name, parts in every.items():
        if len(parts) > 1:
            together = np.mean(parts, axis=0)
            print(f"| {name}, all | | | | {with_interval(together[:, 0])} | | | {with_interval(together[:, 1])} |")
    overall = np.mean([np.mean(parts, axis=0) for parts in every.values()], axis=0)
    print(f"| **all sets alike** | | | | {with_interval(overall[:, 0])} | | | {with_interval(overall[:, 1])} |\n")


def with_interval(drawn: Any) -> str:
    """The estimate and its 95 % interval."""
    low, high = np.quantile(drawn[1:], [0.025, 0.975])
    return f"{drawn[0]:+.4f} [{low:+.4f}, {high:+.4f}]"
