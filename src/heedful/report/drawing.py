"""How figures are drawn: SVG text for inlining into a page, the same for the same data, light or dark.

Colours become CSS variables and ``currentColor`` so that one figure serves both themes; text stays
text. Drawn with matplotlib's objects, never with pyplot's global state.
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

Row = Mapping[str, Any]
WIDTH = 5.6  # inches; at 72 units an inch text of 10 stays legible on a phone and is not huge on a desk

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


def interval_point(axes: Any, x: float, y: float, low: Any, high: Any, colour: str, vertical: bool = False) -> None:
    """A dot, and a line from ``low`` to ``high`` where both are known."""
    if number(low) is not None and number(high) is not None:
        span = ([x, x], [low, high]) if vertical else ([low, high], [y, y])
        axes.plot(*span, color=colour, linewidth=2.2, solid_capstyle="round", alpha=0.55)
    axes.plot([x], [y], "o", color=colour, markersize=5)


def legend(figure: Any) -> None:
    """Above the axes, where it never covers data."""
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.4, columnspacing=1.2, borderpad=0)


def svg(draw: Callable[[Any], None], height: float, name: str, label: str) -> str:
    """What ``draw`` puts on a figure of this height (inches) as SVG text; ``name`` is unique on a page, ``label`` says what is seen."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        # Names may be written in a script whose glyphs matplotlib lacks; the reader's browser has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        FigureCanvasSVG(figure)
        draw(figure)
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    return _for_the_page(buffer.getvalue(), name, label)


def _for_the_page(text: str, name: str, label: str) -> str:
    """Drop what only a file needs, put in the page's colours, and make ids unique on the page."""
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    text = text.replace("url(#", f"url(#{name}-")
    for drawn, themed in THEME.items():
        text = text.replace(drawn, themed)
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(label)}" ', 1)


def series(history: Sequence[Row], x: str, y: str) -> tuple[list[float], list[float]]:
    """Two columns of the rows in which both are numbers."""
    rows = [(row[x], row[y]) for row in history if number(row.get(x)) is not None and number(row.get(y)) is not None]
    return [float(a) for a, _ in rows], [float(b) for _, b in rows]


def number(value: Any) -> float | None:
    """A finite number, or ``None``."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def bound(value: float) -> float | None:
    """A finite end of an interval, or ``None``."""
    return value if math.isfinite(value) else None


def short(text: str, longest: int = 26) -> str:
    """A name, cut where it would not fit."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
