"""The command line: one sentence and an exit code for every mistake, JSON for scripts.

0: done. 2: a mistake of the user, told in one sentence on stderr. 1: a mistake of ours.
130: interrupted; what was a run goes on with the same command and --resume.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from heedful import __version__
from heedful.cli import data, evaluate, feedback, label, models, pairs, runs, store
from heedful.cli.interrupt import insistent_ctrl_c
from heedful.errors import HeedfulError

app = typer.Typer(
    name="heed",
    help="Align a language model with what people say about it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
EXTRAS = {
    **dict.fromkeys(("torch", "transformers", "peft", "safetensors", "tokenizers", "datasets", "sklearn", "rouge_score"), "train"),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "argon2", "markdown_it", "nh3", "multipart", "python_multipart"), "label"),
}
"""What comes with heedful[train], and with heedful[label]."""

for group in (runs, data, feedback, pairs, store, label, models, evaluate):
    group.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"heedful {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Align a language model with what people say about it."""


def main() -> None:
    """The ``heed`` command."""
    # Nothing that a library likes to say may come between a user and what was asked for.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    try:
        with insistent_ctrl_c():
            app(standalone_mode=True)
    except HeedfulError as error:
        typer.echo(f"heed: {error}", err=True)
        sys.exit(2)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        typer.echo(
            f"heed: this command needs {error.name}, which is not installed. Install it with: pip install 'heedful[{extra}]'", err=True
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
