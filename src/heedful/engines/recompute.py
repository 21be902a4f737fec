"""Layers computed twice instead of kept: memory for time, where memory has run out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from heedful.engines.attention import following, plan_in_force
from heedful.engines.block import recomputing
from heedful.engines.fuse import layers, replaced
from heedful.engines.narrow import Copies, computing


@contextmanager
def computing_twice(model: nn.Module, copies: Copies, adapter: str | None = None) -> Iterator[None]:
    """As :func:`heedful.engines.narrow.computing`, and for the backward pass only the input of each layer is kept (Chen et al. 2016).

    transformers would do so in training mode alone, where layers of BART's kind drop out. Here the
    forward that computes is wrapped, whoever's it is, and every layer stays as it is in evaluation.
    """
    with computing(model, copies, adapter):
        found = layers(model) if torch.is_grad_enabled() else []  # without gradient nothing is kept
        with recomputing(), replaced({layer: _twice(layer.forward, lambda: computing(model, copies, adapter)) for layer in found}):
            yield


def _twice(forward: Callable[..., Any], again: Callable[[], AbstractContextManager[None]]) -> Callable[..., Any]:
    """A forward whose second run finds what the first found: the plan of its attention, and the weights of its pass."""

    def run(*args: Any, **more: Any) -> Any:
        plan = plan_in_force()

        @contextmanager
        def as_before() -> Iterator[None]:
            with following(plan), again(), recomputing():
                yield

        return checkpoint(
            forward, *args, use_reentrant=False, preserve_rng_state=False, context_fn=lambda: (nullcontext(), as_before()), **more
        )

    return run
