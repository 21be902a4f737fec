"""The two tiny models of the built-in world, and how each is taught to summarise.

Both start from random weights. The numbers in the recipes are not to taste: they were measured
(two CPU cores, one pass over fresh examples, test dialogues never trained on). What mattered most
is how sharp attention is to begin with. With the usual spread of 0.02, attention in so narrow a
Llama starts out flat, and it has learnt no copying after the steps that suffice with 0.08, which
is about 1 / sqrt(hidden size). A T5 knows order by its relative position biases alone; started at
:data:`POSITION_BIAS_SPREAD` they find out who speaks to whom in half the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from heedful.demo.tokenizer import END, PAD, SPECIAL, START
from heedful.demo.words import vocabulary
from heedful.demo.world import RUDE_SHARE

ArchitectureName = Literal["causal", "seq2seq"]

MAX_TOKENS = 256
"""Longest prompt and completion together; the longest of the world's has 106 tokens."""

POSITION_BIAS_SPREAD = 2.0
"""Standard deviation of a new T5's relative position biases, in units of attention logits."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Supervised fine-tuning from random weights, on completion tokens alone, each example once.

    ``learning_rate`` is reached after ``warmup_steps`` and falls in a line to 0 at the last step.
    ``rude_share`` is that of the examples. What a model then writes should lie near a half:
    with r of the answers rude before, and none after, at most 0.5 + r / 2 are won.
    """

    steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int
    rude_share: float = RUDE_SHARE

    @property
    def examples(self) -> int:
        """Examples needed, from the world's ``sft`` split."""
        return self.steps * self.batch_size


@dataclass(frozen=True, slots=True)
class Architecture:
    """A kind of model: its Hugging Face configuration, and the recipe by which it learns the world."""

    name: ArchitectureName
    config: Callable[[], Any]
    recipe: Recipe


def causal_config() -> Any:
    """A Llama of 1.1 M parameters: 4 layers of width 160, rotary positions, tied embeddings."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=len(SPECIAL) + len(vocabulary()),
        hidden_size=160,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_TOKENS,
        initializer_range=0.08,
        tie_word_embeddings=True,
        pad_token_id=SPECIAL.index(PAD),
        bos_token_id=SPECIAL.index(START),
        eos_token_id=SPECIAL.index(END),
    )


def seq2seq_config() -> Any:
    """A T5 of 1.2 M parameters: 3 + 3 layers of width 128, relative positions, tied embeddings."""
    from transformers import T5Config

    return T5Config(
        vocab_size=len(SPECIAL) + len(vocabulary()),
        d_model=128,
        d_kv=32,
        d_ff=256,
        num_layers=3,
        num_decoder_layers=3,
        num_heads=4,
        relative_attention_num_buckets=32,
        relative_attention_max_distance=32,
        dropout_rate=0.0,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=True,
        pad_token_id=SPECIAL.index(PAD),
        eos_token_id=SPECIAL.index(END),
        decoder_start_token_id=SPECIAL.index(PAD),
    )


ARCHITECTURES: dict[ArchitectureName, Architecture] = {
    "causal": Architecture("causal", causal_config, Recipe(steps=1500, batch_size=64, learning_rate=3e-3, warmup_steps=50)),
    "seq2seq": Architecture("seq2seq", seq2seq_config, Recipe(steps=3000, batch_size=64, learning_rate=2e-3, warmup_steps=150)),
}
"""Measured on 2048 test dialogues at temperature 1 (in brackets: at temperature 1.2):

    causal    facts held 0.994 (0.962)   nonsense 0.006 (0.038)   rude 0.488 (0.492)
    seq2seq   facts held 0.982 (0.927)   nonsense 0.018 (0.073)   rude 0.519 (0.516)

On examples of which 0.455 were rude, seq2seq was rude in 0.488; with what PPO leaves, 0.70 and 0.71 were won on two seeds (of 0.465:
0.69 on one seed, 0.71 to 0.73 on four).

With half the steps seq2seq held 0.96 of the facts; a learning rate of 4e-3 taught it the sentences but not who speaks.
"""


def new_model(name: ArchitectureName, seed: int = 0) -> Any:
    """A model with random weights, the same for the same seed; torch's own random state stays as it was."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    opener = AutoModelForCausalLM if name == "causal" else AutoModelForSeq2SeqLM
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = opener.from_config(ARCHITECTURES[name].config())
        for parameter_name, parameter in model.named_parameters():
            if "relative_attention_bias" in parameter_name:
                parameter.normal_(0.0, POSITION_BIAS_SPREAD)
    return model
