"""Reward models from pairs: the loss by hand, each completion once, and what they learn."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch

import tiny
from heedful.engines.base import Batch, Outputs
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.networks import LanguageNetwork, Lora, ScalarNetwork
from heedful.engines.seeding import seeded
from heedful.progress import SilentProgress
from heedful.records import Pair
from heedful.reward.train import Comparisons, PairSet, PairwiseLoss, encode_pairs, score_pairs, train_reward

GOOD = len(tiny.SPECIAL) + 5


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_the_loss_by_hand():
    """Group 4 has three completions and two pairs, one of them soft; group 9 has one pair with a margin."""
    batch = Batch([[7]] * 5, [[8]] * 5, [4, 4, 4, 9, 9])
    outputs = Outputs(scores=torch.tensor([1.0, 0.5, -1.0, 0.0, 0.25]))
    loss = PairwiseLoss({9: Comparisons([1], [0], [1.0], [0.5]), 4: Comparisons([0, 2], [1, 0], [1.0, 0.75], [0.0, 0.0])})
    found, metrics = loss(outputs, batch)
    soft = -(0.75 * math.log(sigmoid(-2)) + 0.25 * math.log(sigmoid(2)))
    assert found.tolist() == pytest.approx([(-math.log(sigmoid(0.5)) + soft) / 2, -math.log(sigmoid(0.25 - 0.5))], rel=1e-6)
    assert metrics["accuracy"].tolist() == [0.5, 1.0]
    assert metrics["score_gap"].tolist() == [-0.75, 0.25]


def test_equal_scores_are_half_right():
    batch = Batch([[7]] * 2, [[8]] * 2, [0, 0])
    _, metrics = PairwiseLoss({0: Comparisons([0], [1], [1.0], [0.0])})(Outputs(scores=torch.zeros(2)), batch)
    assert metrics["accuracy"].tolist() == [0.5]


@pytest.mark.parametrize("k", [2, 4, 9])
def test_k_completions_are_encoded_k_times(k):
    texts = [f"w{i}" for i in range(k)]
    pairs = [Pair("a prompt", better, worse) for better, worse in combinations(texts, 2)]
    calls = []

    def encode(pair, chosen):
        calls.append(pair.chosen if chosen else pair.rejected)
        return [7], [8]

    found = encode_pairs(pairs, encode)
    assert sorted(calls) == texts
    assert [len(rows) for rows in found.rows] == [k]
    assert len(found.comparisons[0].better) == k * (k - 1) // 2
    assert len(found.batch([0])) == k


def test_pairs_keep_their_completions_probability_and_margin():
    pairs = [
        Pair("one", "good", "bad", p=0.8, margin=0.3, prompt_id="1", chosen_id="c1", rejected_id="c2"),
        Pair("two", "fine", "bad", prompt_id="2"),
        Pair("one", "best", "good", prompt_id="1", chosen_id="c3", rejected_id="c1"),
    ]
    names = {"good": 10, "bad": 11, "best": 12, "fine": 13}
    found = encode_pairs(pairs, lambda pair, chosen: ([7], [names[pair.chosen if chosen else pair.rejected]]))
    assert [[row[1][0] for row in rows] for rows in found.rows] == [[10, 12, 11], [13, 11]]
    first, second = found.comparisons
    assert first == Comparisons([0, 1], [2, 0], [0.8, 1.0], [0.3, 0.0])
    assert second == Comparisons([0], [1], [1.0], [0.0])
    batch = found.batch([1, 0])
    assert batch.group_ids == [1, 1, 0, 0, 0]
    assert batch.rows_by_group == {1: [0, 1], 0: [2, 3, 4]}


def test_equal_texts_of_different_completions_stay_apart():
    pairs = [Pair("p", "same", "same", chosen_id="a", rejected_id="b")]
    assert [len(rows) for rows in encode_pairs(pairs, lambda *_: ([7], [8])).rows] == [2]


def test_prompts_with_many_pairs_weigh_no_more():
    """The loss is the mean over groups of the mean over pairs."""
    rows = [[([7], [8 + i]) for i in range(3)], [([7], [20]), ([7], [21])]]
    pairs = PairSet(rows, [Comparisons([0, 0, 1], [1, 2, 2], [1.0] * 3, [0.0] * 3), Comparisons([0], [1], [1.0], [0.0])], [])
    learner = LocalLearner(tiny.network("llama"), "reward")
    batch = pairs.batch([0, 1])
    s = learner.evaluate(batch, "reward").scores.double().tolist()
    gaps = [[s[0] - s[1], s[0] - s[2], s[1] - s[2]], [s[3] - s[4]]]
    expected = np.mean([np.mean([-math.log(sigmoid(gap)) for gap in one]) for one in gaps])
    assert learner.forward_backward(batch, pairs.loss)["loss"] == pytest.approx(expected, rel=1e-5)


def synthetic(n, seed):
    """Of two completions the one with more of a certain token is preferred."""
    random = np.random.default_rng(seed)
    rows, comparisons = [], []
    for _ in range(n):
        counts = random.choice(5, size=3, replace=False)
        prompt = random.integers(6, 32, size=3).tolist()
        completions = []
        for count in counts:
            others = [int(t) for t in random.choice([t for t in range(6, 32) if t != GOOD], size=6 - count)]
            completions.append((prompt, [int(t) for t in random.permutation([GOOD] * int(count) + others)] + [tiny.END]))
        order = list(np.argsort(-counts))
        better, worse = zip(*combinations([int(i) for i in order], 2), strict=True)
        rows.append(completions)
        comparisons.append(Comparisons(list(better), list(worse), [1.0] * 3, [0.0] * 3))
    return PairSet(rows, comparisons, [])


def reward_networks(kind):
    if kind == "bert":
        return ScalarNetwork(tiny.bert_classifier(1), tiny.tokenizer(pairs=True))
    with seeded(0):
        return LanguageNetwork(tiny.language_model(kind), tiny.tokenizer(), roles=("policy", "reward"), lora=Lora(8, 16))


@pytest.mark.parametrize(("kind", "rate"), [("llama", 0.02), ("t5", 0.05), ("bert", 0.01)])
def test_it_learns_what_is_preferred(kind, rate, tmp_path):
    learner = LocalLearner(reward_networks(kind), "reward", Optimiser(rate))
    train, held_out = synthetic(96, 0), synthetic(60, 1)
    rows = []
    steps = train_reward(
        learner, train, epochs=6, batch_size=16, seed=0, folder=tmp_path, log=lambda at, m: rows.append(m), progress=SilentProgress()
    )
    assert steps == len(rows) == 36
    chosen, rejected = score_pairs(learner, held_out)
    assert len(chosen) == 180
    assert (chosen > rejected).mean() > 0.9
    assert rows[-1]["accuracy"] > 0.9
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


def test_scores_come_back_by_comparison():
    learner, pairs = LocalLearner(tiny.network("llama"), "reward", micro_batch_tokens=30), synthetic(5, 3)
    chosen, rejected = score_pairs(learner, pairs)
    at = 0
    for rows, known in zip(pairs.rows, pairs.comparisons, strict=True):
        scores = learner.evaluate(Batch([r[0] for r in rows], [r[1] for r in rows]), "reward").scores
        for better, worse in zip(known.better, known.worse, strict=True):
            assert (chosen[at], rejected[at]) == pytest.approx((float(scores[better]), float(scores[worse])), abs=1e-5)
            at += 1
    assert at == len(chosen)
