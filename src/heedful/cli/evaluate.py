"""Two models on the same held-out prompts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heedful.cli.common import AsJson, Quiet, Resume, Set, figures, make_progress, open_run, settings_of, show, table

if TYPE_CHECKING:
    from heedful.jobs.workspace import Source
    from heedful.progress import Progress
    from heedful.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command()(evaluate)


def evaluate(
    what: Annotated[
        Path | None, typer.Argument(metavar="[HEED.TOML|RUN]", help="A settings file, or the folder of a finished run.")
    ] = None,
    after: Annotated[str | None, typer.Option(help="Model folder or hub name; of a run, its policy unless said.")] = None,
    before: Annotated[str | None, typer.Option(help="The model to compare with; model.path unless said.")] = None,
    resume: Resume = False,
    overrides: Set = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Compare two models on held-out prompts: scores, win rate, KL, every difference with its interval."""
    from heedful.errors import SettingProblem
    from heedful.jobs import comparison, data
    from heedful.jobs.workspace import Workspace

    progress = make_progress(quiet)
    chosen = [*(overrides or []), *([f"model.path={before}"] if before is not None else [])]
    settings, source, made = _opened(what, chosen, progress)
    other = after or made
    if other is None:
        raise SettingProblem("there is nothing to compare with: no --after", "Name a model with --after, or the folder of a finished run.")
    comparison.require_finished_reward(settings)
    with open_run(settings.output, settings.model_dump(), "evaluate", resume=resume, progress=progress) as run:
        ws = Workspace(settings, source, run, progress, learns=False)
        ws.stage("prompts", partial(data.load_prompts, needed=("test",)))
        _show(ws.stage("evaluation", partial(comparison.compare_models, after=other), "prompts"), as_json)


def _opened(what: Path | None, overrides: list[str], progress: Progress) -> tuple[Settings, Source, str | None]:
    """The settings, who judges, and what a run made."""
    from heedful.config import require
    from heedful.demo.source import WorldSource
    from heedful.jobs.comparison import FinishedRun, FrozenSource
    from heedful.jobs.sources import FileSource

    if what is None or not what.is_dir():
        settings = settings_of(what, overrides)
        require(settings, "model.path", "prompts.path")
        return settings, FileSource(settings, progress.say), None
    run = FinishedRun(what)
    settings = settings_of(None, overrides, run.defaults())
    judge = WorldSource(settings) if run.record["command"] == "demo" else FileSource(settings, progress.say)
    return settings, FrozenSource(judge, what), run.model


def _show(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        show(figures(found), as_json=True)
        return
    columns = ("before", "after", "difference", "relative")
    rows = [{"measure": row["name"], **{name: row[name] for name in columns}} for row in found["comparison"]]
    table(f"{found['prompts']} prompts, {found['samples_per_prompt']} completions each, 95 % intervals", rows, as_json=False)
    wins = found["win_rate"]
    show({f"win rate, by the {wins['judge']}": {k: wins[k] for k in ("estimate", "low", "high")}, "kl, nats": found["kl"]}, as_json=False)
