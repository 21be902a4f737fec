"""What the commands share: settings, runs, progress, and how results are shown."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.progress import Progress
    from heedful.run import Run
    from heedful.settings import Settings

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. --set ppo.kl_coef=0.1; may be given often.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print results as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in the output folder.")]
Config = Annotated[Path | None, typer.Argument(metavar="[HEED.TOML]", help="A settings file; see heed init.")]

MAY_DIFFER = ("ppo.max_steps", "grpo.max_steps", "model.device", "model.micro_batch_tokens", "output")


def make_progress(quiet: bool) -> Progress:
    """A bar on a terminal, lines elsewhere, or nothing."""
    from heedful.progress import RichProgress, SilentProgress

    return SilentProgress() if quiet else RichProgress()


def warn(sentence: str) -> None:
    """Say on stderr what somebody should know, and go on."""
    typer.echo(f"heed: warning: {sentence}", err=True)


def settings_of(path: Path | None, overrides: Sequence[str] | None, defaults: Mapping[str, Any] | None = None) -> Settings:
    """Settings from a file and ``--set``; without a file, ``heed.toml`` of this folder where there is one."""
    from heedful.config import load_settings

    here = Path("heed.toml")
    return load_settings(path or (here if here.exists() and defaults is None else None), overrides or [], defaults)


@contextmanager
def open_run(folder: str | Path, settings: Mapping[str, Any], command: str, *, resume: bool, progress: Progress) -> Iterator[Run]:
    """The run in a folder, for writing; where it is left half-way, the user can go on with it or use the folder again."""
    from heedful.run import Run

    quiet_libraries()
    with Run.create(Path(folder), settings, command, resume=resume, may_differ=MAY_DIFFER, warn=progress.say) as run:
        try:
            yield run
        except HeedfulError:
            run.forget_if_nothing_was_done()  # so that the folder can be used again once the mistake is mended
            raise
        except KeyboardInterrupt:
            typer.echo("heed: interrupted; what was done is kept, and the same command with --resume goes on.", err=True)
            raise


def quiet_libraries() -> None:
    """Libraries warn about what a user of heedful cannot change."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"(torch|transformers|peft)\..*")


def show(result: Mapping[str, Any], as_json: bool) -> None:
    """Results as one JSON line, or as lines of ``name  value``."""
    if as_json:
        typer.echo(json.dumps(result))
        return
    width = max((len(name) for name in result), default=0)
    for name, value in result.items():
        typer.echo(f"{name:<{width}}  {shown(value)}")


def shown(value: Any) -> str:
    """A value for people: few digits, intervals as such."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping) and {"estimate", "low"} <= value.keys():
        return f"{shown(value.get('estimate'))} [{shown(value['low'])}, {shown(value['high'])}]"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {shown(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(shown(v) for v in value) or "none"
    return "unknown" if value is None else str(value)


def figures(result: Mapping[str, Any], *others: str) -> dict[str, Any]:
    """What a stage returned, without the line that it has said already and without ``others``."""
    return {name: value for name, value in result.items() if name not in ("line", *others)}


def table(title: str, rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Rows as a table on a terminal's width, or as JSON lines."""
    if as_json:
        for row in rows:
            typer.echo(json.dumps(row))
        return
    from rich.console import Console
    from rich.table import Table

    drawn = Table(title=title, title_justify="left")
    for name in rows[0] if rows else []:
        drawn.add_column(name, overflow="fold", min_width=max(map(len, name.split())))
    for row in rows:
        drawn.add_row(*[shown(value) for value in row.values()])
    Console().print(drawn)
