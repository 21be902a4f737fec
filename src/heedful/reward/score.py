"""What can say how good a completion is: a reward model, a classifier, a Python function.

Each is a :class:`heedful.engines.base.Scorer`. A score is finite or it is an error; 0 is a score.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.engines.base import Batch, Learner, Role
from heedful.engines.export import AS_WRITTEN
from heedful.engines.local import LocalLearner
from heedful.engines.models import choose_precision, load_head, load_language_model, load_scalar_model, load_tokenizer, load_trunk
from heedful.engines.networks import LanguageNetwork, ScalarNetwork
from heedful.errors import ModelProblem, RewardProblem, nearest
from heedful.prompts.budget import Budget
from heedful.prompts.chat import encode_completion
from heedful.records import Prompt, PromptText, plain_text

Fit = Callable[[Sequence[Prompt], Batch], Batch]


class SharedRewardModel:
    """A reward model on the policy's own kind of base: scores the token ids, never their text again.

    ``fit`` shortens what is longer than the reward model has learnt to read.
    """

    def __init__(self, learner: Learner, role: Role = "reward", *, fit: Fit | None = None) -> None:
        self.learner, self.role, self.fit = learner, role, fit

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str], batch: Batch) -> list[float]:
        """One score per row of ``batch``."""
        rows = batch if self.fit is None else self.fit(prompts, batch)
        scores = self.learner.evaluate(rows, self.role).scores
        assert scores is not None
        return finite(scores.tolist(), "the reward model")


class RewardModel:
    """Any Hugging Face sequence classifier with one logit, over prompt and completion; or with
    several and a ``label`` to maximise, whose raw logit is the score; or a trunk with a mean head;
    or a language model with a score head, as ``heed train reward`` saves it.

    The label is found by its name. ``completion_only`` judges the completion without its prompt.
    """

    def __init__(
        self, learner: LocalLearner, labels: Sequence[str], *, index: int = 0, completion_only: bool = False, max_tokens: int | None = None
    ) -> None:
        network = learner.network
        self.learner, self.tokenizer = learner, network.tokenizer
        self.labels, self.index, self.completion_only = list(labels), index, completion_only
        # RoBERTa has two positions that no token can take; only its tokenizer knows.
        self.max_tokens = min(max_tokens or 512, network.context or 512, self.tokenizer.model_max_length)
        as_written = isinstance(network, LanguageNetwork) or getattr(network.model.config, "heedful_reads", None) == AS_WRITTEN
        self.budget = Budget(self.tokenizer, network.encoder_decoder, self.max_tokens) if as_written else None

    @classmethod
    def open(
        cls,
        path: str,
        *,
        label: str | None = None,
        completion_only: bool = False,
        max_tokens: int | None = None,
        device: str = "auto",
        precision: str = "float32",
        trust_remote_code: bool = False,
    ) -> RewardModel:
        """From a folder or hub name. ``label`` is needed where there are several classes."""
        network = _open_network(path, device, precision, trust_remote_code)
        bare = isinstance(network, LanguageNetwork) or network.mean_head is not None
        labels = [""] if bare else label_names(network.model)
        index = label_index(labels, label, path)
        return cls(LocalLearner(network, "reward"), labels, index=index, completion_only=completion_only, max_tokens=max_tokens)

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str], batch: Batch) -> list[float]:
        """The raw logit per completion. ``batch`` belongs to the policy's tokenizer and is not used."""
        return finite(self.logits(prompts, texts)[:, self.index].tolist(), "the reward model")

    def probabilities(self, texts: Sequence[str]) -> Tensor:
        """Softmax over the classes of each text alone, ``[B, C]``."""
        return torch.softmax(self.raw(texts), -1)

    def raw(self, texts: Sequence[str]) -> Tensor:
        """Raw logits of each text alone, ``[B, C]``."""
        return self._logits([("", text) for text in texts])

    def logits(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Tensor:
        """``[B, C]`` raw logits."""
        return self._logits([("" if self.completion_only else p.prompt, t) for p, t in zip(prompts, texts, strict=True)])

    def _logits(self, rows: Sequence[tuple[PromptText, str]]) -> Tensor:
        outputs = self.learner.evaluate(self._encode(rows), "reward")
        if outputs.class_logits is not None:
            return outputs.class_logits
        assert outputs.scores is not None
        return outputs.scores[:, None]

    def _encode(self, rows: Sequence[tuple[PromptText, str]]) -> Batch:
        if self.budget is None:
            return encode_texts(self.tokenizer, [(plain_text(prompt), text) for prompt, text in rows], self.max_tokens)
        found = [self.budget.row(Prompt("", prompt), encode_completion(text, self.tokenizer)) for prompt, text in rows]
        return Batch([ids for ids, _ in found], [ids for _, ids in found])


def _open_network(path: str, device: str, precision: str, trust_remote_code: bool) -> LanguageNetwork | ScalarNetwork:
    """What the folder holds: a language model or a trunk, with a head beside it, or a sequence classifier."""
    mean_head, score_head = load_head(path, "mean_head"), load_head(path, "score_head")
    opener = load_language_model if score_head is not None else load_trunk if mean_head is not None else load_scalar_model
    tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
    model = opener(path, device=device, trust_remote_code=trust_remote_code)
    arithmetic = choose_precision(precision, model.device)
    if score_head is None:
        return ScalarNetwork(model, tokenizer, mean_head=mean_head, precision=arithmetic)
    network = LanguageNetwork(model, tokenizer, roles=("reward",), precision=arithmetic)
    own = network.score_heads["reward"]
    if own.weight.shape != score_head.weight.shape:
        raise ModelProblem(
            f"the score head in {path} reads states of width {score_head.in_features}, but the model's have {own.in_features}",
            "Take both files from the same training.",
        )
    own.load_state_dict(score_head.state_dict())
    return network


class FunctionReward:
    """A Python function ``f(prompts, completions, **columns) -> list of numbers``.

    ``prompts`` and ``completions`` are lists; each other column of the user's prompts arrives by
    its name, as a list, where the function asks for it. ``path`` is ``file.py:name`` or
    ``package.module:name``.
    """

    def __init__(self, path: str) -> None:
        self.path, self.function = path, load_function(path)

    def score(self, prompts: Sequence[Prompt], texts: Sequence[str], batch: Batch) -> list[float]:
        """Call the function once and look at what comes back."""
        columns = {name: [p.columns.get(name) for p in prompts] for name in self._wanted(prompts)}
        try:
            found = self.function([p.prompt for p in prompts], list(texts), **columns)
        except (Exception, SystemExit) as error:
            raise RewardProblem(
                f"the reward function {self.path} raised {type(error).__name__}: {error}",
                "Mend the function; the run goes on from its last checkpoint with --resume.",
            ) from error
        return finite(self._as_list(found, len(texts)), f"the reward function {self.path}", texts)

    def _wanted(self, prompts: Sequence[Prompt]) -> list[str]:
        parameters = inspect.signature(self.function).parameters
        have = sorted({name for p in prompts for name in p.columns})
        if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            return have
        return [name for name in have if name in parameters]

    def _as_list(self, found: Any, expected: int) -> list[Any]:
        try:
            values = list(found.tolist() if hasattr(found, "tolist") else found)
        except TypeError:
            raise RewardProblem(
                f"the reward function {self.path} returned a {type(found).__name__}",
                "It must return a list with one number per completion.",
            ) from None
        if len(values) != expected:
            raise RewardProblem(
                f"the reward function {self.path} returned {len(values)} scores for {expected} completions",
                "It must return one number per completion, in the same order.",
            )
        return values


def finite(values: Sequence[Any], who: str, texts: Sequence[str] | None = None) -> list[float]:
    """The values as floats; None, NaN, infinity and what is no number are refused, with the row."""
    found = []
    for row, value in enumerate(values):
        try:
            number = math.nan if value is None else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            shown = f" (completion {texts[row][:60]!r})" if texts else ""
            raise RewardProblem(
                f"{who} gave {value!r} for completion {row}{shown}",
                "Every completion needs a finite number; give bad ones a low score instead.",
            )
        found.append(number)
    return found


def load_function(path: str) -> Callable[..., Any]:
    """The function at ``file.py:name`` or ``package.module:name``."""
    place, colon, name = path.rpartition(":")
    if not colon:
        raise RewardProblem(f"reward.path is {path!r}, which names no function", "Write it as file.py:function or package.module:function.")
    module = _load_module(place)
    function = getattr(module, name, None)
    if not callable(function):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise RewardProblem(f"{place} has no function {name!r}", f"It has: {', '.join(known) or 'none'}.{nearest(name, known)}")
    return function


def _load_module(place: str) -> Any:
    try:
        if not place.endswith(".py"):
            return importlib.import_module(place)
        if not Path(place).exists():
            raise RewardProblem(f"there is no file {place}", "Check reward.path; it is relative to the folder heed runs in.")
        # A name of its own, so that a file called random.py hides nobody's random; dataclasses look it up there.
        name = f"heedful_reward_{Path(place).stem}"
        spec = importlib.util.spec_from_file_location(name, place)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except RewardProblem:
        raise
    except Exception as error:
        raise RewardProblem(
            f"{place} cannot be imported: {type(error).__name__}: {error}", "Mend it, or name another module in reward.path."
        ) from error
    return module


def label_names(model: Any) -> list[str]:
    """The classes of a classifier, in the order of its logits."""
    return [str(model.config.id2label[i]) for i in range(model.config.num_labels)]


def label_index(labels: Sequence[str], label: str | None, path: str) -> int:
    """Where the logit of ``label`` stands; by name, never by position."""
    if label is None:
        if len(labels) == 1:
            return 0
        raise ModelProblem(
            f"the classifier {path} has {len(labels)} classes: {', '.join(labels)}", "Say which one to maximise with reward.label."
        )
    if label not in labels:
        raise ModelProblem(
            f"the classifier {path} has no class {label!r}, only {', '.join(labels)}",
            f"Name one of them in reward.label.{nearest(label, labels)}",
        )
    return list(labels).index(label)


def encode_texts(tokenizer: Any, rows: Sequence[tuple[str, str]], max_tokens: int) -> Batch:
    """(prompt or "", completion) -> a batch for :class:`ScalarNetwork`, special tokens as the tokenizer sets them.

    Where both are too long together, the prompt loses its beginning: what was said last matters most.
    """
    prompt_ids, completion_ids = [], []
    for prompt, completion in rows:
        if prompt:
            ids, start = _encode_two(tokenizer, prompt, completion, max_tokens)
            prompt_ids.append(ids[:start])
            completion_ids.append(ids[start:])
        else:
            prompt_ids.append([])
            completion_ids.append(tokenizer(completion, truncation=True, max_length=max_tokens)["input_ids"])
    return Batch(prompt_ids, completion_ids)


def _encode_two(tokenizer: Any, prompt: str, completion: str, max_tokens: int) -> tuple[list[int], int]:
    """Ids of both texts, and where the second begins (its own special tokens included)."""
    room = max_tokens - tokenizer.num_special_tokens_to_add(pair=True)
    long_completion = len(tokenizer(completion, add_special_tokens=False)["input_ids"]) >= room
    side, tokenizer.truncation_side = tokenizer.truncation_side, "left"
    try:
        encoded = tokenizer(prompt, completion, truncation="longest_first" if long_completion else "only_first", max_length=max_tokens)
    finally:
        tokenizer.truncation_side = side
    belongs = encoded.sequence_ids(0)
    return encoded["input_ids"], belongs.index(1) if 1 in belongs else len(belongs)
