"""Looking at data before it is used: prompts and pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from heedful.cli.common import AsJson, Config, Quiet, Set, make_progress, settings_of, show, table


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    for command in (prompts, pairs):
        app.command()(command)


def prompts(config: Config = None, overrides: Set = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Load and split the prompts of the settings, and show what there is."""
    from heedful.config import require
    from heedful.jobs.sources import FileSource
    from heedful.records import plain_text

    settings = settings_of(config, overrides)
    require(settings, "prompts.path")
    rows = [
        {
            "split": split,
            "prompts": len(part),
            "with reference": sum(bool(p.reference) for p in part),
            "mean characters": sum(len(plain_text(p.prompt)) for p in part) / len(part) if part else 0.0,
            "first": plain_text(part[0].prompt)[:60] if part else "",
        }
        for split, part in FileSource(settings, make_progress(quiet).say).prompts().items()
    ]
    table(settings.prompts.path, rows, as_json)


def pairs(path: Annotated[Path, typer.Argument(help="Pairs as JSON lines.")], as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Check a file of pairs: duplicates, contradictions, and whether the longer one simply wins."""
    from heedful.pairs.audit import audit
    from heedful.pairs.load import load_pairs
    from heedful.pairs.snapshot import split_pairs

    found = audit(split_pairs(load_pairs(path, make_progress(quiet).say), 0.2))
    show(found.to_dict(), as_json)
