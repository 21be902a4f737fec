"""Scorers: classifiers by the name of their label, functions of the user, and every way in which they go wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny
from heedful.engines.base import Batch
from heedful.engines.local import LocalLearner
from heedful.engines.networks import ScalarNetwork
from heedful.errors import ModelProblem, RewardProblem
from heedful.records import Prompt
from heedful.reward.score import FunctionReward, RewardModel, SharedRewardModel, encode_texts, finite, label_index

PROMPTS = [Prompt("1", "w1 w2 w3", columns={"topic": "tea", "weight": 2}), Prompt("2", "w4", columns={"topic": "coffee"})]
TEXTS = ["w5 w6", "w7 w8 w9 w1"]
NO_BATCH = Batch([[7], [7]], [[8], [8]])


def save(model, folder, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("pad", ["own", "end", "none"])
def test_a_causal_score_is_read_at_the_last_true_token_whatever_pads(pad):
    """Rows that end with the end token, which is also what pads: the plain model on each unpadded row."""
    model, batch = tiny.llama_classifier(3), tiny.batch(6)
    network = ScalarNetwork(model, tiny.tokenizer(pad))
    assert network.pad_id == (tiny.PAD if pad == "own" else tiny.END)
    found = LocalLearner(network, "reward", micro_batch_tokens=40).evaluate(batch, "reward").class_logits
    for row in range(6):
        ids = torch.tensor([[*batch.prompt_ids[row], *batch.completion_ids[row]]])
        hidden = model.model(ids).last_hidden_state[0, -1]
        torch.testing.assert_close(found[row], model.score(hidden), atol=1e-5, rtol=1e-5)


def test_an_encoders_logits_are_those_of_its_own_tokenizer_and_model():
    """Special tokens, token types and padding, against ``model(**tokenizer(prompt, completion))`` row by row."""
    model, tokenizer = tiny.bert_classifier(2), tiny.tokenizer(pairs=True)
    scorer = RewardModel(LocalLearner(ScalarNetwork(model, tokenizer), "reward"), ["no", "yes"], index=1)
    found = scorer.logits(PROMPTS, TEXTS)
    alone = scorer.raw(TEXTS)
    for row, (prompt, text) in enumerate(zip(PROMPTS, TEXTS, strict=True)):
        expected = model(**tokenizer(prompt.prompt, text, return_tensors="pt")).logits[0]
        torch.testing.assert_close(found[row], expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone[row], model(**tokenizer(text, return_tensors="pt")).logits[0], atol=1e-5, rtol=1e-5)
    assert scorer.score(PROMPTS, TEXTS, NO_BATCH) == pytest.approx(found[:, 1].tolist())
    torch.testing.assert_close(scorer.probabilities(TEXTS), alone.softmax(-1))


def test_the_label_is_found_by_name_and_not_by_position(tmp_path):
    """The same classifier with its two classes the other way round gives the same reward."""
    one = tiny.bert_classifier(2)
    one.config.id2label, one.config.label2id = {0: "nothate", 1: "hate"}, {"nothate": 0, "hate": 1}
    other = tiny.bert_classifier(2)
    other.config.id2label, other.config.label2id = {0: "hate", 1: "nothate"}, {"hate": 0, "nothate": 1}
    with torch.no_grad():
        other.classifier.weight.copy_(one.classifier.weight.flip(0))
        other.classifier.bias.copy_(one.classifier.bias.flip(0))
    folders = [save(model, tmp_path / name, tiny.tokenizer(pairs=True)) for model, name in ((one, "one"), (other, "other"))]
    first, second = (RewardModel.open(folder, label="nothate", completion_only=True) for folder in folders)
    assert first.index != second.index
    scores = first.score(PROMPTS, TEXTS, NO_BATCH)
    assert second.score(PROMPTS, TEXTS, NO_BATCH) == pytest.approx(scores, abs=1e-6)
    worst = RewardModel.open(folders[0], label="hate", completion_only=True).score(PROMPTS, TEXTS, NO_BATCH)
    assert worst != pytest.approx(scores, abs=1e-3)


def test_a_missing_or_unknown_label_names_those_there_are(tmp_path):
    with pytest.raises(ModelProblem, match=r"has 2 classes: nothate, hate\. Say which one to maximise with reward\.label"):
        label_index(["nothate", "hate"], None, "x")
    with pytest.raises(ModelProblem, match=r"no class 'nothat', only nothate, hate.*Did you mean 'nothate'\?"):
        label_index(["nothate", "hate"], "nothat", "x")
    assert label_index(["LABEL_0"], None, "x") == 0


def test_completion_only_leaves_the_prompt_out():
    network = ScalarNetwork(tiny.bert_classifier(1), tiny.tokenizer(pairs=True))
    scorer = RewardModel(LocalLearner(network, "reward"), [""], completion_only=True)
    other = [Prompt("1", "w20"), Prompt("2", "w21 w22")]
    assert scorer.score(PROMPTS, TEXTS, NO_BATCH) == scorer.score(other, TEXTS, NO_BATCH)
    whole = RewardModel(LocalLearner(network, "reward"), [""])
    assert whole.score(PROMPTS, TEXTS, NO_BATCH) != whole.score(other, TEXTS, NO_BATCH)


def test_texts_are_cut_to_what_the_model_can_read():
    """RoBERTa's position table is longer than the longest text it can take."""
    from transformers import RobertaConfig, RobertaForSequenceClassification

    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 17}
    model = RobertaForSequenceClassification(RobertaConfig(vocab_size=tiny.VOCABULARY, pad_token_id=tiny.PAD, num_labels=1, **sizes)).eval()
    tokenizer = tiny.tokenizer(pairs=True)
    tokenizer.model_max_length, tokenizer.model_input_names = 16, ["input_ids", "attention_mask"]
    scorer = RewardModel(LocalLearner(ScalarNetwork(model, tokenizer), "reward"), [""], max_tokens=64)
    assert scorer.raw(["w1 " * 40]).shape == (1, 1)
    assert scorer.logits([Prompt("1", "w2 " * 40)], ["w1 " * 40]).shape == (1, 1)
    short = RewardModel(scorer.learner, [""], max_tokens=5)
    assert torch.equal(short.raw(["w1 w2 w3 w4 w5"]), short.raw(["w1 w2 w3"]))


def test_chats_are_scored_as_plain_text():
    network = ScalarNetwork(tiny.bert_classifier(1), tiny.tokenizer(pairs=True))
    scorer = RewardModel(LocalLearner(network, "reward"), [""])
    chat = [Prompt("1", [{"role": "w1", "content": "w2"}])]
    assert scorer.score(chat, ["w5"], NO_BATCH) == scorer.score([Prompt("1", "w1: w2")], ["w5"], NO_BATCH)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_a_shared_reward_model_scores_the_ids_and_never_the_text(kind):
    learner, batch = LocalLearner(tiny.network(kind), "reward"), tiny.batch(4)
    found = SharedRewardModel(learner).score([PROMPTS[0]] * 4, ["w1"] * 4, batch)
    assert found == learner.evaluate(batch, "reward").scores.tolist()
    assert len(set(found)) == 4
    assert SharedRewardModel(learner, "monitor").score([PROMPTS[0]] * 4, [""] * 4, batch) != found


# How two texts become ids.


def encoded(rows, most=64, pairs=True):
    batch = encode_texts(tiny.tokenizer(pairs=pairs), rows, most)
    return batch.prompt_ids, batch.completion_ids


def words(*numbers):
    return [len(tiny.SPECIAL) + n for n in numbers]


def test_special_tokens_stand_where_the_tokenizer_puts_them():
    prompts, completions = encoded([("w1 w2", "w3"), ("", "w4")])
    assert prompts == [[tiny.CLS, *words(1, 2), tiny.SEP], []]
    assert completions == [[*words(3), tiny.SEP], [tiny.CLS, *words(4), tiny.SEP]]


def test_without_special_tokens_the_boundary_is_between_the_texts():
    prompts, completions = encoded([("w1 w2", "w3")], pairs=False)
    assert (prompts, completions) == ([words(1, 2)], [words(3)])


def test_a_long_prompt_loses_its_beginning_and_the_completion_nothing():
    prompts, completions = encoded([("w1 w2 w3 w4 w5", "w6 w7")], most=7)
    assert prompts == [[tiny.CLS, *words(4, 5), tiny.SEP]]
    assert completions == [[*words(6, 7), tiny.SEP]]


@pytest.mark.parametrize("n", range(1, 14))
def test_no_length_of_completion_breaks_the_limit(n):
    text = " ".join(f"w{i}" for i in range(n))
    for prompt in ("w1 w2 w3 w4 w5 w6 w7 w8", "w1"):
        prompts, completions = encoded([(prompt, text)], most=9)
        assert len(prompts[0]) + len(completions[0]) <= 9
        assert len(completions[0]) > 1
        if n < 6:
            assert completions[0] == [*words(*range(n)), tiny.SEP]
    alone = encoded([("", text)], most=9)[1][0]
    assert alone == [tiny.CLS, *words(*range(min(n, 7))), tiny.SEP]


def test_the_tokenizers_own_side_of_truncation_is_left_as_it_was():
    tokenizer = tiny.tokenizer(pairs=True)
    encode_texts(tokenizer, [("w1 " * 40, "w2")], 10)
    assert tokenizer.truncation_side == "right"


# Functions of the user.


@pytest.fixture
def function(tmp_path):
    """A reward function from the body of its file."""

    def write(body, name="reward"):
        path = tmp_path / "own_reward.py"
        path.write_text(body)
        return FunctionReward(f"{path}:{name}")

    return write


def test_a_function_gets_prompts_completions_and_the_columns_it_asks_for(function):
    body = """
def reward(prompts, completions, topic):
    assert prompts == ["w1 w2 w3", "w4"]
    assert topic == ["tea", "coffee"]
    return [float(len(c.split())) for c in completions]
"""
    assert function(body).score(PROMPTS, TEXTS, NO_BATCH) == [2.0, 4.0]


def test_a_function_that_takes_everything_gets_every_column(function):
    body = "def reward(prompts, completions, **more): return [len(more), (more['weight'][0] or 0) + (more['weight'][1] is None)]\n"
    assert function(body).score(PROMPTS, TEXTS, NO_BATCH) == [2.0, 3.0]


@pytest.mark.parametrize("returned", ["[0, 0.0]", "(0.0, 0)", "np.zeros(2)", "iter([0, 0])", "[np.float32(0), True - 1]"])
def test_zero_is_a_score_and_any_list_of_numbers_will_do(function, returned):
    found = function(f"import numpy as np\ndef reward(prompts, completions): return {returned}\n").score(PROMPTS, TEXTS, NO_BATCH)
    assert found == [0.0, 0.0]
    assert all(type(value) is float for value in found)


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        ("1 / 0", r"raised ZeroDivisionError: division by zero\. Mend the function"),
        ("[1.0]", r"returned 1 scores for 2 completions\. It must return one number per completion"),
        ("[1.0] * 3", r"returned 3 scores for 2 completions"),
        ("None", r"returned a NoneType\. It must return a list"),
        ("1.5", r"returned a float"),
        ("[1.0, None]", r"gave None for completion 1 \(completion 'w7 w8 w9 w1'\)\. Every completion needs a finite number"),
        ("[float('nan'), 1.0]", r"gave nan for completion 0"),
        ("[1.0, float('-inf')]", r"gave -inf for completion 1"),
        ("['good', 1.0]", r"gave 'good' for completion 0"),
        ("[[1.0], 1.0]", r"gave \[1.0\] for completion 0"),
    ],
)
def test_what_is_no_list_of_numbers_is_refused_with_the_row(function, returned, sentence):
    with pytest.raises(RewardProblem, match=sentence):
        function(f"def reward(prompts, completions): return {returned}\n").score(PROMPTS, TEXTS, NO_BATCH)


def test_an_argument_that_no_column_has_is_the_functions_error(function):
    with pytest.raises(RewardProblem, match=r"raised TypeError: .*'colour'"):
        function("def reward(prompts, completions, colour): return [0, 0]\n").score(PROMPTS, TEXTS, NO_BATCH)


def test_a_missing_function_names_the_nearest(function, tmp_path):
    with pytest.raises(RewardProblem, match=r"has no function 'rewrad'\. It has: reward, other\. Did you mean 'reward'\?"):
        function("def reward(p, c): ...\ndef other(p, c): ...\n", name="rewrad")
    with pytest.raises(RewardProblem, match=r"there is no file .*nowhere\.py"):
        FunctionReward(f"{tmp_path}/nowhere.py:reward")
    with pytest.raises(RewardProblem, match=r"reward\.path is 'own_reward', which names no function"):
        FunctionReward("own_reward")
    with pytest.raises(RewardProblem, match="no_such_module cannot be imported: ModuleNotFoundError"):
        FunctionReward("no_such_module:reward")
    with pytest.raises(RewardProblem, match="cannot be imported: SyntaxError"):
        function("def reward(:\n")
    with pytest.raises(RewardProblem, match="cannot be imported: ImportError: no luck"):
        function("raise ImportError('no luck')\n")


def test_a_function_by_module():
    assert FunctionReward("tiny_rewards:words").score(PROMPTS, TEXTS, NO_BATCH) == [2.0, 4.0]


def test_a_file_with_dataclasses_and_postponed_annotations_opens(function):
    body = """
from __future__ import annotations
from dataclasses import dataclass
@dataclass
class Weights:
    length: float = 0.5
def reward(prompts, completions): return [Weights().length for _ in completions]
"""
    assert function(body).score(PROMPTS, TEXTS, NO_BATCH) == [0.5, 0.5]


def test_finite_names_who_and_keeps_numbers_as_they_are():
    assert finite([0, np.float64(1.5), torch.tensor(2.0)], "x") == [0.0, 1.5, 2.0]
    with pytest.raises(RewardProblem, match="the reward model gave nan for completion 1"):
        finite([1.0, float("nan")], "the reward model")
