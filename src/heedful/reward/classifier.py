"""Train a text classifier, e.g. ``nothate`` / ``hate``, whose logit can then be a reward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from heedful.engines.base import Batch, Learner, Outputs
from heedful.engines.fit import fit
from heedful.errors import DataProblem, nearest
from heedful.maths.calibration import brier, ece
from heedful.maths.statistics import wilson
from heedful.progress import Progress
from heedful.records import read_jsonl
from heedful.reward.score import encode_texts


@dataclass(frozen=True)
class LabelledText:
    """One text and the name of its class."""

    text: str
    label: str


@dataclass(frozen=True)
class ClassificationLoss:
    """Cross-entropy per row, ``[B]``; the class indices are the column ``label``."""

    def __call__(self, outputs: Outputs, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        assert outputs.class_logits is not None
        target = batch.columns["label"]
        right = (outputs.class_logits.argmax(-1) == target).float()
        return functional.cross_entropy(outputs.class_logits, target, reduction="none"), {"accuracy": right}


def load_labelled(path: Path, labels: Sequence[str], text_column: str = "text", label_column: str = "label") -> list[LabelledText]:
    """Rows of a JSON-lines file; labels are class names, or their index written as a number."""
    found = []
    for number, row in enumerate(read_jsonl(path), 1):
        for column in (text_column, label_column):
            if column not in row:
                raise DataProblem(f"row {number} of {path} has no column {column!r}", f"It has: {', '.join(row)}.{nearest(column, row)}")
        found.append(LabelledText(str(row[text_column]), _label(row[label_column], labels, number, path)))
    if not found:
        raise DataProblem(f"{path} holds no rows", "Name a file with at least one labelled text per class.")
    return found


def _label(value: Any, labels: Sequence[str], number: int, path: Path) -> str:
    if str(value) in labels:
        return str(value)
    if isinstance(value, (int, bool)) and 0 <= int(value) < len(labels):
        return labels[int(value)]
    raise DataProblem(
        f"row {number} of {path} has the label {value!r}", f"Labels are {', '.join(labels)}, or their index.{nearest(str(value), labels)}"
    )


def train_classifier(
    learner: Learner,
    tokenizer: Any,
    rows: Sequence[LabelledText],
    labels: Sequence[str],
    *,
    epochs: int,
    batch_size: int,
    max_tokens: int,
    seed: int,
    folder: Path,
    log: Callable[[int, dict[str, float]], None],
    progress: Progress,
) -> int:
    """Fine-tune on labelled texts; returns the optimiser steps made."""
    encoded = encode_texts(tokenizer, [("", row.text) for row in rows], max_tokens)
    target = torch.tensor([list(labels).index(row.label) for row in rows])
    encoded = encoded.with_columns(label=target)

    def batches(epoch: int) -> list[Batch]:
        order = length_buckets(encoded.lengths, batch_size, np.random.default_rng([seed, epoch]))
        return [encoded.select(part) for part in order]

    return fit(learner, batches, ClassificationLoss(), epochs=epochs, folder=folder, log=log, progress=progress, title="Classifier")


def length_buckets(lengths: Sequence[int], batch_size: int, random: np.random.Generator, window: int = 50) -> list[list[int]]:
    """A shuffled pass in batches of similar length: sorted within windows of ``window`` batches, batches shuffled again."""
    order = random.permutation(len(lengths))
    span = batch_size * window
    batches: list[list[int]] = []
    for start in range(0, len(order), span):
        part = sorted((int(i) for i in order[start : start + span]), key=lambda i: lengths[i])
        batches.extend(part[at : at + batch_size] for at in range(0, len(part), batch_size))
    return [batches[i] for i in random.permutation(len(batches))]


def classifier_quality(logits: Tensor, target: Sequence[int], labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy with its 95 % interval, F1 per class and macro, and calibration of the last class's probability."""
    predicted, truth = logits.argmax(-1).numpy(), np.asarray(target)
    accuracy = wilson(float((predicted == truth).sum()), len(truth))
    f1 = {label: f1_score(predicted == i, truth == i) for i, label in enumerate(labels)}
    probability = torch.softmax(logits.double(), -1)[:, -1].numpy()
    outcome = (truth == len(labels) - 1).astype(float)
    return {
        "rows": len(truth),
        "accuracy": {"estimate": accuracy.estimate, "low": accuracy.low, "high": accuracy.high},
        "f1": {**f1, "macro": float(np.mean(list(f1.values())))},
        "brier": brier(probability, outcome),
        "ece": ece(probability, outcome),
    }


def f1_score(predicted: np.ndarray, truth: np.ndarray) -> float:
    """``2 TP / (2 TP + FP + FN)``; 0 where the class is neither there nor predicted."""
    hit = float((predicted & truth).sum())
    total = float(predicted.sum() + truth.sum())
    return 2 * hit / total if total else 0.0
