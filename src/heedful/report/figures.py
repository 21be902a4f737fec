"""Figures as SVG text: for inlining into a page, the same for the same data, light or dark.

Colours become CSS variables and ``currentColor`` so that one figure serves both themes; text stays
text. Drawn with matplotlib's objects, never with pyplot's global state. Each function returns an
empty string where there is nothing to draw.
"""

from __future__ import annotations

import html
import io
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from heedful.report.data import MeasureRow

Row = Mapping[str, Any]
WIDTH = 5.6  # inches; at 72 units an inch text of 10 stays legible on a phone and is not huge on a desk
MOST_LABELERS = 30

# Drawn with these colours, which then become the page's own; the fallback serves a figure on its own.
INK, GRID, BEFORE, AFTER, THIRD = "#010203", "#c0c1c2", "#868e9a", "#2f7ed8", "#d97a1f"
THEME = {
    INK: "currentColor",
    GRID: f"var(--grid, {GRID})",
    BEFORE: f"var(--before, {BEFORE})",
    AFTER: f"var(--after, {AFTER})",
    THIRD: f"var(--third, {THIRD})",
}
STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a labeler called "$x" is a name, not a formula
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.edgecolor": GRID,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.5,
    "grid.alpha": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "savefig.transparent": True,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), GRID),
}


def labeler_agreement(labelers: Sequence[Row]) -> str:
    """Each labeler's agreement with the consensus and its interval, the lowest first; at most 30 labelers."""
    rows = sorted((r for r in labelers if _number(r.get("agreement")) is not None), key=lambda r: r["agreement"])[:MOST_LABELERS]
    if not rows:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for y, row in enumerate(rows):
            _interval_point(axes, row["agreement"], y, row.get("low"), row.get("high"), THIRD if row.get("note") else AFTER)
        axes.set_yticks(range(len(rows)), [_short(str(row.get("labeler", "?"))) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_xlabel("agreement with the consensus of the others")

    return _svg(draw, 0.9 + 0.3 * len(rows), "labelers", f"Agreement of {len(rows)} labelers with the others, with intervals")


def accuracy_by_margin(rows: Sequence[Row]) -> str:
    """Reward-model accuracy per bin of margin beside "the longer one wins" on the same pairs."""
    rows = [r for r in rows if _number(r.get("accuracy")) is not None]
    if not rows:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.axhline(0.5, color=GRID, linewidth=1, linestyle=":")
        for x, row in enumerate(rows):
            _interval_point(axes, x - 0.08, row["accuracy"], row.get("low"), row.get("high"), AFTER, vertical=True)
        longer = [(x + 0.08, row["longer_wins"]) for x, row in enumerate(rows) if _number(row.get("longer_wins")) is not None]
        axes.plot([], [], "o", color=AFTER, label="reward model")
        axes.plot([x for x, _ in longer], [y for _, y in longer], "D", color=BEFORE, markersize=5, label="the longer one wins")
        counts = [f"\n{row['n']} pairs" if row.get("n") is not None else "" for row in rows]
        axes.set_xticks(range(len(rows)), [_short(str(row.get("margin", ""))) + count for row, count in zip(rows, counts, strict=True)])
        axes.set_xlim(-0.6, len(rows) - 0.4)
        axes.set_ylim(min(0.4, *(0.95 * y for _, y in longer), *(0.95 * r["accuracy"] for r in rows)), 1.02)
        axes.set_xlabel("margin between the two scores")
        axes.set_ylabel("accuracy")
        _legend(figure)

    return _svg(draw, 3.1, "margin", "Accuracy of the reward model by margin, beside choosing the longer completion")


def reliability(rows: Sequence[Row]) -> str:
    """The reward model's stated probability against the share that came true; the diagonal is perfect."""
    points = [
        (r["predicted"], r["observed"]) for r in rows if _number(r.get("predicted")) is not None and _number(r.get("observed")) is not None
    ]
    if not points:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0, 1], color=BEFORE, linewidth=1, linestyle="--", label="perfectly calibrated")
        axes.plot(*zip(*points, strict=True), "o-", color=AFTER, markersize=5, label="reward model")
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="stated probability", ylabel="share that came true")
        _legend(figure)

    return _svg(draw, 3.4, "reliability", "Reliability curve of the reward model")


def learning_curves(history: Sequence[Row]) -> str:
    """Score on training prompts, score of the held-out reward model, and KL below, against the step."""
    lines = [
        ("train_score", "on training prompts", BEFORE),
        ("score", "reward model", AFTER),
        ("held_out_score", "held-out reward model", THIRD),
    ]
    drawn = [(*_series(history, "step", key), label, colour) for key, label, colour in lines]
    drawn = [line for line in drawn if len(line[0]) > 1]
    steps, kl = _series(history, "step", "kl")
    panels = bool(drawn) + (len(steps) > 1)
    if not panels:
        return ""

    def draw(figure: Any) -> None:
        axes = list(figure.subplots(panels, 1, sharex=True, squeeze=False, height_ratios=[2, 1][:panels])[:, 0])
        for x, y, label, colour in drawn:
            axes[0].plot(x, y, color=colour, label=label, marker="o", markersize=3)
        if drawn:
            axes[0].set_ylabel("score")
            _legend(figure)
        if len(steps) > 1:
            axes[-1].plot(steps, kl, color=INK, marker="o", markersize=3)
            axes[-1].set_ylabel("KL (nats)")
            axes[-1].set_ylim(bottom=min(0.0, *kl))
        axes[-1].set_xlabel("step")

    return _svg(draw, 2.0 + 1.3 * panels, "curves", "Scores and KL to the reference against the training step")


def score_against_kl(history: Sequence[Row]) -> str:
    """What the policy gained for how far it moved from the reference; the best held-out point is ringed."""
    lines = [("score", "reward model", AFTER), ("held_out_score", "held-out reward model", THIRD)]
    drawn = [(*_series(history, "kl", key), label, colour) for key, label, colour in lines]
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
        _legend(figure)

    return _svg(draw, 3.2, "kl", "Score against KL to the reference")


def before_and_after(rows: Sequence[MeasureRow], label: str = "toxicity") -> str:
    """Measures on one scale before and after, with intervals; those without an interval are left out."""
    rows = [row for row in rows if row.before.bounded and row.after.bounded]
    if not rows:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for y, row in enumerate(rows):
            for value, offset, colour in ((row.before, -0.14, BEFORE), (row.after, 0.14, AFTER)):
                _interval_point(axes, value.estimate, y + offset, _bound(value.low), _bound(value.high), colour)
        for name, colour in (("before", BEFORE), ("after", AFTER)):
            axes.plot([], [], "o", color=colour, label=name)
        axes.set_yticks(range(len(rows)), [_short(row.name) for row in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_xlim(left=min(0.0, axes.get_xlim()[0]))
        axes.set_xlabel(label)
        _legend(figure)

    return _svg(draw, 1.1 + 0.5 * len(rows), "before-after", f"{label} before and after, with 95 % intervals")


def _interval_point(axes: Any, x: float, y: float, low: Any, high: Any, colour: str, vertical: bool = False) -> None:
    """A dot, and a line from ``low`` to ``high`` where both are known."""
    if _number(low) is not None and _number(high) is not None:
        span = ([x, x], [low, high]) if vertical else ([low, high], [y, y])
        axes.plot(*span, color=colour, linewidth=2.2, solid_capstyle="round", alpha=0.55)
    axes.plot([x], [y], "o", color=colour, markersize=5)


def _legend(figure: Any) -> None:
    """Above the axes, where it never covers data."""
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.2, borderpad=0)


def _svg(draw: Callable[[Any], None], height: float, name: str, label: str) -> str:
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Names may be written in a script whose glyphs matplotlib lacks; the reader's browser has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _for_the_page(buffer.getvalue(), name, label)


def _for_the_page(svg: str, name: str, label: str) -> str:
    """Drop what only a file needs, put in the page's colours, and make ids unique on the page."""
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-")
    for drawn, themed in THEME.items():
        svg = svg.replace(drawn, themed)
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)


def _series(history: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    rows = [(row[x], row[y]) for row in history if _number(row.get(x)) is not None and _number(row.get(y)) is not None]
    return [float(a) for a, _ in rows], [float(b) for _, b in rows]


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _bound(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _short(text: str, longest: int = 26) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"
