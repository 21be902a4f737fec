"""Everything that can be set: one frozen section per subject, one sentence per setting.

Each field has its kind, its bounds and a description; ``heedful.config`` reads them from TOML,
and says in words what is wrong. TOML has no null: the text "none" stands for it where a setting
may be left open. An empty text means "not set".
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator

from heedful.errors import SettingProblem


class Section(BaseModel):
    """A frozen group of settings; numbers are finite and kinds are not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        fields = cls.model_fields
        return {k: None if v == "none" and k in fields and is_optional(fields[k].annotation) else v for k, v in values.items()}


class ModelSettings(Section):
    """The language model."""

    path: str = Field(default="", description="Folder or hub name of the instruct model to align.")
    architecture: Literal["auto", "causal", "seq2seq"] = Field(
        default="auto", description="Decoder only or encoder-decoder; auto reads it from the model."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="Precision of the arithmetic; weights that learn are float32 always. auto: bfloat16 where the device is quick in it.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the model runs; auto takes an accelerator when there is one."
    )
    micro_batch_tokens: int | None = Field(
        default=None,
        ge=1,
        description="Tokens computed at once; none takes what suits the device, and halves it when memory runs out. Results do not change.",
    )
    trust_remote_code: bool = Field(
        default=False, description="Run code that comes with the model: only for models whose authors you trust."
    )
    max_prompt_tokens: int | None = Field(
        default=None, ge=1, description="Longer prompts are handled by prompts.too_long; none sets no limit."
    )


class LoraSettings(Section):
    """Low-rank adapters."""

    enabled: bool = Field(default=True, description="Train adapters over one shared base; false trains every weight.")
    r: int = Field(default=16, ge=1, description="Rank of the adapters.")
    alpha: int = Field(default=32, ge=1, description="Scale of the adapters; their update is multiplied by alpha / r.")
    targets: list[str] = Field(
        default=["auto"],
        min_length=1,
        description="Modules that get adapters, by name; auto: query and value projections, all-linear: every linear layer but the output.",
    )


class PromptSettings(Section):
    """What the model is asked, and how it is split."""

    path: str = Field(default="", description="File of prompts, or a hub data set as owner/name or owner/name:configuration.")
    format: Literal["auto", "jsonl", "csv", "parquet", "hub"] = Field(default="auto", description="Kind of file; auto goes by its ending.")
    split: str = Field(default="train", description="Which split of a hub data set.")
    prompt_column: str = Field(default="prompt", description="Column of the prompt: a text, or a list of chat messages.")
    reference_column: str = Field(
        default="reference", description="Column of the human answer, or list of answers, to compare with; may be absent."
    )
    id_column: str = Field(default="id", description="Column of ids; where absent they are made from the content.")
    template: str = Field(
        default="{prompt}", description="The prompt as the model sees it: {column} is filled from the row, {{ and }} are braces."
    )
    length_column: str = Field(default="", description="Column whose characters are counted; empty counts those of the finished prompt.")
    min_characters: int = Field(default=0, ge=0, description="Rows with fewer characters are left out.")
    max_characters: int | None = Field(default=None, ge=1, description="Rows with more characters are left out.")
    too_long: Literal["truncate", "drop", "refuse"] = Field(
        default="truncate", description="What happens to prompts over model.max_prompt_tokens."
    )
    split_column: str = Field(
        default="",
        description="Column that says train, validation or test for each row, where the split is given; empty splits by a hash.",
    )
    train: int | None = Field(default=None, ge=1, description="Prompts for training; none takes all that validation and test leave.")
    validation: int = Field(default=64, ge=0, description="Held-out prompts that decide when to stop and which checkpoint is best.")
    test: int = Field(default=200, ge=0, description="Held-out prompts of the final comparison; nothing is decided on them.")
    shuffle_seed: int = Field(
        default=0, description="Decides which prompts go where; apart from seed, so that reruns keep their test prompts."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.max_characters is not None and self.min_characters > self.max_characters:
            raise contradiction("prompts", self, "min_characters", "max_characters", "no prompt can be that long and that short")
        return self


class CompletionSettings(Section):
    """The answers that people judge."""

    prompts: int = Field(default=240, ge=1, description="How many training prompts get completions for people to judge.")
    per_prompt: int = Field(default=4, ge=1, description="Completions per prompt; people rank 2 to 9 at once.")
    temperature: float = Field(default=1.0, gt=0, description="Sampling temperature of the completions to judge.")
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Nucleus sampling: draw from the smallest set of tokens with this much probability."
    )
    max_new_tokens: int = Field(default=64, ge=1, description="Longest completion in tokens, everywhere in the run.")


class FeedbackSettings(Section):
    """What people say about them."""

    source: Literal["simulated", "rankings", "store", "none"] = Field(
        default="none",
        description="Where judgements come from: simulated labelers, a file of rankings, a store, or none.",
    )
    path: str = Field(default="", description="File of rankings (JSON lines); or the store's file or postgresql:// URL.")
    project: str = Field(default="run", min_length=1, description="Name of the project in the store.")
    criterion: str = Field(default="helpfulness", description="What is judged.")
    question: str = Field(default="", description="The question that labelers answer; empty takes the criterion's own.")
    higher_is: Literal["better", "worse"] = Field(
        default="better", description="Whether more of the criterion is wanted; for a question of your own."
    )
    labelers_per_prompt: int = Field(default=3, ge=1, description="How many labelers judge the same prompt.")
    exclude_flagged: bool = Field(
        default=False,
        description="Where there is too little for the consensus's model and the majority decides: exclude whom a person should look at, "
        "without asking anybody.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        examples = {"rankings": "rankings.jsonl", "store": "labels.db"}
        if self.source in examples and not self.path:
            example = f"--set feedback.path={examples[self.source]}"
            raise SettingProblem(f"feedback.source is {self.source!r} but feedback.path is empty", f"Name it, e.g. {example}")
        return self


class RewardSettings(Section):
    """What gives completions their score."""

    kind: Literal["learn", "pairs", "model", "classifier", "function"] = Field(
        default="learn",
        description="Learn it from the run's feedback or from a file of pairs, or use a reward model, a classifier or a Python function.",
    )
    path: str = Field(default="", description="The pairs file, the model's folder, or module.py:function.")
    label: str = Field(default="", description="For a classifier: the name of the class to maximise, e.g. nothate.")
    base: str = Field(
        default="policy", description="What the reward model grows from: policy shares the policy's base, or a model's folder."
    )
    pooling: Literal["model", "mean"] = Field(
        default="model",
        description="For a base of its own: read the score where its classifier does (often the first token), or at the mean of the "
        "completion's states, which is how sentence encoders are trained.",
    )
    frozen_layers: int = Field(
        default=0, ge=0, description="For a base of its own: the embeddings and this many of the lowest layers do not learn."
    )
    held_out: float = Field(
        default=0.2, gt=0, lt=1, description="Share of prompts whose pairs measure the reward model instead of training it."
    )
    epochs: int = Field(default=1, ge=1, description="Passes over the pairs.")
    batch_size: int = Field(default=16, ge=1, description="Prompts per step; all pairs of a prompt stay together.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate.")
    max_tokens: int = Field(default=512, ge=2, description="Longest prompt and completion together, in tokens.")
    margin: float = Field(default=0.0, ge=0, description="By how much chosen must beat rejected, added to a pair's own margin.")
    normalise: bool = Field(
        default=True, description="Shift and scale scores to mean 0 and standard deviation 1 on the baseline's completions."
    )
    clip: float | None = Field(
        default=5.0, gt=0, description="Scores are clipped to plus or minus this, after normalising; none never clips."
    )
    truncated: Literal["keep", "penalty"] = Field(
        default="keep", description="Completions cut off by max_new_tokens keep their score or get the penalty."
    )
    truncated_penalty: float = Field(default=-1.0, description="The score that replaces that of a cut-off completion.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind != "learn" and not self.path:
            raise SettingProblem(f"reward.kind is {self.kind!r} but reward.path is empty", "Set reward.path, or reward.kind = 'learn'.")
        if self.base == "policy" and (self.pooling != "model" or self.frozen_layers):
            raise SettingProblem(
                f"reward.pooling is {self.pooling!r} and reward.frozen_layers is {self.frozen_layers}, but reward.base is 'policy'",
                "Name the folder of an encoder in reward.base, or leave both out: adapters on the policy's base have neither.",
            )
        if self.kind == "classifier" and not self.label:
            raise SettingProblem(
                "reward.kind is 'classifier' but reward.label is empty", "Name the class to maximise, e.g. --set reward.label=nothate"
            )
        return self


LARGEST_KL_ERROR = 0.2
"""The adaptive controller clips the relative error of the KL to this, so that one odd batch moves little (Ziegler et al. 2019)."""


class PolicySettings(Section):
    """How the policy learns."""

    algorithm: Literal["ppo", "grpo", "dpo"] = Field(
        default="ppo", description="ppo and grpo learn from the reward of what the policy writes, dpo from the pairs themselves."
    )


class ReinforcementSettings(Section):
    """What PPO and GRPO have in common."""

    max_steps: int = Field(default=20000, ge=1, description="Iterations at most.")
    batch_size: int = Field(default=64, ge=1, description="Completions per iteration.")
    minibatch_size: int = Field(default=32, ge=1, description="Completions per optimiser step.")
    epochs: int = Field(default=2, ge=1, description="Passes over one rollout.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate: 1e-5 to 1e-4 for adapters, about 3e-6 for all weights.")
    entropy_coef: float = Field(default=0.0, ge=0, description="Weight of the entropy bonus (c2).")
    clip: float = Field(default=0.2, gt=0, lt=1, description="The trust region: the probability ratio is clipped to 1 plus or minus this.")
    kl_coef: float = Field(default=0.05, ge=0, description="Penalty per nat of KL to the reference (beta).")
    kl_controller: Literal["fixed", "adaptive"] = Field(default="fixed", description="adaptive steers kl_coef towards kl_target.")
    kl_target: float = Field(default=6.0, gt=0, description="For the adaptive controller: nats per completion.")
    kl_horizon: int = Field(default=10000, ge=1, description="For the adaptive controller: completions over which it reacts.")
    max_grad_norm: float = Field(default=1.0, ge=0, description="Gradients are clipped to this norm; 0 never clips.")
    warmup_steps: int = Field(default=0, ge=0, description="Iterations over which the learning rate rises from 0.")
    schedule: Literal["constant", "linear"] = Field(default="constant", description="linear falls to 0 at max_steps.")
    weight_decay: float = Field(default=0.0, ge=0, description="Decoupled weight decay.")
    checkpoint_every: int = Field(default=1, ge=1, description="Iterations between checkpoints.")
    temperature: float = Field(default=1.0, gt=0, description="Sampling temperature of the rollouts.")

    section: ClassVar[str]

    @model_validator(mode="after")
    def _check_common(self) -> Self:
        if self.minibatch_size > self.batch_size:
            raise contradiction(self.section, self, "minibatch_size", "batch_size", "a minibatch is a part of the batch")
        if self.warmup_steps >= self.max_steps:
            raise contradiction(self.section, self, "warmup_steps", "max_steps", "the learning rate would never be reached")
        if self.kl_controller == "adaptive" and self.kl_coef == 0:
            raise contradiction(self.section, self, "kl_controller", "kl_coef", "the controller multiplies kl_coef, so it would stay 0")
        if self.kl_controller == "adaptive" and LARGEST_KL_ERROR * self.batch_size >= self.kl_horizon:
            raise contradiction(self.section, self, "kl_horizon", "batch_size", "one update could turn the penalty into a reward")
        return self


class PpoSettings(ReinforcementSettings):
    """PPO: reinforcement learning with a value head."""

    value_coef: float = Field(default=0.1, ge=0, description="Weight of the value loss (c1).")
    value_clip: float = Field(default=0.2, gt=0, description="The value may move by this much per rollout.")
    gamma: float = Field(default=1.0, ge=0, le=1, description="Discount.")
    lam: float = Field(default=0.95, ge=0, le=1, description="Lambda of the advantage estimator (GAE).")
    kl_estimator: Literal["k1", "k3", "exact"] = Field(default="k1", description="How the KL in the reward is measured.")

    section = "ppo"


class GrpoSettings(ReinforcementSettings):
    """GRPO: reinforcement learning that compares several completions of a prompt, without a value head."""

    completions_per_prompt: int = Field(default=8, ge=2, description="Completions of each prompt that are compared with one another.")
    scale: Literal["group", "none"] = Field(
        default="group", description="Divide advantages by the standard deviation of their group's scores, or leave them as they are."
    )
    epochs: int = Field(default=1, ge=1, description="Passes over one rollout.")
    clip_high: float | None = Field(default=None, gt=0, description="Upper end of the trust region; none takes clip, like the lower end.")
    kl_coef: float = Field(default=0.04, ge=0, description="Weight of the KL to the reference in the loss (beta); 0 leaves it out.")
    kl_estimator: Literal["exact", "k3"] = Field(
        default="exact", description="How the KL in the loss is measured: over the whole vocabulary, or by the tokens drawn."
    )

    section = "grpo"

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("batch_size", "minibatch_size"):
            if getattr(self, name) % self.completions_per_prompt:
                raise contradiction("grpo", self, name, "completions_per_prompt", "the completions of a prompt stay together")
        return self


class DpoSettings(Section):
    """DPO: learning from pairs, without a reward model."""

    epochs: int = Field(default=1, ge=1, description="Passes over the pairs.")
    batch_size: int = Field(default=16, ge=1, description="Pairs per optimiser step.")
    learning_rate: float = Field(default=5e-5, gt=0, description="Learning rate: 1e-5 to 1e-4 for adapters, about 1e-6 for all weights.")
    beta: float = Field(
        default=0.1, gt=0, description="How dearly leaving the reference is paid for: the weight of the KL that DPO implies."
    )
    variant: Literal["sigmoid", "robust", "hinge", "ipo", "exo_pair", "nca_pair", "bco_pair", "sppo_hard", "apo_zero", "apo_down"] = Field(
        default="sigmoid", description="The loss; sigmoid is DPO's own."
    )
    label_smoothing: float = Field(
        default=0.0, ge=0, lt=0.5, description="Share of pairs taken to be the wrong way round, for sigmoid, robust and exo_pair."
    )
    max_tokens: int = Field(default=512, ge=4, description="Longest prompt and completion together, in tokens.")
    temperature: float = Field(
        default=1.0, gt=0, description="Temperature of the policy: of its log-probabilities, and of the completions it is compared by."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.label_smoothing and self.variant not in ("sigmoid", "robust", "exo_pair"):
            raise contradiction("dpo", self, "label_smoothing", "variant", "this loss does not smooth labels")
        if self.variant == "exo_pair" and not self.label_smoothing:
            raise contradiction("dpo", self, "variant", "label_smoothing", "its loss is infinite without, 0.001 will do")
        return self


class StoppingSettings(Section):
    """When reinforcement learning is done."""

    metric: str = Field(
        default="score",
        description="What is measured on held-out prompts: score, kl, length, repetition, entropy, toxicity, task, and the like.",
    )
    target: float | None = Field(default=None, description="Stop when the metric reaches it; none never stops for it.")
    direction: Literal["above", "below"] = Field(default="above", description="The side of the target that is wanted.")
    evaluate_every: int = Field(default=5, ge=1, description="Iterations between measurements.")
    kl_budget: float | None = Field(default=10.0, gt=0, description="Stop when held-out completions are this many nats from the reference.")
    patience: int = Field(default=0, ge=0, description="Stop after this many measurements without a better one; 0 is off.")
    samples_per_prompt: int = Field(default=1, ge=1, description="Completions per held-out prompt at each measurement.")


class EvaluationSettings(Section):
    """The comparison of the baseline with the aligned model."""

    samples_per_prompt: int = Field(default=1, ge=1, description="Completions per test prompt from each model.")
    max_prompts: int | None = Field(default=None, ge=1, description="Use only so many test prompts.")
    side_by_side: int = Field(default=20, ge=0, description="Prompts shown in the report with both models' completions.")
    greedy: bool = Field(default=False, description="Take the likeliest token instead of sampling.")
    measures: list[str] = Field(default=[], description="Names of the measures to take; an empty list takes every one that applies.")


class SftSettings(Section):
    """Supervised fine-tuning on demonstrations."""

    epochs: int = Field(default=1, ge=1, description="Passes over the demonstrations.")
    batch_size: int = Field(default=16, ge=1, description="Demonstrations per step.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Learning rate.")
    max_tokens: int = Field(default=512, ge=2, description="Longest prompt and answer together, in tokens.")


class Settings(Section):
    """Every setting of a run."""

    seed: int = Field(default=0, ge=0, description="Seed of everything that is drawn at random.")
    output: str = Field(default="runs/first", min_length=1, description="Folder of the run.")
    model: ModelSettings = ModelSettings()
    lora: LoraSettings = LoraSettings()
    prompts: PromptSettings = PromptSettings()
    completions: CompletionSettings = CompletionSettings()
    feedback: FeedbackSettings = FeedbackSettings()
    reward: RewardSettings = RewardSettings()
    policy: PolicySettings = PolicySettings()
    ppo: PpoSettings = PpoSettings()
    grpo: GrpoSettings = GrpoSettings()
    dpo: DpoSettings = DpoSettings()
    stopping: StoppingSettings = StoppingSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    sft: SftSettings = SftSettings()

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.feedback.source == "simulated" and not 2 <= self.completions.per_prompt <= 9:
            raise SettingProblem(
                f"completions.per_prompt is {self.completions.per_prompt}, but labelers rank 2 to 9 completions",
                "Choose a number from 2 to 9.",
            )
        if self.policy.algorithm == "dpo" and self.reward.kind not in ("learn", "pairs"):
            raise SettingProblem(
                f"policy.algorithm is 'dpo', which learns from pairs, but reward.kind is {self.reward.kind!r}, which has none",
                "Set reward.kind to 'pairs' or 'learn', or policy.algorithm to 'ppo' or 'grpo'.",
            )
        return self

    @property
    def algorithm(self) -> PpoSettings | GrpoSettings | DpoSettings:
        """The section of the algorithm that the policy learns by."""
        if self.policy.algorithm == "dpo":
            return self.dpo
        return self.grpo if self.policy.algorithm == "grpo" else self.ppo


def is_optional(kind: Any) -> bool:
    """Whether a field of this kind may be none."""
    return get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)


def contradiction(section: str, values: Section, one: str, other: str, why: str) -> SettingProblem:
    """The error for two settings of a section that exclude each other."""
    first, second = getattr(values, one), getattr(values, other)
    return SettingProblem(
        f"{section}.{one} is {first!r} but {section}.{other} is {second!r}: {why}", f"Change {section}.{one} or {section}.{other}."
    )
