"""Two models, or a finished run's, on the same held-out prompts: the evaluation stage on its own."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.errors import RunProblem, SettingProblem
from heedful.jobs.evaluation import Reader, compared, draw, line_of, nats
from heedful.jobs.reward import open_reward
from heedful.jobs.workspace import Measure, Source, Splits, Workspace, open_alone
from heedful.records import Completion, Labeler, Prompt, Ranking, read_jsonl
from heedful.settings import Settings

if TYPE_CHECKING:
    from heedful.engines.networks import LanguageNetwork

SPLITS = ("train", "validation", "test")


def compare_models(ws: Workspace, folder: Path, after: str) -> dict[str, Any]:
    """Every measure of the model of the settings and of ``after``, paired by prompt, each with its interval.

    ``kl`` is ``None`` where the two have different tokens.
    """
    from heedful.engines.tokens import same_tokens

    prompts = ws.prompts("test")[: ws.settings.evaluation.max_prompts]
    one, other = ws.network, open_alone(ws.settings.model.model_copy(update={"path": after}))
    before, written = (draw(ws, n, "policy", prompts, folder / f"{name}.jsonl") for n, name in ((one, "before"), (other, "after")))
    comparable = same_tokens(one.tokenizer, other.tokenizer)
    found = compared(ws, open_reward(ws, by_ids=comparable), prompts, before, written)
    found["kl"] = nats(ws, written, reader(ws, other, prompts), reader(ws, one, prompts)) if comparable else None
    return {**found, "line": line_of(found)}


def reader(ws: Workspace, network: LanguageNetwork, prompts: Sequence[Prompt]) -> Reader:
    """A model that says how likely completions of the prompts are, at the temperature that it writes with."""
    from heedful.engines.local import Optimiser

    learner = ws.learner("policy", Optimiser(), network, temperature=ws.sampling.temperature)
    return ws.encode(prompts, network), learner, "policy"


def require_finished_reward(settings: Settings) -> None:
    """Raise where the reward would have to be learnt first."""
    if settings.reward.kind in ("learn", "pairs"):
        raise SettingProblem(
            f"reward.kind is {settings.reward.kind!r}",
            "heed evaluate wants a finished reward: set it to model, classifier or function, or name a run's folder that holds one.",
        )


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, as what it was made from and what came out of it."""

    folder: Path

    @property
    def record(self) -> dict[str, Any]:
        """Its ``run.json``."""
        try:
            return dict(json.loads((self.folder / "run.json").read_text()))
        except (OSError, ValueError):
            raise RunProblem(f"{self.folder} is no run's folder: there is no readable run.json", "Name the folder of heed run.") from None

    @property
    def model(self) -> str:
        """The policy's Hugging Face folder."""
        path = self.folder / "policy/model"
        if not path.exists():
            raise RunProblem(f"the run in {self.folder} has no policy yet", "Finish it with --resume, or name a model with --after.")
        return str(path)

    def defaults(self) -> dict[str, Any]:
        """Its settings, with the reward model that it learnt for a reward, and an output of one's own."""
        found, learnt = dict(self.record["settings"]), self.folder / "reward/model"
        if learnt.exists() and found["reward"]["kind"] in ("learn", "pairs"):
            found["reward"] = {**found["reward"], "kind": "model", "path": str(learnt), "label": ""}
        found.pop("stopping")  # nothing is trained
        return {**found, "output": str(self.folder.with_name(f"{self.folder.name}-evaluation"))}


@dataclass(frozen=True)
class FrozenSource:
    """Another source's judges, and the prompts as a run froze them."""

    source: Source
    folder: Path

    def fingerprint(self) -> str:
        """The hash of the frozen prompts."""
        files = [(self.folder / "prompts" / f"{split}.jsonl") for split in SPLITS]
        return hashlib.sha256(b"\n".join(file.read_bytes() for file in files if file.exists())).hexdigest()

    def prompts(self) -> Splits:
        """The frozen splits; one that the run did not need is empty."""
        files = {split: self.folder / "prompts" / f"{split}.jsonl" for split in SPLITS}
        if not files["test"].exists():
            raise RunProblem(f"the run in {self.folder} has frozen no test prompts", "Name a settings file and --after instead.")
        return {split: [Prompt.from_dict(row) for row in read_jsonl(file)] if file.exists() else [] for split, file in files.items()}

    def rankings(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Ranking]:
        """See :class:`heedful.jobs.workspace.Source`."""
        return self.source.rankings(prompts, completions)

    def labelers(self) -> list[Labeler]:
        """See :class:`heedful.jobs.workspace.Source`."""
        return self.source.labelers()

    def measures(self, prompts: Sequence[Prompt]) -> dict[str, Measure]:
        """See :class:`heedful.jobs.workspace.Source`."""
        return self.source.measures(prompts)

    def preferences(self, prompts: Sequence[Prompt], before: Sequence[str], after: Sequence[str]) -> list[float] | None:
        """See :class:`heedful.jobs.workspace.Source`."""
        return self.source.preferences(prompts, before, after)
