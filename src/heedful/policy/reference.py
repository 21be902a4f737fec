"""The reference is the policy as it was when learning began."""

from __future__ import annotations

from heedful.engines.base import Batch, Learner
from heedful.errors import ModelProblem
from heedful.policy.rollout import spread

ROUNDING = 1e-4
"""Two passes over one batch with the same weights share every product, in every precision."""


def check_neutral_start(learner: Learner, batch: Batch) -> None:
    """Before the first update the policy *is* the reference: KL is 0, or the wrong model stands beside it.

    Each looks at a few rows of the batch in a pass of its own. Raises ``ModelProblem`` where a logprob
    differs by more than ``ROUNDING`` nats.
    """
    few = batch.select(spread(len(batch), 8))
    policy, reference = learner.evaluate(few, "policy").logprobs, learner.evaluate(few, "reference").logprobs
    assert policy is not None
    assert reference is not None
    gap = float((policy - reference).abs().max())
    if not gap <= ROUNDING:  # nor is what is no number the same
        raise ModelProblem(
            f"before the first update the policy and the reference differ by {gap:.6f} in log-probability",
            "The reference must be the policy as it was when learning began; merge the adapter that the model carries.",
        )
