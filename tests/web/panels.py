"""A panel of simulated people of whom some are careless, turned round, guessing or of another taste; and what they said, in a store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from random import Random

from heedful.feedback.criteria import CRITERIA
from heedful.feedback.instructions import Instructions
from heedful.feedback.simulated import SimulatedLabeler, collect
from heedful.records import Completion, Prompt, Ranking
from heedful.store import Store
from stores import project

HELPFUL = CRITERIA["helpfulness"]
OLD, NEW = Instructions("Rank them by how much they help."), Instructions("Rank them by how much they help. Ties are rare.")
PANEL = [
    *(SimulatedLabeler(f"careful {n}", noise=0.3, strata={"language": "native"}) for n in range(10)),
    SimulatedLabeler("rory", "random", strata={"language": "native"}),
    SimulatedLabeler("uma", "upside_down", 0.3, strata={"language": "native"}),
    SimulatedLabeler("hal", "hasty", 0.3, strata={"language": "native"}),
    *(SimulatedLabeler(f"young {n}", "minority", 0.2, strata={"age": "18-29", "language": "learnt"}) for n in range(5)),
]
PROMPTS, FEW = 40, 8
"""hal judged few: too little for the others' judgements to say that he read after all."""
WORDS = "so many words that nobody reads them in a second or two, as there is more to each answer than one would think" * 4


def asked_about(gold: Mapping[str, float] | None = None) -> list[tuple[Prompt, list[Completion]]]:
    """Prompts with four long completions; the first ten bring their right answer along."""
    rows = []
    for n in range(PROMPTS):
        made = [Completion(f"p{n}:{c}", f"p{n}", f"{WORDS} {n} {c}", [], "stop", 0, f"model-{c}") for c in "abcd"]
        best_first = sorted((c.id for c in made), key=lambda i: -gold[i]) if gold else []
        known = {"gold_ranks": {i: best_first.index(i) + 1 for i in best_first}} if gold and n < 10 else {}
        rows.append((Prompt(f"p{n}", f"question {n}", columns=known), made))
    return rows


def truth() -> dict[str, float]:
    chance = Random("truth")
    return {f"p{n}:{c}": chance.gauss(0, 1) for n in range(PROMPTS) for c in "abcd"}


def fill(store: Store) -> None:
    """Everybody judged every prompt, half of them under newer instructions, and some of them again."""
    good = truth()
    rows = asked_about(good)
    store.create_project(project(overlap=len(PANEL), max_overlap=len(PANEL)))
    versions = [store.publish("helpful", words.text) for words in (OLD, NEW)]
    assert versions == [OLD.version, NEW.version]
    store.add_prompts("helpful", rows)
    store.add_labelers(*(one.as_labeler() for one in PANEL))
    everybody = [one.name for one in PANEL]
    teams = {prompt.id: everybody if n < FEW else [name for name in everybody if name != "hal"] for n, (prompt, _) in enumerate(rows)}
    other = {i: -quality for i, quality in good.items()}
    said = []
    for some, words in ((rows[:20], OLD), (rows[20:], NEW)):
        said += collect(some, good, PANEL, teams, HELPFUL, words, 0, minority_quality=other)
    again = [
        *(replace(row, purpose="repeat") for row in said if row.labeler == "careful 0" and row.instructions_version == OLD.version),
        *(turned(row) for row in said if row.labeler == "rory" and row.instructions_version == OLD.version),
    ]
    store.import_judgements("helpful", [*said, *again])


def turned(row: Ranking) -> Ranking:
    """The opposite of what was said, said again."""
    return replace(row, ranks=[None if rank is None else 9 - rank for rank in row.ranks], purpose="repeat")
