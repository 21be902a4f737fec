"""The forward passes: what a batch of ids becomes in a language model or a sequence classifier.

``LanguageNetwork`` gives one base several roles: the policy (an adapter), the reference (no
adapter), the value (a head on the policy's trunk) and the reward (another adapter and head).
With full fine-tuning the reference is a frozen copy. It is the same class for causal and
encoder-decoder models: both end in a language-model head, and what that head is given is all
that anyone needs.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from heedful.engines.base import Batch, Outputs, Role, length_mask
from heedful.engines.models import add_adapter, set_dropout
from heedful.errors import ModelProblem
from heedful.maths import kl as kl_maths
from heedful.maths.logprobs import entropy as token_entropy
from heedful.maths.logprobs import scale_logits, token_logprobs

SCALAR_ROLES = ("reward", "monitor")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (Hu et al. 2021), without dropout: the sampled and the trained policy are one function."""

    r: int = 16
    alpha: int = 32
    targets: tuple[str, ...] = ("auto",)


class LanguageNetwork(nn.Module):
    """One language model in up to four roles."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        roles: Sequence[Role] = ("policy", "reference"),
        lora: Lora | None = None,
        with_value: bool = False,
        packing: bool = False,
    ) -> None:
        super().__init__()
        self.tokenizer, self.lora, self.packing = tokenizer, lora, packing
        self.encoder_decoder = bool(model.config.is_encoder_decoder)
        self.pad_id = pad_id(tokenizer)
        self.end_ids = end_ids(model, tokenizer)
        self.start_id = decoder_start_id(model) if self.encoder_decoder else None
        self.context = context_length(model)
        set_dropout(model)
        self.reference = copy.deepcopy(model).requires_grad_(False) if lora is None and "reference" in roles else None
        self.model = self._with_adapters(model, roles)
        width = self.plain.get_output_embeddings().weight.shape[-1]
        self.value_head = value_head(width).to(self.device) if with_value else None
        self.score_heads = nn.ModuleDict({role: reward_head(width).to(self.device) for role in roles if role in SCALAR_ROLES})
        self.eval()

    def _with_adapters(self, model: Any, roles: Sequence[Role]) -> Any:
        if self.lora is None:
            return model.requires_grad_(True)
        for role in roles:
            if role != "reference":
                model = add_adapter(model, role, r=self.lora.r, alpha=self.lora.alpha, targets=self.lora.targets)
        return model.requires_grad_(False)

    @property
    def plain(self) -> Any:
        """The Hugging Face model itself, adapters inside its layers."""
        return self.model.get_base_model() if self.lora is not None else self.model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def trainable(self, role: Role) -> dict[str, nn.Parameter]:
        """The parameters that learning in ``role`` changes, by name."""
        head = self.score_heads[role] if role in self.score_heads else self.value_head  # noqa: SIM401 (a ModuleDict has no get)
        found = {f"head.{n}": p for n, p in head.named_parameters()} if head is not None else {}
        for name, parameter in self.model.named_parameters():
            if self.lora is None or f".{role}." in name:
                found[name] = parameter
        return found

    @contextmanager
    def as_role(self, role: Role) -> Iterator[Any]:
        """The plain model with the right adapter on; gradients reach that adapter alone."""
        if self.lora is None and role == "reference":
            assert self.reference is not None, "this network was opened with no reference"
            yield self.reference
        elif self.lora is None:
            yield self.model
        elif role == "reference":
            with self.model.disable_adapter():
                yield self.plain
        else:
            self.model.set_adapter(role)
            yield self.plain

    def forward(self, batch: Batch, role: Role, *, entropy: bool = False, exact_kl: bool = False, temperature: float = 1.0) -> Outputs:
        """See :class:`heedful.engines.base.Outputs`; logits exist only where the mask is 1."""
        mask = batch.mask.to(self.device)
        if role in SCALAR_ROLES:
            hidden, _ = self._states(batch, role, mask, with_logits=False)
            return Outputs(scores=self.score_heads[role](self._read(hidden, batch, mask)).squeeze(-1))
        hidden, logits = self._states(batch, role, mask, with_logits=True)
        logits = scale_logits(logits, temperature)
        targets = pad_right(batch.completion_ids, self.pad_id, self.device)[mask.bool()]
        values = None
        if role == "policy" and self.value_head is not None:
            values = self.value_head(hidden[:, :-1].float()).squeeze(-1) * mask
        divergence = None
        if exact_kl:
            with torch.no_grad():
                _, reference = self._states(batch, "reference", mask, with_logits=True)
            divergence = scatter(kl_maths.exact(logits, scale_logits(reference, temperature)), mask)
        return Outputs(
            logprobs=scatter(token_logprobs(logits, targets), mask),
            values=values,
            entropy=scatter(token_entropy(logits), mask) if entropy else None,
            kl=divergence,
        )

    def _read(self, hidden: Tensor, batch: Batch, mask: Tensor) -> Tensor:
        """What a score is read from, ``[B, H]``. Causal: the state after the last true token (state index
        ``length``, counting the one before the first). Encoder-decoder: the mean over the states after
        each true token, since a decoder never learnt to read on past its end token."""
        hidden = hidden.float()
        if not self.encoder_decoder:
            return hidden[torch.arange(len(batch)), torch.as_tensor(batch.lengths, device=self.device)]
        weights = mask / mask.sum(1, keepdim=True).clamp(min=1)
        return (hidden[:, 1:] * weights[..., None]).sum(1)

    def _states(self, batch: Batch, role: Role, mask: Tensor, *, with_logits: bool) -> tuple[Tensor, Tensor]:
        """Hidden states ``[B, T + 1, H]`` (before each token, and after the last) and logits ``[N, V]`` on the mask."""
        kept = mask.bool() if with_logits else torch.zeros_like(mask, dtype=torch.bool)
        width = batch.width
        packed = pack(batch, self.pad_id, self.device) if self.packing and not self.encoder_decoder else None

        def aligned(hidden: Tensor) -> Tensor:
            return hidden[:, -(width + 1) :] if packed is None else hidden[packed.rows, packed.columns]

        with self.as_role(role) as model, tapped_head(model, lambda hidden: aligned(hidden)[:, :-1][kept][None]) as tap:
            logits = model(**(self.inputs(batch) if packed is None else packed.inputs), use_cache=False).logits
        return aligned(tap.hidden), logits.reshape(-1, logits.shape[-1])

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """Tensors for the model's own ``forward``. Causal: prompts end and completions begin in one column."""
        completions = pad_right(batch.completion_ids, self.pad_id, self.device)
        completion_mask = batch.mask.to(self.device).long()
        if self.encoder_decoder:
            prompts, prompt_mask = pad_right(batch.prompt_ids, self.pad_id, self.device), lengths_mask(batch.prompt_ids, self.device)
            start = torch.full((len(batch), 1), self.start_id or 0, device=self.device)
            ones = torch.ones_like(start)
            return {
                "input_ids": prompts,
                "attention_mask": prompt_mask,
                "decoder_input_ids": torch.cat([start, completions], 1),
                "decoder_attention_mask": torch.cat([ones, completion_mask], 1),
            }
        prompts, prompt_mask = pad_left(batch.prompt_ids, self.pad_id, self.device)
        attention = torch.cat([prompt_mask, completion_mask], 1)
        found = {"input_ids": torch.cat([prompts, completions], 1), "attention_mask": attention}
        return with_positions(self.plain, found, attention)


class ScalarNetwork(nn.Module):
    """A Hugging Face sequence classifier over prompt and completion: one score, or one logit per class.

    Encoders see ``[CLS] prompt [SEP] completion [SEP]`` as their tokenizer builds it; causal
    trunks are read at the last true token, found by length and never by comparing with pad.
    """

    encoder_decoder = False

    def __init__(self, model: Any, tokenizer: Any) -> None:
        super().__init__()
        if model.config.is_encoder_decoder:
            raise ModelProblem(
                f"{type(model).__name__} is an encoder-decoder classifier",
                "Use an encoder or causal classifier, or learn a reward model on the encoder-decoder itself (reward.base).",
            )
        set_dropout(model)
        self.model, self.tokenizer = model.requires_grad_(True), tokenizer
        self.pad_id = pad_id(tokenizer)
        self.context = context_length(model)
        self.causal_head = getattr(model, "score", None) if hasattr(model, "score") else None
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def trainable(self, role: Role) -> dict[str, nn.Parameter]:
        """Every parameter: classifiers are fine-tuned whole."""
        return dict(self.model.named_parameters()) if role in SCALAR_ROLES else {}

    def forward(self, batch: Batch, role: Role, **_: Any) -> Outputs:
        """``class_logits [B, C]``, and ``scores [B]`` where there is one logit."""
        assert role in SCALAR_ROLES, f"a sequence classifier has no role {role!r}"
        rows = [list(p) + list(c) for p, c in zip(batch.prompt_ids, batch.completion_ids, strict=True)]
        ids, attention = pad_right(rows, self.pad_id, self.device), lengths_mask(rows, self.device)
        if self.causal_head is None:
            logits = self.model(input_ids=ids, attention_mask=attention, **self._token_types(batch, ids)).logits
        else:
            hidden = self.model.base_model(input_ids=ids, attention_mask=attention, use_cache=False).last_hidden_state
            logits = self.causal_head(hidden[torch.arange(len(rows)), attention.sum(1) - 1])
        logits = logits.float()
        return Outputs(class_logits=logits, scores=logits[:, 0] if logits.shape[1] == 1 else None)

    def _token_types(self, batch: Batch, ids: Tensor) -> dict[str, Tensor]:
        """BERT marks the second text with 1; others have no such input."""
        if "token_type_ids" not in getattr(self.tokenizer, "model_input_names", []):
            return {}
        types = torch.zeros_like(ids)
        for row, (prompt, completion) in enumerate(zip(batch.prompt_ids, batch.completion_ids, strict=True)):
            if prompt:
                types[row, len(prompt) : len(prompt) + len(completion)] = 1
        return {"token_type_ids": types}


@dataclass
class Tap:
    """What the language-model head was about to be given."""

    hidden: Tensor = None  # type: ignore[assignment]


@contextmanager
def tapped_head(model: Any, choose: Callable[[Tensor], Tensor]) -> Iterator[Tap]:
    """Keep the states that reach the language-model head, and let it see only those that ``choose`` picks.

    The one place where architectures agree: whatever happens before or after (scaling in T5, soft
    caps in Gemma, BERT's transform) stays the model's own business.
    """
    tap = Tap()

    def before(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        tap.hidden = args[0]
        return (choose(args[0]), *args[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(before)
    try:
        yield tap
    finally:
        handle.remove()


def value_head(width: int) -> nn.Linear:
    """V of a state. Starts at zero, so that the first advantages are those of the rewards alone."""
    head = nn.Linear(width, 1)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def reward_head(width: int) -> nn.Linear:
    """A score per state, drawn from N(0, 1/(width + 1)) as in Stiennon et al. 2020; a bias would cancel in every pair."""
    head = nn.Linear(width, 1, bias=False)
    nn.init.normal_(head.weight, std=(width + 1) ** -0.5)
    return head


def scatter(flat: Tensor, mask: Tensor) -> Tensor:
    """``[N]`` values of the masked positions -> ``[B, T]``, 0 elsewhere."""
    return torch.zeros(mask.shape, dtype=flat.dtype, device=flat.device).masked_scatter(mask.bool(), flat)


def pad_right(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> Tensor:
    """``[B, width]`` ids, padded behind."""
    width = max((len(row) for row in rows), default=0)
    return torch.tensor([list(row) + [pad] * (width - len(row)) for row in rows], dtype=torch.long, device=device).reshape(len(rows), width)


def pad_left(rows: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """``[B, width]`` ids, padded in front, and their mask."""
    width = max((len(row) for row in rows), default=0)
    ids = [[pad] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, dtype=torch.long, device=device).reshape(len(rows), width), torch.tensor(
        mask, dtype=torch.long, device=device
    ).reshape(len(rows), width)


@dataclass(frozen=True)
class Packed:
    """A batch in fewer, fuller rows. ``rows`` and ``columns`` ``[B, T + 1]`` say where each row's states stand."""

    inputs: dict[str, Tensor]
    rows: Tensor
    columns: Tensor


def pack(batch: Batch, pad: int, device: torch.device, room: int = 256) -> Packed:
    """Rows one behind the other, in bins of ``room`` tokens (or of the longest row).

    Positions start again at 0 in each, from which the model's mask follows: no row sees another
    (block-diagonal attention). Bins stay short because attention costs their length squared.
    """
    whole = [[*prompt, *completion] for prompt, completion in zip(batch.prompt_ids, batch.completion_ids, strict=True)]
    places, filled = first_fit([len(row) for row in whole], room)
    ids = torch.full((len(filled), max(filled, default=1)), pad, dtype=torch.long)
    positions = torch.zeros_like(ids)
    columns = torch.zeros((len(batch), batch.width + 1), dtype=torch.long)
    for row, (bin_, start) in enumerate(places):
        end = start + len(whole[row])
        ids[bin_, start:end] = torch.tensor(whole[row], dtype=torch.long)
        positions[bin_, start:end] = torch.arange(len(whole[row]))
        first = start + len(batch.prompt_ids[row]) - 1  # the state before the first completion token
        columns[row] = torch.arange(first, first + batch.width + 1).clamp(max=end - 1)
    rows = torch.tensor([bin_ for bin_, _ in places], dtype=torch.long)[:, None].expand_as(columns)
    return Packed({"input_ids": ids.to(device), "position_ids": positions.to(device)}, rows.to(device), columns.to(device))


def first_fit(lengths: Sequence[int], room: int) -> tuple[list[tuple[int, int]], list[int]]:
    """First-fit decreasing: (bin, offset) of each length, and how full each bin is."""
    room = max(room, *lengths) if lengths else room
    filled: list[int] = []
    places: list[tuple[int, int]] = [(0, 0)] * len(lengths)
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        bin_ = next((b for b, full in enumerate(filled) if full + lengths[index] <= room), len(filled))
        if bin_ == len(filled):
            filled.append(0)
        places[index] = (bin_, filled[bin_])
        filled[bin_] += lengths[index]
    return places, filled


def lengths_mask(rows: Sequence[Sequence[int]], device: torch.device) -> Tensor:
    """``[B, width]`` long: 1 on true tokens, by length."""
    lengths = [len(row) for row in rows]
    return length_mask(lengths, max(lengths, default=0)).long().to(device)


def with_positions(model: Any, inputs: dict[str, Tensor], attention: Tensor) -> dict[str, Tensor]:
    """Add position ids that ignore left padding, where the model takes them."""
    if accepts(model, "position_ids"):
        inputs["position_ids"] = (attention.cumsum(1) - 1).clamp(min=0)[:, -inputs["input_ids"].shape[1] :]
    return inputs


def accepts(model: Any, argument: str) -> bool:
    """Does the model's ``forward`` take this argument?"""
    return argument in inspect.signature(model.forward).parameters


def pad_id(tokenizer: Any) -> int:
    """An id to fill with. Which one is of no account: masks come from lengths."""
    return next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0)


def end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every id that ends a completion: the tokenizer's, the model's and its generation settings'."""
    found: set[int] = set()
    for source in (tokenizer, model.config, getattr(model, "generation_config", None)):
        ids = getattr(source, "eos_token_id", None)
        found.update(ids if isinstance(ids, (list, tuple)) else [] if ids is None else [ids])
    if not found:
        raise ModelProblem("neither the tokenizer nor the model names an end token", "Set eos_token in the tokenizer's configuration.")
    return sorted(found)


def decoder_start_id(model: Any) -> int:
    """The id an encoder-decoder's decoder starts from."""
    for source in (model.config, getattr(model, "generation_config", None)):
        found = getattr(source, "decoder_start_token_id", None)
        if found is not None:
            return int(found)
    raise ModelProblem(
        "the encoder-decoder does not say which token its decoder starts from", "Set decoder_start_token_id in its config.json."
    )


def context_length(model: Any) -> int | None:
    """The longest input that the position embeddings allow, where there is such a limit."""
    config = getattr(model.config, "encoder", None) or model.config
    found = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    return int(found) if found and getattr(config, "model_type", "") not in {"t5", "mt5", "umt5", "longt5"} else None
