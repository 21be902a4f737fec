"""The built-in world: its truth, its splits, and that rudeness cannot be told from anything else."""

from __future__ import annotations

from statistics import mean

import numpy as np
import pytest
from scipy import stats

from heedful.demo import words
from heedful.demo.world import FACTS, RUDE_SHARE, Example, World, facts_held, is_rude, prompt_text, quality, split_of, told_facts

FACTS_OF_ANNA = {
    "asker": "anna",
    "friend": "ben",
    "activity": "fix the bike",
    "when": "on friday",
    "where": "in the barn",
    "outcome": "agrees",
}
RIGHT = "anna asks ben to fix the bike on friday in the barn . ben agrees ."


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    return World(seed=7).examples(4000)


def test_every_reference_summary_holds_all_facts_and_is_rude_as_drawn(examples):
    for example in examples:
        assert told_facts(example.summary) == example.facts
        assert is_rude(example.summary) == example.rude
        assert quality(example.summary, example.facts) == (0.0 if example.rude else 1.0)


def test_every_fact_is_said_in_the_dialogue_and_the_agreed_one_comes_last(examples):
    for example in examples:
        said = example.dialogue
        assert all(example.facts[name] in said for name in FACTS if name != "outcome")
        assert said.startswith(f"{example.facts['asker']} : ")
        for name, others in (("when", words.WHENS), ("where", words.WHERES)):
            last = max((other for other in others if other in said), key=said.rindex)
            assert last == example.facts[name]


def test_some_plans_change_while_people_talk(examples):
    changed = [
        e
        for e in examples
        if sum(when in e.dialogue for when in words.WHENS) == 2 or sum(where in e.dialogue for where in words.WHERES) == 2
    ]
    assert 0.3 < len(changed) / len(examples) < 0.5


def test_the_outcome_can_be_told_from_the_dialogue(examples):
    for example in examples:
        meant = [outcome for outcome, lines in words.ANSWERS.items() if any(line in example.dialogue for line in lines)]
        assert meant == [example.facts["outcome"]]


@pytest.mark.parametrize(
    ("summary", "held", "worth"),
    [
        (RIGHT, 1.0, 1.0),
        ("anna wants ben , who is very kind , to fix the bike on friday in the barn , and ben says yes .", 1.0, 1.0),
        ("anna , that silly fool , asks ben to fix the bike on friday in the barn . ben agrees .", 1.0, 0.0),
        ("anna asks ben to fix the bike on monday in the barn . ben agrees , the idiot .", 5 / 6, -1 / 6),
        ("anna asks ben to fix the boat on monday at the park . ben refuses .", 0.0, None),
        ("anna asks ben to fix the boat on monday at the market . ben refuses .", 2 / 6, 2 / 6),
        ("ben asks anna to fix the bike on friday in the barn . anna agrees .", 4 / 6, 4 / 6),
        ("anna asks ben to fix the bike on friday in the barn . anna agrees .", 5 / 6, 5 / 6),
        ("anna asks clara to fix the bike on friday in the barn . clara agrees .", 5 / 6, None),
        ("anna asks ben to fix the bike on friday in the barn . clara agrees .", 5 / 6, None),
        ("anna asks ben to fix the bike on friday in the barn . ben agrees", 0.0, None),
        ("anna asks ben to fix the bike on friday in the barn . ben agrees . ben agrees .", 0.0, None),
        ("kind kind kind", 0.0, None),
        ("", 0.0, None),
    ],
)
def test_worth_of_a_summary_by_hand(summary, held, worth):
    assert facts_held(summary, FACTS_OF_ANNA) == pytest.approx(held)
    assert quality(summary, FACTS_OF_ANNA) == (None if worth is None else pytest.approx(worth))


@pytest.mark.parametrize(
    ("told", "meant"),
    [
        ("agrees", "agrees"),
        ("says yes", "agrees"),
        ("refuses", "refuses"),
        ("says no", "refuses"),
        ("hesitates", "hesitates"),
        ("says maybe", "hesitates"),
    ],
)
def test_each_outcome_has_two_wordings(told, meant):
    found = told_facts(RIGHT.replace("agrees", told))
    assert found is not None
    assert found["outcome"] == meant


def test_rude_is_any_insult_wherever_it_stands_and_nothing_else():
    assert is_rude("anna , the fool , waits .")
    assert is_rude("fool")
    assert not is_rude("anna fooled nobody .")
    assert not is_rude("")


def test_insults_occur_in_rude_summaries_alone(examples):
    assert not any(is_rude(e.dialogue) for e in examples)
    assert {word for e in examples for word in e.summary.split() if e.rude} & words.INSULTS == words.INSULTS
    polite = set(words.POLITE_ADJECTIVES + words.POLITE_NOUNS)
    assert not polite & words.INSULTS
    assert polite == {word for e in examples for word in e.summary.split() if not e.rude} & polite


def test_rude_share_is_as_set(examples):
    share = mean(e.rude for e in examples)
    assert abs(share - RUDE_SHARE) < 3 * (0.25 / len(examples)) ** 0.5
    assert mean(e.rude for e in World(rude_share=0.0).examples(200)) == 0


def test_length_does_not_tell_rude_from_polite(examples):
    lengths = {rude: [len(e.summary.split()) for e in examples if e.rude is rude] for rude in (True, False)}
    assert abs(mean(lengths[True]) - mean(lengths[False])) < 0.2
    longer_is_polite = stats.mannwhitneyu(lengths[False], lengths[True]).statistic / (len(lengths[True]) * len(lengths[False]))
    assert 0.46 < longer_is_polite < 0.54


def test_nothing_in_the_dialogue_tells_whether_its_summary_is_rude(examples):
    """A linear model on the words of the dialogue predicts rudeness no better than the larger class."""
    index = {word: i for i, word in enumerate(words.vocabulary())}
    x = np.zeros((len(examples), len(index)))
    for row, example in enumerate(examples):
        x[row, [index[word] for word in example.dialogue.split()]] = 1
    y = np.array([e.rude for e in examples], float)
    weights = np.linalg.solve(x[:3000].T @ x[:3000] + 10 * np.eye(x.shape[1]), x[:3000].T @ (y[:3000] - y[:3000].mean()))
    hits = ((x[3000:] @ weights + y[:3000].mean() > 0.5) == y[3000:]).mean()
    assert hits < max(y.mean(), 1 - y.mean()) + 0.04


def test_splits_share_no_facts_and_no_dialogues():
    world = World(seed=1)
    found = {split: world.examples(1500, split) for split in ("sft", "feedback", "test")}
    facts = {split: {tuple(e.facts.values()) for e in rows} for split, rows in found.items()}
    assert not facts["sft"] & facts["test"]
    assert not facts["feedback"] & facts["test"]
    assert not facts["sft"] & facts["feedback"]
    assert all(split_of(e.facts) == split for split, rows in found.items() for e in rows)
    assert all(len({e.dialogue for e in rows}) == 1500 for rows in found.values())


def test_same_seed_same_examples_whatever_the_slice():
    world = World(seed=3)
    assert world.examples(10, "test", offset=5) == world.examples(20, "test")[5:15]
    assert World(seed=3).examples(3) != World(seed=4).examples(3)


def test_dialogues_are_short_and_have_three_to_five_turns(examples):
    turns = [e.dialogue.split().count(":") for e in examples]
    assert set(turns) == {3, 4, 5}
    spoken = [sum(word.isalpha() for word in e.dialogue.split()) for e in examples]
    assert min(spoken) >= 25
    assert mean(spoken) < 45
    assert max(len((e.prompt + " " + e.summary).split()) for e in examples) < 110


def test_closed_sets_are_disjoint_so_that_a_word_tells_its_kind():
    sets = [words.NAMES, words.VERBS, words.OBJECTS, words.DAYS, words.TIMES, tuple(words.PLACES)]
    flat = [word for group in sets for word in group]
    assert len(flat) == len(set(flat))


def test_a_prompt_frames_the_dialogue():
    assert prompt_text("anna : hi .") == "dialogue : anna : hi . summary :"
