"""Train a text classifier from a file of labelled texts, and say how good it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from heedful.errors import DataProblem
from heedful.progress import Progress
from heedful.run import Run


@dataclass(frozen=True)
class ClassifierSettings:
    """What to learn from, what to start from, and how."""

    rows: str
    base: str
    labels: tuple[str, ...]
    text_column: str = "text"
    label_column: str = "label"
    epochs: int = 1
    batch_size: int = 32
    learning_rate: float = 5e-5
    max_tokens: int = 128
    held_out: float = 0.1
    probes: tuple[str, ...] = ()
    seed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def learn_classifier(chosen: ClassifierSettings, run: Run, folder: Path, progress: Progress) -> dict[str, Any]:
    """Train, save as a Hugging Face folder, and measure on texts that were held out (same texts stay on one side)."""
    from heedful.engines.local import LocalLearner, Optimiser
    from heedful.engines.models import choose_precision, load_scalar_model, load_tokenizer
    from heedful.engines.networks import ScalarNetwork
    from heedful.engines.seeding import seeded
    from heedful.reward.classifier import load_labelled, train_classifier
    from heedful.reward.score import RewardModel

    train, unseen = split_texts(
        load_labelled(Path(chosen.rows), chosen.labels, chosen.text_column, chosen.label_column), chosen.held_out, chosen.seed
    )
    tokenizer = load_tokenizer(chosen.base)
    with seeded(chosen.seed):
        model = load_scalar_model(chosen.base, labels=chosen.labels)
        network = ScalarNetwork(model, tokenizer, precision=choose_precision("auto", model.device))
    steps = chosen.epochs * -(-len(train) // chosen.batch_size)
    learner = LocalLearner(
        network,
        "reward",
        Optimiser(chosen.learning_rate, betas=(0.9, 0.999), schedule="linear", total_steps=steps, warmup_steps=max(1, steps // 20)),
    )
    train_classifier(
        learner,
        tokenizer,
        train,
        chosen.labels,
        epochs=chosen.epochs,
        batch_size=chosen.batch_size,
        max_tokens=chosen.max_tokens,
        seed=chosen.seed,
        folder=folder / "checkpoints",
        log=lambda step, metrics: run.log(step, metrics, "classifier"),
        progress=progress,
    )
    network.model.save_pretrained(folder / "model", safe_serialization=True)
    tokenizer.save_pretrained(folder / "model")
    scorer = RewardModel(learner, chosen.labels, max_tokens=chosen.max_tokens)
    return {**_figures(scorer, unseen, chosen), "train_rows": len(train), "steps": steps, "model": str(folder / "model")}


def _figures(scorer: Any, unseen: list[Any], chosen: ClassifierSettings) -> dict[str, Any]:
    import torch

    from heedful.reward.classifier import classifier_quality

    target = [chosen.labels.index(row.label) for row in unseen]
    quality = classifier_quality(scorer.raw([row.text for row in unseen]), target, chosen.labels)
    probes = [
        {"text": text, "logits": logits.tolist(), "probabilities": torch.softmax(logits, -1).tolist()}
        for text, logits in zip(chosen.probes, scorer.raw(list(chosen.probes)) if chosen.probes else [], strict=True)
    ]
    return {**quality, "probes": probes}


def split_texts(rows: list[Any], held_out: float, seed: int) -> tuple[list[Any], list[Any]]:
    """By a hash of the text, so that repeats never stand on both sides."""
    import hashlib

    limit = int(held_out * 2**32)
    sides: tuple[list[Any], list[Any]] = ([], [])
    for row in rows:
        digest = hashlib.sha256(f"{seed}\n{' '.join(row.text.lower().split())}".encode()).digest()
        sides[int.from_bytes(digest[:4], "big") < limit].append(row)
    if not sides[0] or not sides[1]:
        raise DataProblem(f"{len(rows)} texts are too few to hold {held_out:.0%} of them out", "Give more rows.")
    return sides
