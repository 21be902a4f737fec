"""What a reward model trained on HH-RLHF is worth, by subset and by margin.

    python examples/reward_hh/report.py [runs/reward-hh]

Scores the held-out pairs again with the saved folder `reward/model`, which any Hugging Face
program could open, so what is measured is what is shipped.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heedful.engines.base import Batch
from heedful.pairs.snapshot import open_snapshot, prompt_key
from heedful.records import Pair, Prompt
from heedful.reward.quality import calibration_figures, cross_fitted, reward_quality
from heedful.reward.score import RewardModel

WHEN = "it does where both intervals lie above 0"


def scored(folder: Path) -> tuple[list[Pair], np.ndarray, np.ndarray]:
    """The held-out pairs of a run, and the scores of their chosen and rejected completions, ``[n]`` each."""
    settings = json.loads((folder / "run.json").read_text())["settings"]
    scorer = RewardModel.open(str(folder / "reward" / "model"), max_tokens=settings["reward"]["max_tokens"])
    pairs = open_snapshot(folder / "pairs").pairs["held_out"]
    prompts = [Prompt(prompt_key(pair), pair.prompt) for pair in pairs]
    unused = Batch([[] for _ in pairs], [[] for _ in pairs])
    chosen, rejected = (scorer.score(prompts, texts, unused) for texts in ([p.chosen for p in pairs], [p.rejected for p in pairs]))
    return pairs, np.array(chosen), np.array(rejected)


def subset(pair: Pair) -> str:
    """The part of HH-RLHF that a pair is from: its ids are like ``helpful-base_12/chosen``."""
    return pair.chosen_id.rpartition("_")[0]


def by_subset(pairs: Sequence[Pair], chosen: np.ndarray, rejected: np.ndarray) -> Iterator[tuple[str, dict[str, Any]]]:
    """The figures of each subset, and of all together."""
    names = np.array([subset(pair) for pair in pairs])
    for name in [*sorted(set(names)), "all"]:
        rows = np.flatnonzero((names == name) | (name == "all"))
        yield name, reward_quality([pairs[i] for i in rows], chosen[rows], rejected[rows])


def calibration(pairs: Sequence[Pair], chosen: np.ndarray, rejected: np.ndarray) -> Iterator[tuple[str, dict[str, float]]]:
    """Before and after temperature scaling; each half of the prompts is scaled by the temperature of the other."""
    yield "as trained", calibration_figures(chosen - rejected, 1.0)
    yield "after temperature scaling", calibration_figures(cross_fitted(pairs, chosen - rejected), 1.0)


def lines(pairs: Sequence[Pair], chosen: np.ndarray, rejected: np.ndarray) -> Iterator[str]:
    """Everything that is printed."""
    yield f"{'held-out pairs of':<28} {'pairs':>5}  {'accuracy':<22}{'longer wins':<22}{'shorter wins':<22}"
    for name, found in by_subset(pairs, chosen, rejected):
        shares = "".join(f"{interval(found[key]):<22}" for key in ("accuracy", "longer_wins", "shorter_wins"))
        yield f"{name:<28} {found['pairs']:>5}  {shares}".rstrip()
    yield ""
    for rule in ("longer", "shorter"):
        yield f"better than '{rule} wins' on the same pairs, all subsets together, by {interval(found[f'above_{rule}_wins'])}"
    yield f"The accuracy lies {'' if found['beats_length'] else 'not '}above both length baselines: {WHEN}.\n"
    yield f"{'|score difference|':<28} {'pairs':>5}  accuracy"
    for row in found["by_margin"]:
        margin = f"{row['margin'][0]:.2f} to {row['margin'][1]:.2f}"
        yield f"{margin:<28} {row['pairs']:>5}  {interval({**row, 'estimate': row['accuracy']})}"
    yield f"\n{'calibration':<28} {'nll':>7} {'brier':>7} {'ece':>7}"
    for name, figures in calibration(pairs, chosen, rejected):
        yield f"{name:<28} {figures['nll']:>7.4f} {figures['brier']:>7.4f} {figures['ece']:>7.4f}"


def interval(row: dict[str, float]) -> str:
    """``0.612 [0.584, 0.639]``"""
    return f"{row['estimate']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def main() -> None:
    """Print the tables of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", default=Path("runs/reward-hh"), help="the folder of the run")
    for line in lines(*scored(parser.parse_args().run)):
        print(line)


if __name__ == "__main__":
    main()
