"""What every job works with: the settings, where data comes from, the run's folder, the one base.

The language model is opened once, when the first job needs it, with every role that the run will
need: policy, reference and value, and reward models too where they share its base.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from heedful.errors import SettingProblem
from heedful.progress import Progress
from heedful.records import Completion, Labeler, Prompt, Ranking, read_jsonl
from heedful.run import Run
from heedful.settings import ModelSettings, Settings

if TYPE_CHECKING:
    from heedful.engines.base import Role, Sampling
    from heedful.engines.local import LocalLearner, Optimiser
    from heedful.engines.networks import LanguageNetwork, ScalarNetwork

Measure = Callable[[Sequence[Prompt], Sequence[str]], list[float]]
"""One number per completion text."""

Splits = dict[str, list[Prompt]]
"""``train``, ``validation`` and ``test``: every prompt in one of them."""


class Source(Protocol):
    """Where prompts come from and who judges: the user's files, or the built-in world."""

    def fingerprint(self) -> str:
        """Changes when the prompts or judgements would."""
        ...

    def prompts(self) -> Splits:
        """The prompts, split."""
        ...

    def rankings(self, prompts: Sequence[Prompt], completions: Sequence[Completion]) -> list[Ranking]:
        """What labelers say of the completions."""
        ...

    def labelers(self) -> list[Labeler]:
        """Those of them who are known by more than their name: what kind they are, and which strata they stand for."""
        ...

    def measures(self, prompts: Sequence[Prompt]) -> dict[str, Measure]:
        """What can be measured on completions of these prompts, by name: ``toxicity``, ``task`` and the like."""
        ...

    def preferences(self, prompts: Sequence[Prompt], before: Sequence[str], after: Sequence[str]) -> list[float] | None:
        """Labelers' preference for ``after`` in [0, 1] per row, where labelers can be asked."""
        ...


@dataclass
class Workspace:
    """The settings, source, run and progress of one life cycle, and its models once they are open.

    Where nothing ``learns``, the model is opened as it is.
    """

    settings: Settings
    source: Source
    run: Run
    progress: Progress
    learns: bool = True

    @property
    def shares_base(self) -> bool:
        """Does the reward model live on the policy's base, as another adapter?"""
        return self.learns_reward and self.settings.reward.base == "policy" and self.settings.lora.enabled

    @property
    def learns_reward(self) -> bool:
        """Is there a reward model to train?"""
        return self.settings.reward.kind in ("learn", "pairs")

    def stage(self, name: str, work: Callable[[Workspace, Path], Mapping[str, Any]], *parents: str) -> dict[str, Any]:
        """Do a stage once and say in a line what came out.

        What it depends on are the settings (fixed per run), the source and its parents' results.
        ``work`` returns that line as ``"line"`` among its figures.
        """
        inputs = {parent: self._digest(parent) for parent in parents} or {"source": self.source.fingerprint()}
        began = time.monotonic()

        def under_way(folder: Path) -> Mapping[str, Any]:
            with self.progress.track(None, name):
                return work(self, folder)

        result = self.run.stage(name, under_way, inputs)
        self.progress.say(f"{name}: {result['line']} ({time.monotonic() - began:.1f} s)")
        return result

    def folder(self, stage: str) -> Path:
        """Where a stage keeps its files."""
        return self.run.folder / stage

    def log(self, stage: str) -> Callable[[int, dict[str, float]], None]:
        """A function that records a stage's metrics at a step."""
        return lambda step, metrics: self.run.log(step, metrics, stage)

    def prompts(self, split: str) -> list[Prompt]:
        """The prompts of a split, as the prompts stage froze them."""
        return [Prompt.from_dict(row) for row in read_jsonl(self.folder("prompts") / f"{split}.jsonl")]

    def completions(self) -> list[Completion]:
        """The completions that people judge."""
        return [Completion.from_dict(row) for row in read_jsonl(self.folder("completions") / "completions.jsonl")]

    def encode(self, prompts: Sequence[Prompt], network: LanguageNetwork | None = None) -> list[list[int]]:
        """Prompt ids for the shared base or another network, at most as long as the settings and the model's context allow."""
        from heedful.prompts.chat import encode_prompts

        asked = network or self.network
        ids, _ = encode_prompts(prompts, asked.tokenizer, asked.encoder_decoder, prompt_limit(self.settings, asked), "truncate")
        return ids

    @property
    def max_prompt_tokens(self) -> int | None:
        """The stricter of the user's limit and the model's context less the room for a completion."""
        return prompt_limit(self.settings, self.network)

    @property
    def sampling(self) -> Sampling:
        """How rollouts and held-out completions are drawn."""
        from heedful.engines.base import Sampling

        return Sampling(self.settings.completions.max_new_tokens, self.settings.algorithm.temperature)

    @cached_property
    def tokenizer(self) -> Any:
        """The policy's tokenizer."""
        from heedful.engines.models import load_tokenizer

        return load_tokenizer(self.settings.model.path, trust_remote_code=self.settings.model.trust_remote_code)

    @cached_property
    def network(self) -> LanguageNetwork:
        """The policy's base in all its roles."""
        if not self.learns:
            return open_alone(self.settings.model)
        roles: list[Role] = ["policy", "reference", "reward", "monitor"] if self.shares_base else ["policy", "reference"]
        return self.open_network(roles, with_value=self.settings.policy.algorithm == "ppo")

    @cached_property
    def policy_alone(self) -> LanguageNetwork:
        """The policy with nothing beside it: what supervised fine-tuning needs."""
        return self.open_network(["policy"])

    def open_network(self, roles: Sequence[Role], *, adapters: bool | None = None, with_value: bool = False) -> LanguageNetwork:
        """The model of the settings in some roles; ``adapters`` overrides ``lora.enabled``."""
        from heedful.engines.models import open_base
        from heedful.engines.networks import LanguageNetwork, Lora
        from heedful.engines.seeding import seeded

        lora = self.settings.lora
        with_adapters = lora.enabled if adapters is None else adapters
        model, precision = open_base(self.settings.model, learns=not with_adapters)
        with seeded(self.settings.seed):  # new adapters and heads are drawn at random
            return LanguageNetwork(
                model,
                self.tokenizer,
                roles=roles,
                lora=Lora(lora.r, lora.alpha, tuple(lora.targets)) if with_adapters else None,
                with_value=with_value,
                precision=precision,
            )

    def learner(
        self, role: Role, optimiser: Optimiser, network: LanguageNetwork | ScalarNetwork | None = None, *, temperature: float = 1.0
    ) -> LocalLearner:
        """A learner of one role, on the shared base unless another network is given."""
        from heedful.engines.local import LocalLearner

        budget, say = self.settings.model.micro_batch_tokens, self.progress.say
        return LocalLearner(network or self.network, role, optimiser, micro_batch_tokens=budget, temperature=temperature, say=say)

    def result(self, stage: str) -> dict[str, Any]:
        """What a finished stage returned."""
        return dict(self._record(stage)["result"])

    def _digest(self, stage: str) -> str:
        """A hash of a finished stage's record."""
        record = self._record(stage)
        return hashlib.sha256(json.dumps([record["result"], record["files"]], sort_keys=True).encode()).hexdigest()

    def _record(self, stage: str) -> dict[str, Any]:
        return dict(json.loads((self.run.folder / "stages" / f"{stage}.json").read_text()))


def open_alone(chosen: ModelSettings) -> LanguageNetwork:
    """A model that only writes, as a run with adapters opens it, so that the same seeds give the same completions."""
    from heedful.engines.models import load_tokenizer, open_base
    from heedful.engines.networks import LanguageNetwork

    model, precision = open_base(chosen, learns=False)
    tokenizer = load_tokenizer(chosen.path, trust_remote_code=chosen.trust_remote_code)
    return LanguageNetwork(model, tokenizer, roles=("policy",), precision=precision)


def prompt_limit(settings: Settings, network: LanguageNetwork) -> int | None:
    """The stricter of the user's limit and the model's context less the room for a completion; ``None`` where there is neither."""
    context, wanted = network.context, settings.model.max_prompt_tokens
    if context is None:
        return wanted
    room = context if network.encoder_decoder else context - settings.completions.max_new_tokens
    if room < 1:
        raise SettingProblem(
            f"completions.max_new_tokens is {settings.completions.max_new_tokens}, but the model's context is {context} tokens",
            "Lower it, so that a prompt has room, too.",
        )
    return room if wanted is None else min(room, wanted)
