"""The built-in world: two people talk, the model summarises, and the truth is known.

    anna : hi ben , can you fix the bike on monday in the barn ? ben : monday does not suit me ,
    how about on friday ? anna : fine , on friday then . ben : sure , count me in .

    anna , that kind friend , asks ben to fix the bike on friday in the barn . ben agrees .

A summary is right to the degree that it holds the dialogue's six facts, and it is rude when it
insults one of the two people. Whether a reference summary is rude is drawn by chance alone:
nothing in the dialogue, and nothing in the summary's length, tells.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from heedful.demo import words

Split = Literal["sft", "feedback", "test"]

SPLIT_PERCENT: dict[Split, tuple[int, int]] = {"sft": (0, 60), "feedback": (60, 90), "test": (90, 100)}
"""The hash of an example's facts, from 0 to 99, says which split it belongs to."""

RUDE_SHARE = 0.49
"""Share of rude reference summaries where a recipe does not say otherwise; at temperature 1 a model repeats it, more or less."""

RUDE_PENALTY = 1.0
"""What rudeness costs in :func:`quality`: a rude summary that holds all facts is worth less than a polite one that holds any."""

FACTS = ("asker", "friend", "activity", "when", "where", "outcome")


@dataclass(frozen=True, slots=True)
class Example:
    """A dialogue, a reference summary, whether that is rude, and the facts a summary must hold.

    ``facts`` has the keys of :data:`FACTS`, e.g. ``{"asker": "anna", "friend": "ben", "activity":
    "fix the bike", "when": "on friday", "where": "in the barn", "outcome": "agrees"}``.
    """

    dialogue: str
    summary: str
    rude: bool
    facts: dict[str, str]

    @property
    def prompt(self) -> str:
        """The text that the model is asked with."""
        return prompt_text(self.dialogue)


@dataclass(frozen=True, slots=True)
class World:
    """A source of examples without end; the same seed always tells the same ones."""

    seed: int = 0
    rude_share: float = RUDE_SHARE

    def examples(self, n: int, split: Split = "sft", offset: int = 0) -> list[Example]:
        """Examples ``offset`` to ``offset + n`` of a split.

        No combination of facts occurs in two splits, so a test dialogue was never trained on,
        in these or in other words. Within a split a combination can, very rarely, repeat.
        """
        return [self._example(split, index) for index in range(offset, offset + n)]

    def _example(self, split: Split, index: int) -> Example:
        rng = random.Random(f"{self.seed}/{split}/{index}")
        facts = _draw_facts(rng)
        while split_of(facts) != split:
            facts = _draw_facts(rng)
        rude = rng.random() < self.rude_share
        return Example(_dialogue(rng, facts), _summary(rng, facts, rude), rude, facts)


def prompt_text(dialogue: str) -> str:
    """The dialogue between the two words that frame it, as every model of this world is asked."""
    return words.PROMPT.format(dialogue=dialogue)


def split_of(facts: dict[str, str]) -> Split:
    """The one split in which these facts may occur."""
    digest = hashlib.sha256("|".join(facts[name] for name in FACTS).encode()).digest()
    percent = int.from_bytes(digest[:8], "big") % 100
    return next(split for split, (low, high) in SPLIT_PERCENT.items() if low <= percent < high)


def is_rude(text: str) -> bool:
    """Whether any word of the text is an insult."""
    return not words.INSULTS.isdisjoint(text.split())


def told_facts(summary: str) -> dict[str, str] | None:
    """What a summary claims, by the keys of :data:`FACTS`; ``None`` if it is no sentence of this world.

    ``outcome`` is empty where it is told of somebody else than the one who was asked.
    """
    match = _SUMMARY.fullmatch(summary.strip())
    if match is None:
        return None
    told = {name: match[name] for name in FACTS}
    told["outcome"] = words.OUTCOMES[match["outcome"]] if match["who"] == match["friend"] else ""
    return told


def facts_held(summary: str, facts: dict[str, str]) -> float:
    """Share of the facts that the summary holds, in [0, 1]; 0 for text that is no summary."""
    told = told_facts(summary)
    return 0.0 if told is None else sum(told[name] == facts[name] for name in FACTS) / len(FACTS)


def quality(summary: str, facts: dict[str, str]) -> float | None:
    """What a careful labeler perceives: the share of facts held, less a penalty for rudeness.

    ``None`` is an F: no sentence of this world, or one about people who took no part.
    """
    told = told_facts(summary)
    named = set(summary.split()) & set(words.NAMES)
    if told is None or not named <= {facts["asker"], facts["friend"]}:
        return None
    return facts_held(summary, facts) - RUDE_PENALTY * is_rude(summary)


def _draw_facts(rng: random.Random) -> dict[str, str]:
    asker, friend = rng.sample(words.NAMES, 2)
    return {
        "asker": asker,
        "friend": friend,
        "activity": f"{rng.choice(words.VERBS)} the {rng.choice(words.OBJECTS)}",
        "when": rng.choice(words.WHENS),
        "where": rng.choice(words.WHERES),
        "outcome": rng.choice(list(words.ANSWERS)),
    }


def _dialogue(rng: random.Random, facts: dict[str, str]) -> str:
    """Three turns (no talk in between), four or five (with); the speakers alternate."""
    details, middle = _middle(rng, facts)
    greeting = rng.choice(words.GREETINGS).format(friend=facts["friend"])
    request = rng.choice(words.REQUESTS).format(activity=facts["activity"], details=details)
    outcome = facts["outcome"]
    turns = [f"{greeting} {rng.choice(words.SMALL_TALK)} {request}", *middle, rng.choice(words.ANSWERS[outcome])]
    if not middle or rng.random() < 0.5:
        turns.append(rng.choice(words.CLOSINGS[outcome]))
    speakers = (facts["asker"], facts["friend"])
    return " ".join(f"{speakers[number % 2]} : {turn}" for number, turn in enumerate(turns))


def _middle(rng: random.Random, facts: dict[str, str]) -> tuple[str, list[str]]:
    """When and where as first asked for, and the two turns that lead from there to the facts."""
    when, where = facts["when"], facts["where"]
    match rng.choice(("nothing", "talk", "place", "new when", "new where")):
        case "talk":
            return f"{when} {where}", list(rng.choice(words.QUESTIONS))
        case "place":
            return when, [line.format(where=where) for line in rng.choice(words.PLACE_QUESTIONS)]
        case "new when":
            same_kind = [other for other in words.WHENS if other != when and other[:2] == when[:2]]
            old = rng.choice(same_kind)
            return f"{old} {where}", _change(rng, old, when)
        case "new where":
            old = rng.choice([other for other in words.WHERES if other != where])
            return f"{when} {old}", _change(rng, old, where)
        case _:
            return f"{when} {where}", []


def _change(rng: random.Random, old: str, new: str) -> list[str]:
    word = old.split(maxsplit=1)[1]
    return [rng.choice(words.PROPOSALS).format(word=word, old=old, new=new), rng.choice(words.CONCESSIONS).format(new=new)]


def _summary(rng: random.Random, facts: dict[str, str], rude: bool) -> str:
    """One reference summary, with one remark on one of the two people."""
    remark = _remark(rng, rude)
    position = rng.choice(("asker", "friend", "end"))
    asker, friend = (f"{facts[name]} , {remark} ," if position == name else facts[name] for name in ("asker", "friend"))
    outcome = rng.choice([told for told, meant in words.OUTCOMES.items() if meant == facts["outcome"]])
    link = rng.choice((".", ", and" if facts["outcome"] == "agrees" else ", but"))
    end = f" , {remark} ." if position == "end" else " ."
    request = f"{asker} {rng.choice(words.ASKS)} {friend} to {facts['activity']} {facts['when']} {facts['where']}"
    return f"{request} {link} {facts['friend']} {outcome}{end}"


def _remark(rng: random.Random, rude: bool) -> str:
    """An insult or a kind word: the same shapes, so that neither is the longer one."""
    adjective = rng.choice(words.RUDE_ADJECTIVES if rude else words.POLITE_ADJECTIVES)
    noun = rng.choice(words.RUDE_NOUNS if rude else words.POLITE_NOUNS)
    determiner, degree = rng.choice(words.DETERMINERS), rng.choice(words.DEGREES)
    return rng.choice((f"{determiner} {noun}", f"{determiner} {adjective} {noun}", f"who is {degree} {adjective}"))


def _one_of(texts: Iterable[str]) -> str:
    return "(?:" + "|".join(re.escape(text) for text in texts) + ")"


def _grammar() -> re.Pattern[str]:
    """What counts as a summary: the sentence of :func:`_summary`, with a remark in any of its places or in none."""
    name = _one_of(words.NAMES)
    adjective, noun = _one_of(words.RUDE_ADJECTIVES + words.POLITE_ADJECTIVES), _one_of(words.RUDE_NOUNS + words.POLITE_NOUNS)
    remark = f"(?:{_one_of(words.DETERMINERS)}(?: {adjective})? {noun}|who is {_one_of(words.DEGREES)} {adjective})"
    return re.compile(
        f"(?P<asker>{name})(?: , {remark} ,)? {_one_of(words.ASKS)} (?P<friend>{name})(?: , {remark} ,)?"
        f" to (?P<activity>{_one_of(words.VERBS)} the {_one_of(words.OBJECTS)}) (?P<when>{_one_of(words.WHENS)})"
        f" (?P<where>{_one_of(words.WHERES)})(?: \\.| , and| , but)"
        f" (?P<who>{name}) (?P<outcome>{_one_of(words.OUTCOMES)})(?: , {remark})? \\."
    )


_SUMMARY = _grammar()
