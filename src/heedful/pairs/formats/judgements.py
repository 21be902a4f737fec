"""A stream of prompts, completions and what was said of them: what the formats with rankings read and write.

A prompt comes before its completions, and they before their judgements. It may come again with the
same content, with further completions and judgements. So one prompt at a time is in memory.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heedful.errors import DataProblem
from heedful.pairs.formats.rows import LeftOut, Row, Say, useful
from heedful.records import Completion, Correction, Labeler, Prompt, PromptText, Ranking, Thumb

Item = Prompt | Completion | Labeler | Ranking | Thumb | Correction


@dataclass
class Judged:
    """A prompt with its completions and judgements."""

    prompt: Prompt
    completions: list[Completion] = field(default_factory=list)
    rankings: list[Ranking] = field(default_factory=list)
    thumbs: list[Thumb] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)

    def completion(self, name: str) -> Completion:
        """The completion of that id; raises DataProblem where it does not stand with the prompt."""
        found = next((c for c in self.completions if c.id == name), None)
        if found is None:
            what = f"a judgement speaks of completion {name!r}, which does not stand with prompt {self.prompt.id!r}"
            raise DataProblem(what, "Give the completions that the judgements were made on.")
        return found


@dataclass
class Gathered:
    """Everything in memory, in any order; ``numbers`` say which record of its stream each judgement was, from 1."""

    prompts: dict[str, Prompt] = field(default_factory=dict)
    completions: dict[str, Completion] = field(default_factory=dict)
    labelers: dict[str, Labeler] = field(default_factory=dict)
    judgements: list[Ranking | Thumb | Correction] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    @property
    def rankings(self) -> list[Ranking]:
        """Those of the judgements that are rankings."""
        return [row for row in self.judgements if isinstance(row, Ranking)]

    @property
    def thumbs(self) -> list[Thumb]:
        """Those that are thumbs."""
        return [row for row in self.judgements if isinstance(row, Thumb)]

    @property
    def corrections(self) -> list[Correction]:
        """Those that are corrections."""
        return [row for row in self.judgements if isinstance(row, Correction)]


def items(rows: Iterable[Row], read: Callable[[Row], Iterable[Item]], path: Path, say: Say) -> Iterator[Item]:
    """What each row holds. Raises DataProblem for an id of a prompt or completion that stands for two contents.

    For that two hashes are kept of each id, about 150 bytes: all that grows with the file.
    """
    known: dict[int, int] = {}

    def checked(row: Row) -> list[Item]:
        found = list(read(row))
        for item in found:
            if isinstance(item, Prompt | Completion):
                content = hash(json.dumps(item.prompt) if isinstance(item, Prompt) else (item.prompt_id, item.text))
                if known.setdefault(hash((type(item), item.id)), content) != content:
                    what = f"{row.where} has the {type(item).__name__.lower()} id {item.id!r}, which already stands for another text"
                    raise DataProblem(what, "Give every prompt and every completion an id of its own.")
        return found

    for found in useful(rows, checked, f"rows of {path}", "judgements", say):
        yield from found


def gather(stream: Iterable[Item], into: Gathered | None = None) -> Gathered:
    """Everything in a stream, in memory."""
    found = into or Gathered()
    for number, item in enumerate(stream, 1):
        if isinstance(item, Prompt):
            found.prompts[item.id] = item
        elif isinstance(item, Completion):
            found.completions[item.id] = item
        elif isinstance(item, Labeler):
            found.labelers[item.name] = item
        else:
            found.judgements.append(item)
            found.numbers.append(number)
    return found


def by_prompt(stream: Iterable[Item]) -> Iterator[Judged]:
    """Each prompt with what follows it. Raises DataProblem where something belongs to another prompt than the last one."""
    judged: Judged | None = None
    for number, item in enumerate(stream, 1):
        if isinstance(item, Labeler):
            continue
        if isinstance(item, Prompt):
            if judged:
                yield judged
            judged = Judged(item)
        elif judged is None or item.prompt_id != judged.prompt.id:
            what = f"record {number}, a {type(item).__name__.lower()} of prompt {item.prompt_id!r}, does not stand below that prompt"
            raise DataProblem(what, "Put all rows of a prompt together: the prompt, its completions, its judgements.")
        elif isinstance(item, Completion):
            judged.completions.append(item)
        else:
            _list_of(judged, item).append(item)
    if judged:
        yield judged


def completion(name: str, prompt_id: str, text: str, model: str = "") -> Completion:
    """A completion of which only the text is known."""
    return Completion(name, prompt_id, text, [], "stop", 0, model)


def ranking(
    prompt_id: str, labeler: str, ranks: dict[str, int | None], criterion: str, active_ms: int | None = None, judged_at: str = ""
) -> Ranking:
    """A ranking by completion id; raises LeftOut for fewer than two completions."""
    if len(ranks) < 2:
        raise LeftOut("a ranking has fewer than two completions")
    return Ranking(prompt_id, labeler, list(ranks), list(ranks.values()), criterion, "", active_ms=active_ms, judged_at=judged_at)


def find_prompt(values: dict[str, Any], wanted: str, where: str) -> PromptText:
    """The prompt among columns with names of somebody's own: the one that is ``wanted``, else the only one, else by a usual name."""
    texts = {name: value for name, value in values.items() if isinstance(value, str | list) and value}
    usual = [name for name in ("prompt", "instruction", "question", "query", "text") if name in texts]
    for name in [wanted] if wanted else [*texts][:1] if len(texts) == 1 else usual:
        if name in texts:
            return texts[name]
    known = ", ".join(texts) or "none"
    raise DataProblem(f"it is not clear which column of {where} is the prompt (there are: {known})", "Name it: --column prompt=NAME.")


def _list_of(found: Judged, item: Ranking | Thumb | Correction) -> list[Any]:
    if isinstance(item, Ranking):
        return found.rankings
    return found.thumbs if isinstance(item, Thumb) else found.corrections
