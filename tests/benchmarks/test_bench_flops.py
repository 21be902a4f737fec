"""Operations and bytes, against counts by hand and against torch's own counter."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import tiny
from benchmarks import flops
from benchmarks.flops import Shape, Stack

CAUSAL = Shape(Stack(layers=2, weights=100, width=8, kept=4), head=50)


def test_a_causal_pass_by_hand():
    """A prompt of 3 with completions of 2 and 1: 6 tokens; 1+2+3 pairs in the prompt, 4+5 and 4 in the completions; 3 rows of logits."""
    weights, attention, head = 2 * 100 * 6, 4 * 2 * 8 * (6 + 9 + 4), 2 * 50 * 3
    assert flops.forward(CAUSAL, [(3, [2, 1])]) == weights + attention + head == 2716
    assert flops.forward(CAUSAL, [(3, [2, 1])], logits=False) == 2716 - 300


def test_the_last_layer_need_not_do_all_by_hand():
    """Of 6 tokens 2 states are looked at before the completions' tokens (the prompt's last, and the first of two), or 2 for scores."""
    whole, rows = replace(CAUSAL, last=30), [(3, [2, 1])]
    assert flops.forward(CAUSAL, rows) - flops.forward(whole, rows) == 2 * 30 * 4
    assert flops.forward(CAUSAL, rows, logits=False) - flops.forward(whole, rows, logits=False) == 2 * 30 * 4
    assert [flops.states_needed([(9, [3, 3])], logits) for logits in (True, False)] == [5, 2]


def test_an_encoder_decoder_pass_by_hand():
    """Prompt 3, completion 2: 9 pairs in the encoder, 3 in the decoder, 6 across; keys and values of the prompt once."""
    shape = Shape(Stack(2, 100, 8, 8), 50, Stack(3, 70, 6, 6), cross=20)
    encoder, decoder = 2 * (70 + 20) * 3 + 4 * 3 * 6 * 9, 2 * 100 * 2 + 4 * 2 * 8 * (3 + 6)
    assert flops.forward(shape, [(3, [2])]) == encoder + decoder + 2 * 50 * 2


def test_a_decoding_step_by_hand():
    """Two rows that share a prompt of 3 and write 4 tokens each: on average 2 stand there, so 5 keys a row; the prompt's are read once."""
    operations, read = flops.decoding(CAUSAL, [(3, [4, 4])], width=2)
    assert operations == 2 * 150 * 2 + 4 * 2 * 8 * (5 + 5)
    assert read == 2 * (150 + 2 * 2 * 4 * (3 + 2 + 2))


def test_learning_costs_three_passes_and_two_where_the_weights_are_frozen():
    once = flops.forward(CAUSAL, [(3, [2])])
    assert flops.training(CAUSAL, [(3, [2])]) == 3 * once
    assert flops.training(CAUSAL, [(3, [2])], frozen=True) == 2 * once


def test_shared_prompts_are_counted_once():
    assert flops.rows_of([[1, 2], [3], [1, 2]], [[4], [5, 6], [7, 8, 9]]) == [(2, [1, 3]), (1, [2])]
    apart, together = [(9, [4]), (9, [4])], [(9, [4, 4])]
    assert flops.forward(CAUSAL, apart) - flops.forward(CAUSAL, together) == flops.forward(CAUSAL, [(9, [])])


def test_the_shape_of_a_llama_by_hand():
    """Width 16, 2 heads of 8 and 1 of keys, inner width 24, 32 words, 2 layers."""
    layer = 16 * 16 + 2 * 8 * 16 + 16 * 16 + 3 * 24 * 16
    assert flops.shape_of(tiny.language_model("llama")) == Shape(Stack(2, 2 * layer, 16, 8), 32 * 16, last=layer - 2 * 8 * 16)


def test_a_classifier_has_no_logits_to_count():
    shape = flops.shape_of(tiny.llama_classifier())
    assert shape.head == 0
    assert shape.decoder == flops.shape_of(tiny.language_model("llama")).decoder


def counted(run) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("length", [7, 30])
def test_torch_counts_the_same_for_a_llama(length):
    """transformers computes every pair of tokens, also those a causal model cannot see, and logits everywhere."""
    model = tiny.language_model("llama")
    model.set_attn_implementation("eager")
    shape = replace(flops.shape_of(model), last=0)  # and every state of every layer
    unseen = 4 * shape.decoder.layers * shape.decoder.width * (length**2 - length * (length + 1) // 2)
    found = counted(lambda: model(input_ids=torch.ones(1, length, dtype=torch.long)))
    assert found - unseen - 2 * shape.head * length == pytest.approx(flops.forward(shape, [(length, [])]), rel=0.01)


def test_torch_counts_the_same_for_a_t5():
    model = tiny.language_model("t5")
    model.set_attn_implementation("eager")
    shape, ids = flops.shape_of(model), torch.ones(1, 11, dtype=torch.long)
    unseen = 4 * shape.decoder.layers * shape.decoder.width * (5**2 - 15)
    found = counted(lambda: model(input_ids=ids, decoder_input_ids=ids[:, :5]))
    assert found - unseen == pytest.approx(flops.forward(shape, [(11, [5])]), rel=0.01)
