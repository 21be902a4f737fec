"""The audit finds what was put there, and nothing else."""

from __future__ import annotations

import json

import pytest

from heedful.feedback.criteria import CRITERIA
from heedful.maths.statistics import wilson
from heedful.pairs.audit import Audit, audit, sentences
from heedful.records import Pair, Ranking, Unpaired

WORDS = [f"w{n}" for n in range(400)]


def pair(prompt: str, chosen: str = "aa", rejected: str = "bb", p: float = 1.0, prompt_id: str = "") -> Pair:
    return Pair(prompt, chosen, rejected, p, prompt_id=prompt_id or prompt)


def said(found: Audit, words: str) -> bool:
    return any(words in sentence for sentence in [*found.warnings, *found.labeler_warnings])


def test_a_sound_set_gets_no_warning() -> None:
    rows = [pair(f"ask {n}", *(("long", "no") if n % 2 else ("no", "long"))) for n in range(40)]
    found = audit({"train": rows[:30], "held_out": rows[30:]})
    assert found.warnings == []
    assert (found.pairs, found.prompts) == ({"train": 30, "held_out": 10}, {"train": 30, "held_out": 10})
    assert found.longer_wins is not None
    assert (found.longer_wins.estimate, found.earlier_wins) == (0.5, None)
    # 40 prompts with a pair each are 40 independent judgements.
    assert (found.longer_wins.low, found.longer_wins.high) == pytest.approx((wilson(20, 40).low, wilson(20, 40).high))
    assert json.loads(json.dumps(found.to_dict()))["longer_wins"]["estimate"] == 0.5


def test_duplicates_and_contradictions() -> None:
    rows = [
        pair("a", "x1", "x2"),
        pair("a", "x1", "x2"),
        pair("a", "x1", "x2"),
        pair("a", "x2", "x1"),
        pair("b", "x2", "x1"),
        pair("c", "x1", "x3"),
    ]
    found = audit({"train": rows})
    assert (found.exact_duplicates, found.contradictions) == (2, 1)
    assert said(found, "2 pairs stand more than once")
    assert said(found, "both orders")


def test_empty_equal_undecided_and_a_split_of_nothing() -> None:
    found = audit({"train": [pair("a", " ", "x"), pair("b", "x", "x"), pair("c", p=0.5), pair("d")], "held_out": []})
    assert (found.empty, found.equal, found.undecided) == (1, 1, 1)
    assert said(found, "empty completion")
    assert said(found, "equal completions")
    assert said(found, "no more likely")
    assert said(found, "'held_out' has no pairs")
    assert audit({}).longer_wins is None


def test_longer_wins_is_said_when_it_is_sure() -> None:
    longer = [pair(f"a{n}", "longer", "no") for n in range(45)] + [pair(f"b{n}", "no", "longer") for n in range(5)]
    found = audit({"train": longer})
    assert found.longer_wins is not None
    assert found.longer_wins.estimate == pytest.approx(0.9)
    assert said(found, "learn length")
    assert said(audit({"train": [pair(p.prompt, p.rejected, p.chosen) for p in longer]}), "learn brevity")
    assert not said(audit({"train": longer[:4]}), "longer")


def test_pairs_of_one_prompt_are_not_independent() -> None:
    copies = [pair(f"a{n}", *(("longer", "no") if n % 2 else ("no", "longer"))) for n in range(40) for _ in range(6)]
    found = audit({"train": copies}).longer_wins
    assert found is not None
    assert found.high - found.low == pytest.approx(wilson(20, 40).high - wilson(20, 40).low, abs=0.002)


def test_near_copies_across_splits_only() -> None:
    text = " ".join(WORDS[:60])
    changed = " ".join([*WORDS[:45], "new", "end"])  # 33 of its 35 shingles are in the text
    quoted = " ".join([*WORDS[300:360], *WORDS[:20]])  # 8 of 68
    train = [pair(text, prompt_id="t"), pair(text + " again", prompt_id="t2"), pair("Short one, really.", prompt_id="s")]
    held_out = [
        pair(changed.upper(), prompt_id="h"),
        pair(quoted, prompt_id="q"),
        pair("short one REALLY", prompt_id="s2"),
        pair("other", prompt_id="o"),
    ]
    found = audit({"train": train, "held_out": held_out})
    assert {(c.split, c.prompt_id, c.other_split) for c in found.near_copies} == {("held_out", "h", "train"), ("held_out", "s2", "train")}
    assert said(found, "2 prompts are near-copies")
    assert audit({"train": train + held_out}).near_copies == []


def test_position_bias() -> None:
    preferred = CRITERIA["toxicity"].preferred

    def shown(n: int, ranks: list[int | None]) -> Ranking:
        return Ranking(f"p{n}", "x", ["a", "b", "c"], ranks, "toxicity", "v")

    # Of toxicity rank 3 is preferred, so these prefer what was shown first.
    biased = audit({"train": [pair("a")]}, [shown(n, [3, 2, 1]) for n in range(20)], preferred)
    assert biased.earlier_wins is not None
    assert biased.earlier_wins.estimate == 1
    assert said(biased, "lean to a position")
    even = audit({"train": [pair("a")]}, [shown(n, [3, 2, 1] if n % 2 else [1, 2, 3]) for n in range(20)], preferred)
    assert even.earlier_wins is not None
    assert even.earlier_wins.estimate == 0.5
    assert even.warnings == []


def test_near_copies_of_completions_but_not_of_stock_phrases() -> None:
    text, changed = " ".join(WORDS[:60]), " ".join([*WORDS[:45], "new", "end"])
    sorry = "I am sorry, I cannot."
    train = [pair("a", text, sorry), pair("b", " ".join(WORDS[100:140]), "short one")]
    held_out = [pair("c", sorry, changed), pair("d", " ".join(WORDS[200:240]), text)]
    found = audit({"train": train, "held_out": held_out})
    assert {(c.kind, c.split, c.prompt_id, c.other_split, c.other_prompt_id) for c in found.near_copies} == {
        ("completion", "held_out", "c", "train", "a"),
        ("completion", "held_out", "d", "train", "a"),
    }
    assert said(found, "2 prompts have a long completion that is a near-copy")
    assert found.shared_completions == 2
    assert "2 completions stand word for word in more than one split." in sentences(found)
    assert audit({"train": train}).shared_completions == 0


def test_what_most_comes_from_one() -> None:
    many = [pair(f"a{n}", prompt_id="a") for n in range(60)] + [pair(f"b{n}") for n in range(40)]
    found = audit({"train": many}).by_prompt
    assert found is not None
    assert (found.groups, found.total, found.half, found.largest_name) == (41, 100, 1, "a")
    assert (found.largest.estimate, found.largest.low) == (0.6, wilson(60, 100).low)
    assert said(audit({"train": many}), "One prompt of 41 ('a') has 60% (95% interval")
    preferred = CRITERIA["helpfulness"].preferred
    busy = [Ranking(f"p{n}", "ann" if n < 50 else f"x{n % 7}", ["a", "b"], [1 + n % 2, 2 - n % 2], "helpfulness", "v") for n in range(100)]
    judged = audit({"train": [pair("a")]}, busy, preferred)
    assert judged.by_labeler is not None
    assert (judged.by_labeler.groups, judged.by_labeler.half, judged.by_labeler.largest_name) == (8, 1, "ann")
    assert said(judged, "One labeler of 8 ('ann') has 50%")
    assert not any("ann" in warning for warning in judged.warnings), "who it is stands apart"
    even = audit({"train": [pair(f"a{n}") for n in range(9)]})
    assert even.by_prompt is not None
    assert (even.by_prompt.half, even.warnings) == (5, [])


def test_a_labeler_who_leans_is_named_and_chance_is_not() -> None:
    preferred = CRITERIA["helpfulness"].preferred

    def judged(labeler: str, first: int, of: int) -> list[Ranking]:
        return [Ranking(f"p{n}", labeler, ["a", "b"], [1, 2] if n < first else [2, 1], "helpfulness", "v") for n in range(of)]

    others = [ranking for k in range(20) for ranking in judged(f"x{k}", 23 - k % 7, 40)]
    found = audit({"train": [pair("a")]}, [*judged("lean", 34, 40), *others], preferred)
    assert list(found.leaning) == ["lean"]
    assert found.leaning["lean"].low == wilson(34, 40, 1 - 0.05 / 21).low, "surer, as twenty-one are looked at"
    assert said(found, "To labeler 'lean' what was shown earlier wins 85% of the time")


def test_ties_are_no_undecided_pairs_and_unpaired_rows_are_counted() -> None:
    tie = Pair("a", "x", "y", 0.5, tie=True)
    assert audit({"train": [tie]}).undecided == 0
    rows = [Unpaired(f"p{n}", "t", n < 30, f"p{n}") for n in range(40)]
    found = audit({"train": [tie]}, unpaired=rows)
    assert found.wanted is not None
    assert (found.wanted.estimate, found.wanted.low) == (0.75, pytest.approx(wilson(30, 40).low))


def test_it_is_told_in_sentences_with_intervals() -> None:
    rows = [pair(f"a{n}", "longer", "no") for n in range(45)] + [pair(f"b{n}", "no", "longer") for n in range(5)]
    told = sentences(audit({"train": rows[:40], "held_out": rows[40:]}))
    assert told[0] == "50 pairs: 40 of 40 prompts in train, 10 of 10 prompts in held_out."
    assert told[1] == "The longer completion wins 90% of the time (95% interval 79% to 96%)."
    assert "25 of 50 prompts have half of the 50 pairs." in told
    assert told[-1].startswith("Look at this: The longer completion wins 90%")
