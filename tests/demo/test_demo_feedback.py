"""The demo's labelers: exactly the two bad ones are found, and the consensus is nearer to the world's truth than a majority."""

from __future__ import annotations

from random import Random

import pytest

from heedful.demo import words
from heedful.demo.source import WorldSource
from heedful.demo.world import World, quality
from heedful.feedback.agreed import Consensus
from heedful.feedback.consensus import consensus
from heedful.feedback.criteria import criterion_named
from heedful.feedback.labelers import flagged, labeler_reports
from heedful.records import Completion, Prompt
from heedful.settings import Settings

HELPFUL = criterion_named("helpfulness")


def asked(seed: int, prompts: int = 200) -> tuple[list[Prompt], list[Completion]]:
    """Dialogues with four summaries each: polite or rude, with facts right or wrong, and now and then nonsense."""
    world, chance = World(seed), Random(seed)
    examples = world.examples(prompts, "feedback")
    rows, completions = [], []
    for i, e in enumerate(examples):
        rows.append(Prompt(f"d{i}", e.prompt, [e.summary], {"facts": e.facts}))
        for k in range(4):
            text = e.summary if k < 2 else examples[(i + k) % prompts].summary if chance.random() < 0.05 else e.summary
            for fact, others in (("when", words.WHENS), ("where", words.WHERES)):
                text = text.replace(e.facts[fact], chance.choice(others)) if chance.random() < 0.4 else text
            polite, rude = words.POLITE_ADJECTIVES + words.POLITE_NOUNS, words.RUDE_ADJECTIVES + words.RUDE_NOUNS
            told = [rude[polite.index(w)] if w in polite and chance.random() < 0.5 else w for w in text.split()]
            completions.append(Completion(f"d{i}:{k}", f"d{i}", " ".join(told), [], "stop", k, "instruct"))
    return rows, completions


def brier(agreed: Consensus, truth: dict[str, float | None]) -> float:
    """Of the probability that the better one is chosen, where the world knows which is better."""
    found = []
    for pair in agreed.pairs:
        a, b = truth[pair.chosen_id], truth[pair.rejected_id]
        if a != b:
            right = a is not None and (b is None or a > b)
            found.append((pair.p - right) ** 2)
    return sum(found) / len(found)


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 12))])
def test_the_two_bad_labelers_are_found_and_the_consensus_beats_the_majority(seed: int) -> None:
    prompts, completions = asked(seed)
    source = WorldSource(Settings.model_validate({"seed": seed, "feedback": {"source": "simulated", "labelers_per_prompt": 3}}))
    rankings = source.rankings(prompts, completions)
    facts = {p.id: p.columns["facts"] for p in prompts}
    truth = {c.id: quality(c.text, facts[c.prompt_id]) for c in completions}
    bad = flagged(labeler_reports(rankings, HELPFUL, words={c.id: len(c.text.split()) for c in completions}))
    assert bad == ["rory", "uma"]
    agreed = consensus(rankings, HELPFUL)
    assert agreed.method == "model"
    for without in ((), bad):
        assert brier(agreed, truth) < brier(consensus(rankings, HELPFUL, without, "majority"), truth)


def test_one_and_the_same_summary_wins_half() -> None:
    """Noise must not decide between a text and itself; of a polite and a rude one the careful labelers prefer the first."""
    [example] = World(0).examples(1, "feedback")
    prompt = Prompt("d0", example.prompt, [example.summary], {"facts": example.facts})
    polite, rude = words.POLITE_ADJECTIVES + words.POLITE_NOUNS, words.RUDE_ADJECTIVES + words.RUDE_NOUNS
    insult = " ".join(rude[polite.index(w)] if w in polite else w for w in example.summary.split())
    source = WorldSource(Settings.model_validate({"feedback": {"source": "simulated"}}))
    same, better, worse = source.preferences([prompt] * 3, [insult, insult, example.summary], [insult, example.summary, insult])
    assert same == 0.5
    assert better > 0.5 > worse
