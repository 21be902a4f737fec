"""heed pairs: look at pairs, turn them from one format into another, build and describe a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from heedful.cli.common import AsJson, Quiet, make_progress, show

if TYPE_CHECKING:
    from heedful.feedback.criteria import Criterion as Judged

FORMATS = "trl, trl-unpaired, trl-sft, hh, rankings, openai, openassistant, argilla, label-studio"
Criterion = Annotated[str, typer.Option("--criterion", help="What was judged: a built-in criterion or a name of your own.")]
HigherIs = Annotated[
    Literal["better", "worse"] | None, typer.Option("--higher-is", help="Whether more of your own criterion is better or worse.")
]
Columns = Annotated[
    list[str] | None, typer.Option("--column", metavar="OURS=THEIRS", help="A column of another name, e.g. --column prompt=question.")
]
Flags = Annotated[bool, typer.Option("--flags/--no-flags", help="Whether an F is below every rank, or counts for nothing.")]
Ties = Annotated[bool, typer.Option("--ties", help="Also pairs of which neither is preferred, with p 0.5.")]
Corrections = Annotated[
    bool, typer.Option("--corrections/--no-corrections", help="Whether a correction is preferred to what it corrects, or makes no pair.")
]

pairs = typer.Typer(name="pairs", help="Pairs: check, convert, build, card.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(pairs)


@pairs.command()
def check(
    path: Annotated[Path, typer.Argument(help="Pairs (.jsonl, .json, .csv or .parquet), or the folder of a snapshot.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Check a file of pairs: duplicates, contradictions, leaks between splits, and whether the longer one simply wins."""
    from heedful.pairs.audit import audit, sentences
    from heedful.pairs.load import load_pairs
    from heedful.pairs.snapshot import open_snapshot, split_pairs

    say = make_progress(quiet).say
    found = audit(open_snapshot(path).pairs if path.is_dir() else split_pairs(load_pairs(path, say), 0.2))
    if as_json:
        show(found.to_dict(), as_json=True)
    else:
        typer.echo("\n".join(sentences(found)))


@pairs.command()
def convert(
    source: Annotated[Path, typer.Argument(help="What to read: .jsonl, .json, .csv (each also with .gz) or .parquet.")],
    target: Annotated[Path, typer.Argument(help="What to write; its ending decides the kind of file.")],
    from_name: Annotated[str, typer.Option("--from", help=f"The format that is read: {FORMATS}.")],
    to_name: Annotated[str, typer.Option("--to", help="The format that is written.")],
    criterion: Criterion = "helpfulness",
    higher_is: HigherIs = None,
    style: Annotated[
        Literal["standard", "conversational"] | None,
        typer.Option("--style", help="For trl: texts or chat messages; by default as the first prompt."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="For trl: the trainer's own columns and no others.")] = False,
    flags: Flags = True,
    ties: Ties = False,
    corrections: Corrections = True,
    columns: Columns = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Turn preferences from one format into another, one row at a time."""
    from heedful.checkpoints import file_sha256
    from heedful.pairs.convert import Choices
    from heedful.pairs.convert import convert as run

    say = make_progress(quiet).say
    choices = Choices(criterion_of(criterion, higher_is), style, strict, flags, ties, corrections, named(columns), say)
    rows = run(source, target, from_name, to_name, choices)
    show({"rows": rows, "file": str(target), "sha256": file_sha256(target)}, as_json)


@pairs.command()
def build(
    rankings: Annotated[Path, typer.Argument(help="Judgements: rankings, thumbs or corrections, e.g. as JSON lines.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the snapshot.")],
    prompts: Annotated[Path | None, typer.Option(help="The prompts, unless the judgements hold them.")] = None,
    completions: Annotated[Path | None, typer.Option(help="The completions, unless the judgements hold them.")] = None,
    from_name: Annotated[
        str, typer.Option("--from", help="The format of the judgements: rankings, openai, openassistant, argilla or label-studio.")
    ] = "rankings",
    criterion: Criterion = "helpfulness",
    higher_is: HigherIs = None,
    method: Annotated[
        Literal["auto", "consensus", "votes"],
        typer.Option(
            help="Where p comes from. auto: the consensus, by its model or, where there is too little for it, by the majority; "
            "consensus: by its model in any case; votes: the share of votes."
        ),
    ] = "auto",
    flags: Flags = True,
    ties: Ties = False,
    corrections: Corrections = True,
    held_out: Annotated[float, typer.Option(min=0.001, max=0.9, help="Share of prompts that are held out.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Decides which.")] = 0,
    columns: Columns = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Build pairs from judgements, audit them, and freeze them in a hashed snapshot, split by prompt."""
    from heedful.jobs.dataset import build_dataset
    from heedful.pairs.convert import Choices

    judged = criterion_of(criterion, higher_is)
    choices = Choices(judged, flags=flags, ties=ties, corrections=corrections, columns=named(columns), say=make_progress(quiet).say)
    texts = {"prompts": prompts, "completions": completions}
    found = build_dataset(rankings, output, choices, judged, from_name=from_name, **texts, method=method, held_out=held_out, seed=seed)
    said = found.pop("said")
    if as_json:
        show(found, as_json=True)
        return
    typer.echo("\n".join(said))
    show({name: found[name] for name in ("for_review", "snapshot", "folder")}, as_json=False)


@pairs.command()
def card(
    folder: Annotated[Path, typer.Argument(help="Folder of a snapshot.")],
    title: Annotated[str, typer.Option(help="Name of the data set.")] = "Preferences",
    rankings: Annotated[Path | None, typer.Option(help="The rankings that the pairs were made from, for counts and agreement.")] = None,
    labelers: Annotated[Path | None, typer.Option(help="Who judged: JSON lines of name, kind and strata.")] = None,
    instructions: Annotated[list[Path] | None, typer.Option(help="A text that labelers had read; may be given often.")] = None,
    language: Annotated[list[str] | None, typer.Option(help="Language of the texts, e.g. en; may be given often.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write the data set's card (README.md) into a snapshot's folder; the licence is left to you."""
    from heedful.jobs.dataset import describe_dataset

    say = make_progress(quiet).say
    path = describe_dataset(
        folder, title, rankings=rankings, labelers=labelers, instructions=instructions or (), languages=language or (), say=say
    )
    show({"file": str(path)}, as_json)


def criterion_of(name: str, higher_is: Literal["better", "worse"] | None) -> Judged:
    """A built-in criterion, which has its direction, or one of the user's own, which needs it."""
    from heedful.errors import SettingProblem, nearest
    from heedful.feedback.criteria import CRITERIA, refuse_turned
    from heedful.feedback.criteria import Criterion as Judged

    if higher_is:
        refuse_turned(name, higher_is)
    if name in CRITERIA:
        return CRITERIA[name]
    if not higher_is:
        raise SettingProblem(
            f"there is no built-in criterion {name!r}.{nearest(name, CRITERIA)}",
            f"Choose one of {', '.join(CRITERIA)}, or say --higher-is better or worse for your own.",
        )
    return Judged(name, f"Which completion holds most {name}?", higher_is)


def named(columns: list[str] | None) -> dict[str, Any]:
    """``["prompt=question"]`` as a mapping."""
    from heedful.errors import SettingProblem

    found = dict(column.partition("=")[::2] for column in columns or [])
    if wrong := [name for name, theirs in found.items() if name not in ("prompt", "left", "right", "ranking") or not theirs]:
        raise SettingProblem(f"--column {wrong[0]!r} says nothing", "Write prompt=, left=, right= or ranking= and the name of the column.")
    return found
