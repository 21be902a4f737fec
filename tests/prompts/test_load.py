"""Prompts from files: columns, templates, ids, and words for what is wrong."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import DataProblem, FileProblem, SettingProblem
from heedful.prompts.load import load_prompts
from heedful.settings import PromptSettings


def jsonl(tmp_path: Path, *rows: Any, name: str = "prompts.jsonl") -> str:
    path = tmp_path / name
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return str(path)


def load(path: str, **settings: Any) -> Any:
    return load_prompts(PromptSettings(path=path, **settings))


def refusal(path: str, **settings: Any) -> str:
    with pytest.raises((DataProblem, FileProblem)) as caught:
        load(path, **settings)
    return str(caught.value)


ROWS = [
    {"id": "a", "prompt": "Hello", "reference": "Hi", "topic": "greeting"},
    {"id": "b", "prompt": "Bye", "reference": "See you", "topic": "parting"},
]


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    import csv

    with path.open("w", newline="", encoding="utf-8-sig") as handle:
        writer = csv.DictWriter(handle, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_every_format_gives_the_same_prompts(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    first = load(jsonl(tmp_path, *ROWS))
    assert [(p.id, p.prompt, p.reference, p.columns) for p in first] == [
        ("a", "Hello", ["Hi"], {"topic": "greeting"}),
        ("b", "Bye", ["See you"], {"topic": "parting"}),
    ]
    assert load(jsonl(tmp_path, *ROWS, name="p.jsonl.gz")) == first
    write_csv(tmp_path / "p.csv", ROWS)
    assert load(str(tmp_path / "p.csv")) == first
    parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "p.parquet")
    assert load(str(tmp_path / "p.parquet")) == first
    (tmp_path / "p.csv").rename(tmp_path / "renamed.txt")
    assert load(str(tmp_path / "renamed.txt"), format="csv") == first


def test_a_template_is_filled_from_the_row_and_braces_in_data_are_harmless(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"dialogue": "A: {topic} {{x}} {", "topic": "t", "n": 3, "summary": ["s1", "s2"]})
    [prompt] = load(path, template="{{json}} {topic}/{n}:\n{dialogue}\n}}", reference_column="summary")
    assert prompt.prompt == "{json} t/3:\nA: {topic} {{x}} {\n}"
    assert prompt.reference == ["s1", "s2"]
    assert prompt.columns == {"dialogue": "A: {topic} {{x}} {", "topic": "t", "n": 3}


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
def test_any_text_comes_through_a_template_unchanged(text: str) -> None:
    from heedful.prompts.load import _fill

    assert _fill(PromptSettings(template="<{a}|{prompt}>"), {"a": text, "prompt": text}, "here") == f"<{text}|{text}>"


def test_the_prompt_placeholder_means_the_prompt_column(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"question": "why?", "prompt": "not this"})
    assert load(path, prompt_column="question", template="Q: {prompt}")[0].prompt == "Q: why?"


def test_chat_messages_are_kept(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "Hello"}]
    path = jsonl(tmp_path, {"prompt": messages, "id": 0}, {"prompt": [{"role": "user", "content": " "}]})
    [prompt] = load(path)
    assert (prompt.prompt, prompt.id) == (messages, "0")
    assert "chat message" in refusal(jsonl(tmp_path, {"prompt": [{"role": "user"}]}))
    assert "holds a list" in refusal(jsonl(tmp_path, {"prompt": messages}), template="Q: {prompt}")


def test_a_missing_column_names_file_row_and_the_nearest(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"dialogue": "x"}, {"dialog": "y"})
    message = refusal(path, template="{dialogue}")
    assert [word for word in (f"row 2 of {path}", "'dialogue'", "Did you mean 'dialog'?") if word not in message] == []
    assert "'prompt'" in refusal(path)
    assert "Did you mean 'dialogue'?" in refusal(path, template="{dialogue}", reference_column="dialoge")
    assert "'sumary'" in refusal(jsonl(tmp_path, {"prompt": "x", "summary": "y"}), reference_column="sumary")


def test_empty_prompts_are_counted_and_left_out(tmp_path: Path) -> None:
    said: list[str] = []
    path = jsonl(tmp_path, {"prompt": " "}, {"prompt": "x"}, {"prompt": None})
    assert [p.prompt for p in load_prompts(PromptSettings(path=path), said.append)] == ["x"]
    assert said == [f"2 of 3 rows of {path} have an empty prompt and were left out."]
    assert "gives no prompts" in refusal(jsonl(tmp_path, {"prompt": ""}))
    assert "gives no prompts" in refusal(jsonl(tmp_path))


def test_length_bounds_are_inclusive_and_count_the_named_column(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *({"prompt": "p" * 50, "d": "d" * n} for n in (1, 2, 3, 4)))
    said: list[str] = []
    kept = load_prompts(PromptSettings(path=path, length_column="d", min_characters=2, max_characters=3), said.append)
    assert [len(p.columns["d"]) for p in kept] == [2, 3]
    assert said == [f"2 of 4 rows of {path} are outside 2 to 3 characters in 'd' and were left out."]
    assert len(load(path, min_characters=50, max_characters=50)) == 4
    assert "4 outside" in refusal(path, min_characters=51)


def test_ids_are_given_or_made_and_never_double(tmp_path: Path) -> None:
    path = jsonl(tmp_path, {"prompt": "x"}, {"prompt": "y"}, {"prompt": "x", "reference": "other"})
    first = [p.id for p in load(path)]
    assert len(set(first)) == 3
    assert first[2] == first[0] + "-2"
    longer = jsonl(tmp_path, {"prompt": "y"}, {"prompt": "x"}, name="other.jsonl")
    assert [p.id for p in load(longer)] == [first[1], first[0]]  # from the content alone
    assert "'a' stands twice" in refusal(jsonl(tmp_path, {"prompt": "x", "id": "a"}, {"prompt": "y", "id": "a"}))


def test_files_that_cannot_be_read_are_sentences(tmp_path: Path) -> None:
    assert "there is no file" in refusal(str(tmp_path / "absent.jsonl"))
    assert "there is no file" in refusal(str(tmp_path / "absent.parquet"))
    assert "by its ending" in refusal(str(tmp_path / "prompts.doc"))
    bad = tmp_path / "bad.jsonl"
    bad.write_bytes(b'{"prompt": "x"}\n{"prompt": \n')
    assert "line 2" in refusal(str(bad))
    bad.write_bytes(b'{"prompt": "\xff"}\n')
    assert "not UTF-8" in refusal(str(bad))
    cut = Path(jsonl(tmp_path, *ROWS, name="cut.jsonl.gz"))
    cut.write_bytes(cut.read_bytes()[:-12])
    assert "cannot be read to its end" in refusal(str(cut))
    (tmp_path / "bad.parquet").write_bytes(b"not parquet")
    assert "is not a parquet file" in refusal(str(tmp_path / "bad.parquet"))


def test_ragged_or_broken_csv_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text('prompt,topic\n"a, b",x\n\nc,d,e\n')
    assert f"line 4 of {path} has 3 cells, the first line 2" in refusal(str(path))
    path.write_text('prompt,topic\n"a"b,x\n')
    assert "line 2" in refusal(str(path))
    path.write_text("prompt,prompt\na,b\n")
    assert "twice" in refusal(str(path))
    path.write_text("prompt\n" + "x" * 300_000 + "\n")
    assert len(load(str(path))[0].prompt) == 300_000


def test_the_hub_is_asked_by_name_and_its_failure_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    asked: list[Any] = []

    def give(*arguments: Any, **options: Any) -> list[dict[str, str]]:
        asked.append((arguments, options))
        return [{"prompt": "x"}]

    monkeypatch.setattr(datasets, "load_dataset", give)
    assert [p.prompt for p in load("owner/name:part", split="test")] == ["x"]
    assert asked == [(("owner/name", "part"), {"split": "test"})]

    def offline(*arguments: Any, **options: Any) -> None:
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub (offline mode)\nmany\nlines")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    message = refusal("owner/name")
    assert "cannot be had from the hub: Couldn't reach 'owner/name' on the Hub (offline mode). Check" in message
    assert "\n" not in message


def test_dialogsum(shared: Path) -> None:
    """The dialogue summarisation task: 200 < len(dialogue) <= 1000."""
    path = shared / "data/dialogue_summarization/dialogsum_dev.jsonl.gz"
    prompts = load(
        str(path),
        template="Summarize the following conversation.\n\n{dialogue}\n\nSummary:",
        reference_column="summary",
        length_column="dialogue",
        min_characters=201,
        max_characters=1000,
    )
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if 200 < len(row["dialogue"]) <= 1000]
    assert len(prompts) == len(rows) > 300
    assert prompts[0].prompt == f"Summarize the following conversation.\n\n{rows[0]['dialogue']}\n\nSummary:"
    assert [(p.id, p.reference) for p in prompts] == [(row["id"], [row["summary"]]) for row in rows]


@pytest.mark.parametrize(("template", "brace"), [("Q: {prompt", "{"), ("Q: prompt}", "}"), ("{a{b}", "{")])
def test_an_unpaired_brace_in_a_template_is_refused(template: str, brace: str, tmp_path: Path) -> None:
    with pytest.raises(SettingProblem, match=f"has an unpaired '{brace}'"):
        load(jsonl(tmp_path, {"prompt": "why?", "a": "1", "b": "2"}), template=template)
