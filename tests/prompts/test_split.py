"""The split: exact sizes, near-copies together, and nothing from training in a later test set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import DataProblem
from heedful.prompts.split import Splits, normalised_text, split, split_by_column
from heedful.records import Prompt


def many(number: int, copies: int = 1) -> list[Prompt]:
    return [Prompt(f"{n}.{c}", f"Prompt  number {n}" + "!" * c) for n in range(number) for c in range(copies)]


def ids(prompts: list[Prompt]) -> set[str]:
    return {prompt.id for prompt in prompts}


def place(splits: Splits) -> dict[str, int]:
    """0 test, 1 validation, 2 training, 3 unused."""
    parts = (splits.test, splits.validation, splits.train, splits.unused)
    return {prompt.id: number for number, part in enumerate(parts) for prompt in part}


def test_sizes_are_exact_and_nothing_is_lost() -> None:
    splits = split(many(100), None, 10, 20)
    assert (len(splits.train), len(splits.validation), len(splits.test), splits.unused) == (70, 10, 20, [])
    assert len(place(splits)) == 100
    capped = split(many(100), 5, 10, 20)
    assert (len(capped.train), len(capped.unused)) == (5, 65)
    assert capped.test == splits.test


def test_the_same_seed_gives_the_same_split_and_another_one_another() -> None:
    rows = many(200)
    assert split(rows, None, 20, 50, seed=1) == split(rows, None, 20, 50, seed=1)
    assert split(rows[::-1], None, 20, 50, seed=1) == split(rows, None, 20, 50, seed=1)
    overlap = len(ids(split(rows, None, 20, 50, seed=1).test) & ids(split(rows, None, 20, 50, seed=2).test))
    assert overlap < 30  # by chance 12.5 of 50 (standard deviation 2.7)


def test_a_split_is_not_the_order_of_the_file() -> None:
    positions = sorted(int(prompt.id.partition(".")[0]) for prompt in split(many(1000), None, 0, 300).test)
    assert 400 < sum(positions) / 300 < 600  # uniform: 500, standard deviation 14


@pytest.mark.parametrize("other", ["summarize this:  hello, world", "SUMMARIZE THIS: Hello World!", "Summarize this\n\nhello world."])
def test_case_punctuation_and_spacing_make_no_difference(other: str) -> None:
    assert normalised_text(other) == normalised_text("Summarize this: Hello world")
    assert normalised_text("Summarize this: Hello word") != normalised_text(other)


def test_messages_and_signs_have_a_text_too() -> None:
    assert normalised_text([{"role": "user", "content": "Hi!"}]) == "user hi"
    assert normalised_text("?!") != normalised_text("!?")


@given(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3), st.integers(0, 3))
def test_near_copies_fall_on_one_side(validation: int, test: int, copies: int, seed: int) -> None:
    splits = split(many(12, copies), None, validation, test, seed)
    assert (len(splits.validation), len(splits.test)) == (validation, test)
    assert len(place(splits)) == 12 * copies
    groups: dict[str, set[int]] = {}
    for name, where in place(splits).items():
        groups.setdefault(name.partition(".")[0], set()).add(where)
    for sides in groups.values():
        assert len(sides - {3}) <= 1  # beside its side a group may only have members without room


@given(
    st.lists(st.integers(0, 60), min_size=20, max_size=40),
    st.lists(st.integers(0, 60), max_size=20),
    st.integers(0, 4),
    st.integers(0, 4),
    st.sampled_from([None, 3]),
)
def test_appended_rows_never_bring_training_into_a_held_out_set(
    old: list[int], new: list[int], validation: int, test: int, train: int | None
) -> None:
    rows = [Prompt(str(position), f"text {number}") for position, number in enumerate([*old, *new])]
    try:
        before = split(rows[: len(old)], train, validation, test)
    except DataProblem:
        return
    after = split(rows, train, validation, test)

    def texts(*parts: list[Prompt]) -> set[str]:
        return {normalised_text(prompt.prompt) for part in parts for prompt in part}

    assert texts(before.train) & texts(after.validation, after.test) == set()
    assert texts(before.validation) & texts(after.test) == set()


def test_too_few_prompts_are_counted() -> None:
    with pytest.raises(DataProblem, match=r"there are 10 prompts, but 1 for train \+ 4 for validation \+ 6 for test need at least 11"):
        split(many(10), None, 4, 6)
    assert len(split(many(11), None, 4, 6).train) == 1
    with pytest.raises(DataProblem, match="8 for train"):
        split(many(10), 8, 1, 2)
    with pytest.raises(DataProblem, match="near-copies"):
        split(many(1, copies=9), None, 2, 2)


def marked(**parts: list[str]) -> list[Prompt]:
    return [Prompt(f"{text}.{mark}", text, columns={"part": mark}) for mark, texts in parts.items() for text in texts]


def test_a_column_decides_where_a_prompt_goes_and_numbers_how_many() -> None:
    rows = marked(train=[f"train {n}" for n in range(30)], validation=["v1", "v2", "v3"], test=["t1", "t2"])
    splits = split_by_column(rows, "part", None, 2, 2)
    assert [len(part) for part in (splits.train, splits.validation, splits.test, splits.unused)] == [30, 2, 2, 1]
    for part, name in ((splits.train, "train"), (splits.validation, "validation"), (splits.test, "test")):
        assert {prompt.columns["part"] for prompt in part} == {name}
    assert len(split_by_column(rows, "part", 7, 2, 2).train) == 7
    assert split_by_column(rows[::-1], "part", 7, 2, 2).train == split_by_column(rows, "part", 7, 2, 2).train


def test_near_copies_of_test_prompts_are_neither_trained_on_nor_lost() -> None:
    rows = marked(train=["Hello, world", "only here", "maybe"], validation=["MAYBE"], test=["hello world!"])
    splits = split_by_column(rows, "part", None, 1, 1)
    assert ids(splits.train) == {"only here.train"}
    assert ids(splits.validation) == {"MAYBE.validation"}
    assert ids(splits.unused) == {"Hello, world.train", "maybe.train"}


def test_near_copies_inside_a_part_all_stay() -> None:
    assert len(split_by_column(marked(train=["a"], test=["b c", "B, C"]), "part", None, 0, 2).test) == 2


@pytest.mark.parametrize("mark", ["dev", "", None])
def test_a_row_without_a_proper_mark_is_named(mark: str | None) -> None:
    rows = [*marked(train=["a"], test=["b"]), Prompt("odd", "c", columns={"part": mark} if mark is not None else {})]
    with pytest.raises(DataProblem, match=r"the prompt 'odd' says .* in column 'part'"):
        split_by_column(rows, "part", None, 0, 1)


@pytest.mark.parametrize(
    ("sizes", "what"), [((3, 0, 1), "2 prompts are marked 'train'"), ((None, 1, 1), "0 prompts are marked 'validation'")]
)
def test_too_few_of_a_part_are_refused(sizes: tuple[int | None, int, int], what: str) -> None:
    with pytest.raises(DataProblem, match=what):
        split_by_column(marked(train=["a", "b"], test=["c"]), "part", *sizes)


def test_no_training_prompt_at_all_is_refused() -> None:
    with pytest.raises(DataProblem, match="0 prompts are marked 'train'"):
        split_by_column(marked(test=["c"]), "part", None, 0, 1)
