"""Rows of ids as tensors, padded where a model wants rectangles."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from heedful.engines.base import length_mask

STEP = 16
"""Sizes that would differ in every batch are rounded up to a multiple of this: for each new size of a product
in bfloat16 a CPU's library makes, and keeps, a kernel of its own."""
STEPS = 4 * STEP
"""The same for the number of all tokens at once, of which there are many."""


def rounded(size: int, step: int = STEP) -> int:
    """The next multiple of ``step``."""
    return -(-size // step) * step


def spare(size: int) -> int:
    """How many places are left over where the number of all tokens is rounded up."""
    return rounded(size, STEPS) - size


def scatter(flat: Tensor, mask: Tensor) -> Tensor:
    """``[N]`` values of the masked positions -> ``[B, T]``, 0 elsewhere."""
    return torch.zeros(mask.shape, dtype=flat.dtype, device=flat.device).masked_scatter(mask.bool(), flat)


def pad_right(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> Tensor:
    """``[B, width]`` ids, padded behind."""
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([list(row) + [pad] * (width - len(row)) for row in rows], dtype=torch.long, device=device).reshape(len(rows), width)


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """``[B, width]`` ids, padded in front, and their mask."""
    width = max((len(row) for row in rows), default=0)
    ids = [[pad] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, dtype=torch.long, device=device).reshape(len(rows), width), torch.tensor(
        mask, dtype=torch.long, device=device
    ).reshape(len(rows), width)


def lengths_mask(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """``[B, width]`` long: 1 on true tokens, by length."""
    lengths = [len(row) for row in rows]
    return length_mask(lengths, max(lengths, default=0)).long().to(device)


def with_positions(model: Any, inputs: dict[str, Tensor], attention: Tensor) -> dict[str, Tensor]:
    """Add position ids that ignore left padding, where the model takes them."""
    if accepts(model, "position_ids"):
        inputs["position_ids"] = (attention.cumsum(1) - 1).clamp(min=0)[:, -inputs["input_ids"].shape[1] :]
    return inputs


def accepts(model: Any, argument: str) -> bool:
    """Does the model's ``forward`` take this argument?"""
    return argument in inspect.signature(model.forward).parameters
