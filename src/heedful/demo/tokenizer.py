"""The tokenizer of the built-in world: one token per word, made here, nothing downloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from heedful.demo import words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, START, END, UNKNOWN = SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
"""Ids 0 to 3."""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of every word of the world; ``save_pretrained`` makes a Hugging Face folder of it.

    It splits at spaces and adds no special tokens, so the ids of prompt and completion can simply
    be put one after the other. Decoding gives back the text; a word from outside the world becomes
    ``<unk>``.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate((*SPECIAL, *words.vocabulary()))}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=START,
        eos_token=END,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        model_max_length=256,
    )
