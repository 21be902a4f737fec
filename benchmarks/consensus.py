"""Is consensus worth more than a majority, and are poor labelers found? Simulated panels, real annotators, and the cost.

python benchmarks/consensus.py simulated          # accuracy, Brier score and intervals on 40 seeds of simulated panels
python benchmarks/consensus.py labelers           # who is found after how many tasks, on the same panels
python benchmarks/consensus.py real               # held-out annotators of five public sets
python benchmarks/consensus.py cost               # seconds and memory against the number of judgements

Each prints its table in Markdown; with ``--plot FILE.svg`` all but the third draw it, too. One thread is enough.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks.annotators import METHODS, real
from benchmarks.drawing import save
from benchmarks.orders import exponent
from benchmarks.texts import shared_folder
from heedful.feedback.agreement import panel_agreement
from heedful.feedback.assign import assign
from heedful.feedback.consensus import Consensus, consensus
from heedful.feedback.criteria import criterion_named
from heedful.feedback.instructions import instructions_for
from heedful.feedback.labelers import LabelerReport, labeler_reports
from heedful.feedback.simulated import Kind, SimulatedLabeler, collect
from heedful.maths.calibration import reliability_curve
from heedful.records import Completion, Prompt, Ranking

CRITERION = criterion_named("helpfulness")
COMPLETIONS, OVERLAP = 4, 3
RANDOM, UPSIDE_DOWN = 0.10, 0.07
LABELERS = 30
DIFFICULTIES = {"hard": (1.15, 0.33), "InstructGPT-like": (0.77, 0.27)}
"""Noise and tie width in standard deviations of quality: good labelers then agree on 67 and 76 % of pairs and tie 12 % of them."""
LOOKS = (3, 5, 8, 10, 20)
"""Tasks of each labeler after which one looks."""
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
    guessing, turned = round(RANDOM * LABELERS), round(UPSIDE_DOWN * LABELERS)
    shares: list[tuple[Kind, int]] = [("random", guessing), ("upside_down", turned), ("careful", LABELERS - guessing - turned)]
    kinds = [kind for kind, count in shares for _ in range(count)]
    return [SimulatedLabeler(f"{kind}-{n:02}", kind, noise * chance.lognormvariate(0, VARIETY), ties) for n, kind in enumerate(kinds)]


def simulate(noise: float, ties: float, tasks: int, seed: int) -> tuple[list[Ranking], dict[str, float]]:
    """Rankings of a panel in which everybody has so many tasks, and the true qualities."""
    chance, labelers = Random(f"qualities {seed}"), panel_of(noise, ties, seed)
    prompts = [Prompt(f"p{n:05}", "") for n in range(LABELERS * tasks // OVERLAP)]
    rows = [(p, [Completion(f"{p.id}:{k}", p.id, "", [], "stop", k, "m") for k in range(COMPLETIONS)]) for p in prompts]
    truth: dict[str, float] = {c.id: chance.gauss(0, 1) for _, group in rows for c in group}
    teams = assign([p.id for p in prompts], [labeler.name for labeler in labelers], OVERLAP, seed)
    return collect(rows, truth, labelers, teams, CRITERION, instructions_for(CRITERION), seed), truth


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
    """Consensus against majority."""
    print("| panel | tasks each | good labelers agree | accuracy: majority | model | Brier: majority | model | 90 % intervals cover |")
    print("|---|---|---|---|---|---|---|---|")
    rows: dict[tuple[str, int], Figures] = {}
    for difficulty, (noise, ties) in DIFFICULTIES.items():
        for size in tasks:
            figures = rows[difficulty, size] = Figures()
            for seed in seeds:
                rankings, truth = simulate(noise, ties, size, seed)
                poor = {r.labeler for r in rankings if not r.labeler.startswith("careful")}
                figures.agreement.append(panel_agreement(rankings, CRITERION, exclude=poor, resamples=1).agreement)
                for method in METHODS:
                    judge(consensus(rankings, CRITERION, method=method), truth, figures)
            print(f"| {difficulty} | {size} | {row_of(figures)} |", flush=True)
    if plot:
        draw_calibration(rows, plot)


def row_of(f: Figures) -> str:
    """The cells of a row; what is gained on majority with its 95 % interval over seeds."""
    right, brier = ({m: np.array(found[m]) for m in METHODS} for found in (f.right, f.brier))
    cells = [f"{np.mean(f.agreement):.3f}", f"{right['majority'].mean():.3f}", gained(right["model"], right["majority"], 3)]
    cells += [f"{brier['majority'].mean():.4f}", gained(brier["model"], brier["majority"], 4), f"{np.mean(f.covered):.1%}"]
    return " | ".join(cells)


def gained(model: Any, majority: Any, digits: int) -> str:
    """The model's mean over seeds, and by how much it differs from the majority's."""
    difference = model - majority
    return f"{model.mean():.{digits}f} ({difference.mean():+.{digits}f} ± {1.96 * sem(difference):.{digits}f})"


def sem(values: Any) -> float:
    """Standard error of a mean."""
    return float(np.std(values, ddof=1) / len(values) ** 0.5)


def found(seeds: Sequence[int], plot: Path | None) -> None:
    """Who is flagged after how many tasks, everybody having as many."""
    print("| panel | tasks each | upside down: flagged | named so | guessing: flagged | good labelers flagged |")
    print("|---|---|---|---|---|---|")
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for difficulty, (noise, ties) in DIFFICULTIES.items():
        for size in LOOKS:
            reports: list[LabelerReport] = []
            for seed in seeds:
                reports += labeler_reports(simulate(noise, ties, size, seed)[0], CRITERION)
            turned, guessing, good = ([r for r in reports if r.labeler.startswith(kind)] for kind in ("upside_down", "random", "careful"))
            flagged = [[r.flagged for r in kind] for kind in (turned, guessing, good)]
            named = share([r.verdict == "upside_down" for r in turned])
            cells = [share(flagged[0]), named, share(flagged[1]), share(flagged[2], 2)]
            shares = [float(np.mean(kind)) for kind in flagged]
            curves.setdefault(difficulty, []).append((size, shares[0], shares[1], shares[2]))
            print(f"| {difficulty} | {size} | " + " | ".join(cells) + " |", flush=True)
    if plot:
        draw_found(curves, plot)


def share(found: Sequence[bool], digits: int = 0) -> str:
    """A percentage with its counts."""
    return f"{np.mean(found):.{digits}%} ({sum(found)} of {len(found)})"


def many(size: int, seed: int = 0) -> list[Ranking]:
    """Rankings of four completions by up to 500 labelers of every kind, three to a prompt."""
    random = np.random.default_rng(seed)
    labelers, prompts = int(np.clip(size // 200, 6, 500)), size // OVERLAP
    quality = random.normal(size=(prompts, COMPLETIONS))
    sign = np.where(np.arange(labelers) % 10 == 9, 0, np.where(np.arange(labelers) % 14 == 13, -1, 1))
    rankings = []
    for p in range(prompts):
        for who in random.choice(labelers, OVERLAP, replace=False):
            order = random.permutation(COMPLETIONS)
            seen = np.round((sign[who] * quality[p] + DIFFICULTIES["InstructGPT-like"][0] * random.normal(size=COMPLETIONS))[order] * 3)
            ranks = (1 + (seen[None, :] > seen[:, None]).sum(axis=1)).tolist()
            rankings.append(Ranking(f"p{p:07}", f"l{who:03}", [f"p{p:07}:{k}" for k in order], ranks, CRITERION.name, "v"))
    return rankings


def cost(sizes: Sequence[int], plot: Path | None) -> None:
    """Processor time and memory of a consensus against the number of judgements, each size in a process of its own."""
    print("| judgements | labelers | seconds | microseconds each | rounds | judgements as rows, MiB | consensus on top, MiB | bytes each |")
    print("|---|---|---|---|---|---|---|---|")
    measured = []
    for size in sizes:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found = pool.apply(spent, (size,))
        measured.append(found)
        each = f"{1e6 * found.seconds / found.judgements:.0f}", f"{2**20 * found.on_top / found.judgements:.0f}"
        counts = f"{found.judgements} | {found.labelers} | {found.seconds:.1f} | {each[0]} | {found.rounds}"
        print(f"| {counts} | {found.rows:.0f} | {found.on_top:.0f} | {each[1]} |", flush=True)
    if len(measured) > 2:
        grown = [float(one.judgements) for one in measured]
        orders = (exponent(grown, [getattr(one, name) for one in measured]) for name in ("seconds", "on_top"))
        print("\nOrder of growth: time {:.2f}, memory on top {:.2f}.".format(*orders))
    if plot:
        draw_cost(measured, plot)


@dataclass(frozen=True)
class Spent:
    """What a consensus took: processor ``seconds``; MiB of the judgements as rows, and of what comes on top at the peak."""

    judgements: int
    labelers: int
    seconds: float
    rounds: int
    rows: float
    on_top: float


def spent(size: int) -> Spent:
    """One consensus on so many judgements."""
    empty = peak()
    rankings = many(size)
    gc.collect()
    began, before = time.process_time(), peak()
    agreed = consensus(rankings, CRITERION)
    took = time.process_time() - began
    rounds = int(agreed.parameters["rounds"])
    return Spent(len(rankings), len(agreed.labelers), took, rounds, before - empty, peak() - before)


def peak() -> float:
    """The most memory that this process has held so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def draw_calibration(rows: dict[tuple[str, int], Figures], path: Path) -> None:
    """What was stated against what was true, and what is gained, per panel."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    colours = {"majority": "#b0793a", "model": "#2f6f8f"}
    left.plot([0.5, 1], [0.5, 1], color="#999999", linewidth=1, linestyle="--")
    for method, colour in colours.items():
        stated = [pair for f in rows.values() for pair in f.stated[method]]
        curve = reliability_curve([p for p, _ in stated], [right for _, right in stated], 12)
        left.plot([b.predicted for b in curve], [b.observed for b in curve], "o-", color=colour, markersize=4, label=method)
    left.set(xlabel="stated probability that the first is better", ylabel="share in which it is", title="Calibration, all panels")
    left.legend(frameon=False, loc="upper left")
    names = [f"{difficulty}\n{size} tasks" for difficulty, size in rows]
    for offset, (method, colour) in zip((-0.18, 0.18), colours.items(), strict=True):
        means = [float(np.mean(f.right[method])) for f in rows.values()]
        spread = [1.96 * sem(f.right[method]) for f in rows.values()]
        right.bar(np.arange(len(rows)) + offset, means, 0.34, yerr=spread, color=colour, ecolor="#444444", label=method)
        for x, mean in enumerate(means):
            right.text(x + offset, mean + 0.008, f"{mean:.3f}", ha="center", fontsize=7)
    right.set(ylim=(0.65, 0.92), title="Pairs in the true order", ylabel="share of pairs")
    right.set_xticks(range(len(rows)), names, fontsize=7)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def draw_found(curves: dict[str, list[tuple[int, float, float, float]]], path: Path) -> None:
    """The share of labelers of each kind who are flagged, against tasks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    for axes, (difficulty, rows) in zip(figure.subplots(1, 2, sharey=True), curves.items(), strict=True):
        sizes, *shares = zip(*rows, strict=True)
        for label, colour, flagged in zip(("upside down", "guessing", "careful"), ("#b0413a", "#b0793a", "#2f6f8f"), shares, strict=True):
            axes.plot(sizes, np.array(flagged) * 100, "o-", color=colour, markersize=4, label=label)
        axes.axhline(95, color="#999999", linewidth=1, linestyle="--")
        axes.axvline(10, color="#999999", linewidth=1, linestyle="--")
        axes.set(xscale="log", xlabel="tasks of each labeler", title=difficulty)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("labelers flagged, %")
    figure.axes[1].legend(frameon=False, loc="center right")
    save(figure, path)


def draw_cost(measured: Sequence[Spent], path: Path) -> None:
    """Seconds and memory against judgements, all logarithmic, beside straight lines through the last points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.6), layout="constrained")
    sizes = [one.judgements for one in measured]
    panels = (("seconds", "seconds of one core", "#2f6f8f"), ("on_top", "MiB beyond the judgements", "#3a8f5c"))
    for axes, (name, label, colour) in zip(figure.subplots(1, 2), panels, strict=True):
        values = [getattr(one, name) for one in measured]
        axes.loglog(sizes, values, "o-", color=colour, markersize=4, label="measured")
        axes.loglog(sizes, [values[-1] * n / sizes[-1] for n in sizes], "--", color="#999999", linewidth=1, label="proportional")
        for n, value in zip(sizes, values, strict=True):
            axes.annotate(
                f"{value:,.0f}" if value >= 10 else f"{value:.1f}", (n, value), (0, 6), textcoords="offset points", ha="right", fontsize=8
            )
        axes.margins(0.12)
        axes.set(xlabel="judgements (rankings of four, three to a prompt)", ylabel=label)
        axes.legend(frameon=False, loc="lower right")
        axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["simulated", "labelers", "real", "cost"])
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--tasks", type=int, nargs="+", default=[20, 30], help="tasks of each labeler, in the panels of the first table")
    parser.add_argument("--sizes", type=float, nargs="+", default=[1e3, 1e4, 1e5, 1e6], help="judgements whose cost is measured")
    parser.add_argument("--data", type=Path, default=shared_folder() / "data", help="folder of the public sets")
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    if given.what == "simulated":
        simulated(seeds, given.tasks, given.plot)
    elif given.what == "labelers":
        found(seeds, given.plot)
    elif given.what == "cost":
        cost([int(size) for size in given.sizes], given.plot)
    elif not given.data.is_dir():
        sys.exit(
            f"There is no folder of public sets at {given.data}. Set HEEDFUL_SHARED to the folder that holds it, or name it with --data."
        )
    else:
        real(given.data)


if __name__ == "__main__":
    main()
