"""ROUGE against human references, one number per completion so that differences pair by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heedful.errors import DataProblem, SettingProblem

KINDS = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True, slots=True)
class Overlap:
    """F-measures per completion ``[n]`` by kind: against the nearest reference, and averaged over references."""

    best: dict[str, NDArray[np.float64]]
    mean: dict[str, NDArray[np.float64]]


def rouge(completions: Sequence[str], references: Sequence[Sequence[str]], kinds: Sequence[str] = KINDS) -> Overlap:
    """Stemmed ROUGE F (Lin 2004) of each completion against *all* references of its prompt, in [0, 1].

    Raises :class:`DataProblem` where a row has no reference, :class:`SettingProblem` where rouge-score is missing.
    """
    if len(completions) != len(references):
        raise DataProblem(
            f"there are {len(completions)} completions but {len(references)} lists of references", "Give one list per completion."
        )
    for number, row in enumerate(references):
        if isinstance(row, str) or not row:
            raise DataProblem(f"completion {number} has no list of references", "Measure ROUGE only on prompts that have a reference.")
    scorer = _scorer(kinds)
    table = [[scorer.score(reference, completion) for reference in row] for completion, row in zip(completions, references, strict=True)]
    return Overlap(
        best={kind: np.array([max(score[kind].fmeasure for score in row) for row in table]) for kind in kinds},
        mean={kind: np.array([np.mean([score[kind].fmeasure for score in row]) for row in table]) for kind in kinds},
    )


def _scorer(kinds: Sequence[str]) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:
        raise SettingProblem("ROUGE needs the package rouge-score, which is not installed", "Run: pip install 'heedful[train]'") from None
    return RougeScorer(list(kinds), use_stemmer=True)
