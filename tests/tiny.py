"""Tiny random models, made in milliseconds: every architecture and tokenizer that the engines must treat alike."""

from __future__ import annotations

import copy
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForSequenceClassification,
    BertLMHeadModel,
    BertModel,
    EncoderDecoderModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from heedful.engines.attention import set_attention
from heedful.engines.base import Batch, Role
from heedful.engines.networks import LanguageNetwork, Lora

torch.set_num_threads(1)

SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<cls>", "<sep>"]
PAD, START, END, UNKNOWN, CLS, SEP = range(6)
WORDS = [f"w{i}" for i in range(26)]
VOCABULARY = len(SPECIAL) + len(WORDS)
WIDTH = 16

KINDS = ("llama", "gpt2", "t5", "bert2bert", "bart")
CAUSAL = ("llama", "gpt2")


def tokenizer(pad: str = "own", pairs: bool = False) -> PreTrainedTokenizerFast:
    """Word level. ``pad`` is its own token, ``"none"``, or the ``"end"`` token; ``pairs`` adds BERT's special tokens."""
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(SPECIAL + WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    if pairs:
        core.post_processor = processors.TemplateProcessing(
            single="<cls> $A <sep>", pair="<cls> $A <sep> $B:1 <sep>:1", special_tokens=[("<cls>", CLS), ("<sep>", SEP)]
        )
        names |= {"cls_token": "<cls>", "sep_token": "<sep>"}
    padding = {"own": {"pad_token": "<pad>"}, "none": {}, "end": {"pad_token": "</s>"}}[pad]
    inputs = ["input_ids", "attention_mask"] + (["token_type_ids"] if pairs else [])
    return PreTrainedTokenizerFast(tokenizer_object=core, model_input_names=inputs, **names, **padding)


def language_model(kind: str, seed: int = 0, **more: Any) -> Any:
    """A random model with logits far from uniform. ``more`` goes into its configuration."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {"llama": _llama, "gpt2": _gpt2, "t5": _t5, "bert2bert": _bert2bert, "bart": _bart}[kind](**more).eval()


def network(kind: str, *, lora: bool = True, seed: int = 0, pad: str = "own", roles: tuple[Role, ...] | None = None, **more: Any) -> Any:
    """A language network in every role its kind of learning allows, with a value head that is not zero."""
    roles = roles or (("policy", "reference", "reward", "monitor") if lora else ("policy", "reference", "reward"))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LanguageNetwork(
            language_model(kind, seed), tokenizer(pad), roles=roles, lora=Lora(r=4, alpha=8) if lora else None, with_value=True, **more
        )


def shake(network: Any, *roles: Role, seed: int = 7, by: float = 0.1) -> Any:
    """Move the weights of some roles, as if they had been trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for role in roles or ("policy",):
            for parameter in network.trainable(role).values():
                parameter += by * torch.randn(parameter.shape, generator=generator)
    return network


def oracle(network: Any, role: Role = "policy") -> Any:
    """The plain Hugging Face model of a role, no adapter inside (merged by PEFT, or the frozen copy), with transformers' own attention."""
    if network.lora is None:
        found = copy.deepcopy(network.reference if role == "reference" else network.model)
    else:
        model = copy.deepcopy(network.model)
        if role != "reference":
            model.set_adapter(role)
        found = model.unload() if role == "reference" else model.merge_and_unload(adapter_names=[role])
    set_attention(found, "eager")
    return found


def batch(n: int = 6, seed: int = 0, longest: int = 7) -> Batch:
    """Random rows of many lengths; every second one ends with the end token."""
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int) -> list[int]:
        count = int(torch.randint(low, longest + 1, (), generator=generator))
        return torch.randint(len(SPECIAL), VOCABULARY, (count,), generator=generator).tolist()

    rows = [(ids(1), ids(1) + ([END] if row % 2 else [])) for row in range(n)]
    return Batch([prompt for prompt, _ in rows], [completion for _, completion in rows])


def prompts(n: int = 5, seed: int = 3) -> list[list[int]]:
    """Random prompts of many lengths."""
    return [list(ids) for ids in batch(n, seed).prompt_ids]


def bert_classifier(labels: int = 1, seed: int = 0, **more: Any) -> Any:
    """An encoder with a classification head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BertForSequenceClassification(_bert(num_labels=labels, **more)).eval()


def llama_classifier(labels: int = 1, seed: int = 0, **more: Any) -> Any:
    """A causal trunk with a classification head."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LlamaForSequenceClassification(_llama_config(num_labels=labels, **more)).eval()


def _llama_config(**more: Any) -> Any:
    shape = {"hidden_size": WIDTH, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    ids = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END}
    more = {**shape, **ids, "max_position_embeddings": 64, "tie_word_embeddings": True, **more}
    return LlamaConfig(vocab_size=VOCABULARY, initializer_range=0.4, **more)


def _llama(**more: Any) -> Any:
    return LlamaForCausalLM(_llama_config(**more))


def _gpt2(**more: Any) -> Any:
    config = {"bos_token_id": START, "eos_token_id": END, "initializer_range": 0.3, **more}
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_positions=64, n_embd=WIDTH, n_layer=2, n_head=2, **config))


def _t5(**more: Any) -> Any:
    config = {"pad_token_id": PAD, "eos_token_id": END, "decoder_start_token_id": PAD, "feed_forward_proj": "gated-gelu", **more}
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY,
            d_model=WIDTH,
            d_kv=8,
            d_ff=24,
            num_layers=2,
            num_decoder_layers=2,
            num_heads=2,
            initializer_factor=1.0,
            **config,
        )
    )


def _bert(**more: Any) -> Any:
    config = {"pad_token_id": PAD, "initializer_range": 0.3, **more}
    return BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=64,
        **config,
    )


def _bert2bert(**more: Any) -> Any:
    model = EncoderDecoderModel(
        encoder=BertModel(_bert(), add_pooling_layer=False),
        decoder=BertLMHeadModel(_bert(is_decoder=True, add_cross_attention=True)),
    )
    model.config.decoder_start_token_id, model.config.pad_token_id, model.config.eos_token_id = START, PAD, END
    model.generation_config.decoder_start_token_id, model.generation_config.pad_token_id = START, PAD
    model.generation_config.eos_token_id = END
    return model


def _bart(**more: Any) -> Any:
    """Its layers drop out by themselves wherever they believe to be in training."""
    ids = {"pad_token_id": PAD, "bos_token_id": START, "eos_token_id": END, "forced_eos_token_id": None, "decoder_start_token_id": START}
    sides = {f"{side}_{name}": value for side in ("encoder", "decoder") for name, value in SIDE.items()}
    config = {"max_position_embeddings": 64, "init_std": 0.3, "dropout": 0.1, **ids, **sides, **more}
    return BartForConditionalGeneration(BartConfig(vocab_size=VOCABULARY, d_model=WIDTH, **config))


SIDE = {"layers": 2, "attention_heads": 2, "ffn_dim": 24}
"""Of an encoder or a decoder."""
