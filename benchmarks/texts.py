"""The texts that both sides of a benchmark read: real ones where the development data lies at hand, else made-up
ones of the same lengths.

``HEEDFUL_SHARED`` names the folder of real data; by default it is looked for beside the repository.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

SPECIAL = ["<pad>", "<s>", "</s>"]
PAD, START, END = range(3)
DIALOGUES = "data/dialogue_summarization/dialogsum_{split}.jsonl.gz"
PAIRS = "data/preferences/hh_rlhf_harmless_base.jsonl.gz"
ANSWER = "\n\nAssistant:"

# Medians of tokens and standard deviations of their logarithms, as counted in the real texts.
DIALOGUE_LENGTH, PROMPT_LENGTH, COMPLETION_LENGTH = (190, 0.4), (105, 0.95), (35, 0.95)


def shared_folder() -> Path:
    """Where real data is looked for, as the tests do."""
    return Path(os.environ.get("HEEDFUL_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def shared() -> Path | None:
    """The folder of real data, where the texts are there."""
    folder = shared_folder()
    return folder if (folder / PAIRS).exists() else None


def dialogues(split: str) -> Iterator[str]:
    """Dialogues to be summarised; ``split`` is train or dev."""
    folder = shared()
    if folder is None:
        draw = random.Random(split)
        lexicon = Lexicon()
        yield from (lexicon.text(draw, *DIALOGUE_LENGTH) for _ in range(4000 if split == "train" else 500))
    else:
        yield from (row["dialogue"] for row in read(folder / DIALOGUES.format(split=split)))


def preferences() -> Iterator[tuple[str, str, str]]:
    """(prompt, chosen, rejected): the conversation up to the assistant's last turn, and two such turns."""
    folder = shared()
    if folder is None:
        draw, lexicon = random.Random("pairs"), Lexicon()
        for _ in range(1600):
            chosen, rejected = (" " + lexicon.text(draw, *COMPLETION_LENGTH) for _ in range(2))
            yield f"\n\nHuman: {lexicon.text(draw, *PROMPT_LENGTH)}{ANSWER}", chosen, rejected
        return
    for row in read(folder / PAIRS):
        cut = row["chosen"].rfind(ANSWER) + len(ANSWER)
        if row["rejected"][:cut] == row["chosen"][:cut]:
            yield row["chosen"][:cut], row["chosen"][cut:], row["rejected"][cut:]


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a compressed JSON-lines file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


class Lexicon:
    """Made-up words, some used far more often than others (Zipf's law), so that a tokenizer has something to learn."""

    def __init__(self, words: int = 12000) -> None:
        draw = random.Random(0)
        syllables = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "s")]
        self.words = ["".join(draw.choices(syllables, k=draw.randint(1, 3))) for _ in range(words)]
        self.weights = list(accumulate(1 / rank for rank in range(1, words + 1)))

    def text(self, draw: random.Random, median: float, spread: float) -> str:
        """So many words that the tokens are about log-normally distributed around ``median``."""
        count = max(4, round(0.7 * draw.lognormvariate(0, spread) * median))
        return " ".join(draw.choices(self.words, cum_weights=self.weights, k=count))


def make_tokenizer(vocabulary: int) -> Any:
    """Byte-level pairs (Sennrich et al. 2016) learnt on the dialogues, with its own token for padding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    core = Tokenizer(models.BPE())
    core.pre_tokenizer, core.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        dialogues("train"),
        trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    return core


def open_tokenizer(path: Path, **more: Any) -> Any:
    """A saved tokenizer as transformers has it, with its special tokens."""
    from transformers import PreTrainedTokenizerFast

    names = dict(zip(("pad_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_file=str(path), **names, **more)


def prompts(tokenizer: Any, count: int, shortest: int, longest: int, seed: int = 0) -> list[list[int]]:
    """Openings of dialogues as ids, of evenly drawn lengths; each is what its own text is encoded to."""
    draw, found = random.Random(seed), []
    for text in dialogues("dev"):
        ids = tokenizer.encode(text).ids[: draw.randint(shortest, longest)]
        if len(ids) >= shortest and tokenizer.encode(tokenizer.decode(ids)).ids == ids:
            found.append(ids)
    if len(found) < count:
        raise SystemExit(f"only {len(found)} of {count} prompts are long enough")
    return found[:count]


def pairs(tokenizer: Any, count: int, longest: int) -> list[dict[str, Any]]:
    """Pairs of distinct prompts, both sides at most ``longest`` tokens with the end token, as texts and as ids."""
    found: dict[str, dict[str, Any]] = {}
    for prompt, chosen, rejected in preferences():
        ids = tokenizer.encode(prompt).ids
        whole = [[*tokenizer.encode(prompt + completion).ids, END] for completion in (chosen, rejected)]
        fits = all(len(one) <= longest and one[: len(ids)] == ids for one in whole)
        if fits and chosen.strip() and rejected.strip() and prompt not in found:
            sides = {"chosen_ids": whole[0][len(ids) :], "rejected_ids": whole[1][len(ids) :]}
            found[prompt] = {"prompt": prompt, "chosen": chosen, "rejected": rejected, "prompt_ids": ids, **sides}
        if len(found) == count:
            return list(found.values())
    raise SystemExit(f"only {len(found)} of {count} pairs are short enough")
