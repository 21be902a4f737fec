"""The price of leaving the reference: a fixed KL coefficient, or one that aims at a target KL."""

from __future__ import annotations

import math
from typing import Protocol

from heedful.errors import NotFinite, RunProblem, SettingProblem
from heedful.settings import LARGEST_KL_ERROR, ReinforcementSettings


class KLControl(Protocol):
    """What PPO and GRPO need of either controller."""

    @property
    def coef(self) -> float:
        """The coefficient to use now."""
        ...

    def update(self, kl: float, steps: int) -> float:
        """Take note of a rollout: its mean ``kl`` in nats per completion and its number of completions; the new coefficient."""
        ...

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must keep, as plain JSON types."""
        ...

    def load_state_dict(self, state: dict[str, float]) -> None:
        """The inverse of :meth:`state_dict`."""
        ...


class FixedKL:
    """A coefficient that never changes. Raises ``SettingProblem`` where it is negative or not finite."""

    def __init__(self, coef: float) -> None:
        if not (math.isfinite(coef) and coef >= 0):
            raise SettingProblem(f"the KL coefficient is {coef}", "Choose 0 or a small positive number, for example 0.05.")
        self._coef = float(coef)

    @property
    def coef(self) -> float:
        """The coefficient to use now."""
        return self._coef

    def update(self, kl: float, steps: int) -> float:
        """The same coefficient, whatever happened."""
        return self._coef

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must keep, as plain JSON types."""
        return {"coef": self._coef}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """The inverse of :meth:`state_dict`. Raises ``RunProblem`` where the coefficient is missing."""
        if "coef" not in state:
            raise RunProblem(f"the saved KL controller holds {sorted(state)} and no coef", "Resume from another checkpoint.")
        self._coef = float(state["coef"])


class AdaptiveKL(FixedKL):
    """A coefficient that rises while the KL is above ``target`` and falls while it is below.

    ``coef <- coef * (1 + clip(kl / target - 1, -0.2, 0.2) * steps / horizon)`` (Ziegler et al. 2019).
    ``target`` is in nats per completion, ``horizon`` in completions. Raises
    ``SettingProblem`` where a number is not positive.
    """

    def __init__(self, initial: float, target: float, horizon: int) -> None:
        for name, value in (("initial coefficient", initial), ("target", target), ("horizon", horizon)):
            if not (math.isfinite(value) and value > 0):
                raise SettingProblem(
                    f"the {name} of the adaptive KL is {value}", "Choose a positive number, for example 0.15, 6 and 10000."
                )
        super().__init__(initial)
        self.target = float(target)
        self.horizon = horizon

    def update(self, kl: float, steps: int) -> float:
        """Take note of the sampled, masked KL of ``steps`` completions (mean nats per completion); the new coefficient.

        Raises ``NotFinite`` for a KL that is not a number, and ``SettingProblem`` where ``steps`` is so
        large beside the horizon that one update could turn the penalty into a reward.
        """
        if not math.isfinite(kl):
            raise NotFinite(f"the KL to the reference is {kl}", "Lower the learning rate and resume from the last checkpoint.")
        if LARGEST_KL_ERROR * steps >= self.horizon:
            raise SettingProblem(
                f"the KL horizon {self.horizon} is too short for {steps} completions per update",
                f"Set it to {steps} or more.",
            )
        error = min(max(kl / self.target - 1, -LARGEST_KL_ERROR), LARGEST_KL_ERROR)
        self._coef *= 1 + error * steps / self.horizon
        return self._coef


def make_kl_control(settings: ReinforcementSettings) -> KLControl:
    """Fixed beta, or the controller of Ziegler et al. 2019."""
    if settings.kl_controller == "adaptive":
        return AdaptiveKL(settings.kl_coef, settings.kl_target, settings.kl_horizon)
    return FixedKL(settings.kl_coef)
