"""The forward passes: what a batch of ids becomes in a language model or a sequence classifier.

``LanguageNetwork`` gives one base several roles: the policy (an adapter), the reference (no
adapter), the value (a head on the policy's trunk) and the reward (another adapter and head).
With full fine-tuning the reference is a frozen copy. It is the same class for causal and
encoder-decoder models: both end in a language-model head, and what that head is given is all
that anyone needs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from heedful.engines.attention import Packed, following
from heedful.engines.base import Batch, Outputs, Role, distinct_rows
from heedful.engines.copies import Copies
from heedful.engines.head import Head, TokenStatistics, token_statistics
from heedful.engines.layout import lay_out
from heedful.engines.models import add_adapter, set_dropout
from heedful.engines.narrow import computing
from heedful.engines.padding import lengths_mask, pad_left, pad_right, scatter, spare, with_positions
from heedful.engines.recompute import computing_twice
from heedful.engines.tap import adopt_where_same, examine, no_token, tapped_head
from heedful.engines.tokens import context_length, decoder_start_id, end_ids, pad_id
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
    """One language model in up to four roles.

    ``precision`` is that of the arithmetic: in bfloat16 the weights that learn stay in float32.
    Causal models compute the tokens of a batch in one row without padding (``packs``) wherever
    their attention allows it; prompts that rows share are computed once (``share_prompts``). Where
    ``recomputes`` is set, layers are computed twice instead of kept.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        roles: Sequence[Role] = ("policy", "reference"),
        lora: Lora | None = None,
        with_value: bool = False,
        precision: torch.dtype = torch.float32,
        share_prompts: bool = True,
    ) -> None:
        super().__init__()
        self.tokenizer, self.lora, self.precision, self.share_prompts = tokenizer, lora, precision, share_prompts
        self.encoder_decoder = bool(model.config.is_encoder_decoder)
        self.copies, self.recomputes = Copies(precision), False
        self.pad_id = pad_id(tokenizer)
        self.end_ids = end_ids(model, tokenizer)
        self.start_id = decoder_start_id(model) if self.encoder_decoder else None
        self.context = context_length(model)
        set_dropout(model.eval())
        self.packs, self.plain_head = examine(model)
        self.written_out: bool | None = None  # found out when it is first sampled from
        self.replays = True  # until a recorded step has failed or differed
        self.reference = copy.deepcopy(model).requires_grad_(False) if lora is None and "reference" in roles else None
        self.model = self._with_adapters(model, roles)
        self.width = width = self.plain.get_output_embeddings().weight.shape[-1]
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

    def model_of(self, role: Role) -> tuple[Any, str | None]:
        """The plain model that a role computes with, and the adapter that is on in it."""
        plain = self.reference if self.lora is None and role == "reference" else self.plain
        assert plain is not None, "this network was opened with no reference"
        return plain, role if self.lora is not None and role != "reference" else None

    @contextmanager
    def as_role(self, role: Role) -> Iterator[Any]:
        """The plain model, computing with the right adapter; gradients reach that adapter alone.

        Without gradient every linear layer computes with its adapter merged (:mod:`heedful.engines.narrow`).
        """
        plain, adapter = self.model_of(role)
        with (computing_twice if self.recomputes else computing)(plain, self.copies, adapter):
            yield plain

    def forward(
        self,
        batch: Batch,
        role: Role,
        *,
        entropy: bool = False,
        exact_kl: bool = False,
        temperature: float = 1.0,
        ref_states: bool = False,
    ) -> Outputs:
        """See :class:`heedful.engines.base.Outputs`."""
        mask = batch.mask.to(self.device)
        states = self._states(batch, role)
        if role in SCALAR_ROLES:
            return Outputs(scores=self.score_heads[role](self._score_state(states, mask)).squeeze(-1))
        reference = self._reference_states(batch, mask) if exact_kl else None
        targets = torch.tensor([token for ids in batch.completion_ids for token in ids], dtype=torch.long, device=self.device)
        found = statistics(states, targets, reference, temperature, self.precision)
        with_value = role == "policy" and self.value_head is not None
        return Outputs(
            logprobs=scatter(found.logprobs, mask),
            values=scatter(self.value_head(states.found.float()).squeeze(-1), mask) if with_value else None,  # type: ignore[misc]
            entropy=scatter(found.entropy, mask) if entropy else None,
            kl=None if found.kl is None else scatter(found.kl, mask),
            ref_logprobs=None if found.ref_logprobs is None else scatter(found.ref_logprobs, mask),
            ref_states=self._kept(states if role == "reference" else reference, mask) if ref_states else None,
        )

    @torch.no_grad()
    def _reference_states(self, batch: Batch, mask: Tensor) -> States:
        """Computed, or where the batch carries them, those."""
        known = batch.columns.get("ref_states")
        if known is None:
            return self._states(batch, "reference")
        return States(known.to(self.device)[mask.bool()], head=self.head_of(self.model_of("reference")[0]))

    @staticmethod
    def _kept(states: States | None, mask: Tensor) -> Tensor | None:
        """``[B, T, H]``, for a later pass; ``None`` where a head takes more than states."""
        if states is None or states.head is None:
            return None
        found = states.found.new_zeros((*mask.shape, states.found.shape[1]))
        found[mask.bool()] = states.found
        return found

    def _score_state(self, states: States, mask: Tensor) -> Tensor:
        """What a score is read from, ``[B, H]``. Causal: the state after the last true token. Encoder-decoder: the
        mean over the states after each true token, since a decoder never learnt to read on past its end token."""
        if states.after is None:
            return states.found.float()
        weights = mask / mask.sum(1, keepdim=True).clamp(min=1)
        return (states.after.float() * weights[..., None]).sum(1)

    def _states(self, batch: Batch, role: Role) -> States:
        with self.as_role(role) as model:
            return (self._packed_states if self.packs else self._padded_states)(batch, model, role in SCALAR_ROLES)

    def _packed_states(self, batch: Batch, model: Any, scalar: bool) -> States:
        layout = lay_out(batch, self.device, share=self.share_prompts)
        wanted = layout.last if scalar else layout.before
        plan = Packed(layout, functional.pad(wanted, (0, spare(len(wanted)))))

        def choose(hidden: Tensor) -> Tensor:
            return hidden[0, : len(wanted)] if plan.trimmed else hidden[0].index_select(0, wanted)

        with following(plan), tapped_head(model, no_token if self.plain_head else choose) as tap:
            logits = model(input_ids=layout.ids, position_ids=layout.positions, use_cache=False).logits
        return self._found(model, choose(tap.hidden), None, logits)

    def _padded_states(self, batch: Batch, model: Any, scalar: bool) -> States:
        mask = batch.mask.to(self.device).bool()

        def before(hidden: Tensor) -> Tensor:
            return hidden[:, -(batch.width + 1) : -1][mask]

        with following(None), tapped_head(model, no_token if self.plain_head else before) as tap:
            logits = model(**self.inputs(batch, model), use_cache=False).logits
        hidden = tap.hidden[:, -(batch.width + 1) :]  # before each token, and after the last
        last = hidden[torch.arange(len(batch)), torch.as_tensor(batch.lengths, device=self.device)]
        after = hidden[:, 1:] if self.encoder_decoder else None
        return self._found(model, last if scalar else before(tap.hidden), after, logits)

    def _found(self, model: Any, found: Tensor, after: Tensor | None, logits: Tensor) -> States:
        if not self.plain_head:
            return States(found, after, logits=logits[0])
        return States(found, after, self.head_of(model))

    def head_of(self, model: Any) -> Head | None:
        """The head of a role's model, where it is plain."""
        if not self.plain_head:
            return None
        layer = model.get_output_embeddings()
        return Head(layer.weight, layer.bias, self.copies.plain(layer))

    def inputs(self, batch: Batch, model: Any) -> dict[str, Any]:
        """Tensors for the model's own ``forward``. Causal: prompts end and completions begin in one column."""
        completions = pad_right(batch.completion_ids, self.pad_id, self.device)
        completion_mask = batch.mask.to(self.device).long()
        if self.encoder_decoder:
            start = torch.full((len(batch), 1), self.start_id or 0, device=self.device)
            encoded, prompt_mask = self.encode(batch.prompt_ids, model)
            return {
                "encoder_outputs": encoded,
                "attention_mask": prompt_mask,
                "decoder_input_ids": torch.cat([start, completions], 1),
                "decoder_attention_mask": torch.cat([torch.ones_like(start), completion_mask], 1),
            }
        prompts, prompt_mask = pad_left(batch.prompt_ids, self.pad_id, self.device)
        attention = torch.cat([prompt_mask, completion_mask], 1)
        found = {"input_ids": torch.cat([prompts, completions], 1), "attention_mask": attention}
        return with_positions(model, found, attention)

    def encode(self, prompt_ids: Sequence[Sequence[int]], model: Any) -> tuple[Any, Tensor]:
        """What the encoder makes of prompts, and their mask; equal prompts are read once."""
        distinct, owner = distinct_rows(prompt_ids) if self.share_prompts else (list(prompt_ids), list(range(len(prompt_ids))))
        mask = lengths_mask(distinct, self.device)
        encoded = model.get_encoder()(input_ids=pad_right(distinct, self.pad_id, self.device), attention_mask=mask)
        if len(distinct) < len(prompt_ids):
            index = torch.tensor(owner, device=self.device)
            encoded.last_hidden_state, mask = encoded.last_hidden_state[index], mask[index]
        return encoded, mask


@dataclass(frozen=True)
class States:
    """What the language-model head would be given: ``found [C, H]`` before each completion token, rows in order, or for a
    score ``[B, H]`` after each row's last token; and with an encoder-decoder ``after [B, T, H]`` each token, padded.

    ``head`` turns states into logits; where that takes more than one linear layer there are ``logits [C, V]`` instead.
    """

    found: Tensor
    after: Tensor | None = None
    head: Head | None = None
    logits: Tensor | None = None


def statistics(states: States, targets: Tensor, reference: States | None, temperature: float, precision: torch.dtype) -> TokenStatistics:
    """Of the targets ``[C]``, with exact KL to a reference where one is given."""
    if states.head is not None:
        other = None if reference is None or reference.head is None else (reference.head, reference.found)
        return token_statistics(states.head, states.found, targets, temperature=temperature, reference=other, dtype=precision)
    assert states.logits is not None
    logits = scale_logits(states.logits, temperature)
    logprobs, entropy = token_logprobs(logits, targets), token_entropy(logits)
    if reference is None:
        return TokenStatistics(logprobs, entropy)
    assert reference.logits is not None
    theirs = scale_logits(reference.logits, temperature)
    return TokenStatistics(logprobs, entropy, kl_maths.exact(logits, theirs), token_logprobs(theirs, targets))


class ScalarNetwork(nn.Module):
    """A Hugging Face sequence classifier over prompt and completion: one score, or one logit per class.

    Encoders see ``[CLS] prompt [SEP] completion [SEP]`` as their tokenizer builds it; causal
    trunks are read at the last true token, found by length and never by comparing with pad.
    With a ``mean_head`` the model is a trunk without a classifier, and the score is read at the
    mean of the completion's states, as sentence encoders are (Reimers and Gurevych 2019).
    """

    encoder_decoder = False

    def __init__(self, model: Any, tokenizer: Any, *, mean_head: nn.Linear | None = None, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        if model.config.is_encoder_decoder:
            raise ModelProblem(
                f"{type(model).__name__} is an encoder-decoder classifier",
                "Name an encoder or a causal model, or learn a reward model on the policy's own base (reward.base = 'policy').",
            )
        set_dropout(model)
        self.model, self.tokenizer, self.precision = model.requires_grad_(True), tokenizer, precision
        self.copies, self.recomputes = Copies(precision), False
        self.pad_id = pad_id(tokenizer)
        self.context = context_length(model)
        self.causal_head = getattr(model, "score", None)
        self.mean_head = None if mean_head is None else mean_head.to(model.device)
        self.eval()
        if model.device.type != "meta":
            ids = torch.tensor([[1, 2, 3], [1, 2, 1]], device=model.device)
            mask = torch.tensor([[1, 1, 1], [1, 1, 0]], device=model.device)
            adopt_where_same(model, lambda: model.base_model(input_ids=ids, attention_mask=mask).last_hidden_state[mask.bool()])

    @property
    def plain(self) -> Any:
        """The Hugging Face model itself."""
        return self.model

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    def trainable(self, role: Role) -> dict[str, nn.Parameter]:
        """Every parameter that is not frozen (see ``freeze_lower``)."""
        head = {} if self.mean_head is None else {f"mean_head.{name}": p for name, p in self.mean_head.named_parameters()}
        every = {**dict(self.model.named_parameters()), **head}
        return {name: p for name, p in every.items() if p.requires_grad} if role in SCALAR_ROLES else {}

    @contextmanager
    def as_role(self, role: Role) -> Iterator[Any]:
        """The model, computing in its precision."""
        assert role in SCALAR_ROLES, f"a sequence classifier has no role {role!r}"
        with (computing_twice if self.recomputes else computing)(self.model, self.copies):
            yield self.model

    def forward(self, batch: Batch, role: Role, **_: Any) -> Outputs:
        """``class_logits [B, C]``, and ``scores [B]`` where there is one logit."""
        rows = [list(p) + list(c) for p, c in zip(batch.prompt_ids, batch.completion_ids, strict=True)]
        ids, attention = pad_right(rows, self.pad_id, self.device), lengths_mask(rows, self.device)
        with self.as_role(role), following(None):
            if self.mean_head is not None:
                hidden = self.model.base_model(input_ids=ids, attention_mask=attention, **self._token_types(batch, ids)).last_hidden_state
                mean = self._completion_mean(hidden.float(), batch)
                logits = self.mean_head(mean * mean.shape[1] ** 0.5)  # the head learns faster than the trunk, see mean_head
            elif self.causal_head is None:
                logits = self.model(input_ids=ids, attention_mask=attention, **self._token_types(batch, ids)).logits
            else:
                hidden = self.model.base_model(input_ids=ids, attention_mask=attention, use_cache=False).last_hidden_state
                logits = self.causal_head(hidden[torch.arange(len(rows)), attention.sum(1) - 1])
        logits = logits.float()
        return Outputs(class_logits=logits, scores=logits[:, 0] if logits.shape[1] == 1 else None)

    @staticmethod
    def _completion_mean(hidden: Tensor, batch: Batch) -> Tensor:
        """``[B, T, H]`` -> ``[B, H]``: the mean over the completion's tokens, its closing special token included."""
        start = torch.tensor([len(p) for p in batch.prompt_ids], device=hidden.device)
        length = torch.tensor([len(c) for c in batch.completion_ids], device=hidden.device)
        at = torch.arange(hidden.shape[1], device=hidden.device)
        inside = (at >= start[:, None]) & (at < (start + length)[:, None])
        return (hidden * inside[..., None]).sum(1) / length.clamp(min=1)[:, None]

    def _token_types(self, batch: Batch, ids: Tensor) -> dict[str, Tensor]:
        """BERT marks the second text with 1; others have no such input."""
        if "token_type_ids" not in getattr(self.tokenizer, "model_input_names", []):
            return {}
        types = torch.zeros_like(ids)
        for row, (prompt, completion) in enumerate(zip(batch.prompt_ids, batch.completion_ids, strict=True)):
            if prompt:
                types[row, len(prompt) : len(prompt) + len(completion)] = 1
        return {"token_type_ids": types}


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


def mean_head(width: int) -> nn.Linear:
    """A score of a mean state, which is multiplied by the square root of ``width``.

    It starts at zero and moves fast: the trunk's features are good already, and a random direction
    in them would be learnt around before anything else (Kumar et al. 2022).
    """
    head = nn.Linear(width, 1, bias=False)
    nn.init.zeros_(head.weight)
    return head
