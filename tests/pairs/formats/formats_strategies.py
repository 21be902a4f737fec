"""What hypothesis draws for tests of the formats: hostile texts, rows with all their columns, streams of judgements."""

from __future__ import annotations

from hypothesis import strategies as st

from heedful.pairs.formats.judgements import Item
from heedful.records import Completion, Correction, Labeler, Pair, Prompt, Ranking, Thumb, Unpaired

HOSTILE = [
    '=1+1"',
    "'=1",
    "''",
    "+x",
    "-",
    "@a",
    "\tb",
    "\rc",
    "a\r\nb",
    "a,b",
    '"',
    "[{",
    '[{"role": "x"}]',
    "\u2028",
    "🦜",
    "null",
    "\ufeffx",
    "é\n",
]
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=12) | st.sampled_from(HOSTILE)
TEXTS = WORDS.filter(lambda text: text.strip())
"""Texts that are not blank: a blank completion teaches nothing and is left out."""
NAMES = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=6)
MESSAGES = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": WORDS}), min_size=1, max_size=3
)
COUNTS = st.none() | st.integers(0, 2**40)
SHARES = st.floats(0, 1)


def evidence() -> dict[str, st.SearchStrategy[object]]:
    return {"n_for": COUNTS, "n_against": COUNTS, "criterion": WORDS, "instructions_version": WORDS}


def pairs(prompt: st.SearchStrategy[object]) -> st.SearchStrategy[Pair]:
    two = st.tuples(TEXTS, TEXTS).filter(lambda both: both[0].strip() != both[1].strip())
    ids = dict.fromkeys(("prompt_id", "chosen_id", "rejected_id"), WORDS)
    others = st.fixed_dictionaries(
        {
            **ids,
            **evidence(),
            "p": SHARES,
            "margin": st.floats(-9, 9),
            "n_tie": COUNTS,
            "source": st.sampled_from(["rank", "flag"]),
            "tie": st.booleans(),
        }
    )
    return st.builds(lambda asked, both, more: Pair(asked, *both, **more), prompt, two, others)


def unpaired(prompt: st.SearchStrategy[object]) -> st.SearchStrategy[Unpaired]:
    others = st.fixed_dictionaries({"prompt_id": WORDS, "completion_id": WORDS, **evidence(), "source": st.sampled_from(["thumb", "flag"])})
    return st.builds(lambda asked, text, label, more: Unpaired(asked, text, label, **more), prompt, TEXTS, st.booleans(), others)


@st.composite
def streams(draw: st.DrawFn) -> list[Item]:
    """Prompts with their completions and judgements, and labelers; ids are unique."""
    found: list[Item] = [Labeler(name, strata={"age": "30-44"}) for name in draw(st.lists(NAMES, max_size=2, unique=True))]
    for prompt_id in draw(st.lists(NAMES, min_size=1, max_size=3, unique=True)):
        found.append(
            Prompt(prompt_id, draw(TEXTS | MESSAGES), draw(st.none() | st.lists(WORDS, min_size=1, max_size=2)), {"k": draw(WORDS)})
        )
        ids = [f"{prompt_id}:{k}" for k in range(draw(st.integers(2, 4)))]
        found += [
            Completion(i, prompt_id, draw(TEXTS), [1, 2], "length", draw(st.integers(0, 2**64 - 1)), "m", {"top_p": 0.5}) for i in ids
        ]
        found += [draw(rankings(prompt_id, ids)) for _ in range(draw(st.integers(1, 2)))]
        common = {"criterion": "h", "instructions_version": "v", "active_ms": draw(COUNTS), "judged_at": draw(WORDS), "purpose": "extra"}
        found.append(Thumb(prompt_id, draw(NAMES), ids[0], draw(st.booleans()), **common))
        found.append(Correction(prompt_id, draw(NAMES), ids[1], draw(TEXTS), **common))
    return found


@st.composite
def rankings(draw: st.DrawFn, prompt_id: str, ids: list[str]) -> Ranking:
    shown = draw(st.permutations(ids))
    ranks = draw(st.lists(st.none() | st.integers(1, 4), min_size=len(ids), max_size=len(ids)))
    reasons = {i: draw(WORDS) for i, rank in zip(shown, ranks, strict=True) if rank is None}
    purpose = draw(st.sampled_from(["overlap", "calibration", "extra"]))
    return Ranking(prompt_id, draw(NAMES), shown, ranks, "h", draw(NAMES), reasons, draw(COUNTS), draw(WORDS), purpose)
