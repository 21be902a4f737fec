"""After how many tasks are the demo's two bad labelers flagged? Its own prompts, completions and labelers; nothing is trained.

python benchmarks/demo_labelers.py            # seeds 0 to 9

Somebody looks after every task, everybody having as many.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from heedful.cli.common import open_run, settings_of
from heedful.demo.build import shipped_model
from heedful.demo.settings import demo_settings
from heedful.demo.source import WorldSource
from heedful.feedback.criteria import criterion_named
from heedful.feedback.labelers import flagged, labeler_reports
from heedful.feedback.said import words_of
from heedful.jobs import data
from heedful.jobs.workspace import Workspace
from heedful.progress import SilentProgress
from heedful.records import Ranking

BAD = ("rory", "uma")
"""Who guesses, and who reads the scale upside down."""
LAST = 40
"""Tasks of each labeler at the last look."""

Flagged = Callable[[Sequence[Ranking], Mapping[str, int]], list[str]]
"""Who is flagged, by rankings and by how many words each completion has."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    found = [first_looks(*judged(seed), by_today) for seed in range(given.seeds)]
    print("| seeds | rory (guesses) flagged after | uma (upside down) flagged after | good labelers ever flagged |")
    print("|---|---|---|---|")
    print(f"| {given.seeds} | {' | '.join(row_of(found))} |")


def judged(seed: int) -> tuple[list[Ranking], dict[str, int]]:
    """What the demo's labelers say, in the order of its prompts; and how many words each completion has."""
    progress = SilentProgress()
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "demo"
        defaults = {**demo_settings(str(shipped_model("causal")), "causal"), "seed": seed, "output": str(output)}
        settings = settings_of(None, None, defaults)
        with open_run(settings, "demo", resume=False, progress=progress) as run:
            ws = Workspace(settings, WorldSource(settings), run, progress)
            ws.stage("prompts", data.load_prompts)
            ws.stage("completions", data.sample, "prompts")
            completions = ws.completions()
            return ws.source.rankings(ws.prompts("train"), completions), words_of(completions)


def by_today(rankings: Sequence[Ranking], words: Mapping[str, int]) -> list[str]:
    """The labelers whom a report flags."""
    return flagged(labeler_reports(rankings, criterion_named(rankings[0].criterion), words=words))


def first_looks(rankings: Sequence[Ranking], words: Mapping[str, int], rule: Flagged) -> dict[str, int]:
    """The number of tasks after which each labeler is flagged for the first time; nothing of those who never are."""
    found: dict[str, int] = {}
    for tasks, rows in enumerate(looks(rankings), 1):
        for name in rule(rows, words):
            found.setdefault(name, tasks)
    return found


def looks(rankings: Sequence[Ranking]) -> Iterator[list[Ranking]]:
    """What has been said when everybody has had one task, two, and so on."""
    prompts = list(dict.fromkeys(row.prompt_id for row in rankings))
    per_prompt, labelers = len(rankings) / len(prompts), len({row.labeler for row in rankings})
    for tasks in range(1, LAST + 1):
        judged_by_then = set(prompts[: round(tasks * labelers / per_prompt)])
        yield [row for row in rankings if row.prompt_id in judged_by_then]


def row_of(found: Sequence[Mapping[str, int]]) -> list[str]:
    """The cells of a row."""
    good = sum(name not in BAD for one in found for name in one)
    return [*(after([one.get(name, LAST + 1) for one in found]) for name in BAD), f"{good} of {4 * len(found)}"]


def after(tasks: Sequence[int]) -> str:
    """Median, least and most of some numbers of tasks."""
    return f"{statistics.median(tasks):g} tasks ({min(tasks)} to {max(tasks)})"


if __name__ == "__main__":
    main()
