"""The texts that judgements speak of by id."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

from heedful.errors import DataProblem
from heedful.records import Completion, Pair, Prompt, Unpaired

Found = TypeVar("Found")


class Texts:
    """Prompts and completions by id; each method raises DataProblem where one is missing, or answers another prompt."""

    def __init__(self, prompts: Iterable[Prompt], completions: Iterable[Completion]) -> None:
        self._prompts = {p.id: p for p in prompts}
        self._completions = {c.id: c for c in completions}

    def prompt(self, prompt_id: str) -> Prompt:
        """The prompt of that id."""
        return _known(self._prompts, prompt_id, "prompt")

    def completion(self, completion_id: str, prompt_id: str) -> str:
        """The text of a completion of that prompt."""
        found = _known(self._completions, completion_id, "completion")
        if found.prompt_id != prompt_id:
            what = f"completion {completion_id!r} was judged under prompt {prompt_id!r} but answers prompt {found.prompt_id!r}"
            raise DataProblem(what, "Use the completions that were shown when the judgements were made.")
        return found.text

    def pair(self, prompt_id: str, chosen_id: str, rejected_id: str) -> Pair:
        """Two completions of a prompt as a pair, the preferred one first."""
        chosen, rejected = self.completion(chosen_id, prompt_id), self.completion(rejected_id, prompt_id)
        return Pair(self.prompt(prompt_id).prompt, chosen, rejected, prompt_id=prompt_id, chosen_id=chosen_id, rejected_id=rejected_id)

    def unpaired(self, prompt_id: str, completion_id: str, label: bool) -> Unpaired:
        """A completion by itself."""
        completion = self.completion(completion_id, prompt_id)
        return Unpaired(self.prompt(prompt_id).prompt, completion, label, prompt_id, completion_id)


def _known(rows: Mapping[str, Found], key: str, what: str) -> Found:
    if key not in rows:
        raise DataProblem(
            f"a judgement speaks of {what} {key!r}, which is not there", f"Give the {what}s that the judgements were made on."
        )
    return rows[key]
