"""The built-in world as a source of prompts and judgements: simulated labelers who perceive the known truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random

from heedful.demo.world import World, facts_held, is_rude, quality
from heedful.feedback.assign import assign
from heedful.feedback.criteria import criterion_named
from heedful.feedback.instructions import instructions_for
from heedful.feedback.simulated import SimulatedLabeler, collect, panel
from heedful.jobs.workspace import Measure, Splits
from heedful.records import Completion, Labeler, Prompt, Ranking
from heedful.settings import Settings

BEST_FIRST = criterion_named("helpfulness")
"""A simulated labeler's own ranks begin with the best, whatever the criterion of the run calls "more"."""

QUALITY_SPREAD = 0.5
"""Standard deviation of the quality of the instruct model's completions: rude or not is worth 1."""


@dataclass(frozen=True)
class WorldSource:
    """Prompts from the world's generator; six labelers, of whom one guesses and one reads the scale upside down."""

    settings: Settings

    @cached_property
    def world(self) -> World:
        """A world of its own for every seed."""
        return World(self.settings.seed)

    @cached_property
    def panel(self) -> list[SimulatedLabeler]:
        """Who judges in the demo."""
        return panel(spread=QUALITY_SPREAD)

    def fingerprint(self) -> str:
        """The world is a function of its seed."""
        return f"world {self.settings.seed}"

    def prompts(self) -> Splits:
        """Dialogues that the instruct model was never trained on; test dialogues share no combination of facts with the others."""
        chosen = self.settings.prompts
        n_train = chosen.train or 1000
        examples = self.world.examples(n_train + chosen.validation, "feedback")
        rows = [Prompt(f"dialogue-{i}", e.prompt, [e.summary], {"facts": e.facts}) for i, e in enumerate(examples)]
        unseen = [
            Prompt(f"unseen-{i}", e.prompt, [e.summary], {"facts": e.facts}) for i, e in enumerate(self.world.examples(chosen.test, "test"))
        ]
        return {"train": rows[:n_train], "validation": rows[n_train:], "test": unseen}

    def rankings(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Ranking]:
        """Each prompt goes to some of the six, who rank what they perceive."""
        shown: dict[str, list[Completion]] = {}
        for completion in completions:
            shown.setdefault(completion.prompt_id, []).append(completion)
        by_id = {p.id: p for p in prompts}
        seed, chosen = self.settings.seed, self.settings.feedback
        assignment = assign(list(shown), [labeler.name for labeler in self.panel], chosen.labelers_per_prompt, seed)
        rows = [(by_id[prompt_id], group) for prompt_id, group in shown.items()]
        truth = {c.id: quality(c.text, p.columns["facts"]) for p, group in rows for c in group}
        criterion = criterion_named(chosen.criterion)
        return collect(rows, truth, self.panel, assignment, criterion, instructions_for(criterion), seed)

    def labelers(self) -> list[Labeler]:
        """The panel, as a store keeps it."""
        return [one.as_labeler() for one in self.panel]

    def measures(self, prompts: Sequence[Prompt]) -> dict[str, Measure]:
        """The known truth: whether a summary is rude, and the share of facts that it holds."""
        return {
            "toxicity": lambda _, texts: [float(is_rude(text)) for text in texts],
            "task": lambda prompts, texts: [facts_held(t, p.columns["facts"]) for p, t in zip(prompts, texts, strict=True)],
        }

    def preferences(self, prompts: Sequence[Prompt], before: Sequence[str], after: Sequence[str]) -> list[float]:
        """The careful labelers' votes on both summaries, in a random order; 1 when all prefer ``after``, 0.5 of one and the same text."""
        careful = [labeler for labeler in self.panel if labeler.kind == "careful"]
        return [self._prefer(careful, p, b, a) for p, b, a in zip(prompts, before, after, strict=True)]

    def _prefer(self, careful: Sequence[SimulatedLabeler], prompt: Prompt, before: str, after: str) -> float:
        if before == after:
            return 0.5
        votes = []
        for labeler in careful:
            chance = Random(f"{self.settings.seed}/{labeler.name}/{prompt.id}")
            turned = chance.random() < 0.5
            first, second = (after, before) if turned else (before, after)
            ranks = labeler.rank([quality(text, prompt.columns["facts"]) for text in (first, second)], chance)
            wins = BEST_FIRST.preferred(*ranks)
            votes.append(0.5 if wins is None else float(wins == turned))
        return sum(votes) / len(votes)
