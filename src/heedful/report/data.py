"""What a report is made of: plain types that outlive the run, so that it can be built again from files.

Every part may be empty; the report then says in a sentence that it is absent. Rows of ``labelers``,
``reward``, ``history`` and ``hacking`` are dictionaries whose keys are described below; keys that
are not known are kept and not shown. NaN and infinite numbers are written as ``null``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from heedful.errors import FileProblem
from heedful.maths.statistics import Interval
from heedful.records import Verdict, write_atomically

HigherIs = Literal["better", "worse", "neither"]


@dataclass(frozen=True, slots=True)
class MeasureRow:
    """One measure before and after; ``relative`` is the change as a fraction of ``before``.

    ``difference`` is ``None`` where none can be given with an interval.
    """

    name: str
    before: Interval
    after: Interval
    difference: Interval | None = None
    relative: Interval | None = None
    prompts: int = 0
    higher_is: HigherIs = "better"

    @property
    def outcome(self) -> Literal["better", "worse", "unclear"]:
        """Which way it went, as far as the interval of the difference tells."""
        if self.difference is None or self.difference.contains(0.0) or self.higher_is == "neither":
            return "unclear"
        return "better" if (self.difference.estimate > 0) == (self.higher_is == "better") else "worse"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v.to_dict() if isinstance(v, Interval) else v for k, v in plain.items()}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """From the rows of :mod:`heedful.evaluation` or :meth:`to_dict`; unknown keys are ignored."""
        known = {f.name: row[f.name] for f in fields(cls) if row.get(f.name) is not None}
        values: dict[str, Any] = {k: Interval.from_dict(v) if isinstance(v, Mapping) else v for k, v in known.items()}
        return cls(**values)


@dataclass(frozen=True, slots=True)
class ReportData:
    """All that a report shows.

    * ``summary``: name -> a plain value, or an interval ``{"estimate", "low", "high"}``.
    * ``comparison``, ``toxicity``: measures before and after.
    * ``labelers``: ``{labeler, agreement, low?, high?, judgements?, note?, flagged?}``; agreement in [0, 1].
    * ``agreement``: name -> value or interval over all labelers (Krippendorff's alpha, Kendall's W).
    * ``reward``: ``accuracy`` and ``longer_wins`` (intervals), ``beats_longer_wins``, ``by_margin`` (rows ``{margin, accuracy,
      low?, high?, longer_wins?, pairs?}``), ``reliability`` (rows ``{predicted, observed, n?}``), and any other
      plain number such as ``ece``, ``brier``, ``nll``, ``temperature``.
    * ``history``: per held-out evaluation ``{step, score?, held_out_score?, train_score?, kl?, ...}``.
    * ``hacking``: ``{level, sentence, evidence, phrases?}``; phrases are ``{text, before, after, z, p}``.
    * ``side_by_side``: ``{prompt, before, after, before_score, after_score}``.
    * ``settings`` and ``provenance``: nested plain values.
    """

    title: str
    verdict: Verdict
    summary: dict[str, Any] = field(default_factory=dict)
    comparison: list[MeasureRow] = field(default_factory=list)
    toxicity: list[MeasureRow] = field(default_factory=list)
    labelers: list[dict[str, Any]] = field(default_factory=list)
    agreement: dict[str, Any] = field(default_factory=dict)
    reward: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    hacking: dict[str, Any] = field(default_factory=dict)
    side_by_side: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["verdict"] = asdict(self.verdict)
        for name in ("comparison", "toxicity"):
            plain[name] = [row.to_dict() for row in plain[name]]
        cleaned: dict[str, Any] = jsonable(plain)
        return cleaned

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Self:
        """The inverse of :meth:`to_dict`; unknown keys are ignored."""
        known = {f.name: row[f.name] for f in fields(cls) if f.name in row}
        known["verdict"] = Verdict.from_dict(row["verdict"])
        for name in ("comparison", "toxicity"):
            known[name] = [MeasureRow.from_dict(r) for r in known.get(name, [])]
        return cls(**known)

    def save(self, path: Path) -> str:
        """Write as JSON, all or nothing; the file's sha256."""
        # ASCII, because a model may emit half of a surrogate pair, which JSON can spell and UTF-8 cannot.
        return write_atomically(path, json.dumps(self.to_dict(), allow_nan=False, indent=2).encode())

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; raises :class:`FileProblem` where it is missing or damaged."""
        if not path.is_file():
            raise FileProblem(f"there is no report data at {path}", "Evaluate the run first.")
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise FileProblem(f"{path} is not the data of a report ({error})", "Evaluate the run again to write it anew.") from None


def jsonable(value: Any) -> Any:
    """``value`` in plain JSON types: intervals as dictionaries, NaN and infinity as ``None``, unknown objects as text."""
    if isinstance(value, Interval):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(k): jsonable(v) for k, v in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [jsonable(v) for v in value]
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return jsonable(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | bool | int) else str(value)
