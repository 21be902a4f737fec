"""The reference is the policy as it was when learning began."""

from __future__ import annotations

from torch import Tensor

from heedful.errors import ModelProblem


def check_neutral_start(policy: Tensor, reference: Tensor, rounding: float) -> None:
    """Before the first update the policy *is* the reference: KL is 0, or the wrong model stands beside it.

    Raises ``ModelProblem`` where logprobs ``[B, T]``, 0 off the mask, differ by more than ``rounding`` nats.
    """
    gap = float((policy - reference).abs().max())
    if gap > rounding:
        raise ModelProblem(
            f"before the first update the policy and the reference differ by {gap:.6f} in log-probability",
            "The reference must be the policy as it was when learning began; merge the adapter that the model carries.",
        )
