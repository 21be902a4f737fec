"""From how many tasks on are the demo's two bad labelers flagged? Its own prompts, completions and labelers; nothing is trained.

python benchmarks/demo_labelers.py            # seeds 0 to 9

Somebody looks after every task, everybody having as many.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from heedful.cli.common import open_run, settings_of
from heedful.demo.build import shipped_model
from heedful.demo.settings import demo_settings
from heedful.demo.source import WorldSource
from heedful.feedback.criteria import criterion_named
from heedful.feedback.labelers import FLAGGED, labeler_reports
from heedful.feedback.said import words_of
from heedful.jobs import data
from heedful.jobs.workspace import Workspace
from heedful.progress import SilentProgress
from heedful.records import Ranking

BAD = ("rory", "uma")
LAST = 40
"""Tasks of each labeler at the last look."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    found = [looks(*judged(seed)) for seed in range(given.seeds)]
    columns = {
        "rory (guesses): flagged": [since(verdicts["rory"], FLAGGED) for verdicts in found],
        "uma (upside down): flagged": [since(verdicts["uma"], FLAGGED) for verdicts in found],
        "uma: named so": [since(verdicts["uma"], ("upside_down",)) for verdicts in found],
    }
    alarms = sum(bool(set(seen) & set(FLAGGED)) for verdicts in found for name, seen in verdicts.items() if name not in BAD)
    print(f"| seeds | {' | '.join(columns)} | good labelers flagged at any look |")
    print("|---|---|---|---|---|")
    print(f"| {given.seeds} | {' | '.join(map(after, columns.values()))} | {alarms} of {4 * given.seeds} |")


def judged(seed: int) -> tuple[list[Ranking], dict[str, int]]:
    """What the demo's labelers say, in the order of its prompts; and how many words each completion has."""
    progress = SilentProgress()
    with tempfile.TemporaryDirectory() as folder:
        defaults = {**demo_settings(str(shipped_model("causal")), "causal"), "seed": seed, "output": str(Path(folder) / "demo")}
        settings = settings_of(None, None, defaults)
        with open_run(settings.output, settings.model_dump(), "demo", resume=False, progress=progress) as run:
            ws = Workspace(settings, WorldSource(settings), run, progress)
            ws.stage("prompts", data.load_prompts)
            ws.stage("completions", data.sample, "prompts")
            completions = ws.completions()
            return ws.source.rankings(ws.prompts("train"), completions), words_of(completions)


def looks(rankings: Sequence[Ranking], words: Mapping[str, int]) -> dict[str, list[str]]:
    """The verdicts on each labeler when everybody has had one task, two, and so on."""
    prompts = list(dict.fromkeys(row.prompt_id for row in rankings))
    per_task = len({row.labeler for row in rankings}) * len(prompts) / len(rankings)
    found: dict[str, list[str]] = {row.labeler: [] for row in rankings}
    for tasks in range(1, LAST + 1):
        asked = set(prompts[: round(tasks * per_task)])
        rows = [row for row in rankings if row.prompt_id in asked]
        verdicts = {one.labeler: one.verdict for one in labeler_reports(rows, criterion_named(rows[0].criterion), words=words)}
        for name, seen in found.items():
            seen.append(verdicts.get(name, "unsure"))
    return found


def since(seen: Sequence[str], verdicts: Collection[str]) -> int:
    """The number of tasks from which on the verdict was always one of these."""
    return max((tasks for tasks, verdict in enumerate(seen, 1) if verdict not in verdicts), default=0) + 1


def after(tasks: Sequence[int]) -> str:
    """Median, least and most of some numbers of tasks."""
    return f"from {statistics.median(tasks):g} tasks on ({min(tasks)} to {max(tasks)})"


if __name__ == "__main__":
    main()
