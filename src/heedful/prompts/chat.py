"""Text to token ids: the only place that knows chat templates and special tokens.

Two architectures, two habits:

* A causal model continues its prompt: special tokens at the start, none at the end. Prompts that
  are too long lose their beginning, since the question stands at the end.
* An encoder-decoder model reads its prompt: all the special tokens of its tokenizer. Prompts
  that are too long lose their end, as the encoder was trained with.

The start token (BOS) stands once where the tokenizer wants one, whether the template, the
tokenizer or the data brought it, and the end token (EOS) once at the end of a completion. Where a
tokenizer has no pad token nothing is added to it: masks come from lengths, never from ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from heedful.errors import DataProblem, ModelProblem
from heedful.records import Message, Prompt, PromptText

Tokenizer = Any  # a Hugging Face tokenizer
TooLong = Literal["truncate", "drop", "refuse"]


@dataclass(frozen=True)
class PromptReport:
    """What became of the prompts: how many, how many were too long, and which were kept."""

    total: int
    too_long: int
    longest: int
    """Tokens of the longest prompt before anything was cut."""
    max_tokens: int | None
    action: TooLong
    kept: list[int]
    """The positions, in the list that was given, of the prompts that have ids."""

    def sentence(self) -> str:
        """One sentence for the user; empty when every prompt fitted."""
        if not self.too_long:
            return ""
        return (
            f"{self.too_long} of {self.total} prompts are longer than {self.max_tokens} tokens (up to {self.longest}) and were {self.done}."
        )

    @property
    def done(self) -> str:
        """What became of prompts that were too long."""
        return "left out" if self.action == "drop" else "cut"


def render(prompt: PromptText, tokenizer: Tokenizer, is_encoder_decoder: bool = False) -> list[int]:
    """The token ids of one prompt, ready for the model.

    A string is taken as it is, also for a chat model; messages go through the tokenizer's chat
    template with the opening of the assistant's turn. Raises ``ModelProblem`` when messages meet
    a tokenizer without a template, ``DataProblem`` when the template refuses them.
    """
    start, body, end = _parts(prompt, tokenizer)
    return start + body + (end if is_encoder_decoder else [])


def encode_prompts(
    prompts: Sequence[Prompt], tokenizer: Tokenizer, is_encoder_decoder: bool, max_tokens: int | None = None, too_long: TooLong = "truncate"
) -> tuple[list[list[int]], PromptReport]:
    """The ids of many prompts and a report; prompts over ``max_tokens`` are cut, dropped or refused.

    Special tokens at either end survive the cut.
    """
    encoded, kept, over, longest = [], [], 0, 0
    for position, prompt in enumerate(prompts):
        start, body, end = _parts(prompt.prompt, tokenizer)
        end = end if is_encoder_decoder else []
        length = len(start) + len(body) + len(end)
        longest = max(longest, length)
        if max_tokens is not None and length > max_tokens:
            over += 1
            if too_long == "refuse":
                what = f"the prompt {prompt.id!r} has {length} tokens, more than the {max_tokens} allowed"
                raise DataProblem(what, "Raise model.max_prompt_tokens, or set prompts.too_long to 'truncate' or 'drop'.")
            if too_long == "drop":
                continue
            body = _cut(body, max_tokens - len(start) - len(end), keep_end=not is_encoder_decoder)
        encoded.append(start + body + end)
        kept.append(position)
    return encoded, PromptReport(len(prompts), over, longest, max_tokens, too_long, kept)


def encode_completion(text: str, tokenizer: Tokenizer) -> list[int]:
    """The ids of a completion as the model would have drawn it: no BOS, and EOS once, at the end."""
    end = end_id(tokenizer)
    marks = {getattr(tokenizer, f"{name}_token_id", None) for name in ("bos", "eos", "cls", "sep")}
    return [token for token in _encode(text, tokenizer, special=False) if token not in marks] + [end]


def end_id(tokenizer: Tokenizer) -> int:
    """The token that ends a completion: EOS, or SEP for tokenizers of BERT's kind."""
    for token in (tokenizer.eos_token_id, getattr(tokenizer, "sep_token_id", None)):
        if token is not None:
            return int(token)
    raise ModelProblem(f"the tokenizer {_name(tokenizer)} has no end token", "Set eos_token in its tokenizer_config.json.")


def _parts(prompt: PromptText, tokenizer: Tokenizer) -> tuple[list[int], list[int], list[int]]:
    """``(start, body, end)``: the special tokens that the tokenizer puts around a text, and the text between them."""
    start, end = _surroundings(tokenizer)
    bos = tokenizer.bos_token_id
    if isinstance(prompt, str):
        body = _without(_encode(prompt, tokenizer, special=False), end)
    else:  # a template writes all special tokens itself, but for a BOS that some leave to the tokenizer
        body = _encode(_apply_template(prompt, tokenizer), tokenizer, special=False)
        start, end = [bos] if bos is not None and bos in start else [], []
    while bos is not None and body[:1] == [bos]:  # the template or the data brought it, too
        start, body = start if bos in start else [bos], body[1:]
    return start, body, end


def _surroundings(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The special tokens that the tokenizer itself puts before and after a text."""
    plain, full = (_encode("a", tokenizer, special) for special in (False, True))
    for first in range(len(full) - len(plain) + 1):
        if full[first : first + len(plain)] == plain:
            return full[:first], full[first + len(plain) :]
    raise ModelProblem(f"the tokenizer {_name(tokenizer)} encodes text differently with special tokens", "Use its fast version.")


def _apply_template(messages: list[Message], tokenizer: Tokenizer) -> str:
    if not getattr(tokenizer, "chat_template", None):
        what = f"the prompts are chat messages but the tokenizer {_name(tokenizer)} has no chat template"
        raise ModelProblem(what, "Use an instruct model, or give the prompts as texts.")
    from jinja2 import TemplateError

    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise DataProblem(
            f"the model's chat template refuses messages of the roles {roles}: {error}", "Change the roles or their order."
        ) from None


def _encode(text: str, tokenizer: Tokenizer, special: bool) -> list[int]:
    # verbose=False: length is our business, and the tokenizer's warning about it names the wrong remedy.
    return list(tokenizer(text, add_special_tokens=special, verbose=False)["input_ids"])


def _without(body: list[int], end: list[int]) -> list[int]:
    """``body`` without the end tokens that the data brought."""
    while end and body[-len(end) :] == end:
        body = body[: -len(end)]
    return body


def _cut(body: list[int], room: int, keep_end: bool) -> list[int]:
    if room < 1:
        raise DataProblem("model.max_prompt_tokens leaves no room for any text beside the special tokens", "Raise it.")
    return body[-room:] if keep_end else body[:room]


def _name(tokenizer: Tokenizer) -> str:
    return repr(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
