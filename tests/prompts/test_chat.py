"""Token ids of prompts and completions, on tokenizers of every habit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import DataProblem, ModelProblem
from heedful.prompts.chat import encode_completion, encode_prompts, end_id, render
from heedful.records import Prompt

WORDS = ["[UNK]", "<s>", "</s>", "<pad>", "user", "assistant", "system", "say", "hello", "world", "one", "two", "three", "four"]
ID = {word: number for number, word in enumerate(WORDS)}
BOS, EOS, PAD = ID["<s>"], ID["</s>"], ID["<pad>"]
TEMPLATE = "{% for m in messages %}{{ m['role'] }} {{ m['content'] }} {% endfor %}{% if add_generation_prompt %}assistant{% endif %}"
REFUSING = "{{ raise_exception('no system role') if messages[0]['role'] == 'system' else 'say' }}"


def ids(text: str) -> list[int]:
    return [ID[word] for word in text.split()]


def build(single: str = "$A", **special: Any) -> Any:
    """A word-level tokenizer; ``single`` is what it puts around a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel(ID, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_special_tokens(["<s>", "</s>", "<pad>"])
    if single != "$A":
        core.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", BOS), ("</s>", EOS)])
    template = special.pop("chat_template", None)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", **special)
    tokenizer.chat_template = template
    return tokenizer


def llama() -> Any:
    """Puts BOS and EOS around a text, has no pad token."""
    return build("<s> $A </s>", bos_token="<s>", eos_token="</s>")


def gpt2() -> Any:
    """One token for BOS, EOS and pad, which it never adds itself."""
    return build(bos_token="</s>", eos_token="</s>", pad_token="</s>")


def t5() -> Any:
    """EOS at the end, no BOS."""
    return build("$A </s>", eos_token="</s>", pad_token="<pad>")


def bert() -> Any:
    """CLS and SEP, no BOS or EOS."""
    return build("<s> $A </s>", cls_token="<s>", sep_token="</s>", pad_token="<pad>")


ALL = [llama, gpt2, t5, bert]


@pytest.mark.parametrize(
    ("make", "causal", "seq2seq"),
    [
        (llama, "<s> hello world", "<s> hello world </s>"),
        (gpt2, "hello world", "hello world"),
        (t5, "hello world", "hello world </s>"),
        (bert, "<s> hello world", "<s> hello world </s>"),
    ],
)
def test_a_text_gets_the_special_tokens_of_its_architecture(make: Any, causal: str, seq2seq: str) -> None:
    assert render("hello world", make()) == ids(causal)
    assert render("hello world", make(), is_encoder_decoder=True) == ids(seq2seq)


def test_special_tokens_that_the_data_brought_do_not_double() -> None:
    assert render("<s> <s> hello", llama()) == ids("<s> hello")
    assert render("<s> hello </s>", llama(), is_encoder_decoder=True) == ids("<s> hello </s>")
    assert render("hello </s>", llama()) == ids("<s> hello")
    assert render("hello <s> world", llama()) == ids("<s> hello <s> world")  # in the middle it is the user's


MESSAGES = [{"role": "system", "content": "say"}, {"role": "user", "content": "hello"}]


@pytest.mark.parametrize("template", [TEMPLATE, "<s>" + TEMPLATE, "{{ bos_token }}<s>" + TEMPLATE])
@pytest.mark.parametrize("single", ["$A", "<s> $A", "<s> $A </s>"])
def test_messages_begin_with_exactly_one_bos(template: str, single: str) -> None:
    tokenizer = build(single, bos_token="<s>", eos_token="</s>", chat_template=template)
    expected = ids("system say user hello assistant")
    wanted = [BOS] if "s>" in template or single != "$A" else []
    assert render(MESSAGES, tokenizer) == wanted + expected
    assert render(MESSAGES, tokenizer, is_encoder_decoder=True) == wanted + expected


def test_messages_need_a_template_that_takes_them() -> None:
    with pytest.raises(ModelProblem, match="no chat template"):
        render(MESSAGES, llama())
    with pytest.raises(DataProblem, match="no system role"):
        render(MESSAGES, build(bos_token="<s>", eos_token="</s>", chat_template=REFUSING))


@pytest.mark.parametrize("make", ALL)
def test_a_completion_ends_once_and_never_begins(make: Any) -> None:
    tokenizer = make()
    begun = "<s> " if make in (llama, bert) else ""  # to the others <s> is a word
    for text in ("hello world", "hello world </s>", begun + "hello </s> world </s> </s>"):
        assert encode_completion(text, tokenizer) == ids("hello world </s>"), text
    assert encode_completion("", tokenizer) == [EOS]


def test_a_tokenizer_without_an_end_is_refused() -> None:
    with pytest.raises(ModelProblem, match="no end token"):
        encode_completion("hello", build(bos_token="<s>"))


def test_no_pad_token_is_added() -> None:
    assert [end_id(make()) for make in ALL] == [EOS] * 4
    tokenizer = llama()
    render("hello", tokenizer)
    assert tokenizer.pad_token is None


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(f"p{number}", text) for number, text in enumerate(texts)]


def test_a_causal_prompt_keeps_its_end_and_an_encoder_its_beginning() -> None:
    long = prompts("one two three four", "hello")
    cut, report = encode_prompts(long, llama(), False, 3, "truncate")
    assert cut == [ids("<s> three four"), ids("<s> hello")]
    assert (report.too_long, report.longest, report.total, report.kept) == (1, 5, 2, [0, 1])
    assert report.sentence() == "1 of 2 prompts are longer than 3 tokens (up to 5) and were cut."
    assert encode_prompts(long, llama(), True, 4)[0] == [ids("<s> one two </s>"), ids("<s> hello </s>")]
    assert encode_prompts(long, t5(), True, 3)[0] == [ids("one two </s>"), ids("hello </s>")]


def test_exactly_as_long_as_allowed_is_not_too_long() -> None:
    encoded, report = encode_prompts(prompts("one two three four"), llama(), False, 5, "refuse")
    assert (encoded, report.too_long, report.sentence()) == ([ids("<s> one two three four")], 0, "")
    assert encode_prompts(prompts("one two three four"), llama(), False)[1].too_long == 0


def test_too_long_prompts_are_dropped_or_refused() -> None:
    encoded, report = encode_prompts(prompts("hello", "one two three", "world"), llama(), False, 2, "drop")
    assert (encoded, report.kept, report.too_long) == ([ids("<s> hello"), ids("<s> world")], [0, 2], 1)
    assert "left out" in report.sentence()
    with pytest.raises(DataProblem, match="'p1' has 4 tokens, more than the 2 allowed"):
        encode_prompts(prompts("hello", "one two three"), llama(), False, 2, "refuse")
    with pytest.raises(DataProblem, match="no room"):
        encode_prompts(prompts("hello"), llama(), True, 2, "truncate")


@given(
    st.sampled_from(ALL),
    st.lists(st.sampled_from(["hello", "one", "two", "<s>", "</s>", "<pad>"]), max_size=8).map(" ".join),
    st.booleans(),
    st.integers(3, 9),
)
def test_laws_of_every_prompt(make: Any, text: str, is_encoder_decoder: bool, most: int) -> None:
    """Within the limit; at most one BOS in front; equal to the rendering where that fits."""
    tokenizer = make()
    [[*cut]], _ = encode_prompts(prompts(text), tokenizer, is_encoder_decoder, most)
    whole = render(text, tokenizer, is_encoder_decoder)
    assert len(cut) <= most
    if len(whole) <= most:
        assert cut == whole
    if tokenizer.bos_token_id is not None:
        assert whole[:2] != [tokenizer.bos_token_id] * 2
    if is_encoder_decoder and make is not gpt2:
        assert cut[-1] == EOS


def test_the_real_summarizer(shared: Any) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared / "models/summarizer")
    text = "Summarize the following conversation.\n\n#Person1#: Hello, how are you?\n\nSummary:"
    assert render(text, tokenizer, is_encoder_decoder=True) == tokenizer(text)["input_ids"]
    completion = encode_completion("#Person2# feels well.", tokenizer)
    assert (completion[-1], completion.count(tokenizer.eos_token_id), tokenizer.bos_token_id in completion) == (
        tokenizer.eos_token_id,
        1,
        False,
    )
