"""What a consensus consists of: rows that can be stored, thrown away and made again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from heedful.errors import SettingProblem, nearest
from heedful.records import Record

Method = Literal["model", "majority"]

LEAST_LABELERS = 3
"""Labelers among whom the model finds whom to believe: of two who disagree, nobody can say which one is wrong."""
DECIDED = 0.55
"""Below this probability neither completion counts as preferred: such a pair would teach noise. Two of three equal votes are 0.625."""
INTERVAL = 1.6448536269514722
"""Standard deviations on either side of the mean that hold 90 % of a normal distribution."""


def refuse_bad_exclusion(exclude: Collection[str], names: Collection[str]) -> None:
    """Raises SettingProblem where somebody is excluded who has judged nothing, or nobody of ``names``, who have, would be left."""
    for name in exclude:
        if name not in names:
            raise SettingProblem(f"labeler {name!r}, who is to be excluded, has judged nothing.{nearest(name, names)}", "Check the name.")
    if names and set(names) <= set(exclude):
        raise SettingProblem(f"all {len(names)} labelers are to be excluded", "Keep at least one, or collect more feedback.")


@dataclass(frozen=True, slots=True)
class ConsensusPair(Record):
    """Two completions of a prompt, the one that is probably better first.

    ``p`` is the probability that ``chosen_id`` is better, at least 0.5. ``votes_for``, ``votes_against`` and
    ``ties`` count labelers, whatever they are worth. ``by_flag``: an F decides. The model also says by how
    much it is better: ``margin``, and its standard deviation ``margin_sd``, in standard deviations of utility.
    """

    prompt_id: str
    chosen_id: str
    rejected_id: str
    p: float
    votes_for: int
    votes_against: int
    ties: int
    by_flag: bool = False
    margin: float | None = None
    margin_sd: float | None = None

    @property
    def decided(self) -> bool:
        """Whether one completion is preferred."""
        return self.p >= DECIDED

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the margin lies with 90 % probability; ``None`` of a majority, which knows no margin."""
        if self.margin is None or self.margin_sd is None:
            return None
        return self.margin - INTERVAL * self.margin_sd, self.margin + INTERVAL * self.margin_sd


@dataclass(frozen=True, slots=True)
class Consensus:
    """All pairs of all prompts, decided or not; who counted, how much, and who was excluded.

    ``completions_f``: by prompt, the completions that probably deserve their F. ``reliability`` per labeler: 1 is
    always right, 0 guesses, below 0 reads the scale upside down; empty of a majority. ``algorithm``, ``version``,
    ``parameters`` and ``input_sha256``, the hash of the rankings that counted, say how to make the same consensus
    again; ``reason`` says why this method was used.
    """

    pairs: list[ConsensusPair]
    completions_f: dict[str, list[str]]
    labelers: list[str]
    excluded: list[str]
    method: Method = "majority"
    reason: str = ""
    reliability: dict[str, float] = field(default_factory=dict)
    algorithm: str = ""
    version: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    input_sha256: str = ""

    @property
    def decided(self) -> list[ConsensusPair]:
        """The pairs with a preferred completion."""
        return [pair for pair in self.pairs if pair.decided]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "pairs": [pair.to_dict() for pair in self.pairs]}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Consensus:
        """The inverse of :meth:`to_dict`; unknown keys are ignored, so newer files still open."""
        known = {f.name: row[f.name] for f in fields(cls) if f.name in row}
        return cls(**{**known, "pairs": [ConsensusPair.from_dict(pair) for pair in row["pairs"]]})
