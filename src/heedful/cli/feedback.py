"""heed feedback: whom to believe, how well people agree, who was asked what, blindly or not; judgements in and out; decisions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from heedful.cli.common import AsJson, Quiet, make_progress, show, table, warn
from heedful.cli.pairs import Columns, HigherIs, criterion_of, named
from heedful.cli.store import HERE

if TYPE_CHECKING:
    from heedful.feedback.criteria import Criterion as Judged
    from heedful.feedback.said import Said

Source = Annotated[
    str,
    typer.Argument(
        metavar="[STORE|RANKINGS]",
        envvar="HEEDFUL_STORE",
        show_envvar=True,
        help="A store's file or postgresql:// URL, or a file of rankings.",
    ),
]
Where = Annotated[str, typer.Argument(metavar="STORE", help="Its file, or a postgresql:// URL.")]
Project = Annotated[str, typer.Option("--project", help="Of the store; may be left out where there is one.")]
Criterion = Annotated[str | None, typer.Option("--criterion", help="Of a file that holds judgements by several, or by one of your own.")]
Labelers = Annotated[
    Path | None, typer.Option("--labelers", help="Who judged, for a file that does not say: JSON lines of name, kind, strata.")
]
Folder = Annotated[Path | None, typer.Option("--output", "-o", help="A folder for figures, and for rows that do not fit a table.")]
Why = Annotated[str, typer.Option("--why", help="The reason: somebody will ask.")]
By = Annotated[str, typer.Option("--by", help="Who decides; by default the user of this machine.")]

feedback = typer.Typer(
    name="feedback", help="Judgements: consensus, labelers, agreement, coverage, check; export, import; quarantine.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(feedback)


@feedback.command()
def consensus(
    source: Source = HERE,
    project: Project = "",
    criterion: Criterion = None,
    higher_is: HigherIs = None,
    exclude: Annotated[
        list[str] | None, typer.Option("--exclude", help="A labeler whose votes do not count this time; may be given often.")
    ] = None,
    method: Annotated[
        Literal["auto", "model", "majority"], typer.Option(help="auto: the model where there is enough to learn from.")
    ] = "auto",
    save: Annotated[bool, typer.Option("--save", help="Keep it in the store, and ask one more labeler where nobody is sure.")] = False,
    output: Folder = None,
    as_json: AsJson = False,
) -> None:
    """What people say together: how probable it is of every two completions that one is better, and why it was found so."""
    from heedful.jobs.feedback import agree

    said = _said(source, project, criterion, higher_is)
    found = agree(said, exclude or (), method, source if save else "", output)
    show(found, as_json)


@feedback.command()
def labelers(
    source: Source = HERE,
    project: Project = "",
    criterion: Criterion = None,
    higher_is: HigherIs = None,
    people: Labelers = None,
    output: Folder = None,
    as_json: AsJson = False,
) -> None:
    """How well each labeler agrees with the others, and whose work a person should look at, with the evidence."""
    from heedful.jobs.feedback import report_labelers

    rows = report_labelers(_said(source, project, criterion, higher_is, people), output)
    if as_json:
        table("", rows, as_json=True)
        return
    table("Labelers", [_labeler_row(row) for row in rows], as_json=False)
    for row in rows:
        if row["verdict"] not in ("fine", "unsure") or row["quarantined"]:
            quarantine = f" Quarantined: {row['quarantined']}." if row["quarantined"] else ""
            typer.echo(f"{row['labeler']}: {row['evidence']} {row['recommendation']}{quarantine}")


@feedback.command()
def agreement(
    source: Source = HERE,
    project: Project = "",
    criterion: Criterion = None,
    higher_is: HigherIs = None,
    people: Labelers = None,
    output: Folder = None,
    as_json: AsJson = False,
) -> None:
    """How well labelers agree: two by two, Krippendorff's alpha, Kendall's tau-b and W; all, by version, by group, with themselves."""
    from heedful.jobs.feedback import agreements

    rows, sentence = agreements(_said(source, project, criterion, higher_is, people), output)
    table("Agreement", rows if as_json else [_agreement_line(row) for row in rows], as_json)
    if not as_json:
        typer.echo(sentence)


@feedback.command()
def coverage(
    source: Source = HERE,
    project: Project = "",
    criterion: Criterion = None,
    higher_is: HigherIs = None,
    people: Labelers = None,
    output: Folder = None,
    as_json: AsJson = False,
) -> None:
    """Who was asked how often, by how many each prompt was judged, and of which groups they are (told of five people or more)."""
    from heedful.jobs.feedback import cover

    found = cover(_said(source, project, criterion, higher_is, people), output)
    show(found if as_json else _coverage_lines(found), as_json)


@feedback.command()
def check(
    source: Source = HERE,
    project: Project = "",
    prompts: Annotated[Path | None, typer.Option(help="The prompts, for a file that does not hold them.")] = None,
    completions: Annotated[Path | None, typer.Option(help="The completions, likewise.")] = None,
    as_json: AsJson = False,
) -> None:
    """Whether completions say who wrote them ("As ChatGPT, I ..."): whoever reads that no longer judges blindly. Nothing is left out."""
    from heedful.jobs.exchange import check_blindness

    found = check_blindness(source, project, prompts, completions)
    if as_json:
        show(found.to_dict(), as_json=True)
        return
    typer.echo(found.sentence or f"None of {found.completions} completions says who wrote it.")
    if found.examples:
        table("Examples, of different prompts", found.examples, as_json=False)


@feedback.command("export")
def export_judgements(
    store: Where,
    target: Annotated[Path, typer.Argument(help="What to write: .jsonl or .json, each also with .gz.")],
    project: Project = "",
    as_of: Annotated[int | None, typer.Option("--as-of", help="As it stood after this event of the log; now unless given.")] = None,
    strata: Annotated[bool, typer.Option("--strata", help="Also which groups each labeler stands for, which is personal.")] = False,
    everybody: Annotated[bool, typer.Option("--all", help="Also the judgements that are in quarantine; the rows do not say so.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write what was asked and said in a project as rows that heed pairs build and heed feedback import read."""
    from heedful.checkpoints import file_sha256
    from heedful.jobs.exchange import export_said
    from heedful.jobs.said import project_of
    from heedful.store import Store

    with Store.open(store, actor="heed feedback", warn=warn) as opened:
        counts = export_said(opened, project_of(opened, project), target, as_of, strata, everybody)
    show({**counts, "file": str(target), "sha256": file_sha256(target)}, as_json)


@feedback.command("import")
def import_judgements(
    store: Where,
    judgements: Annotated[Path, typer.Argument(help="Rankings, thumbs or corrections, e.g. as heed feedback export writes them.")],
    project: Annotated[str, typer.Option("--project", help="Of the store; made where there is none, for what the file holds.")] = "run",
    prompts: Annotated[Path | None, typer.Option(help="The prompts, unless the file holds them or the store has them.")] = None,
    completions: Annotated[Path | None, typer.Option(help="The completions, likewise.")] = None,
    from_name: Annotated[
        str, typer.Option("--from", help="The format of the file: rankings, openai, openassistant, argilla or label-studio.")
    ] = "rankings",
    criterion: Criterion = None,
    higher_is: HigherIs = None,
    columns: Columns = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Put judgements from elsewhere into a store, all or none, with the prompts, completions and labelers they speak of.

    What is there already, just so, stays as it is: the same file may come twice.
    """
    from heedful.jobs.exchange import import_said
    from heedful.pairs.convert import Choices

    judged = _judged(criterion, higher_is)
    choices = Choices(judged or criterion_of("helpfulness", None), columns=named(columns), say=make_progress(quiet).say)
    texts = {"prompts": prompts, "completions": completions}
    found = import_said(store, judgements, project, judged, choices, from_name=from_name, texts=texts)
    show({"store": store, "project": project, **found}, as_json)


@feedback.command()
def quarantine(store: Where, labeler: str, why: Why, project: Project = "", by: By = "", as_json: AsJson = False) -> None:
    """Quarantine a labeler's judgements in a project: they count for nothing. Nothing is deleted, and it can be taken back."""
    _decide(store, labeler, True, why, project, by, as_json)


@feedback.command()
def reinstate(store: Where, labeler: str, why: Why, project: Project = "", by: By = "", as_json: AsJson = False) -> None:
    """Let a labeler's judgements count again."""
    _decide(store, labeler, False, why, project, by, as_json)


def _decide(where: str, labeler: str, quarantined: bool, why: str, project: str, by: str, as_json: bool) -> None:
    """Record a decision, and show all that there are about this labeler."""
    from getpass import getuser

    from heedful.jobs.said import project_of
    from heedful.store import Store
    from heedful.store import labelers as people

    with Store.open(where, actor="heed feedback", warn=warn) as store:
        name = project_of(store, project)
        store.write(lambda c: people.decide(c, name, labeler, quarantined, by or getuser(), why, store.clock()))
        decisions = [row for row in store.read(lambda c: people.decisions(c, name)) if row["labeler"] == labeler]
    rows = [{**row, "at": row["at"].isoformat(timespec="seconds")} for row in decisions]
    if not as_json:
        words = {True: "quarantined", False: "reinstated"}
        rows = [{"decision": words[row.pop("quarantined")], **row} for row in rows]
    table(f"Decisions in project {name}", rows, as_json)


def _said(source: str, project: str, criterion: str | None, higher_is: HigherIs, people: Path | None = None) -> Said:
    from heedful.jobs.said import read_said

    return read_said(source, project, _judged(criterion, higher_is), people, warn=warn)


def _judged(criterion: str | None, higher_is: HigherIs) -> Judged | None:
    """The criterion that was named, if any. Raises SettingProblem for a direction without what it is the direction of."""
    from heedful.errors import SettingProblem

    if criterion:
        return criterion_of(criterion, higher_is)
    if higher_is:
        raise SettingProblem(f"--higher-is {higher_is} is said of no criterion", "Name it with --criterion, or leave --higher-is out.")
    return None


def _labeler_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a report fits a line."""
    interval = {"estimate": row["agreement"], "low": row["low"], "high": row["high"]} if row["pairs"] else None
    return {
        "labeler": row["labeler"],
        "verdict": row["verdict"].replace("_", " ") + (" (quarantined)" if row["quarantined"] else ""),
        "tasks": row["tasks"],
        "shared": row["shared_tasks"],
        "agreement": _percents(interval),
        "reliability": f"{row['reliability']:.2f} ({row['reliability_low']:.2f} to {row['reliability_high']:.2f})",
        "ties": f"{row['tie_share']:.0%}",
        "F": f"{row['f_share']:.0%}",
    }


def _percents(interval: Mapping[str, Any] | None) -> str:
    return "unknown" if interval is None else f"{interval['estimate']:.0%} ({interval['low']:.0%} to {interval['high']:.0%})"


def _agreement_line(row: Mapping[str, Any]) -> dict[str, Any]:
    """The same with few digits."""
    coefficients = {
        name: value and f"{value['estimate']:.2f}" for name, value in row.items() if isinstance(value, Mapping) or value is None
    }
    return {name: value for name, value in {**row, **coefficients}.items() if name != "kind"} | {"agreement": _percents(row["agreement"])}


def _coverage_lines(found: Mapping[str, Any]) -> dict[str, Any]:
    """The same with one line for all days."""
    days = found["days"]
    told = f"{len(days)}, {min(days)} to {max(days)}" if days else "unknown"
    by_labelers = ", ".join(f"{prompts} by {labelers}" for labelers, prompts in found["overlap"].items())
    strata = {f"labelers by {name}": groups for name, groups in found["strata"].items()}
    rest = {name: value for name, value in found.items() if name not in ("days", "overlap", "strata")}
    return {**rest, "prompts judged": by_labelers, "days": told, **strata}
