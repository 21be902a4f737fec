"""Figures of feedback as SVG text, from plain rows, see :mod:`heedful.report.drawing`.

Each function returns an empty string where there is nothing to draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import accumulate
from typing import Any

from heedful.maths.disclosure import SMALLEST, shown_cells
from heedful.report.drawing import AFTER, BEFORE, GRID, INK, THIRD, Row, interval_point, legend, number, short, svg

MOST_LABELERS = 30
PUBLISHED = (0.72, 0.77)
"""How often labelers of published projects agree with each other: Stiennon et al. (2020), appendix C; Ouyang et al. (2022), section 3.4."""
DAYS_IN_BARS = 92
"""Of a longer time each bar is a week."""


def labeler_agreement(labelers: Sequence[Row]) -> str:
    """Each labeler's agreement with the others and its interval, the lowest first, beside what is published; at most 30 labelers.

    Rows are ``{labeler, agreement, low?, high?, judgements?, flagged?}``, agreement in [0, 1]; those who are flagged stand out.
    """
    rows = _lowest_first(labelers, "agreement")

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        _beside_published(axes, len(rows))
        _each_labeler(figure, axes, rows, ("agreement", "low", "high"), "agreement with the consensus of the others")

    return (
        svg(draw, 1.4 + 0.3 * len(rows), "labelers", f"Agreement of {len(rows)} labelers with the others, with intervals") if rows else ""
    )


def labeler_reliability(labelers: Sequence[Row]) -> str:
    """Each labeler's reliability and between what it lies, the lowest first, beside guessing, which is 0; at most 30 labelers.

    Rows are ``{labeler, reliability, reliability_low?, reliability_high?, judgements?, flagged?}``, reliability in [-1, 1].
    """
    rows = _lowest_first(labelers, "reliability")

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.axvline(0, color=INK, linewidth=1, linestyle=":", label="guessing")
        axes.set(xlim=(-1, 1), ylim=(len(rows) - 0.4, -0.6), xticks=(-1, -0.5, 0, 0.5, 1))
        columns = ("reliability", "reliability_low", "reliability_high")
        _each_labeler(figure, axes, rows, columns, "reliability: 1 is always right, below 0 is upside down")

    return svg(draw, 1.4 + 0.3 * len(rows), "reliability", f"Reliability of {len(rows)} labelers, with intervals") if rows else ""


def labeler_times(labelers: Sequence[Row]) -> str:
    """How long a task takes each labeler, the fastest first; at most 30 labelers.

    Rows are ``{labeler, active_s, judgements?, flagged?}``: seconds of active time, the median of their tasks.
    """
    rows = _lowest_first(labelers, "active_s")

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for y, row in enumerate(rows):
            axes.barh(y, row["active_s"], color=THIRD if row.get("flagged") else AFTER, height=0.62)
        if any(row.get("flagged") for row in rows):
            axes.plot([], [], "s", color=THIRD, label="to look at")
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        _name_labelers(figure, axes, rows, "seconds of active time on a task, the median")

    return svg(draw, 1.4 + 0.3 * len(rows), "times", f"Active time on a task of {len(rows)} labelers") if rows else ""


def labeler_rates(labelers: Sequence[Row]) -> str:
    """How often each labeler lets completions share a rank and gives an F, the least often first; at most 30 labelers.

    Rows are ``{labeler, tie_share, f_share, judgements?}``: shares of pairs and of completions, in [0, 1].
    """
    rows = [row for row in _lowest_first(labelers, "tie_share") if number(row.get("f_share")) is not None]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for name, colour, text in (("tie_share", AFTER, "pairs that are tied"), ("f_share", THIRD, "completions that got an F")):
            axes.plot([row[name] for row in rows], range(len(rows)), "o", color=colour, markersize=5, alpha=0.8, label=text, clip_on=False)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlim(left=0)
        _name_labelers(figure, axes, rows, "share")

    return svg(draw, 1.4 + 0.3 * len(rows), "rates", f"Ties and Fs of {len(rows)} labelers") if rows else ""


def group_agreement(rows: Sequence[Row]) -> str:
    """How well labelers agree with each other, all together, by version, within groups, and with themselves, beside what is published.

    Rows are ``{kind, of, decisions, agreement}``, agreement ``{estimate, low, high}`` or ``None``; at most 30, and nothing where
    there is but one. Labelers with themselves stand out: that is no agreement between people, but what it can hardly exceed.
    """
    rows = [r for r in rows if r.get("agreement")][:MOST_LABELERS]
    if len(rows) < 2:
        return ""

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        _beside_published(axes, len(rows))
        for y, row in enumerate(rows):
            found = row["agreement"]
            interval_point(axes, found["estimate"], y, found["low"], found["high"], INK if row.get("kind") == "again" else AFTER)
        axes.set_yticks(range(len(rows)), [f"{short(str(row['of']), 22)} ({row['decisions']})" for row in rows])
        axes.set_xlabel("agreement, two by two, with 95 % intervals\n(shared decisions in brackets)")
        legend(figure)

    return svg(draw, 1.4 + 0.3 * len(rows), "groups", f"Agreement between labelers in {len(rows)} groups, with intervals")


def coverage(rows: Sequence[Row]) -> str:
    """How many people of each group there are, by stratum; groups that are too small to be told are one bar, or none.

    Rows are ``{stratum, group, people}``.
    """
    counts: dict[str, dict[str, int]] = {}
    for row in rows:
        if number(row.get("people")) is not None:
            groups = counts.setdefault(str(row.get("stratum", "")), {})
            groups[str(row.get("group", ""))] = groups.get(str(row.get("group", "")), 0) + int(row["people"])
    strata = [_bars(stratum, groups) for stratum, groups in counts.items()]
    bars = [bar for one in strata for bar in one]
    if not bars:
        return ""
    # Strata stand apart by half a bar.
    places = [y + apart / 2 for y, apart in enumerate(apart for apart, one in enumerate(strata) for _ in one)]

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        for y, (_, people, text, colour) in zip(places, bars, strict=True):
            axes.barh(y, people, color=colour, height=0.62)
            axes.annotate(text, (people, y), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(places, [name for name, *_ in bars])
        axes.set_ylim(places[-1] + 0.6, -0.6)
        axes.set_xlim(0, 1.25 * max(1, *(people for _, people, *_ in bars)))
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"people (groups of fewer than {SMALLEST} are not told)")

    return svg(draw, 0.9 + 0.3 * (places[-1] + 1), "coverage", f"People by group of {len(counts)} strata, small groups hidden")


def consensus_calibration(rows: Sequence[Row]) -> str:
    """The consensus's probability against the share of held-out labelers who agreed; the diagonal is perfect.

    Rows are ``{predicted, observed, low?, high?, n?}``; the area of a point is its share of ``n``.
    """
    points = [r for r in rows if number(r.get("predicted")) is not None and number(r.get("observed")) is not None]
    if not points:
        return ""
    most = max(number(r.get("n")) or 1.0 for r in points)
    ends = (
        [r["predicted"] for r in points] + [r["observed"] for r in points] + [r["low"] for r in points if number(r.get("low")) is not None]
    )
    start = math.floor(10 * min(ends)) / 10

    def draw(figure: Any) -> None:
        axes = figure.subplots()
        axes.plot([start, 1], [start, 1], color=BEFORE, linewidth=1, linestyle="--", label="perfectly calibrated")
        for row in points:
            interval_point(axes, row["predicted"], row["observed"], row.get("low"), row.get("high"), AFTER, vertical=True)
            axes.scatter(
                [row["predicted"]],
                [row["observed"]],
                s=24 + 220 * (number(row.get("n")) or 1.0) / most,
                color=AFTER,
                alpha=0.35,
                linewidth=0,
            )
        axes.plot([], [], "o", color=AFTER, label="held-out labelers, 95 %")
        room = 0.03 * (1 - start) + 0.001
        axes.set(
            xlim=(start - room, 1 + room), ylim=(start - room, 1 + room), xlabel="probability by the consensus", ylabel="share that agreed"
        )
        legend(figure)

    return svg(draw, 3.6, "calibration", "Calibration of the consensus on held-out labelers")


def judgements_over_time(rows: Sequence[Row]) -> str:
    """Judgements per day, or per week of a long time, below how many there were in all.

    Rows are ``{day, judgements}``, the day as ISO 8601 (what follows the date is ignored); days without a row had none.
    """
    by_day: dict[date, float] = {}
    for row in rows:
        day, given = _day(row.get("day")), number(row.get("judgements"))
        if day is not None and given is not None:
            by_day[day] = by_day.get(day, 0.0) + given
    if len(by_day) < 2:
        return ""
    step = 1 if (max(by_day) - min(by_day)).days < DAYS_IN_BARS else 7
    days, counts = _regular(by_day, step)

    def draw(figure: Any) -> None:
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1.4])
        above.plot([*days, days[-1] + timedelta(step)], [0, *accumulate(counts)], color=AFTER)
        above.set_ylabel("judgements in all")
        above.set_ylim(0, 1.05 * sum(counts) or 1)
        below.bar(days, counts, width=0.86 * step, align="edge", color=BEFORE)
        below.set_ylabel("a day" if step == 1 else "a week")
        locator = AutoDateLocator(minticks=3, maxticks=7)
        below.xaxis.set_major_locator(locator)
        below.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        for axes in (above, below):
            axes.yaxis.get_major_locator().set_params(integer=True)
        figure.align_ylabels()

    return svg(draw, 3.4, "time", f"{int(sum(counts))} judgements over {len(days)} {'days' if step == 1 else 'weeks'}")


def _beside_published(axes: Any, rows: int) -> None:
    """Agreement from 0 to 1, a row below the other, with what is published and what guessing reaches."""
    axes.axvspan(*PUBLISHED, color=BEFORE, alpha=0.25, linewidth=0, label="published labelers, 72 to 77 %")
    axes.axvline(0.5, color=INK, linewidth=1, linestyle=":", label="guessing")
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlim(0, 1)


def _lowest_first(labelers: Sequence[Row], what: str) -> list[Row]:
    """The labelers of whom it is known, the lowest first, at most 30."""
    return sorted((row for row in labelers if number(row.get(what)) is not None), key=lambda row: row[what])[:MOST_LABELERS]


def _each_labeler(figure: Any, axes: Any, rows: Sequence[Row], columns: tuple[str, str, str], told: str) -> None:
    """An estimate and its interval, ``columns`` of the rows, of each labeler; ``told`` below."""
    for y, row in enumerate(rows):
        interval_point(axes, row[columns[0]], y, row.get(columns[1]), row.get(columns[2]), THIRD if row.get("flagged") else AFTER)
    if any(row.get("flagged") for row in rows):
        axes.plot([], [], "o", color=THIRD, label="to look at")
    _name_labelers(figure, axes, rows, told)


def _name_labelers(figure: Any, axes: Any, rows: Sequence[Row], told: str) -> None:
    """A name at each row, what is told below, and a legend where something asks for one."""
    axes.set_yticks(range(len(rows)), [_with_count(row) for row in rows])
    counted = "\n(judgements in brackets)" if any(row.get("judgements") is not None for row in rows) else ""
    axes.set_xlabel(f"{told}{counted}")
    if axes.get_legend_handles_labels()[0]:
        legend(figure)


def _with_count(row: Row) -> str:
    given = number(row.get("judgements"))
    return short(str(row.get("labeler", "?")), 22) + ("" if given is None else f" ({int(given)})")


def _bars(stratum: str, groups: dict[str, int]) -> list[tuple[str, int, str, str]]:
    """Name, length, text and colour of each bar of a stratum."""
    cells = shown_cells(groups)
    bars = [(short(f"{stratum}: {group}"), people, str(people), AFTER) for group, people in cells.shown.items()]
    if cells.hidden_groups:
        text = f"fewer than {SMALLEST}" if cells.hidden is None else f"{cells.hidden} together"
        groups_hidden = "1 small group" if cells.hidden_groups == 1 else f"{cells.hidden_groups} groups"
        bars.append((short(f"{stratum}: {groups_hidden}"), cells.hidden or 0, text, GRID))
    return bars


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(str(value)[:10])
    except ValueError:
        return None


def _regular(by_day: dict[date, float], step: int) -> tuple[list[date], list[float]]:
    """Starts of all steps of so many days from the first day on, and the sums in them."""
    first = min(by_day)
    counts = [0.0] * ((max(by_day) - first).days // step + 1)
    for day, given in by_day.items():
        counts[(day - first).days // step] += given
    return [first + timedelta(step * k) for k in range(len(counts))], counts
