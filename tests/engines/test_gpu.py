"""The engine on an accelerator gives what it gives on the CPU."""

from __future__ import annotations

import pytest
import torch

import tiny
from heedful.engines.local import LocalLearner

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator that torch sees")]


@pytest.mark.parametrize("kind", ["llama", "t5"])
def test_the_gpu_agrees_with_the_cpu(kind: str) -> None:
    batch = tiny.batch(6)
    here = tiny.network(kind)
    expected = LocalLearner(here).evaluate(batch, "policy", entropy=True)
    found = LocalLearner(here.cuda()).evaluate(batch, "policy", entropy=True)
    for name in ("logprobs", "values", "entropy"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-3, rtol=1e-3)
