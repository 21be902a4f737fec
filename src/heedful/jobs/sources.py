"""The user's own data as a source: prompts from files or the hub, rankings from a file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.checkpoints import file_sha256
from heedful.errors import DataProblem, FileProblem, SettingProblem
from heedful.jobs.data import read_judgements, read_rankings
from heedful.jobs.workspace import Measure, Splits
from heedful.records import Completion, Labeler, Prompt, Ranking
from heedful.settings import Settings

if TYPE_CHECKING:
    from heedful.reward.score import RewardModel


class FileSource:
    """What ``heed.toml`` names."""

    def __init__(self, settings: Settings, say: Callable[[str], None] = lambda _: None) -> None:
        self.settings, self.say = settings, say
        if settings.reward.kind == "learn" and settings.feedback.source == "simulated":
            raise SettingProblem(
                "feedback.source is 'simulated', but simulated labelers know the built-in world only",
                "Set it to 'rankings' and name their file in feedback.path, or see heed demo.",
            )

    def fingerprint(self) -> str:
        """The hashes of the files that are read."""
        feedback = self.settings.feedback
        # What people go on saying in a store is not part of it: a run keeps to what it took, and names it.
        named = [self.settings.prompts.path, "" if feedback.source == "store" else feedback.path, self.settings.reward.path]
        found = [f"{name}={file_sha256(Path(name)) if Path(name).is_file() else ''}" for name in named]
        return hashlib.sha256("\n".join(found).encode()).hexdigest()

    def prompts(self) -> Splits:
        """Load, filter and split as the settings say."""
        from heedful.prompts.load import load_prompts
        from heedful.prompts.split import split, split_by_column

        chosen = self.settings.prompts
        rows, sizes = load_prompts(chosen, self.say), (chosen.train, chosen.validation, chosen.test, chosen.shuffle_seed)
        parts = split_by_column(rows, chosen.split_column, *sizes) if chosen.split_column else split(rows, *sizes)
        return {"train": parts.train, "validation": parts.validation, "test": parts.test}

    def rankings(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Ranking]:
        """The rows of feedback.path, a file, that speak of the run's completions."""
        path = Path(self.settings.feedback.path)
        if not path.exists():
            raise FileProblem(
                f"there is no file of rankings {path}",
                "Rank the completions in the run's completions/completions.jsonl, then go on with --resume.",
            )
        known = {c.id for c in completions}
        rows = read_rankings(path)
        found = [row for row in rows if known.issuperset(row.completion_ids)]
        if not found:
            raise DataProblem(
                f"none of the {len(rows)} rankings in {path} speaks of this run's completions",
                "Rank the completions in the run's completions/completions.jsonl; their ids must be kept.",
            )
        return found

    def labelers(self) -> list[Labeler]:
        """The ``labeler`` lines of feedback.path; there may be none."""
        return [row for row in read_judgements(Path(self.settings.feedback.path)) if isinstance(row, Labeler)]

    def measures(self, prompts: Sequence[Prompt]) -> dict[str, Measure]:
        """``toxicity`` where a classifier is the reward; where there are references ``task`` (ROUGE-L), ``rouge1`` and ``rouge2``."""
        kinds = {"task": "rougeL", "rouge1": "rouge1", "rouge2": "rouge2"} if any(p.reference for p in prompts) else {}
        found: dict[str, Measure] = {name: RougeF(kind) for name, kind in kinds.items()}
        if self.settings.reward.kind == "classifier":
            found["toxicity"] = ClassifierToxicity(self.settings)
        return found

    def preferences(self, prompts: Sequence[Prompt], before: Sequence[str], after: Sequence[str]) -> list[float] | None:
        """Nobody can be asked about new completions while a run goes on."""
        return None


class ClassifierToxicity:
    """Probability that a completion, alone, is not of the class that the reward maximises."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._scorer: RewardModel | None = None

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """One probability per text."""
        from heedful.reward.score import RewardModel

        chosen = self.settings.reward
        if self._scorer is None:
            self._scorer = RewardModel.open(
                chosen.path,
                label=chosen.label,
                completion_only=True,
                max_tokens=chosen.max_tokens,
                device=self.settings.model.device,
                precision=self.settings.model.precision,
                trust_remote_code=self.settings.model.trust_remote_code,
            )
        probabilities = self._scorer.probabilities(texts)
        return [1.0 - float(row[self._scorer.index]) for row in probabilities]


@dataclass(frozen=True)
class RougeF:
    """ROUGE F of one ``kind`` against the best of a prompt's references; 0 for a prompt without one."""

    kind: str

    def __call__(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> list[float]:
        """One number in [0, 1] per text."""
        from heedful.evaluation.overlap import rouge

        with_reference = [i for i, p in enumerate(prompts) if p.reference]
        scores = rouge([texts[i] for i in with_reference], [prompts[i].reference or [] for i in with_reference], (self.kind,))
        found = [0.0] * len(texts)
        for i, score in zip(with_reference, scores.best[self.kind], strict=True):
            found[i] = float(score)
        return found
