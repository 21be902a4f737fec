"""How time and memory grow with the work: one axis at a time, everything else fixed.

    python -m benchmarks.curves [--axes prompts,vocabulary] [--quick] [--minutes 18] [--output docs/benchmarks]

Each point is a process of its own: a rollout and one optimiser step of PPO on a random Llama, all
weights learning. The order of every curve is fitted and set beside the one expected, and a cliff is
named. Every finished axis is written to ``curves.json``, where those of earlier runs stay, and all
that it holds is drawn in ``curves.svg``.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks import models
from benchmarks.drawing import save
from benchmarks.limits import clock
from benchmarks.orders import cliffs, exponent
from benchmarks.texts import END, PAD, SPECIAL
from heedful.engines.base import Batch, Sampled, Sampling
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.models import choose_precision
from heedful.engines.networks import LanguageNetwork
from heedful.policy.ppo import PPOLoss
from heedful.policy.rollout import padded
from heedful.run import peak_memory_gib

MEASURES = {"sampling": "seconds to sample", "learning": "seconds to learn", "memory": "GiB above an idle process"}
OUTPUT = Path(__file__).resolve().parents[1] / "docs" / "benchmarks"
COLOURS = ({"sampling": "#2f7ed8", "learning": "#d97a1f"}, {"memory": "#3a8f5c"})
"""Of the measures in the upper and in the lower panels."""
SLACK = 0.15
"""A fitted exponent may pass the expected one by this: the points are few."""


@dataclass(frozen=True)
class Point:
    """One size of everything: ``prompts`` of ``prompt_length`` tokens, ``per_prompt`` completions of up to ``new_tokens``."""

    prompts: int = 16
    per_prompt: int = 1
    prompt_length: int = 48
    new_tokens: int = 32
    hidden: int = 256
    vocabulary: int = 8192
    layers: int = 4


@dataclass(frozen=True)
class Axis:
    """What grows, and the highest exponent that is expected of each measure; ``quick`` are the points of a quick run."""

    name: str
    setting: str
    points: Sequence[int]
    quick: Sequence[int]
    expected: dict[str, float] = field(default_factory=lambda: dict.fromkeys(MEASURES, 1.0))


AXES = (
    Axis("completions in the batch", "prompts", (4, 8, 16, 32, 64, 128), (4, 8, 16)),
    # Attention makes a token dearer the more stand before it: between linear and quadratic.
    Axis("tokens in a completion", "new_tokens", (16, 32, 64, 128, 256, 512), (8, 16, 32), dict.fromkeys(MEASURES, 1.5)),
    Axis("words in the vocabulary", "vocabulary", (8192, 16384, 32768, 65536, 151936), (8192, 16384, 32768)),
    Axis("completions of each prompt", "per_prompt", (1, 2, 4, 8, 16), (1, 2, 4)),
    # The width of the layers grows; their parameters grow with its square, and so does what they cost.
    Axis("parameters", "hidden", (128, 192, 256, 384, 512, 768), (128, 192, 256)),
)


def cost(point: Point) -> dict[str, float]:
    """What a point takes, in this process: seconds, GiB, and the parameters of its model. The best of two repeats."""
    idle = resident_gib()
    network = network_of(point)
    learner = LocalLearner(network, "policy", Optimiser(1e-5))
    prompts = prompts_of(point)
    sampling, learning = [], []
    for repeat in range(3):
        began = clock()
        drawn = learner.sampler().sample(prompts, Sampling(point.new_tokens), range(repeat, repeat + len(prompts)))
        between = clock()
        learn(learner, prompts, drawn)
        sampling.append(between - began)
        learning.append(clock() - between)
    parameters = sum(p.numel() for p in network.model.parameters())
    return {"sampling": min(sampling[1:]), "learning": min(learning[1:]), "memory": peak_memory_gib() - idle, "parameters": parameters}


def network_of(point: Point) -> LanguageNetwork:
    """A policy, its reference and its value, in the precision that suits this machine."""
    heads, intermediate = max(1, point.hidden // 64), point.hidden * 8 // 3
    model = models.llama(hidden=point.hidden, intermediate=intermediate, layers=point.layers, heads=heads, vocabulary=point.vocabulary)
    ends = SimpleNamespace(pad_token_id=PAD, eos_token_id=END)  # all that a network asks of a tokenizer
    return LanguageNetwork(model, ends, with_value=True, precision=choose_precision("auto", torch.device("cpu")))


def prompts_of(point: Point) -> list[list[int]]:
    """Random ids; the completions of a prompt stand together."""
    draw = torch.Generator().manual_seed(0)
    distinct = torch.randint(len(SPECIAL), point.vocabulary, (point.prompts, point.prompt_length), generator=draw).tolist()
    return [ids for ids in distinct for _ in range(point.per_prompt)]


def learn(learner: LocalLearner, prompts: Sequence[Sequence[int]], drawn: Sequence[Sampled]) -> None:
    """One optimiser step of PPO; the advantages are random."""
    logprobs, values = padded([s.logprobs for s in drawn]), padded([s.values or [] for s in drawn])
    advantages = torch.randn(logprobs.shape, generator=torch.Generator().manual_seed(1))
    columns = {"logprobs": logprobs, "values": values, "advantages": advantages, "returns": values + advantages}
    learner.forward_backward(Batch(prompts, [s.token_ids for s in drawn], columns=columns), PPOLoss(0.2, 0.2, 0.1, 0.0))
    learner.step()


def resident_gib() -> float:
    """GiB of this process in memory now."""
    import psutil

    return float(psutil.Process().memory_info().rss / 2**30)


def walk(axis: Axis, quick: bool, deadline: float) -> list[dict[str, float]]:
    """The points of an axis, each in a child that shares our imports; those that the deadline leaves no time for are left out."""
    found = []
    with multiprocessing.get_context("fork").Pool(1, maxtasksperchild=1) as children:
        for size in axis.quick if quick else axis.points:
            if time.monotonic() > deadline:
                print(f"  {axis.name}: no time left for {size} and above")
                break
            taken = children.apply(cost, (replace(Point(), **{axis.setting: size}),))
            found.append({"x": taken["parameters"] if axis.setting == "hidden" else size, **taken})
            print(f"  {axis.name} {found[-1]['x']}: " + ", ".join(f"{name} {taken[name]:.3f}" for name in MEASURES), flush=True)
    return found


def judge(axis: Axis, points: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Of each measure: the fitted exponent, the expected one, and where it falls out."""
    xs, found = [point["x"] for point in points], {}
    for measure in MEASURES:
        ys = [max(point[measure], 1e-9) for point in points]
        fitted = exponent(xs, ys)
        fine = fitted <= axis.expected[measure] + SLACK
        steps = [xs[at] for at in cliffs(xs, ys)]
        found[measure] = {"exponent": fitted, "expected": axis.expected[measure], "as_expected": fine, "cliffs": steps}
        print(f"  {measure} grows as x^{fitted:.2f}, expected at most x^{axis.expected[measure]:.2g}{'' if fine else ': MORE'}")
        for x in steps:
            print(f"  CLIFF: {measure} at {axis.name} = {x:g} stands more than 1.6 times above its neighbours' trend")
    return found


def draw(axes: Sequence[tuple[Axis, Sequence[dict[str, float]]]], path: Path) -> None:
    """A column for each axis, seconds above, memory below, all logarithmic; a thin line grows in proportion."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.7 * len(axes), 4.6), layout="constrained")
    panels = figure.subplots(2, len(axes), sharex="col", sharey="row", squeeze=False)
    for column, (axis, points) in enumerate(axes):
        for panel, colours in zip(panels[:, column], COLOURS, strict=True):
            draw_panel(panel, points, colours)
        panels[1, column].set_xlabel(axis.name)
    for panel, label in zip(panels[:, 0], ("seconds", MEASURES["memory"]), strict=True):
        panel.set_ylabel(label)
        panel.legend(frameon=False, fontsize=8)
    save(figure, path)


def draw_panel(panel: Any, points: Sequence[dict[str, float]], colours: dict[str, str]) -> None:
    """Measures against what grew, each with a line in proportion from its last point downwards."""
    from matplotlib.ticker import FuncFormatter, NullFormatter

    xs = [point["x"] for point in points]
    for name, colour in colours.items():
        ys = [point[name] for point in points]
        panel.plot(xs, ys, "o-", color=colour, label=name, markersize=4)
        panel.plot(xs, [ys[-1] * x / xs[-1] for x in xs], color=colour, linewidth=0.8, linestyle=":", label="_")
    panel.plot([], [], color="#868e9a", linewidth=0.8, linestyle=":", label="in proportion")
    panel.set(xscale="log", yscale="log")
    panel.set_xticks(xs, apart([short(x) for x in xs], xs), fontsize=8)
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    panel.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: f"{y:g}" if f"{y:e}"[0] in "25" else ""))
    panel.tick_params(axis="y", which="both", labelsize=8)
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)


def apart(labels: Sequence[str], xs: Sequence[float]) -> list[str]:
    """Labels that would run into the one before on a logarithmic axis are left out."""
    shown, last = [], 0.0
    for label, x in zip(labels, xs, strict=True):
        fits = not last or math.log(x / last) > 0.17 * math.log(xs[-1] / xs[0])
        shown.append(label if fits else "")
        last = x if fits else last
    return shown


def short(x: float) -> str:
    """``151936`` -> ``152k``, ``13800000`` -> ``13.8M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if x >= size:
            return f"{x / size:.3g}{letter}"
    return f"{x:g}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", type=lambda text: text.split(","), default=[axis.setting for axis in AXES])
    parser.add_argument("--quick", action="store_true", help="three small points an axis, in under two minutes")
    parser.add_argument("--minutes", type=float, default=18, help="no point is begun later than this")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    chosen = parser.parse_args(arguments)
    chosen.output.mkdir(parents=True, exist_ok=True)
    path, deadline = chosen.output / "curves.json", time.monotonic() + 60 * chosen.minutes
    found = json.loads(path.read_text()) if path.exists() else {}
    for axis in AXES:
        if axis.setting not in chosen.axes:
            continue
        print(axis.name, flush=True)
        points = walk(axis, chosen.quick, deadline)
        if len(points) < 3:
            print("  too few points to judge")
            continue
        found[axis.setting] = {"base": asdict(Point()), "threads": torch.get_num_threads(), "points": points, "judged": judge(axis, points)}
        path.write_text(json.dumps(found, indent=1) + "\n")
        draw([(axis, found[axis.setting]["points"]) for axis in AXES if axis.setting in found], chosen.output / "curves.svg")


if __name__ == "__main__":
    main()
