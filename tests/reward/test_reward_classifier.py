"""Training a text classifier and measuring it."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score

import tiny
from heedful.engines.base import Batch, Outputs
from heedful.engines.local import LocalLearner, Optimiser
from heedful.engines.networks import ScalarNetwork
from heedful.errors import DataProblem
from heedful.progress import SilentProgress
from heedful.reward.classifier import ClassificationLoss, LabelledText, classifier_quality, length_buckets, load_labelled, train_classifier
from heedful.reward.score import RewardModel

LABELS = ["nothate", "hate", "unclear"]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_f1_and_accuracy_are_those_of_sklearn(rows):
    predicted, truth = [p for p, _ in rows], [t for _, t in rows]
    found = classifier_quality(torch.eye(3)[predicted] * 3, truth, LABELS)
    expected = f1_score(truth, predicted, labels=[0, 1, 2], average=None, zero_division=0)
    assert [found["f1"][label] for label in LABELS] == pytest.approx(list(expected))
    assert found["f1"]["macro"] == pytest.approx(f1_score(truth, predicted, labels=[0, 1, 2], average="macro", zero_division=0))
    assert found["accuracy"]["estimate"] == pytest.approx(accuracy_score(truth, predicted))
    assert found["accuracy"]["low"] <= found["accuracy"]["estimate"] <= found["accuracy"]["high"]
    assert found["rows"] == len(rows)


def test_brier_is_that_of_the_last_class_by_hand():
    logits = torch.log(torch.tensor([[0.9, 0.1], [0.4, 0.6]]))
    found = classifier_quality(logits, [0, 1], ["nothate", "hate"])
    assert found["brier"] == pytest.approx((0.1**2 + 0.4**2) / 2)
    assert found["ece"] == pytest.approx((0.1 + 0.4) / 2)


def test_the_loss_is_the_cross_entropy_of_each_row():
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]])
    batch = Batch([[], []], [[7], [8]], columns={"label": torch.tensor([1, 0])})
    loss, metrics = ClassificationLoss()(Outputs(class_logits=logits), batch)
    expected = [np.log(np.exp(row.numpy()).sum()) - row[label].item() for row, label in zip(logits, (1, 0), strict=True)]
    assert loss.tolist() == pytest.approx(expected)
    assert metrics["accuracy"].tolist() == [1.0, 0.0]


@given(st.lists(st.integers(1, 99), max_size=80), st.integers(1, 9), st.integers(0, 5))
def test_buckets_hold_every_row_once_in_batches_of_the_size(lengths, size, seed):
    found = length_buckets(lengths, size, np.random.default_rng(seed), window=3)
    assert sorted(row for part in found for row in part) == list(range(len(lengths)))
    assert all(1 <= len(part) <= size for part in found)
    assert found == length_buckets(lengths, size, np.random.default_rng(seed), window=3)


def test_buckets_waste_less_padding_than_chance():
    random = np.random.default_rng(0)
    lengths = random.integers(1, 200, 2000).tolist()
    buckets = length_buckets(lengths, 16, np.random.default_rng(1))
    chance = np.array_split(random.permutation(2000), 125)
    padded = [sum(len(part) * max(lengths[i] for i in part) for part in parts) for parts in (buckets, chance)]
    assert padded[0] < 0.6 * padded[1]


@pytest.mark.parametrize("model", ["bert", "llama"])
def test_it_learns_a_word_that_gives_the_class_away(model, tmp_path):
    random = np.random.default_rng(0)

    def rows(n):
        found = []
        for _ in range(n):
            hate = bool(random.random() < 0.5)
            text = [f"w{i}" for i in random.integers(0, 20, random.integers(3, 9))]
            text[random.integers(len(text))] = "w25" if hate else "w24"
            found.append(LabelledText(" ".join(text), "hate" if hate else "nothate"))
        return found

    labels = ["nothate", "hate"]
    trunk, tokenizer = (
        (tiny.bert_classifier(2), tiny.tokenizer(pairs=True)) if model == "bert" else (tiny.llama_classifier(2), tiny.tokenizer("end"))
    )
    learner, logged = LocalLearner(ScalarNetwork(trunk, tokenizer), "reward", Optimiser(0.005)), []
    steps = train_classifier(
        learner, tokenizer, rows(200), labels, epochs=6, batch_size=20, max_tokens=32, seed=0, folder=tmp_path,
        log=lambda at, metrics: logged.append(metrics), progress=SilentProgress(),
    )  # fmt: skip
    assert steps == len(logged) == 60
    held_out = rows(100)
    logits = RewardModel(learner, labels, index=0).raw([row.text for row in held_out])
    found = classifier_quality(logits, [labels.index(row.label) for row in held_out], labels)
    assert found["accuracy"]["estimate"] > 0.9
    assert found["f1"]["macro"] > 0.9
    assert logged[-1]["loss"] < 0.5 * logged[0]["loss"]


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_labels_are_names_or_their_index(tmp_path):
    path = write(tmp_path / "rows.jsonl", {"text": "a", "label": "hate"}, {"text": "b", "label": 0}, {"text": "c", "label": True})
    assert [row.label for row in load_labelled(path, LABELS)] == ["hate", "nothate", "hate"]
    numbers = write(tmp_path / "numbers.jsonl", {"t": "a", "y": 1}, {"t": "b", "y": "0"})
    assert [row.label for row in load_labelled(numbers, ["0", "1"], "t", "y")] == ["1", "0"]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"text": "a", "label": "hat"}, r"row 1 of .* has the label 'hat'\. Labels are nothate, hate, unclear.*Did you mean 'hate'\?"),
        ({"text": "a", "label": 3}, r"has the label 3\."),
        ({"text": "a", "label": -1}, r"has the label -1\."),
        ({"text": "a", "label": None}, r"has the label None\."),
        ({"text": "a", "lable": "hate"}, r"no column 'label'\. It has: text, lable\. Did you mean 'lable'\?"),
        ({"txt": "a", "label": "hate"}, r"no column 'text'.*Did you mean 'txt'\?"),
    ],
)
def test_a_wrong_row_is_named(row, sentence, tmp_path):
    with pytest.raises(DataProblem, match=sentence):
        load_labelled(write(tmp_path / "rows.jsonl", row), LABELS)


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(DataProblem, match="holds no rows"):
        load_labelled(write(tmp_path / "rows.jsonl"), LABELS)
