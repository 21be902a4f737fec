"""Single jobs on models: training one part, sampling, talking."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from heedful.cli.common import AsJson, Config, Quiet, Resume, Set, figures, make_progress, open_run, quiet_libraries, settings_of, show

if TYPE_CHECKING:
    from heedful.jobs.workspace import Workspace
    from heedful.settings import Settings

train = typer.Typer(name="train", help="Train one part: sft, reward, classifier, ppo, grpo or dpo.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.add_typer(train)
    for command in (sample, chat):
        app.command()(command)


@train.command("sft")
def train_sft(config: Config = None, resume: Resume = False, overrides: Set = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Fine-tune on demonstrations: prompts with a reference, which the model learns to write."""
    from heedful.config import require
    from heedful.jobs.sft import fine_tune, load_demonstrations

    settings = settings_of(config, overrides)
    require(settings, "model.path", "prompts.path")
    with _workspace(settings, "train sft", resume, quiet) as ws:
        frozen = ws.stage("prompts", load_demonstrations)["splits"]
        found = ws.stage("sft", fine_tune, "prompts")
        show({**figures(found), "too_long": frozen["train"]["too_long"]}, as_json)


@train.command("reward")
def train_reward(
    config: Config = None, resume: Resume = False, overrides: Set = None, as_json: AsJson = False, quiet: Quiet = False
) -> None:
    """Learn a reward model from pairs: accuracy beside "longer wins", by margin, and calibration."""
    from functools import partial

    from heedful.jobs import data, reward

    settings = settings_of(config, [*(overrides or []), "reward.kind=pairs"])
    with _workspace(settings, "train reward", resume, quiet) as ws:
        ws.stage("pairs", data.build_pairs)
        # Nothing is optimised against it here, so no monitor has to watch.
        found = ws.stage("reward", partial(reward.learn_reward, roles=("reward",)), "pairs")["reward"]
        show({**found, "model": str(ws.folder("reward") / "model")}, as_json)


@train.command("classifier")
def train_classifier(
    rows: Annotated[Path, typer.Argument(help="Labelled texts as JSON lines: text and label.")],
    base: Annotated[str, typer.Option(help="The encoder to start from: a folder or hub name.")],
    labels: Annotated[str, typer.Option(help="Class names, in the order of the logits.")] = "nothate,hate",
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")] = Path("runs/classifier"),
    text_column: Annotated[str, typer.Option(help="Column of the text.")] = "text",
    label_column: Annotated[str, typer.Option(help="Column of the label: a class name or its index.")] = "label",
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    batch_size: Annotated[int, typer.Option(min=1)] = 32,
    learning_rate: Annotated[float, typer.Option(min=0.0)] = 5e-5,
    max_tokens: Annotated[int, typer.Option(min=4)] = 128,
    held_out: Annotated[float, typer.Option(min=0.01, max=0.9, help="Share of texts that measure the classifier.")] = 0.1,
    probe: Annotated[
        list[str] | None, typer.Option(help="A text whose logits and probabilities are shown afterwards; may be given often.")
    ] = None,
    seed: Annotated[int, typer.Option()] = 0,
    resume: Resume = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Train a text classifier whose logit can be a reward: accuracy, F1, calibration, probes."""
    from heedful.jobs.classifier import ClassifierSettings, learn_classifier

    chosen = ClassifierSettings(
        str(rows),
        base,
        tuple(label.strip() for label in labels.split(",")),
        text_column,
        label_column,
        epochs,
        batch_size,
        learning_rate,
        max_tokens,
        held_out,
        tuple(probe or ()),
        seed,
    )
    progress = make_progress(quiet)
    with open_run(output, chosen.to_dict(), "train classifier", resume=resume, progress=progress) as run:
        show(run.stage("classifier", lambda folder: learn_classifier(chosen, run, folder, progress)), as_json)


@train.command("ppo")
def train_ppo(config: Config = None, resume: Resume = False, overrides: Set = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Optimise a policy with PPO against a reward model, classifier or function, without evaluation or report."""
    _reinforce("ppo", config, resume, overrides, as_json, quiet)


@train.command("grpo")
def train_grpo(config: Config = None, resume: Resume = False, overrides: Set = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Optimise a policy with GRPO, which compares several completions of a prompt, against a reward model, classifier or function."""
    _reinforce("grpo", config, resume, overrides, as_json, quiet)


def _reinforce(algorithm: str, config: Path | None, resume: bool, overrides: list[str] | None, as_json: bool, quiet: bool) -> None:
    from functools import partial

    from heedful.config import require
    from heedful.errors import SettingProblem
    from heedful.jobs import data, policy

    settings = settings_of(config, [*(overrides or []), f"policy.algorithm={algorithm}"])
    require(settings, "model.path", "prompts.path")
    if settings.reward.kind in ("learn", "pairs"):
        raise SettingProblem(
            f"reward.kind is {settings.reward.kind!r}",
            f"heed train {algorithm} wants a finished reward: model, classifier or function. To learn one first, use heed run.",
        )
    with _workspace(settings, f"train {algorithm}", resume, quiet) as ws:
        ws.stage("prompts", partial(data.load_prompts, needed=("train", "validation")))
        policy.reopen(ws)
        _show_policy(ws, ws.stage("policy", policy.reinforce, "prompts"), as_json)


@train.command("dpo")
def train_dpo(config: Config = None, resume: Resume = False, overrides: Set = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Learn from pairs with DPO, without a reward model: held-out accuracy beside "longer wins"."""
    from functools import partial

    from heedful.config import require
    from heedful.jobs import data, dpo

    settings = settings_of(config, [*(overrides or []), "reward.kind=pairs", "policy.algorithm=dpo"])
    require(settings, "model.path")
    with _workspace(settings, "train dpo", resume, quiet) as ws:
        ws.stage("pairs", data.build_pairs)
        _show_policy(ws, ws.stage("policy", partial(dpo.learn_from_pairs, writes=False), "pairs"), as_json)


@contextmanager
def _workspace(settings: Settings, command: str, resume: bool, quiet: bool) -> Iterator[Workspace]:
    """The run of one part on the user's own files."""
    from heedful.jobs.sources import FileSource
    from heedful.jobs.workspace import Workspace

    progress = make_progress(quiet)
    with open_run(settings.output, settings.model_dump(), command, resume=resume, progress=progress) as run:
        yield Workspace(settings, FileSource(settings, progress.say), run, progress)


def _show_policy(ws: Workspace, found: Mapping[str, Any], as_json: bool) -> None:
    show({**figures(found, "history"), "model": str(ws.folder("policy") / "model")}, as_json)


def sample(
    output: Annotated[Path, typer.Argument(help="Where to write the completions (JSON lines).")],
    config: Annotated[Path | None, typer.Option("--config", help="A settings file.")] = None,
    overrides: Set = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Sample several completions per prompt, for people to judge."""
    from heedful.config import require
    from heedful.jobs.sources import FileSource
    from heedful.jobs.standalone import sample_file

    settings, progress = settings_of(config, overrides), make_progress(quiet)
    require(settings, "model.path", "prompts.path")
    quiet_libraries()
    show(sample_file(settings, FileSource(settings, progress.say), output, progress), as_json)


def chat(
    model: Annotated[str, typer.Argument(help="Model folder or hub name.")],
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token.")] = 0.7,
    max_new_tokens: Annotated[int, typer.Option(min=1)] = 200,
    seed: Annotated[int, typer.Option()] = 0,
) -> None:
    """Talk to a model: a line is a prompt, an empty line or Ctrl-D ends."""
    from heedful.jobs.standalone import open_writer

    quiet_libraries()
    write = open_writer(model, temperature, max_new_tokens)
    for turn in range(1_000_000):
        try:
            prompt = input("> ")
        except EOFError:
            break
        if not prompt.strip():
            break
        typer.echo(write(prompt, seed + turn))
