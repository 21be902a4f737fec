"""How many tokens a prompt and its completion may have together: one rule for every stage and job."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from heedful.prompts.chat import encode_prompts
from heedful.records import Prompt

if TYPE_CHECKING:
    from heedful.engines.networks import LanguageNetwork


@dataclass
class TooLong:
    """How many rows did not fit, of how many."""

    rows: int = 0
    over: int = 0

    def count(self, over: bool) -> None:
        """One more row."""
        self.rows += 1
        self.over += over

    def sentence(self, what: str, setting: str, done: str = "cut") -> str:
        """One sentence for the user; empty when every row fitted."""
        if not self.over:
            return ""
        return f"{self.over} of {self.rows} {what} were too long for {setting}, or for the model, and were {done}."


@dataclass
class Budget:
    """The tokens that a prompt and its completion may have together, and how often they had more.

    An encoder-decoder has a context for each. In a causal model both share one: the prompt gives
    way, but to no less than half of it.
    """

    tokenizer: Any
    encoder_decoder: bool
    tokens: int
    prompt_tokens: int | None = None
    """What prompts are cut to in any case."""
    too_long: TooLong = field(default_factory=TooLong)

    @classmethod
    def of(cls, network: LanguageNetwork, tokens: int, prompt_tokens: int | None = None) -> Budget:
        """At most ``tokens``, and no more than the model's context."""
        return cls(network.tokenizer, network.encoder_decoder, min(tokens, network.context or tokens), prompt_tokens)

    def holds(self, prompt: int, completion: int) -> bool:
        """Do this many tokens fit?"""
        return max(prompt, completion) <= self.tokens if self.encoder_decoder else prompt + completion <= self.tokens

    def fit(self, prompt: Prompt, longest: int) -> tuple[list[int], int]:
        """The prompt's ids, and the tokens that completions of at most ``longest`` may have beside it; counts what is too long."""
        limit = self.tokens if self.encoder_decoder else max(self.tokens - longest, self.tokens // 2)
        [ids], report = encode_prompts([prompt], self.tokenizer, self.encoder_decoder, min(limit, self.prompt_tokens or limit))
        room = self.tokens if self.encoder_decoder else self.tokens - len(ids)
        self.too_long.count(bool(report.too_long) or longest > room)
        return ids, room

    def row(self, prompt: Prompt, completion: list[int]) -> tuple[list[int], list[int]]:
        """The ids of both for a score, which is read at the end token: that one stays."""
        ids, room = self.fit(prompt, len(completion))
        return ids, completion if len(completion) <= room else [*completion[: room - 1], completion[-1]]
