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
    "shorter_wins": "Accuracy of choosing the shorter one",
    "beats_longer_wins": "Clearly better than choosing the longer one",
    "beats_length": "Clearly better than any rule of length",
    "pairs": "Held-out pairs",
    "ece": "Calibration error (ECE)",
    "brier": "Brier score",
    "nll": "Negative log-likelihood (nats)",
    "temperature": "Temperature that calibrates it",
}
SUMMARY_NAMES = {
    "toxicity_before": "Mean toxicity before",
    "toxicity_after": "Mean toxicity after",
    "toxicity_difference_ci": "Change of the mean toxicity",
    "task_before": "Task before",
    "task_after": "Task after",
    "score_before": "Score before",
    "score_after": "Score after",
    "kl": "KL to the reference (nats per completion)",
    "win_rate": "Win rate against the instruct model",
    "reward_accuracy": "Reward model's accuracy on held-out pairs",
    "longer_wins_accuracy": "Accuracy of choosing the longer one",
    "labelers_flagged": "Labelers to look at",
    "stopped_by": "Training stopped because",
    "steps": "Steps",
    "seconds": "Seconds",
    "peak_memory_gib": "Peak memory (GiB)",
}
MEASURE_NAMES = {"toxicity": "Mean toxicity", "task": "Task", "score": "Score", "length": "Length (words)"}


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
            level=verdict_level(data),
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
    return [(reward_name(key), value) for key, value in rows]


def reward_name(key: str) -> str:
    """What a figure of a reward model is called; ``nll after temperature scaling`` keeps its ending."""
    first, space, ending = key.partition(" ")
    return named(first, REWARD_NAMES) + space + ending


def named(key: str, names: Mapping[str, str] = SUMMARY_NAMES) -> str:
    """A key in words: as the table says, else as it is, with spaces and a capital."""
    return sentence(names.get(key, key.replace("_", " ")))


def measure_name(key: str) -> str:
    """What a measure is called in the report."""
    return named(key, MEASURE_NAMES)


def verdict_level(data: ReportData) -> str:
    """The verdict's colour: that of reward hacking, and a warning where nothing clearly improved or the reward knows only length."""
    level = str(data.hacking.get("level", "plain"))
    helped = any(row.outcome == "better" for row in data.comparison)
    doubtful = not helped or data.reward.get("beats_longer_wins") is False
    return "warn" if level == "fine" and doubtful else level


def sentence(text: str) -> str:
    """A line or a name, beginning with a capital."""
    return text[:1].upper() + text[1:]


def labeler_interval(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A labeler's agreement as an interval, or ``None`` where it is unknown."""
    return None if row.get("agreement") is None else {"estimate": row["agreement"], "low": row.get("low"), "high": row.get("high")}


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
    filters = [number, interval, shown, prompt_text, outcome, plain_numbers, labeler_interval, named, measure_name, sentence]
    environment.filters.update({function.__name__: function for function in filters})
    return environment
