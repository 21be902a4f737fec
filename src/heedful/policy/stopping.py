"""When reinforcement learning stops, and which checkpoint is kept.

In this order: the KL budget is spent; the stated target on held-out prompts is reached; the
held-out quality has turned down for ``patience`` evaluations; ``max_steps`` are done. The best
held-out checkpoint is kept, not the last one: proxies go on rising after people stop agreeing
(Gao et al. 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from heedful.errors import SettingProblem, nearest

Direction = Literal["above", "below"]
MEMORY = ("best", "best_step", "worse", "reason", "history")


@dataclass
class Stopping:
    """Rules, and from ``best`` on their memory. ``update`` after each held-out evaluation."""

    metric: str = "score"
    target: float | None = None
    direction: Direction = "above"
    kl_budget: float | None = None
    patience: int = 0
    max_steps: int = 20000
    best: float | None = None
    best_step: int = 0
    worse: int = 0
    reason: str | None = None
    history: list[dict[str, float]] = field(default_factory=list)

    def update(self, step: int, figures: Mapping[str, float]) -> bool:
        """Take in a held-out evaluation; ``True`` when it is the best so far and within the KL budget."""
        if self.metric not in figures:
            named = sorted(name for name in figures if not name.endswith("_se"))
            raise SettingProblem(
                f"stopping.metric is {self.metric!r}, but held-out evaluations measure {', '.join(named)}",
                f"Name one of those.{nearest(self.metric, named)}",
            )
        self.history.append({"step": step, **figures})
        value = figures[self.metric]
        overspent = self.kl_budget is not None and figures["kl"] > self.kl_budget
        better = not overspent and value == value and (self.best is None or self._beats(value, self.best))  # NaN is never better
        if better:
            self.best, self.best_step, self.worse = value, step, 0
        else:
            self.worse += 1
        self.reason = self._why(step, value, overspent)
        return better

    def _beats(self, a: float, b: float) -> bool:
        return a > b if self.direction == "above" else a < b

    def _why(self, step: int, value: float, overspent: bool) -> str | None:
        if overspent:
            return "kl_budget"
        if self.target is not None and (value == self.target or self._beats(value, self.target)):
            return "target"
        if self.patience and self.worse >= self.patience:
            return "turned_down"
        return "max_steps" if step >= self.max_steps else None

    def state_dict(self) -> dict[str, Any]:
        """The memory, as plain JSON types. The rules are the settings', which a run that goes on may have changed."""
        return {name: getattr(self, name) for name in MEMORY}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """The inverse of :meth:`state_dict`, ``step`` steps into a run; ``max_steps`` speaks anew, if no other rule has spoken."""
        for name in MEMORY:
            setattr(self, name, state[name])
        if self.reason in (None, "max_steps"):
            looked = self.history[-1]["step"] == step  # else the last step is yet to be looked at
            self.reason = "max_steps" if looked and step >= self.max_steps else None
