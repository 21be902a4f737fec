"""Whole runs: the built-in demo, the user's own, and what one looks at before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from heedful.cli.common import AsJson, Config, Quiet, Resume, Set, make_progress, open_run, settings_of, show

OUTCOME = (
    "toxicity_before",
    "toxicity_after",
    "toxicity_difference_ci",
    "task_before",
    "task_after",
    "kl",
    "win_rate",
    "stopped_by",
    "steps",
    "seconds",
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (demo, init, run, report, doctor):
        app.command()(command)


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")] = Path("runs/demo"),
    architecture: Annotated[
        Literal["causal", "t5"], typer.Option(help="The tiny model: a causal transformer or an encoder-decoder.")
    ] = "causal",
    seed: Annotated[int, typer.Option(help="Decides the world, the labelers' errors and every draw.")] = 0,
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Train the instruct model first instead of taking the shipped one.")
    ] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Every stage in reduced size: to see that it works, not to prove anything.")
    ] = False,
    resume: Resume = False,
    overrides: Set = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole life cycle in the built-in world, offline: prompts to an aligned model and a report."""
    from heedful.demo.build import shipped_model, train_instruct
    from heedful.demo.settings import ARCHITECTURE_NAMES, demo_settings
    from heedful.demo.source import WorldSource
    from heedful.lifecycle import align

    progress, name = make_progress(quiet), ARCHITECTURE_NAMES[architecture]
    model = output.with_name(f"{output.name}-instruct") if from_scratch else shipped_model(name)
    defaults = {**demo_settings(str(model), name, quick=quick), "seed": seed, "output": str(output)}
    settings = settings_of(None, overrides, defaults)
    with open_run(settings.output, settings.model_dump(), "demo", resume=resume, progress=progress) as current:
        if from_scratch:  # under the run's lock: two processes must not train in the same folder
            train_instruct(name, model, progress, seed)
        finish(align(settings, WorldSource(settings), current, progress), as_json)


def init(path: Annotated[Path, typer.Argument(help="Where to write the settings.")] = Path("heed.toml")) -> None:
    """Write a settings file with every setting, its default and a sentence about it."""
    from heedful.config import describe_settings
    from heedful.errors import FileProblem
    from heedful.records import write_atomically

    if path.exists():
        raise FileProblem(f"{path} exists already", "Choose another name, or remove it first.")
    write_atomically(path, describe_settings().encode())
    typer.echo(f"Wrote {path}. Set model.path, prompts.path and the reward, then: heed run {path}")


def run(config: Config = None, resume: Resume = False, overrides: Set = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Run the whole life cycle on your own model, prompts and reward."""
    from heedful.config import require_complete
    from heedful.jobs.sources import FileSource
    from heedful.lifecycle import align

    settings, progress = settings_of(config, overrides), make_progress(quiet)
    require_complete(settings)
    with open_run(settings.output, settings.model_dump(), "run", resume=resume, progress=progress) as current:
        finish(align(settings, FileSource(settings, progress.say), current, progress), as_json)


def finish(summary: dict[str, object], as_json: bool) -> None:
    """The verdict in a paragraph and the figures that matter most, or all of them as JSON."""
    if as_json:
        show({name: value for name, value in summary.items() if name != "verdict"}, as_json=True)
        return
    typer.echo(f"\n{summary['verdict']}\n")
    show({name: summary[name] for name in OUTCOME if summary.get(name) is not None}, as_json=False)
    typer.echo(f"\nReport: {summary['report']}")


def report(folder: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Build report.html again from a run's figures."""
    from heedful.report.build import build_report
    from heedful.report.data import ReportData

    build_report(ReportData.load(folder / "report.json"), folder / "report.html")
    typer.echo(f"Wrote {folder / 'report.html'}")


def doctor(as_json: AsJson = False) -> None:
    """What this machine and this installation have, and what is missing."""
    import importlib.util
    import os
    import platform
    import shutil

    from heedful.run import versions

    found: dict[str, object] = {"python": platform.python_version(), "platform": platform.platform(), "cores": os.cpu_count(), **versions()}
    found["free_disk_gib"] = round(shutil.disk_usage(".").free / 2**30, 1)
    if importlib.util.find_spec("torch") is None:
        found["training"] = "not installed: pip install 'heedful[train]'"
    else:
        import torch

        found["training"] = "ready"
        found["threads"] = torch.get_num_threads()
        found["gpu"] = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    show(found, as_json)
