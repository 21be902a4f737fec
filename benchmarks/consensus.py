"""Is consensus worth more than a majority, and are poor labelers found? Simulated panels, real annotators, and the cost.

python benchmarks/consensus.py simulated --seeds 40   # accuracy, Brier, intervals; who is found after how many tasks
python benchmarks/consensus.py real --data DATA       # held-out annotators of five public sets
python benchmarks/consensus.py cost                   # seconds and memory against the number of judgements

Each prints its table in Markdown; with ``--plot FILE.svg`` the first and the last draw it, too. One thread is enough.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from heedful.feedback.agreement import panel_agreement
from heedful.feedback.assign import assign, shown_order
from heedful.feedback.consensus import Consensus, consensus
from heedful.feedback.criteria import criterion_named
from heedful.feedback.instructions import instructions_for
from heedful.feedback.labelers import LabelerReport, labeler_reports
from heedful.feedback.simulated import SimulatedLabeler, collect
from heedful.maths.calibration import reliability_curve
from heedful.records import Completion, Prompt, Ranking

CRITERION = criterion_named("helpfulness")
COMPLETIONS, OVERLAP = 4, 3
GUESSERS, REVERSED = 0.10, 0.07
LABELERS = 30
DIFFICULTIES = {"hard": (1.15, 0.33), "InstructGPT-like": (0.77, 0.27)}
"""Noise and tie width in standard deviations of quality: good labelers then agree on 67 and 76 % of pairs and tie 12 % of them."""
VARIETY = 0.2
"""Standard deviation of the logarithm of a good labeler's noise."""


@dataclass
class Figures:
    """What one row of the table is made of, over all seeds."""

    right: dict[str, list[float]] = field(default_factory=lambda: {"majority": [], "model": []})
    brier: dict[str, list[float]] = field(default_factory=lambda: {"majority": [], "model": []})
    covered: list[float] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    stated: dict[str, list[tuple[float, bool]]] = field(default_factory=lambda: {"majority": [], "model": []})


def panel_of(noise: float, ties: float, seed: int) -> list[SimulatedLabeler]:
    """Thirty labelers: three guess, two read the scale upside down, the others are careful, some more than others."""
    chance = Random(f"panel {seed}")
    kinds = ["random"] * round(GUESSERS * LABELERS) + ["upside_down"] * round(REVERSED * LABELERS)
    kinds += ["careful"] * (LABELERS - len(kinds))
    return [SimulatedLabeler(f"{kind}-{n:02}", kind, noise * chance.lognormvariate(0, VARIETY), ties) for n, kind in enumerate(kinds)]  # type: ignore[arg-type]


def simulate(noise: float, ties: float, tasks: int, seed: int) -> tuple[list[Ranking], dict[str, float]]:
    """Rankings of a panel in which everybody has so many tasks, and the true qualities."""
    chance, labelers = Random(f"qualities {seed}"), panel_of(noise, ties, seed)
    prompts = [Prompt(f"p{n:05}", "") for n in range(LABELERS * tasks // OVERLAP)]
    rows = [(p, [Completion(f"{p.id}:{k}", p.id, "", [], "stop", k, "m") for k in range(COMPLETIONS)]) for p in prompts]
    truth: dict[str, float] = {c.id: chance.gauss(0, 1) for _, group in rows for c in group}
    teams = assign([p.id for p in prompts], [labeler.name for labeler in labelers], OVERLAP, seed)
    return collect(rows, truth, labelers, teams, CRITERION, instructions_for(CRITERION), seed), truth  # type: ignore[arg-type]


def judge(agreed: Consensus, truth: dict[str, float], figures: Figures) -> None:
    """Compare a consensus with the truth."""
    name, stated = agreed.method, []
    for pair in agreed.pairs:
        true_margin = truth[pair.chosen_id] - truth[pair.rejected_id]
        stated.append((pair.p, true_margin > 0))
        if pair.interval:
            figures.covered.append(pair.interval[0] <= true_margin <= pair.interval[1])
    figures.right[name].append(float(np.mean([0.5 if p == 0.5 else right for p, right in stated])))
    figures.brier[name].append(float(np.mean([(p - right) ** 2 for p, right in stated])))
    figures.stated[name] += stated


def simulated(seeds: Sequence[int], tasks: Sequence[int], plot: Path | None) -> None:
    """The first two tables."""
    rows: dict[tuple[str, int], Figures] = {}
    for difficulty, (noise, ties) in DIFFICULTIES.items():
        for size in tasks:
            figures = rows[difficulty, size] = Figures()
            for seed in seeds:
                rankings, truth = simulate(noise, ties, size, seed)
                good = [name for name in {r.labeler for r in rankings} if not name.startswith("careful")]
                figures.agreement.append(panel_agreement(rankings, CRITERION, exclude=good, resamples=1).agreement)
                for method in ("majority", "model"):
                    judge(consensus(rankings, CRITERION, method=method), truth, figures)
    show_consensus(rows)
    show_found(seeds)
    if plot:
        draw_calibration(rows, plot)


def show_consensus(rows: dict[tuple[str, int], Figures]) -> None:
    print("| panel | tasks each | good labelers agree | accuracy: majority | model | Brier: majority | model | 90 % intervals cover |")
    print("|---|---|---|---|---|---|---|---|")
    for (difficulty, size), f in rows.items():
        cells = [f"{np.mean(f.right[m]):.3f}" for m in ("majority", "model")] + [f"{np.mean(f.brier[m]):.4f}" for m in ("majority", "model")]
        better = [
            np.array(f.right["model"]) - np.array(f.right["majority"]),
            np.array(f.brier["majority"]) - np.array(f.brier["model"]),
        ]
        cells[1] += f" (+{better[0].mean():.3f} ± {1.96 * better[0].std(ddof=1) / len(better[0]) ** 0.5:.3f})"
        cells[3] += f" (-{better[1].mean():.4f} ± {1.96 * better[1].std(ddof=1) / len(better[1]) ** 0.5:.4f})"
        print(f"| {difficulty} | {size} | {np.mean(f.agreement):.3f} | " + " | ".join(cells) + f" | {np.mean(f.covered):.1%} |")
    print()


def show_found(seeds: Sequence[int]) -> None:
    """Who is flagged after how many tasks, everybody having as many."""
    print("| panel | tasks each | upside down: flagged | named so | guessing: flagged | good labelers flagged |")
    print("|---|---|---|---|---|---|")
    for difficulty, (noise, ties) in DIFFICULTIES.items():
        for size in (3, 5, 8, 10, 20, 50):
            reports: list[LabelerReport] = []
            for seed in seeds:
                reports += labeler_reports(simulate(noise, ties, size, seed)[0], CRITERION)
            turned, guessing, good = ([r for r in reports if r.labeler.startswith(kind)] for kind in ("upside_down", "random", "careful"))
            named = share([r.verdict == "upside_down" for r in turned])
            cells = [share([r.flagged for r in turned]), named, share([r.flagged for r in guessing]), share([r.flagged for r in good], 2)]
            print(f"| {difficulty} | {size} | " + " | ".join(cells) + " |", flush=True)
    print()


def share(found: Sequence[bool], digits: int = 0) -> str:
    """A percentage with its counts."""
    return f"{np.mean(found):.{digits}%} ({sum(found)} of {len(found)})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["simulated", "real", "cost"])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--tasks", type=int, nargs="+", default=[20, 30, 100])
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if given.what == "simulated":
        simulated(seeds, given.tasks, given.plot)


if __name__ == "__main__":
    main()
