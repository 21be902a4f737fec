"""The engine of one process: micro-batches that fit, one denominator, one optimiser."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor

from heedful.engines.base import Batch, Loss, Outputs, Role
from heedful.engines.fuse import layers
from heedful.engines.memory import give_back_free_memory, is_out_of_memory, keep_free_memory, out_of_memory, with_less
from heedful.engines.networks import LanguageNetwork, ScalarNetwork
from heedful.engines.sampling import LocalSampler
from heedful.errors import FileProblem, NotFinite

SUITABLE = {True: 1536, False: 16384}
"""Tokens computed at once on a CPU, where what stays in its caches is quick, and on an accelerator, which wants to be full."""
KEPT_BYTES = 256 * 2**20
"""The reference's states over a rollout are kept up to this size, and computed again at every update beyond it."""
SMALLEST = 16
"""Fewer tokens than this are not worth trying again with."""


@dataclass(frozen=True)
class Optimiser:
    """AdamW (Loshchilov & Hutter 2019) with a schedule over ``total_steps``."""

    learning_rate: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-5
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    warmup_steps: int = 0
    schedule: str = "constant"
    total_steps: int = 0

    def factor(self, step: int) -> float:
        """What the learning rate is multiplied by at optimiser step ``step`` (from 0)."""
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "linear" and self.total_steps:
            return warm * max(0.0, 1.0 - max(0, step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps))
        return warm


class LocalLearner:
    """See :class:`heedful.engines.base.Learner`.

    ``micro_batch_tokens`` are computed at once, by default as many as suit the device, and without
    gradient ``evaluation_tokens``. When memory runs out they are halved for good, and ``say`` hears of
    it; layers are computed twice instead of kept (Chen et al. 2016) only once a single group does not fit.
    """

    def __init__(
        self,
        network: LanguageNetwork | ScalarNetwork,
        trains: Role = "policy",
        optimiser: Optimiser | None = None,
        *,
        micro_batch_tokens: int | None = None,
        temperature: float = 1.0,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.network, self.trains, self.temperature, self.say = network, trains, temperature, say
        self.settings = optimiser or Optimiser()
        self.micro_batch_tokens = micro_batch_tokens or SUITABLE[network.device.type == "cpu"]
        self.evaluation_tokens = 2 * self.micro_batch_tokens  # nothing is kept for a backward pass
        self.parameters = network.trainable(trains)
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        self.optimiser = torch.optim.AdamW(
            list(self.parameters.values()),
            lr=self.settings.learning_rate,
            betas=self.settings.betas,
            eps=self.settings.eps,
            weight_decay=self.settings.weight_decay,
            fused=True,
        )
        self.steps = 0
        self._sampler: LocalSampler | None = None
        keep_free_memory()

    @property
    def rounding(self) -> float:
        """How far two ways to compute one logprob may lie apart."""
        return 1e-4 if self.network.precision == torch.float32 else 0.15

    @torch.no_grad()
    def evaluate(self, batch: Batch, role: Role, *, entropy: bool = False, exact_kl: bool = False, ref_states: bool = False) -> Outputs:
        """Outputs of the whole batch on the CPU, in its own row order."""
        with_states = ref_states and self._has_room_for_states(batch)

        def found(budget: int) -> Outputs:
            parts = [(rows, self._forward(batch.select(rows), role, entropy, exact_kl, with_states)) for rows in self._parts(batch, budget)]
            return gather_outputs(parts, len(batch), batch.width)

        outputs, self.evaluation_tokens = with_less(found, self.evaluation_tokens, SMALLEST, self.say)
        # A reference and a reward model look at a rollout once, and converting weights costs little beside a pass of a batch.
        self.network.copies.forget()
        give_back_free_memory()
        return outputs

    def forward_backward(self, batch: Batch, loss: Loss) -> dict[str, float]:
        """Accumulate ``sum(loss) / denominator``; the denominator is the whole batch's, so cutting it never matters."""
        fresh = all(parameter.grad is None for parameter in self.parameters.values())
        while True:
            try:
                return self._forward_backward(batch, loss)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if not fresh or not self._save_memory(batch):
                    raise out_of_memory(self.micro_batch_tokens) from None
                self.optimiser.zero_grad(set_to_none=True)  # what earlier rows left behind

    def _forward_backward(self, batch: Batch, loss: Loss) -> dict[str, float]:
        needs: frozenset[str] = getattr(loss, "needs", frozenset())
        tokens, groups = sum(batch.lengths), len(set(batch.group_ids))
        totals: dict[str, Tensor] = {}
        for rows in self._parts(batch, self.micro_batch_tokens):
            part = to_device(batch.select(rows), self.network.device)
            outputs = self._forward(part, self.trains, "entropy" in needs, "kl" in needs)
            value, metrics = loss(outputs, part)
            total = masked_total(value, part) / (tokens if value.dim() == 2 else groups)
            if not torch.isfinite(total):
                self.optimiser.zero_grad(set_to_none=True)  # what earlier rows left behind
                raise NotFinite(
                    f"the loss became {float(total.detach())} at optimiser step {self.steps}, in rows {rows[:8]} of the batch",
                    "No update was made. Lower the learning rate or look at those rows; the last checkpoint is intact.",
                )
            total.backward()
            for name, metric in {"loss": value, **metrics}.items():
                share = masked_total(metric.detach(), part) / (tokens if metric.dim() == 2 else groups)
                totals[name] = totals.get(name, torch.zeros(())) + share.cpu()
            del outputs, value, metrics, metric, total  # before the next part makes its own
        return {name: float(total) for name, total in totals.items()}

    def _parts(self, batch: Batch, budget: int) -> list[list[int]]:
        return micro_batches(batch, budget, packs=getattr(self.network, "packs", False))

    def _save_memory(self, batch: Batch) -> bool:
        """Compute less at once; ``False`` when there is nothing left to try."""
        self.network.copies.forget()
        groups = max(len({batch.group_ids[r] for r in rows}) for rows in self._parts(batch, self.micro_batch_tokens))
        if groups > 1 and self.micro_batch_tokens > SMALLEST:
            self.micro_batch_tokens //= 2
            self.say(f"Memory ran out: going on with {self.micro_batch_tokens} tokens at once.")
            return True
        if recompute_layers(self.network):
            self.say("Memory ran out: going on with layers computed twice instead of kept.")
            return True
        return False

    def step(self) -> dict[str, float]:
        """Clip, update, zero. A gradient that is not finite is refused before it touches a weight."""
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.max_grad_norm or math.inf))
        if not math.isfinite(norm):
            self.optimiser.zero_grad(set_to_none=True)
            raise NotFinite(
                f"the gradient's norm became {norm} at optimiser step {self.steps}",
                "No update was made. Lower the learning rate; the last checkpoint is intact.",
            )
        rate = self.settings.learning_rate * self.settings.factor(self.steps)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.optimiser.step()
        torch.autograd.graph.increment_version(list(self.parameters.values()))  # the fused step does not tell that it wrote
        self.optimiser.zero_grad(set_to_none=True)
        self.steps += 1
        return {"grad_norm": norm, "lr": rate}

    def sampler(self) -> LocalSampler:
        """Samples from the weights as they are at each call; always the same, which remembers how much memory allowed."""
        if self._sampler is None:
            assert isinstance(self.network, LanguageNetwork), "only language models write"
            self._sampler = LocalSampler(self.network, say=self.say)
        return self._sampler

    def save(self, folder: Path) -> None:
        """Trained weights and heads, optimiser moments and step count, as safetensors and JSON."""
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: p.detach().contiguous().cpu() for name, p in self.parameters.items()}, folder / "weights.safetensors")
        moments = {}
        for name, parameter in self.parameters.items():
            for key, value in self.optimiser.state.get(parameter, {}).items():
                moments[f"{key}/{name}"] = torch.as_tensor(value).detach().contiguous().cpu()
        save_file(moments, folder / "optimiser.safetensors")
        (folder / "learner.json").write_text(
            json.dumps({"steps": self.steps, "trains": self.trains, "optimiser": asdict(self.settings)}, indent=1)
        )

    def load(self, folder: Path) -> None:
        """The inverse of :meth:`save`; a checkpoint of other parameters is refused."""
        from safetensors.torch import load_file

        weights = load_file(folder / "weights.safetensors")
        if set(weights) != set(self.parameters) or any(weights[n].shape != p.shape for n, p in self.parameters.items()):
            raise FileProblem(
                f"the checkpoint {folder} holds other parameters than this model trains", "Resume with the same model and LoRA settings."
            )
        moments = load_file(folder / "optimiser.safetensors")
        self.optimiser.state.clear()  # a checkpoint from before the first step has no moments
        self.optimiser.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(weights[name])
                state = {key: moments[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}/{name}" in moments}
                if state:
                    self.optimiser.state[parameter] = {key: value.to(parameter.device) for key, value in state.items()}
        self.steps = json.loads((folder / "learner.json").read_text())["steps"]

    def _has_room_for_states(self, batch: Batch) -> bool:
        return isinstance(self.network, LanguageNetwork) and 4 * len(batch) * batch.width * self.network.width <= KEPT_BYTES

    def _forward(self, batch: Batch, role: Role, entropy: bool, exact_kl: bool, ref_states: bool = False) -> Outputs:
        asked = {"entropy": entropy, "exact_kl": exact_kl, "temperature": self.temperature, "ref_states": ref_states}
        outputs: Outputs = self.network(batch, role, **asked)
        return outputs


def micro_batches(batch: Batch, budget: int, *, packs: bool = False) -> list[list[int]]:
    """Rows in parts of at most ``budget`` tokens, sorted by length; a group is never split, and rows that
    share a prompt stand together.

    Counted is what is computed: padded rectangles, or with ``packs`` every token once, and a prompt
    once however many rows of the part share it. A group larger than the budget makes a part of its own.
    """
    prompts, completions = [len(ids) for ids in batch.prompt_ids], batch.lengths
    parts: list[list[int]] = []
    longest, seen, tokens = (0, 0), set[tuple[int, ...]](), 0  # of the last part
    by_group = batch.rows_by_group.values()
    for rows in sorted(by_group, key=lambda rows: (-max(prompts[r] + completions[r] for r in rows), batch.prompt_ids[rows[0]], rows[0])):
        own = max(prompts[r] for r in rows), max(completions[r] for r in rows)
        together = max(longest[0], own[0]), max(longest[1], own[1])
        new = {tuple(batch.prompt_ids[r]) for r in rows}
        more = sum(completions[r] for r in rows) + sum(len(p) for p in new - seen)
        cost = tokens + more if packs else (len(parts[-1]) + len(rows)) * sum(together) if parts else 0
        if parts and cost <= budget:
            parts[-1].extend(rows)
            longest, seen, tokens = together, seen | new, tokens + more
        else:
            parts.append(list(rows))
            longest, seen, tokens = own, new, sum(completions[r] for r in rows) + sum(len(p) for p in new)
    return parts


def masked_total(value: Tensor, batch: Batch) -> Tensor:
    """The sum of ``[B, T]`` over true tokens, or of ``[G]`` over groups."""
    if value.dim() == 2:
        mask = batch.mask.to(value.device).bool()
        return torch.where(mask, value, torch.zeros_like(value)).sum()
    return value.sum()


def gather_outputs(parts: Sequence[tuple[list[int], Outputs]], rows: int, width: int) -> Outputs:
    """Outputs of micro-batches, put back in the order of the batch and padded to its width."""

    def merge(name: str) -> Tensor | None:
        pieces = [(index, getattr(outputs, name)) for index, outputs in parts]
        if not pieces or pieces[0][1] is None:
            return None
        first = pieces[0][1]
        shape = (rows,) if first.dim() == 1 else (rows, first.shape[1] if name == "class_logits" else width, *first.shape[2:])
        whole = torch.zeros(shape, dtype=first.dtype)
        for index, piece in pieces:
            if piece.dim() == 1:
                whole[index] = piece.cpu()
            else:
                whole[torch.tensor(index)[:, None], torch.arange(piece.shape[1])[None, :]] = piece.cpu()
        return whole

    return Outputs(**{f.name: merge(f.name) for f in fields(Outputs)})


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its columns on the device."""
    return Batch(batch.prompt_ids, batch.completion_ids, batch.groups, {k: v.to(device) for k, v in batch.columns.items()})


def recompute_layers(network: LanguageNetwork | ScalarNetwork) -> bool:
    """Let layers be computed twice instead of kept; ``False`` if that was so already, or there are none."""
    if network.recomputes or not layers(network.model):
        return False
    network.recomputes = True
    return True
