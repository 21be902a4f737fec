"""Completions that say who wrote them are told of; what only speaks of models is not."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from heedful.feedback.blindness import EXAMPLES, blindness, giveaway
from heedful.records import Completion, Prompt


def said(text: str, model: str = "", n: int = 0) -> Completion:
    return Completion(f"p{n}:0", f"p{n}", text, [], "stop", 0, model)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("As ChatGPT, I cannot have opinions.", "ChatGPT"),
        ("Hello! I'm Claude, happy to help.", "Claude"),
        ("I’m an Alpaca model.", "Alpaca"),
        ("My name is Open-Assistant and I am here.", "Open-Assistant"),
        ("I am GPT-4.", "GPT-4"),
        ("Sorry, as an AI language model trained by OpenAI I have no body.", "OpenAI"),
        ("I was created by a team of researchers at Anthropic.", "Anthropic"),
        ("Well, my developers at Google would not like that.", "Google"),
        ("I'm an assistant designed by Large Model Systems Organization.", "Large Model Systems"),
    ],
)
def test_who_introduces_themselves_is_found(text: str, name: str) -> None:
    found = giveaway(said(text), "what is the weather?")
    assert found is not None
    assert (found.name, found.completion_id) == (name, "p0:0")
    assert name in found.excerpt
    assert giveaway(said(text), f"are you {name.lower()}?") is None, "the prompt has said it"


@pytest.mark.parametrize(
    "text",
    [
        "ChatGPT is a model developed by OpenAI.",
        "Claude Monet painted it, as Google will tell you.",
        "I am sure that palm trees, falcons and llamas live there.",
        "I was at Google when it was built. OpenAI came later.",
        "As with other images in Microsoft Word, it was made by Microsoft.",
        "I'm a language model and have no opinions.",
        "I am not as capable as ChatGPT.",
        "The alpaca, as Stanford showed, was trained by people.",
        "My creator is unknown.\nGoogle it.",
    ],
)
def test_who_speaks_of_models_or_only_says_that_it_is_one_is_not(text: str) -> None:
    assert giveaway(said(text), "") is None


@pytest.mark.parametrize(
    ("model", "text", "name"),
    [
        ("meta-llama/Tiny-7B-chat", "Tiny 7b chat answers: yes.", "Tiny 7b chat"),
        ("model_b2", "By model_b2.", "model_b2"),
        ("MyTuned", "mytuned says so", "mytuned"),
        ("model_b2", "By model_b21.", None),
        ("instruct", "Follow what I instruct.", None),
        ("policy", "Our policy is clear.", None),
        ("", "Nothing.", None),
    ],
)
def test_the_name_under_which_a_completion_came_gives_it_away_unless_it_is_a_word(model: str, text: str, name: str | None) -> None:
    found = giveaway(said(text, model), "")
    assert (found.name if found else None) == name


def test_it_is_counted_told_and_nothing_is_left_out() -> None:
    completions = [said("I'm Claude.", n=n) for n in range(7)] + [said("I am Bard.", n=0), said("I am fine.", n=9)]
    found = blindness((Prompt(f"p{n}", "Who?") for n in range(9)), completions)
    assert (found.completions, found.naming, found.names) == (9, 8, {"Claude": 7, "Bard": 1})
    assert [example["prompt_id"] for example in found.examples] == ["p0", "p1", "p2", "p3", "p4"]
    assert len(found.examples) == EXAMPLES
    assert "8 of 9 completions say who wrote them: Claude (7), Bard (1)." in found.sentence
    assert "'p0:0': ...I'm Claude...." in found.sentence
    assert blindness([], [said("I am fine.")]).sentence == ""
    chat = Prompt("p0", [{"role": "user", "content": "Are you Claude?"}])
    assert blindness([chat], [said("I'm Claude.")]).naming == 0


def test_real_answers_of_many_models(shared: Path) -> None:
    """Found by eye among 15,958 answers of 26 models: 34 introduce themselves. No other mention is taken for one; nor in dialogues."""
    with gzip.open(shared / "data/preferences/alpaca_eval_outputs.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    found = Counter(row["generator"] for row in rows if giveaway(said(row["output"], row["generator"]), row["instruction"].casefold()))
    assert found == {"claude": 14, "claude-2": 14, "gpt4_1106_preview": 4, "phi-2": 1, "oasst-rlhf-llama-33b": 1}
    with gzip.open(shared / "data/preferences/hh_rlhf_helpful_base.jsonl.gz", "rt", encoding="utf-8") as lines:
        told = [json.loads(line)[side].rpartition("\n\nAssistant:")[2] for line in lines for side in ("chosen",)]
    assert [text for text in told if giveaway(said(text), "")] == []
