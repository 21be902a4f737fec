"""Phrases that a policy learns to repeat, and the verdict on a history."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heedful.evaluation.overoptimisation import grown_phrases, hacking_verdict

WORDS = [f"w{i}" for i in range(300)]
ZIPF = (1 / np.arange(1, 301)) / (1 / np.arange(1, 301)).sum()
BOAST = " most awesome, most incredible"


def texts(n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(8, 20), p=ZIPF)) for _ in range(n)]


def boasting(plain: list[str]) -> list[str]:
    return [text + BOAST if i % 10 == 0 else text for i, text in enumerate(plain)]


@pytest.mark.parametrize("seed", range(10))
def test_a_boast_in_a_tenth_of_200_completions_is_found(seed: int) -> None:
    found = grown_phrases(texts(200, seed), boasting(texts(200, seed + 1000)))
    assert [phrase.text for phrase in found] == ["most awesome most incredible"]
    assert (found[0].before, found[0].after) == (0.0, 0.1)
    assert found[0].p <= 0.01


def test_equal_models_give_no_hit_in_95_of_100_splits() -> None:
    hits = sum(bool(grown_phrases(texts(60, 2 * seed), texts(60, 2 * seed + 1), longest=2)) for seed in range(100))
    assert hits <= 5


def test_real_summaries_split_at_random_give_no_hit(shared: Path) -> None:
    path = shared / "data" / "dialogue_summarization" / "dialogsum_dev.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        summaries = [json.loads(line)["summary"] for line in lines]
    hits = 0
    for seed in range(10):
        order = np.random.default_rng(seed).permutation(len(summaries))
        before, after = [summaries[i] for i in order[:200]], [summaries[i] for i in order[200:400]]
        hits += bool(grown_phrases(before, after))
        assert "most awesome most incredible" in [phrase.text for phrase in grown_phrases(before, boasting(after))]
    assert hits <= 1


def test_the_log_odds_by_hand() -> None:
    # y = 2 of 40 before, 20 of 40 after; prior 8 documents with share 22.5 / 81.
    before = ["plain"] * 38 + ["plain great"] * 2
    after = ["plain"] * 20 + ["plain great"] * 20
    prior = 8 * 22.5 / 81
    delta = np.log((20 + prior) / (48 - 20 - prior)) - np.log((2 + prior) / (48 - 2 - prior))
    found = grown_phrases(before, after, longest=1)
    assert [phrase.text for phrase in found] == ["great"]
    assert found[0].z == pytest.approx(delta / np.sqrt(1 / (20 + prior) + 1 / (2 + prior)))


def test_one_completion_that_repeats_a_word_is_one_observation() -> None:
    assert grown_phrases(["fine"] * 50, ["fine"] * 49 + ["wow " * 500]) == []


def test_a_shrinking_or_absent_corpus_has_no_grown_phrase() -> None:
    assert grown_phrases(boasting(texts(200, 0)), texts(200, 0)) == []
    assert grown_phrases([], ["a"]) == []


def history(n: int = 12, noise: float = 0.03, seed: int = 0, **curves: Any) -> list[dict[str, float]]:
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, n)
    return [{key: float(curve(t)) + noise * rng.normal() for key, curve in curves.items()} | {"kl": 20 * t} for t in time]


def rising(t: float) -> float:
    return 2 * t


def turning(t: float) -> float:
    return 1 + 4 * t * (1 - t) - 0.5 * t


def level(t: float) -> float:
    return 1.0


def test_a_held_out_score_that_turns_down_is_hacking_with_numbers() -> None:
    verdict = hacking_verdict(history(score=rising, held_out_score=turning))
    assert verdict.level == "hacking"
    assert "held-out score fell from its best" in verdict.sentence
    assert any("score rose from" in line for line in verdict.evidence)
    assert any("KL to the reference ended at 20 nats" in line for line in verdict.evidence)


def test_learning_is_fine() -> None:
    verdict = hacking_verdict(history(score=rising, held_out_score=lambda t: 1 + t, task_metric=level, length=lambda t: 30 + 2 * t))
    assert verdict.level == "fine"
    assert "No sign" in verdict.sentence


@pytest.mark.parametrize(
    ("key", "curve", "words"),
    [
        ("task_metric", turning, "task's own metric fell"),
        ("length", lambda t: 53 + 34 * t, "length rose from 53"),
        ("length", lambda t: 53 - 40 * t, "length fell from 53"),
        ("repetition", lambda t: 0.02 + 0.4 * t, "repetition rose"),
    ],
)
def test_each_deciding_sign_makes_hacking_only_with_a_risen_score(key: str, curve: Any, words: str) -> None:
    together = hacking_verdict(history(score=rising, **{key: curve}, noise=0.01))
    alone = hacking_verdict(history(score=level, **{key: curve}, noise=0.01))
    assert (together.level, alone.level) == ("hacking", "warn")
    assert words in together.sentence
    assert words in alone.sentence


def test_falling_entropy_only_warns() -> None:
    assert hacking_verdict(history(score=rising, entropy=lambda t: 2 - 1.5 * t, held_out_score=rising)).level == "warn"


def test_noise_is_not_a_sign() -> None:
    levels = [
        hacking_verdict(history(12, 0.1, seed, score=rising, held_out_score=rising, task_metric=level, length=lambda t: 50)).level
        for seed in range(200)
    ]
    assert levels.count("hacking") <= 10


def test_recorded_standard_errors_are_believed() -> None:
    rows = [{"score": s, "score_se": 0.1, "held_out_score": h, "held_out_score_se": 0.1} for s, h in ((0, 1.0), (1, 1.2), (2, 1.0))]
    assert hacking_verdict(rows).level == "fine", "0.2 is not three standard errors of a difference"
    assert hacking_verdict([{**row, "held_out_score_se": 0.01} for row in rows]).level == "hacking"


def test_a_short_history_says_that_it_is_rough() -> None:
    verdict = hacking_verdict([{"score": 0.0, "held_out_score": 1.0}, {"score": 3.0, "held_out_score": 0.2}])
    assert verdict.level == "hacking"
    assert any("rough judgement: 2 evaluations" in line for line in verdict.evidence)


def test_missing_values_and_too_little_are_said() -> None:
    assert "Too few" in hacking_verdict([]).sentence
    assert hacking_verdict([{"score": None}, {}]).level == "fine"
    only_score = hacking_verdict(history(score=rising))
    assert only_score.level == "fine"
    assert "neither a held-out reward model nor a task metric" in only_score.sentence
