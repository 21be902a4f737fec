"""Other tools' files, in their real shape: what they say becomes rankings, what we write they can say as well."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from formats_strategies import NAMES, TEXTS
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.errors import DataProblem, FileProblem
from heedful.feedback.criteria import CRITERIA
from heedful.pairs.formats import argilla, label_studio, openai, openassistant
from heedful.pairs.formats.judgements import Item, Judged, by_prompt
from heedful.records import Completion, Prompt, Ranking

FIXTURES = Path(__file__).parent / "fixtures"
BETTER, WORSE = CRITERIA["helpfulness"], CRITERIA["toxicity"]
U1, U2 = "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "6fa459ea-ee8a-3ca4-894e-db77e160355e"
Table = list[tuple[str, str, dict[str, int | None]]]


def judged(stream: Iterator[Item]) -> list[Judged]:
    return list(by_prompt(stream))


def table(found: list[Judged]) -> Table:
    """Prompt, labeler and rank by the completion's text, which no format can mix up unseen."""
    return [
        (j.prompt.id, r.labeler, {j.completion(name).text: r.rank_of(name) for name in r.completion_ids}) for j in found for r in j.rankings
    ]


BIRDS = ("With wings.", "They do not.", "By flapping.")


@pytest.mark.parametrize("name", ["argilla_logged.json", "argilla_flat.jsonl"])
def test_argilla_by_its_client(name: str) -> None:
    found = judged(argilla.read(FIXTURES / name, "helpfulness", pytest.fail))
    assert table(found) == [
        ("p1", U1, dict(zip(BIRDS, (1, 3, 2), strict=True))),
        ("p1", U2, dict(zip(BIRDS, (2, 3, 1), strict=True))),
        ("p2", U1, {"Nine.": 3, "Seven.": 1, "Eleven.": 2}),
    ]
    assert [j.prompt.prompt for j in found] == ["How do birds fly?", "Name a prime."]
    assert {r.criterion for j in found for r in j.rankings} == {"helpfulness"}


def test_argilla_by_its_server_with_ties_and_without_drafts() -> None:
    found = judged(argilla.read(FIXTURES / "argilla_server.json", "helpfulness", pytest.fail))
    assert table(found) == [("p1", U1, dict(zip(BIRDS, (1, 3, 1), strict=True))), ("p1", U2, dict(zip(BIRDS, (2, 3, 1), strict=True)))]
    assert found[0].prompt.prompt == [{"role": "user", "content": "How do birds fly?"}]


def test_argilla_rankings_that_lost_their_ranks_are_refused() -> None:
    """The client gives the names in the order of the question's options, whatever people did (argilla-io/argilla#5712)."""
    with pytest.raises(DataProblem, match=r"no ranks, and all 2 are in the order of the fields.*server"):
        list(argilla.read(FIXTURES / "argilla_labelled_in_the_app.json", "helpfulness"))


def test_label_studio_ranker() -> None:
    found = judged(label_studio.read(FIXTURES / "label_studio_ranker.json", "helpfulness", pytest.fail))
    wars, end, ruin = "Wars led to the library's ruin.", "Library's end through various wars.", "Ruin resulted from library wars."
    assert table(found) == [
        ("1", "7", {wars: 2, end: 1, ruin: 3}),
        ("1", "ben@example.org", {wars: 3, end: 2, ruin: 1}),
        ("2", "7", {"Nine.": 2, "Seven.": 1}),
    ], "one was cancelled; one is as older versions write it"
    assert [(r.active_ms, r.judged_at[:10]) for r in found[0].rankings] == [(12288, "2025-03-09"), (3500, "2025-03-09")]
    assert len({c.id for j in found for c in j.completions}) == 5, "both tasks call an item llm_1"


def test_label_studio_buckets_are_ranks() -> None:
    (found,) = judged(label_studio.read(FIXTURES / "label_studio_buckets.json", "helpfulness", pytest.fail))
    ranks = [{name.rpartition("/")[2]: r.rank_of(name) for name in r.completion_ids} for r in found.rankings]
    assert ranks == [
        {"llm_1": 1, "llm_2": 2, "llm_3": 1},
        {"llm_1": 1, "llm_3": 2},
        {"llm_1": 2, "llm_2": None, "llm_3": 1},
    ], "named, with one left lying, and numbered with an F"


def test_label_studio_pairwise() -> None:
    found = judged(label_studio.read(FIXTURES / "label_studio_pairwise.json", "helpfulness", pytest.fail))
    assert table(found) == [
        ("1", "7", {"Wars.": 2, "Fire.": 1}),
        ("1", "8", {"Wars.": 1, "Fire.": 2}),
        ("2", "7", {"Nine.": 2, "Seven.": 1}),
    ]
    assert [j.prompt.prompt for j in found] == ["What caused the ancient library of Alexandria to be destroyed?", "Name a prime."]


def test_label_studio_rankings_that_nobody_touched_are_told(tmp_path: Path) -> None:
    """Its Ranker stores the order shown when somebody submits without ranking."""
    tasks = json.loads((FIXTURES / "label_studio_ranker.json").read_text())
    said: list[str] = []
    list(label_studio.read(FIXTURES / "label_studio_ranker.json", "h", said.append))
    assert said == []
    for one in tasks[0]["annotations"][:2]:
        one["result"][0]["value"]["ranker"] = {"rank": ["llm_1", "llm_2", "llm_3"]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tasks))
    list(label_studio.read(path, "h", said.append))
    assert said == [f"2 of 3 rankings in {path} keep the order shown, which is also stored where nobody ranked."]


def test_columns_of_other_names_are_named(tmp_path: Path) -> None:
    (task, *_) = json.loads((FIXTURES / "label_studio_pairwise.json").read_text())
    task["data"] = {"q": "Why?", "note": "n", "mine": "Wars.", "theirs": "Fire."}
    (tmp_path / "a.json").write_text(json.dumps([task]))
    with pytest.raises(DataProblem, match="--column left=NAME"):
        list(label_studio.read(tmp_path / "a.json", "h"))
    with pytest.raises(DataProblem, match="--column prompt=NAME"):
        list(label_studio.read(tmp_path / "a.json", "h", columns={"left": "mine", "right": "theirs"}))
    (found,) = judged(label_studio.read(tmp_path / "a.json", "h", columns={"left": "mine", "right": "theirs", "prompt": "q"}))
    assert found.prompt.prompt == "Why?"


def test_openai_comparisons() -> None:
    found = judged(openai.read(FIXTURES / "openai_comparisons.jsonl", "helpfulness", pytest.fail))
    assert [[r.rank_of(name) for name in r.completion_ids] for j in found for r in j.rankings] == [[2, 1], [1, 2], [2, 1]]
    assert [r.labeler[:4] for j in found for r in j.rankings] == ["ikNm", "qo6W", "qo6W"]
    assert found[0].prompt.id == found[1].prompt.id == "t3_2vwp1w"
    assert found[0].completions[1].id == found[1].completions[0].id, "the same summary, compared twice"
    assert str(found[0].prompt.prompt).startswith("SUBREDDIT: r/legaladvice\n\nTITLE: Anybody")
    assert str(found[0].prompt.prompt).endswith("\n\nTL;DR:")


def test_openai_comparisons_come_back(tmp_path: Path) -> None:
    first = list(openai.read(FIXTURES / "openai_comparisons.jsonl", "helpfulness"))
    assert openai.write(tmp_path / "a.jsonl", first, BETTER, pytest.fail) == 3
    assert list(openai.read(tmp_path / "a.jsonl", "helpfulness")) == first
    source, copy = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (FIXTURES / "openai_comparisons.jsonl", tmp_path / "a.jsonl")
    )
    for one, other in zip(source, copy, strict=True):
        assert [one[key] for key in ("info", "choice", "worker", "split")] == [other[key] for key in ("info", "choice", "worker", "split")]
        assert [s["text"] for s in one["summaries"]] == [s["text"] for s in other["summaries"]]


def test_openai_comparisons_choose_by_the_criterions_direction(tmp_path: Path) -> None:
    ids = ["c0", "c1", "c2"]
    shown: list[Item] = [Prompt("p", "Ask."), *(Completion(i, "p", f"text {i}", [], "stop", 0, "m") for i in ids)]
    for criterion, choices in ((BETTER, [0, 0, 0]), (WORSE, [1, 0, 0])):
        one = Ranking("p", "x", ids, [1, 2, None], criterion.name, "v")
        openai.write(tmp_path / "a.jsonl", [*shown, one], criterion, pytest.fail)
        rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
        assert [row["choice"] for row in rows] == choices, "of toxicity less is preferred, and anything to an F"


def test_open_assistant_trees(shared: Path) -> None:
    path = shared / "data" / "preferences" / "oasst_ranked_trees_sample.jsonl.gz"
    found = judged(openassistant.read(path, "helpfulness"))
    assert len(found) > 200
    assert all(len(j.rankings) == 1 and len(j.completions) >= 2 for j in found)
    for j in found:
        assert isinstance(j.prompt.prompt, list)
        roles = [message["role"] for message in j.prompt.prompt]
        assert roles == (["user", "assistant"] * len(roles))[: len(roles)]
        assert roles[-1] == "user"
    # An independent look at the file: the best-ranked reply of every place is the one with rank 0.
    best = {}
    waiting = [json.loads(line)["prompt"] for line in gzip.decompress(path.read_bytes()).splitlines()]
    while waiting:
        node = waiting.pop()
        waiting += node["replies"]
        best.update((node["message_id"], reply["message_id"]) for reply in node["replies"] if reply.get("rank") == 0)
    assert all(j.rankings[0].rank_of(best[j.prompt.id]) == 1 for j in found)


def test_open_assistant_by_hand(tmp_path: Path) -> None:
    def message(name: str, role: str, *replies: dict[str, Any], **others: Any) -> dict[str, Any]:
        return {"message_id": name, "role": role, "text": f"text {name}", "replies": list(replies), **others}

    inner = message("u2", "prompter", message("a3", "assistant", rank=1), message("a4", "assistant", rank=0))
    gone = message("a5", "assistant", rank=2, deleted=True)
    tree = message("u1", "prompter", message("a1", "assistant", inner, rank=1), message("a2", "assistant", rank=0), gone)
    alone = message("u9", "prompter", message("a9", "assistant"), message("a8", "assistant"))
    path = tmp_path / "trees.jsonl"
    path.write_text("".join(json.dumps({"message_tree_id": t["message_id"], "prompt": t}) + "\n" for t in (tree, alone)))
    said: list[str] = []
    found = judged(openassistant.read(path, "h", said.append))
    assert table(found) == [
        ("u1", "openassistant", {"text a1": 2, "text a2": 1}),
        ("u2", "openassistant", {"text a3": 2, "text a4": 1}),
    ]
    assert [[m["content"] for m in j.prompt.prompt] for j in found] == [["text u1"], ["text u1", "text a1", "text u2"]]  # type: ignore[index]
    assert said == [f"1 of 2 rows of {path} were left out: no two replies to one message are ranked."]


@st.composite
def groups(draw: st.DrawFn) -> list[Item]:
    """Prompts, two to four completions, and rankings by people with names."""
    found: list[Item] = []
    for prompt_id in draw(st.lists(NAMES, min_size=1, max_size=2, unique=True)):
        ids = [f"{prompt_id}:{k}" for k in range(draw(st.integers(2, 4)))]
        found += [Prompt(prompt_id, draw(TEXTS)), *(Completion(i, prompt_id, draw(TEXTS), [], "stop", 0, "") for i in ids)]
        for labeler in draw(st.lists(NAMES, min_size=1, max_size=2, unique=True)):
            ranks = draw(st.lists(st.none() | st.integers(1, 5), min_size=len(ids), max_size=len(ids)))
            found.append(
                Ranking(prompt_id, labeler, ids, ranks, "h", "", active_ms=draw(st.none() | st.integers(0, 10**7)), judged_at="2025")
            )
    return found


@given(groups())
@settings(max_examples=60)
def test_label_studio_holds_ties_fs_and_times(tmp_path_factory: pytest.TempPathFactory, stream: list[Item]) -> None:
    path = tmp_path_factory.mktemp("ls") / "a.json"
    label_studio.write(path, stream, "h", pytest.fail)
    assert list(label_studio.read(path, "h")) == stream


@given(groups())
@settings(max_examples=60)
def test_argilla_holds_ties_and_says_that_it_holds_no_f(tmp_path_factory: pytest.TempPathFactory, stream: list[Item]) -> None:
    path = tmp_path_factory.mktemp("rg") / "a.json"
    fitting = [item for item in stream if not isinstance(item, Ranking) or None not in item.ranks]
    expected = [(j.prompt.id, len(j.rankings)) for j in by_prompt(fitting) if j.rankings]
    said: list[str] = []
    if not expected:
        with pytest.raises(DataProblem, match="give no records"):
            argilla.write(path, stream, "h", said.append)
        return
    argilla.write(path, stream, "h", said.append)
    found = judged(argilla.read(path, "h", pytest.fail))
    assert [(j.prompt.id, len(j.rankings)) for j in found] == expected
    assert bool(said) == (len(expected) < sum(isinstance(item, Prompt) for item in stream))
    ranks = [r.ranks for j in found for r in j.rankings]
    assert ranks == [item.ranks for item in fitting if isinstance(item, Ranking)]


READERS: dict[str, Callable[[Path], Iterator[Item]]] = {
    "argilla_logged.json": lambda path: argilla.read(path, "h"),
    "argilla_server.json": lambda path: argilla.read(path, "h"),
    "argilla_flat.jsonl": lambda path: argilla.read(path, "h"),
    "label_studio_ranker.json": lambda path: label_studio.read(path, "h"),
    "label_studio_pairwise.json": lambda path: label_studio.read(path, "h"),
    "openai_comparisons.jsonl": lambda path: openai.read(path, "h"),
    "tree.json": lambda path: openassistant.read(path, "h"),
}
NONSENSE = st.sampled_from([None, True, 0, -1, 1.5, "", "x", [], ["x"], [1], {}, {"x": 1}, [{}], [[1]], {"value": None}])


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path to every part of a JSON value."""
    yield here
    for key, part in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(part, (*here, key))


def planted(value: Any, place: tuple[Any, ...], nonsense: Any) -> Any:
    if not place:
        return nonsense
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = planted(value[place[0]], place[1:], nonsense)
    return copy


@pytest.mark.parametrize("name", READERS)
@given(data=st.data())
@settings(max_examples=80)
def test_nonsense_anywhere_is_read_or_refused_in_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    leaf = {"message_id": "a", "role": "assistant", "text": "t", "rank": 0, "replies": []}
    tree = [
        {
            "message_tree_id": "t",
            "prompt": {"message_id": "u", "role": "prompter", "text": "q", "replies": [leaf, leaf | {"message_id": "b", "rank": 1}]},
        }
    ]
    text = json.dumps(tree) if name == "tree.json" else (FIXTURES / name).read_text()
    rows = [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
    place = data.draw(st.sampled_from(list(places(rows))[1:]))
    path = tmp_path_factory.mktemp("nonsense") / "planted.json"
    path.write_text(json.dumps(planted(rows, place, data.draw(NONSENSE))))
    with suppress(DataProblem, FileProblem):
        list(READERS[name](path))
