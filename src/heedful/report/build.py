"""One self-contained HTML page: no network, no scripts, inline figures, light or dark, paper or phone.

Model outputs, prompts and labelers' names are hostile text: the template escapes everything, figures
are the only markup that is let through, and the page forbids scripts by its content security policy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from heedful.maths.statistics import Interval
from heedful.records import write_atomically
from heedful.report import feedback_figures, figures
from heedful.report.data import MeasureRow, ReportData

REWARD_NAMES = {
    "accuracy": "Accuracy on held-out pairs",
    "longer_wins": "Accuracy of choosing the longer one",
    "ece": "Calibration error (ECE)",
    "brier": "Brier score",
    "nll": "Negative log-likelihood (nats)",
    "temperature": "Temperature that calibrates it",
}


def build_report(data: ReportData, path: Path) -> str:
    """Write the page to ``path``, all or nothing, and return its sha256. Raises ``FileProblem`` where it cannot be written."""
    # A model may emit half of a surrogate pair, which UTF-8 cannot hold; "?" stands for it.
    return write_atomically(path, render_report(data).encode("utf-8", "replace"))


def render_report(data: ReportData) -> str:
    """The page as text; the same data gives the same text."""
    plain = data.to_dict()
    page = (
        _environment()
        .get_template("report.html")
        .render(
            data=plain,
            comparison=data.comparison,
            toxicity=data.toxicity,
            figures={name: Markup(svg) for name, svg in _figures(data, plain).items()},
            settings=json.dumps(plain["settings"], indent=2, ensure_ascii=False),
            provenance=flatten(plain["provenance"]),
        )
    )
    return page.strip() + "\n"


def flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Nested mappings as rows ``("models.base", value)``."""
    rows: list[tuple[str, Any]] = []
    for key, value in values.items():
        name = f"{prefix}{key}"
        rows += flatten(value, f"{name}.") if isinstance(value, Mapping) and "estimate" not in value else [(name, value)]
    return rows


def number(value: Any) -> str:
    """Three significant digits for people to read, without exponents where they can be avoided."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if not math.isfinite(value):
        return "–"
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    digits = 3 if value == 0 else max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{digits}f}" if digits <= 6 else f"{value:.2e}"
    return ("0" if value == 0 else text).replace("-", "−")


def percent(value: float) -> str:
    """A fraction as a percentage with its sign."""
    return f"{value:+.1%}".replace("-", "−").replace("%", " %")


def interval(value: Interval | Mapping[str, Any] | None, relative: bool = False) -> str:
    """``0.034 [0.031, 0.037]``; a dash where there is none; the estimate alone where its spread is unknown.

    A percentage is never written without its interval.
    """
    if value is None:
        return "–"
    known = value if isinstance(value, Interval) else Interval.from_dict(value)
    write = percent if relative else number
    if not known.bounded:
        return "–" if relative else write(known.estimate)
    return f"{write(known.estimate)} [{write(known.low)}, {write(known.high)}]"


def shown(value: Any) -> str:
    """Any value of the summary or the provenance as a reader wants to see it."""
    if value is None:
        return "unknown"
    if isinstance(value, Mapping) and value.get("estimate") is not None:
        return interval(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return number(value)


def prompt_text(prompt: Any) -> str:
    """A prompt as text; chat messages become ``role: content`` lines."""
    if isinstance(prompt, list):
        return "\n".join(
            f"{message.get('role', '?')}: {message.get('content', '')}" if isinstance(message, dict) else str(message) for message in prompt
        )
    return str(prompt)


def outcome(row: MeasureRow) -> str:
    """Which way a measure went, in words."""
    if row.higher_is == "neither" or row.difference is None:
        return "–"
    return {"better": "better", "worse": "worse", "unclear": "no clear difference"}[row.outcome]


def plain_numbers(reward: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """The reward model's single numbers, in words where heedful knows them; curves and bins are drawn instead."""
    rows = [(key, value) for key, value in reward.items() if not isinstance(value, list)]
    return [(REWARD_NAMES.get(key, key.replace("_", " ")), value) for key, value in rows]


def labeler_interval(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A labeler's agreement as an interval, or ``None`` where it is unknown."""
    return None if row.get("agreement") is None else {"estimate": row["agreement"], "low": row.get("low"), "high": row.get("high")}


def no_better_than_length(reward: Mapping[str, Any]) -> bool:
    """Whether the interval of the accuracy reaches down to that of choosing the longer completion."""
    accuracy, longer = reward.get("accuracy"), reward.get("longer_wins")
    if not isinstance(accuracy, Mapping) or not isinstance(longer, Mapping):
        return False
    return Interval.from_dict(accuracy).low <= Interval.from_dict(longer).estimate


def _figures(data: ReportData, plain: Mapping[str, Any]) -> dict[str, str]:
    reward = plain["reward"]
    return {
        "labelers": feedback_figures.labeler_agreement(plain["labelers"]),
        "margin": figures.accuracy_by_margin(reward.get("by_margin") or []),
        "reliability": figures.reliability(reward.get("reliability") or []),
        "curves": figures.learning_curves(plain["history"]),
        "kl": figures.score_against_kl(plain["history"]),
        "toxicity": figures.before_and_after(data.toxicity),
    }


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("heedful.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters = [number, interval, shown, prompt_text, outcome, plain_numbers, labeler_interval, no_better_than_length]
    environment.filters.update({function.__name__: function for function in filters})
    return environment
