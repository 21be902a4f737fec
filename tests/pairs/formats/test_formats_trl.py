"""TRL's types: round trips, the implicit prompt, and what a trainer and the datasets library make of our files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from formats_strategies import MESSAGES, TEXTS, WORDS, pairs, unpaired
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.errors import DataProblem
from heedful.pairs.formats import trl
from heedful.pairs.formats.files import read_rows
from heedful.pairs.formats.rows import LeftOut, Row
from heedful.records import Pair, Prompt, Unpaired

ENDINGS = [".jsonl", ".csv", ".parquet", ".json"]
CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is the sky?"}]
ONE = Pair("The sky is", " blue.", " green.", 0.75, 0.5, "p", "a", "b", 3, 1, 0, "helpfulness", "v", "flag", False)
ANSWER = [{"role": "assistant", "content": " blue."}]


def read(path: Path, make: Any) -> list[Any]:
    return [make(row) for row in read_rows(path)]


def row(**values: Any) -> Row:
    return Row(values, 1, Path("x.jsonl"))


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("prompt", [TEXTS, MESSAGES], ids=["standard", "conversational"])
@given(data=st.data())
@settings(max_examples=25)
def test_pairs_come_back_whole(tmp_path_factory: pytest.TempPathFactory, prompt: Any, ending: str, data: st.DataObject) -> None:
    rows = data.draw(st.lists(pairs(prompt), min_size=1, max_size=4))
    path = tmp_path_factory.mktemp("trl") / f"pairs{ending}"
    assert trl.write_pairs(path, iter(rows)) == len(rows)
    assert read(path, trl.read_pair) == rows


@pytest.mark.parametrize("ending", ENDINGS)
@given(rows=st.lists(unpaired(MESSAGES), min_size=1, max_size=4))
@settings(max_examples=15)
def test_unpaired_rows_come_back_whole(tmp_path_factory: pytest.TempPathFactory, ending: str, rows: list[Unpaired]) -> None:
    path = tmp_path_factory.mktemp("trl") / f"unpaired{ending}"
    assert trl.write_unpaired(path, rows) == len(rows)
    assert read(path, trl.read_unpaired) == rows


@given(st.lists(st.builds(lambda i, asked, said: Prompt(i, asked, [said]), WORDS, TEXTS, TEXTS), min_size=1, max_size=4))
@settings(max_examples=15)
def test_demonstrations_come_back_whole(tmp_path_factory: pytest.TempPathFactory, rows: list[Prompt]) -> None:
    path = tmp_path_factory.mktemp("trl") / "sft.jsonl"
    assert trl.write_demonstrations(path, rows) == len(rows)
    assert read(path, trl.read_demonstration) == rows


def test_the_rows_are_those_of_the_documentation(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    trl.write_pairs(path, [ONE], strict=True)
    assert json.loads(path.read_text()) == {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    trl.write_pairs(path, [ONE], "conversational", strict=True)
    assert json.loads(path.read_text()) == {
        "prompt": [{"role": "user", "content": "The sky is"}],
        "chosen": ANSWER,
        "rejected": [{"role": "assistant", "content": " green."}],
    }
    trl.write_pairs(path, [ONE])
    texts = {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."}
    ids = {"prompt_id": "p", "chosen_id": "a", "rejected_id": "b", "criterion": "helpfulness", "instructions_version": "v"}
    counts = {"p": 0.75, "margin": 0.5, "n_for": 3, "n_against": 1, "n_tie": 0, "source": "flag", "tie": False}
    assert json.loads(path.read_text()) == texts | ids | counts
    trl.write_unpaired(path, [Unpaired("The sky is", " blue.", True)], strict=True)
    assert json.loads(path.read_text()) == {"prompt": "The sky is", "completion": " blue.", "label": True}
    trl.write_demonstrations(path, [Prompt("p", CHAT, [" blue.", "Blue."])], strict=True)
    assert [json.loads(line)["completion"][0]["content"] for line in path.read_text().splitlines()] == [" blue.", "Blue."]


def test_a_file_is_of_one_style(tmp_path: Path) -> None:
    mixed = [ONE, Pair(CHAT, "a", "b")]
    with pytest.raises(DataProblem, match=r"row 2 for .* chat messages for a prompt.*conversational"):
        trl.write_pairs(tmp_path / "a.jsonl", mixed)
    assert not list(tmp_path.iterdir())
    trl.write_pairs(tmp_path / "a.jsonl", mixed, "conversational")
    assert [p.prompt for p in read(tmp_path / "a.jsonl", trl.read_pair)] == [[{"role": "user", "content": "The sky is"}], CHAT]
    with pytest.raises(DataProblem, match="no rows to write"):
        trl.write_pairs(tmp_path / "b.jsonl", [])


@pytest.mark.parametrize(
    ("chosen", "rejected", "expected"),
    [
        ("The sky is blue.", "The sky is green.", ("The sky is", " blue.", " green.")),
        ("The sky is blue.", "The sky is black.", ("The sky is", " blue.", " black.")),
        ("Sum? 12", "Sum? 15", ("Sum?", " 12", " 15")),
        ("Q\nA: yes", "Q\nA: no", ("Q\nA:", " yes", " no")),
        ("天空是蓝色", "天空是绿色", ("天空是", "蓝色", "绿色")),
        ([*CHAT, {"role": "assistant", "content": "x"}], [*CHAT, {"role": "assistant", "content": "y"}], (CHAT, "x", "y")),
    ],
)
def test_the_implicit_prompt_is_what_both_begin_with(chosen: Any, rejected: Any, expected: tuple[Any, str, str]) -> None:
    pair = trl.read_pair(row(chosen=chosen, rejected=rejected))
    assert (pair.prompt, pair.chosen, pair.rejected) == expected


@pytest.mark.parametrize("prompt", ["What is the sky?", CHAT])
def test_whole_conversations_beside_their_prompt(prompt: Any) -> None:
    pair = trl.read_pair(row(prompt=prompt, chosen=[*CHAT, *assistant("blue")], rejected=[*CHAT, *assistant("green")]))
    assert (pair.prompt, pair.chosen, pair.rejected) == (CHAT, "blue", "green")
    with pytest.raises(LeftOut, match="not what the two conversations begin with"):
        trl.read_pair(row(prompt="Other?", chosen=[*CHAT, *assistant("blue")], rejected=[*CHAT, *assistant("green")]))


@given(TEXTS, WORDS, WORDS)
@settings(max_examples=200)
def test_no_character_of_an_implicit_prompt_is_lost(prompt: str, good: str, bad: str) -> None:
    try:
        pair = trl.read_pair(row(chosen=f"{prompt} {good}", rejected=f"{prompt} {bad}"))
    except LeftOut:
        return
    assert pair.prompt + pair.chosen == f"{prompt} {good}"  # type: ignore[operator]
    assert pair.prompt + pair.rejected == f"{prompt} {bad}"  # type: ignore[operator]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b "}, "the same"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty"),
        ({"chosen": "blue", "rejected": "black"}, "no common beginning"),
        ({"chosen": "A b", "rejected": "A b c"}, "empty"),
        ({"chosen": "A b", "rejected": assistant("x")}, "one side is a text"),
        ({"prompt": CHAT, "chosen": [*assistant("a"), *assistant("b")], "rejected": assistant("x")}, "not one message"),
        ({"prompt": CHAT, "chosen": CHAT[1:], "rejected": assistant("x")}, "not one message"),
        ({"prompt": CHAT, "chosen": [{"role": "assistant", "tool_calls": [{}]}], "rejected": assistant("x")}, "more than text"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}], "chosen": "a", "rejected": "b"}, "more than text"),
    ],
)
def test_rows_that_teach_nothing_say_why(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(LeftOut, match=reason):
        trl.read_pair(row(**values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_for": -1}, "'n_for' in row 1 of x.jsonl is -1"),
        ({"n_for": 1.5}, "whole number"),
        ({"p": True}, "'p' in row 1"),
        ({"margin": "much"}, "'margin' in row 1"),
        ({"tie": "maybe"}, "'tie' in row 1"),
        ({"criterion": ["x"]}, "'criterion' in row 1"),
    ],
)
def test_wrong_evidence_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(DataProblem, match=message):
        trl.read_pair(row(prompt="a", chosen="b", rejected="c", **values))
    with pytest.raises(DataProblem, match="'label' in row 1"):
        trl.read_unpaired(row(prompt="a", completion="b", label="yes"))


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("style", ["standard", "conversational"])
@pytest.mark.parametrize(("ending", "loader"), [(".jsonl", "json"), (".jsonl.gz", "json"), (".csv", "csv"), (".parquet", "parquet")])
def test_the_datasets_library_opens_what_is_written(tmp_path: Path, ending: str, loader: str, style: Any, strict: bool) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [ONE, Pair("Why?", "Because.", "No.", prompt_id="q")] * 3
    trl.write_pairs(tmp_path / f"a{ending}", rows, style, strict)
    trl.write_unpaired(tmp_path / f"b{ending}", [Unpaired("Why?", "Because.", True), Unpaired("Why?", "No.", False)], style, strict)
    for name, columns, many in (("a", ["prompt", "chosen", "rejected"], 6), ("b", ["prompt", "completion", "label"], 2)):
        data = datasets.load_dataset(loader, data_files=str(tmp_path / f"{name}{ending}"), split="train", cache_dir=str(tmp_path / "cache"))
        assert data.num_rows == many
        assert data.column_names[: len(columns)] == columns
        assert (data.column_names == columns) == strict
        assert_a_trainer_can_read(list(data), conversational=style == "conversational" and loader != "csv")


def assert_a_trainer_can_read(rows: list[dict[str, Any]], conversational: bool) -> None:
    """What TRL looks for: a prompt, and texts or messages with role and content; one style in all rows; a label that is a bool."""
    for values in rows:
        texts = [values[name] for name in ("prompt", "chosen", "rejected", "completion") if name in values]
        assert len(texts) >= 2
        for text in texts:
            if conversational:
                assert isinstance(text, list)
                assert all(set(message) == {"role", "content"} and isinstance(message["content"], str) for message in text)
            else:
                assert isinstance(text, str)
        if conversational:
            assert [m["role"] for m in texts[-1]] == ["assistant"]
            assert texts[0][-1]["role"] == "user"
        assert isinstance(values.get("label", True), bool)
