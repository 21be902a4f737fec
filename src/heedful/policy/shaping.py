"""From a scorer's raw number to the score that enters the reward."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class RewardScale:
    """``(score - mean) / sd``, clipped; completions that were cut off may get a fixed number instead.

    ``mean`` and ``sd`` are those of the starting policy's scores and never change during a run
    (Stiennon et al. 2020 normalise once; a running scale would move the target).
    """

    mean: float = 0.0
    sd: float = 1.0
    clip: float | None = None
    truncated_score: float | None = None

    def __call__(self, scores: Tensor, finish_reasons: Sequence[str]) -> Tensor:
        """``[B]`` raw scores -> ``[B]``."""
        scaled = (scores - self.mean) / self.sd
        if self.clip is not None:
            scaled = scaled.clamp(-self.clip, self.clip)
        if self.truncated_score is not None:
            cut = torch.tensor([reason == "length" for reason in finish_reasons], device=scores.device)
            scaled = torch.where(cut, torch.full_like(scaled, self.truncated_score), scaled)
        return scaled

    @classmethod
    def fit(cls, scores: Tensor, *, normalise: bool, clip: float | None, truncated_score: float | None) -> RewardScale:
        """Mean and standard deviation of the starting policy's scores, or 0 and 1."""
        if not normalise:
            return cls(clip=clip, truncated_score=truncated_score)
        spread = float(scores.std(unbiased=False))
        return cls(float(scores.mean()), spread if spread > 1e-6 else 1.0, clip, truncated_score)  # all equal: nothing to scale by
