"""Looking at data before it is used: prompts and completions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heedful.cli.common import AsJson, Quiet, Set, make_progress, settings_of, show, table

if TYPE_CHECKING:
    from heedful.records import Prompt


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (prompts, completions):
        app.command()(command)


def prompts(
    path: Annotated[Path | None, typer.Argument(metavar="[HEED.TOML|PROMPTS]", help="A settings file, or a file of prompts.")] = None,
    overrides: Set = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Show what is in the prompts: of a settings file, split as it says; of a file of prompts, all of them."""
    from heedful.config import require
    from heedful.jobs.dataset import read_prompts
    from heedful.jobs.sources import FileSource

    say = make_progress(quiet).say
    if path and path.suffix != ".toml":
        table(str(path), [_described("all", read_prompts(path, say))], as_json)
        return
    settings = settings_of(path, overrides)
    require(settings, "prompts.path")
    rows = [_described(split, part) for split, part in FileSource(settings, say).prompts().items()]
    table(settings.prompts.path, rows, as_json)


def completions(
    path: Annotated[Path, typer.Argument(help="Completions as JSON lines, e.g. of heed sample.")], as_json: AsJson = False
) -> None:
    """Show what is in a file of completions, by model: per prompt, cut off, empty, the same, and how long."""
    from heedful.completions.describe import describe_completions
    from heedful.jobs.dataset import read_completions

    for number, row in enumerate(describe_completions(read_completions(path))):
        if number and not as_json:
            typer.echo("")
        show(row, as_json)


def _described(split: str, part: Sequence[Prompt]) -> dict[str, Any]:
    from heedful.prompts.split import normalised_text
    from heedful.records import plain_text

    texts = [plain_text(p.prompt) for p in part]
    return {
        "split": split,
        "prompts": len(part),
        "with reference": sum(bool(p.reference) for p in part),
        "copies": len(part) - len({normalised_text(p.prompt) for p in part}),
        "mean characters": sum(map(len, texts)) / len(part) if part else 0.0,
        "longest": max(map(len, texts), default=0),
        "first": texts[0][:60] if texts else "",
    }
