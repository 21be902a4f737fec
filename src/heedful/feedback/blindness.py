"""Completions that say who wrote them ("I'm Claude, made by Anthropic"): whoever reads that no longer judges blindly.

Models are hidden from labelers, so only the texts can give them away. Three things do: a model that
introduces itself by its name, one that says who made it, and a name under which the completions came
(``gpt-4``, not ``instruct``: an ordinary word proves nothing). What the prompt says already tells a
labeler nothing. It is told and counted, nothing is left out: whether to ask about such a text is for a person
to decide.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from heedful.records import Completion, Prompt, Record, plain_text

EXAMPLES = 5
"""How many are shown, of as many prompts as there are."""
_AROUND = 60
"""Characters of an example on either side."""

MODELS = (
    *("alpaca", "baize", "bard", "bing", "chat glm", "chat gpt", "claude", "copilot", "deep seek", "dolly", "doubao", "ernie", "falcon"),
    *("gemini", "gemma", "gpt", "grok", "guanaco", "hermes", "hunyuan", "kimi", "koala", "lamda", "llama", "mini chat", "mistral"),
    *("mixtral", "nous hermes", "nova", "oasst", "olmo", "open assistant", "palm", "phi", "qwen", "stable lm", "sydney", "tongyi qianwen"),
    *("tulu", "tülu", "vicuna", "wizard lm", "zephyr"),
)
MAKERS = (
    *("alibaba", "allen institute", "amazon", "anthropic", "apple", "baidu", "byte dance", "cohere", "databricks", "deep mind"),
    *("deep seek", "facebook", "google", "hugging face", "ibm", "inflection", "laion", "large model systems", "lmsys", "meta"),
    *("microsoft", "mistral", "moonshot", "nvidia", "open ai", "open assistant", "stability ai", "stanford", "tencent"),
    *("technology innovation institute", "uc berkeley", "xai", "zhipu"),
)
"""Names of models and of who makes them, in small letters; a space may be a hyphen in a text, or nothing."""


def _any_of(names: Iterable[str]) -> str:
    """A pattern for one of these names, with a version or without."""
    known = "|".join(re.escape(name).replace(r"\ ", "[- ]?") for name in sorted(names, key=len, reverse=True))
    return rf"(?P<name>(?:{known})(?:[- ]?\d[\w.]*)?)\b"


_ME = r"\b(?:i am|i['’]m|i was|i have been|as an?|as (?:ai|(?:large )?language model)s?)\b"
_MADE = r"\b(?:created|developed|trained|made|built|designed|programmed|powered|fine-?tuned) (?:by|at)\b"
_SAID = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:i am|i['’]m|my name is|call me|i am called|i['’]m called) (?:an? |the )?{_any_of(MODELS)}",
        rf"\bas (?:an? |the )?{_any_of(MODELS)},? i\b",
        rf"{_ME}[^.!?\n]{{0,80}}{_MADE}[^.!?\n]{{0,40}}?\b{_any_of(MAKERS)}",
        rf"\bmy (?:creators?|developers?|makers?)\b[^.!?\n]{{0,30}}?\b{_any_of(MAKERS)}",
    )
)


@dataclass(frozen=True, slots=True)
class Giveaway(Record):
    """A completion that names its maker or itself: ``name`` as it stands there, ``excerpt`` around it."""

    prompt_id: str
    completion_id: str
    name: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Blindness(Record):
    """How many of the completions give away who wrote them, by name, and examples."""

    completions: int
    naming: int
    names: dict[str, int] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """A warning; empty where nothing is given away."""
        if not self.naming:
            return ""
        named = ", ".join(f"{name} ({times})" for name, times in list(self.names.items())[:EXAMPLES])
        first = self.examples[0]
        what = f"{self.naming} of {self.completions} completions say who wrote them: {named}."
        return f"{what} Labelers who read that no longer judge blindly, e.g. {first['completion_id']!r}: ...{first['excerpt']}..."


def blindness(prompts: Iterable[Prompt], completions: Iterable[Completion]) -> Blindness:
    """Look through completions for names that give away who wrote them; only counts and a few examples are kept."""
    texts = {prompt.id: plain_text(prompt.prompt).casefold() for prompt in prompts}
    named: Counter[str] = Counter()
    examples: dict[str, Giveaway] = {}
    total = 0
    for completion in completions:
        total += 1
        if found := giveaway(completion, texts.get(completion.prompt_id, "")):
            named[found.name] += 1
            if len(examples) < EXAMPLES:
                examples.setdefault(found.prompt_id, found)
    names = dict(sorted(named.items(), key=lambda item: (-item[1], item[0])))
    return Blindness(total, named.total(), names, [example.to_dict() for example in examples.values()])


def giveaway(completion: Completion, prompt: str) -> Giveaway | None:
    """The first name in a completion that says who wrote it and does not stand in the ``prompt``, in small letters."""
    own = _own_name(completion.model)
    for pattern in (*_SAID, own) if own else _SAID:
        for match in pattern.finditer(completion.text):
            name = match["name"]
            if name.casefold() not in prompt:
                start, end = max(0, match.start() - _AROUND), match.end("name") + _AROUND
                return Giveaway(completion.prompt_id, completion.id, name, " ".join(completion.text[start:end].split()))
    return None


@functools.cache
def _own_name(model: str) -> re.Pattern[str] | None:
    """A pattern for the name under which a completion came, if that is more than an ordinary word; of a path its last part."""
    name = model.rpartition("/")[2].strip()
    if not re.search(r"\d|\w[-_. ]\w|[a-z][A-Z]", name):
        return None
    words = r"[-_. ]?".join(re.escape(word) for word in re.split(r"[-_. ]+", name) if word)
    return re.compile(rf"(?<![\w-])(?P<name>{words})(?![\w-])", re.IGNORECASE)
