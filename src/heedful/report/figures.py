"""A run's figures as SVG text, see :mod:`heedful.report.drawing`. Each function returns an empty string where there is nothing to draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedful.report.data import MeasureRow
from heedful.report.drawing import AFTER, BEFORE, GRID, INK, THIRD, Row, bound, interval_point, legend, number, series, short, svg


def accuracy_by_margin(rows: Sequence[Row]) -> str:
    """Reward-model accuracy per bin of margin beside "the longer one wins" on the same pairs."""
    rows = [r for r in rows if number(r.get("accuracy")) is not None]
    if not rows:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.axhline(0.5, color=GRID, linewidth=1, linestyle=":")
        for x, row in enumerate(rows):
            interval_point(axes, x - 0.08, row["accuracy"], row.get("low"), row.get("high"), AFTER, vertical=True)
        longer = [(x + 0.08, row["longer_wins"]) for x, row in enumerate(rows) if number(row.get("longer_wins")) is not None]
        axes.plot([], [], "o", color=AFTER, label="reward model")
        axes.plot([x for x, _ in longer], [y for _, y in longer], "D", color=BEFORE, markersize=5, label="the longer one wins")
        counts = [f"\n{row['pairs']} pairs" if row.get("pairs") is not None else "" for row in rows]
        axes.set_xticks(range(len(rows)), [short(str(row.get("margin", ""))) + count for row, count in zip(rows, counts, strict=True)])
        axes.set_xlim(-0.6, len(rows) - 0.4)
        axes.set_ylim(min(0.4, *(0.95 * y for _, y in longer), *(0.95 * r["accuracy"] for r in rows)), 1.02)
        axes.set_xlabel("margin between the two scores")
        axes.set_ylabel("accuracy")
        legend(figure)

    return svg(draw, 3.1, "margin", "Accuracy of the reward model by margin, beside choosing the longer completion")


def reliability(rows: Sequence[Row]) -> str:
    """The reward model's stated probability against the share that came true; the diagonal is perfect."""
    points = [
        (r["predicted"], r["observed"]) for r in rows if number(r.get("predicted")) is not None and number(r.get("observed")) is not None
    ]
    if not points:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=BEFORE, linewidth=1, linestyle="--", label="perfectly calibrated")
        axes.plot(*zip(*points, strict=True), "o-", color=AFTER, markersize=5, label="reward model")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated probability", ylabel="share that came true")
        legend(figure)

    return svg(draw, 3.4, "reliability", "Reliability curve of the reward model")


def learning_curves(history: Sequence[Row]) -> str:
    """Score on training prompts, score of the held-out reward model, and KL below, against the step."""
    lines = [
        ("train_score", "on training prompts", BEFORE),
        ("score", "reward model", AFTER),
        ("held_out_score", "held-out reward model", THIRD),
    ]
    drawn = [(*series(history, "step", key), label, colour) for key, label, colour in lines]
    drawn = [line for line in drawn if len(line[0]) > 1]
    steps, kl = series(history, "step", "kl")
    panels = bool(drawn) + (len(steps) > 1)
    if not panels:
        return ""

    def draw(figure: Any) -> None:
        axes = list(figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[2, 1][:panels])[:, 0])
        for x, y, label, colour in drawn:
            axes[0].plot(x, y, color=colour, label=label, marker="o", markersize=3)
        if drawn:
            axes[0].set_ylabel("score")
            legend(figure)
        if len(steps) > 1:
            axes[-1].plot(steps, kl, color=INK, marker="o", markersize=3)
            axes[-1].set_ylabel("KL (nats)")
            axes[-1].set_ylim(bottom=min(0.0, *kl))
        axes[-1].set_xlabel("step")

    return svg(draw, 2.0 + 1.3 * panels, "curves", "Scores and KL to the reference against the training step")


def score_against_kl(history: Sequence[Row]) -> str:
    """What the policy gained for how far it moved from the reference; the best held-out point is ringed."""
    lines = [("score", "reward model", AFTER), ("held_out_score", "held-out reward model", THIRD)]
    drawn = [(*series(history, "kl", key), label, colour) for key, label, colour in lines]
    drawn = [line for line in drawn if len(line[0]) > 1]
    if not drawn:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for x, y, label, colour in drawn:
            axes.plot(x, y, color=colour, marker="o", markersize=4, label=label)
        x, y, *_ = drawn[-1]
        best = max(range(len(y)), key=y.__getitem__)
        axes.plot(x[best], y[best], "o", markersize=11, markerfacecolor="none", markeredgecolor=INK, linestyle="none", label="its best")
        axes.set(xlabel="KL to the reference (nats per completion)", ylabel="score")
        legend(figure)

    return svg(draw, 3.2, "kl", "Score against KL to the reference")


def before_and_after(rows: Sequence[MeasureRow], label: str = "toxicity") -> str:
    """Measures on one scale before and after, with intervals; those without an interval are left out."""
    rows = [row for row in rows if row.before.bounded and row.after.bounded]
    if not rows:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for y, row in enumerate(rows):
            for value, offset, colour in ((row.before, -0.14, BEFORE), (row.after, 0.14, AFTER)):
                interval_point(axes, value.estimate, y + offset, bound(value.low), bound(value.high), colour)
        for name, colour in (("before", BEFORE), ("after", AFTER)):
            axes.plot([], [], "o", color=colour, label=name)
        axes.set_yticks(range(len(rows)), [short(row.name) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        axes.set_xlabel(label)
        legend(figure)

    return svg(draw, 1.1 + 0.5 * len(rows), "before-after", f"{label} before and after, with 95 % intervals")
