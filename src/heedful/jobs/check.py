"""What can be refused before anything is spent: mistakes that would otherwise show only hours later."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from heedful.errors import DataProblem, SettingProblem, nearest
from heedful.jobs.judgements import criterion_of
from heedful.jobs.policy import FIGURES
from heedful.jobs.reward import open_reward
from heedful.jobs.workspace import Splits, Workspace


def check_run(ws: Workspace, splits: Splits, needed: Sequence[str]) -> None:
    """Raise where a needed split is empty, there is no criterion to judge by, a finished reward does not open, or nobody measures
    what the settings name."""
    for split in needed:
        if not splits[split]:
            raise DataProblem(f"there are no {split} prompts left", f"Raise prompts.{split}, give more prompts, or let fewer be left out.")
    if ws.learns_reward:
        criterion_of(ws)
    else:
        open_reward(ws)
    measures = ws.source.measures(splits["validation"] or splits["test"])
    monitor = {"held_out_score"} if ws.learns_reward else set()
    _check_name("stopping.metric", ws.settings.stopping.metric, {*FIGURES, *monitor, *measures})
    for name in ws.settings.evaluation.measures:
        _check_name("evaluation.measures", name, {"score", "length", *measures})


def _check_name(setting: str, name: str, measured: Collection[str]) -> None:
    if name not in measured:
        raise SettingProblem(
            f"{setting} names {name!r}, but this run measures {', '.join(sorted(measured))}",
            f"Name one of those.{nearest(name, measured)}",
        )
