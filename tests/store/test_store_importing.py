"""Rankings from elsewhere: all or none, back out as they came, and every bad row named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.records import Ranking
from heedful.store import Store
from stores import Clock, completion, items, project, ready, work


def row(prompt: str = "p0", labeler: str = "ann", ranks: Any = (1, 2, 3), **changes: Any) -> dict[str, Any]:
    given = {"prompt_id": prompt, "labeler": labeler, "completion_ids": [f"{prompt}:{c}" for c in "cab"], "ranks": list(ranks)}
    return {**given, "criterion": "helpfulness", "instructions_version": "v1", **changes}


def write(path: Path, *rows: dict[str, Any] | str | bytes) -> Path:
    lines = [r if isinstance(r, bytes) else (r if isinstance(r, str) else json.dumps(r)).encode() for r in rows]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


@pytest.fixture
def empty(store: Store) -> Store:
    """A project with four prompts, and nobody yet."""
    store.create_project(project(overlap=2))
    store.add_prompts("helpful", items(4))
    return store


def test_rankings_come_back_as_they_came(empty: Store, tmp_path: Path) -> None:
    given = [
        row(judged_at="2025-05-05T05:05:05+00:00", active_ms=1234),
        row(labeler="ben", ranks=[1, 1, None], reasons={"p0:b": "off \x00 topic"}),
        row("p1", "ben", [None, None, None], instructions_version="v2"),
        row("p1", completion_ids=["p1:b", "p1:a"], ranks=[7, 7]),
        row("p2", "ann", purpose="calibration"),
        row("p0", "ann", purpose="repeat"),
        row("p0", "cleo", purpose="extra"),
    ]
    assert empty.import_rankings("helpful", write(tmp_path / "r.jsonl", *given)) == 7
    expected = [Ranking.from_dict(r) for r in given]
    assert list(empty.judgements("helpful")) == expected
    assert empty.check().problem == ""
    other = [Ranking.from_dict(r.to_dict()) for r in empty.judgements("helpful")]
    assert other == expected


def test_an_import_fills_places_and_adds_those_that_are_wanting(empty: Store, clock: Clock) -> None:
    empty.import_rankings("helpful", [Ranking.from_dict(row("p0", name)) for name in ("a", "b", "c")] + [Ranking.from_dict(row("p1", "a"))])
    [status] = empty.status()
    assert (status.places, status.complete, status.places_open) == (9, 1, 5)
    version = empty.publish("helpful", "Rank.")
    from stores import join

    join(empty, "late", version)
    assert {task.prompt for task in work(empty, "late")} == {"question 1", "question 2", "question 3"}
    assert empty.check().problem == ""


def test_many_are_imported_in_lots(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from heedful.store import importing

    monkeypatch.setattr(importing, "_AT_ONCE", 3)
    given = [Ranking.from_dict(row(f"p{i}", f"l{j}", ranks=[1, 2, 3])) for i in range(4) for j in range(5)]
    assert empty.import_rankings("helpful", given) == 20
    assert list(empty.judgements("helpful")) == given
    assert empty.snapshot("helpful").judgements == 20
    assert empty.check().problem == ""


LONG = b'{"prompt_id": "' + b"x" * 10_000_000 + b'"}'

BAD = [
    (row(prompt_id="p9"), "row 2 of r.jsonl: there is no prompt 'p9'"),
    (row(labeler="ann"), "row 2 of r.jsonl: labeler 'ann' has judged prompt 'p0' already"),
    (row(labeler="ben", ranks=[1, 2]), "row 2 of r.jsonl is no ranking: 3 completions but 2 ranks"),
    (row(labeler="ben", completion_ids=["p0:a"], ranks=[1]), "row 2 of r.jsonl: it ranks 1 completion(s)"),
    (row(labeler="ben", completion_ids=["p0:a", "p0:a"], ranks=[1, 2]), "a completion stands twice"),
    (row(labeler="ben", completion_ids=["p0:a", "p1:a"], ranks=[1, 2]), "'p1:a' is no completion of prompt 'p0'"),
    (row(labeler="ben", completion_ids=[f"p0:{i}" for i in range(10)], ranks=[1] * 10), "it ranks 10 completion(s)"),
    (row(labeler="ben", ranks=[1, 2, "3"]), "row 2 of r.jsonl"),
    (row(labeler="ben", ranks=[1, 2, 2.5]), "each is a whole number"),
    (row(labeler="ben", ranks=[1, 2, True]), "each is a whole number"),
    (row(labeler="ben", ranks=[0, 1, 2]), "ranks start at 1"),
    (row(labeler="ben", criterion="toxicity"), "it is by 'toxicity', and the project is about 'helpfulness'"),
    (row(labeler="ben", reasons={"p0:c": "why"}), "'p0:c' has a reason for an F, but no F"),
    (row(labeler="ben", ranks=[None, 1, 2], reasons={"p0:c": 1}), "the reason for the F of 'p0:c' is 1"),
    (row(labeler="ben", judged_at="yesterday"), "which is no time in ISO 8601"),
    (row(labeler="ben", judged_at="2026-01-05T08:00:00"), "without a time zone"),
    (row(labeler="ben", active_ms=-1), "active_ms is -1"),
    (row(labeler="ben", purpose="fun"), "its purpose is 'fun'"),
    (row(labeler=""), "the labeler is called ''"),
    (row(labeler=7), "the labeler is called 7"),
    (row(labeler="b\x00n"), "characters that cannot be shown"),
    ({"question": "p0", "answer": 1}, "row 2 of r.jsonl is no ranking: missing 6 required positional arguments"),
    ("[1, 2]", "line 2 of"),
    ("{not json", "is not JSON"),
    (b'{"prompt_id": "\xff\xfe"}', "line 2 of"),
    (LONG, "is longer than 8 MiB"),
]


@pytest.mark.parametrize(("bad", "problem"), BAD, ids=[problem[:40] for _, problem in BAD])
def test_a_bad_row_is_named_and_nothing_is_half_imported(empty: Store, tmp_path: Path, bad: Any, problem: str) -> None:
    path = write(tmp_path / "r.jsonl", row(), bad, row("p1"))
    before = empty.check()
    with pytest.raises(HeedfulError) as caught:
        empty.import_rankings("helpful", path)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 600
    after = empty.check()
    assert (after.problem, after.last_sha256) == ("", before.last_sha256)
    assert (empty.labelers(), list(empty.judgements("helpful"))) == ([], [])
    assert empty.status()[0].places_open == 8


def test_only_rankings_where_rankings_are_asked_for(store: Store) -> None:
    store.create_project(project(task="thumbs"))
    with pytest.raises(HeedfulError, match="asks for thumbs, not for rankings"):
        store.import_rankings("helpful", [])


def test_what_people_are_at_is_not_disturbed(store: Store) -> None:
    """Somebody holds a place while rankings come in: theirs stays theirs, and the overlap grows."""
    from stores import answer, next_task

    ready(store, prompts=1, labelers=1, overlap=1)
    task = next_task(store, "l0")
    store.import_rankings("helpful", [Ranking.from_dict(row("p0", "ann"))])
    assert answer(store, task, "l0").purpose == "overlap"
    assert store.status()[0].places == 2
    assert store.check().problem == ""


PROMPTS = [
    (lambda: [items(1)[0], items(1)[0]], "prompt id 'p0' stands twice"),
    (lambda: [(items(1)[0][0], items(1)[0][1][:1])], "item 1: prompt 'p0' has 1 completion(s)"),
    (lambda: [(items(1)[0][0], [completion("p0", f"{i}") for i in range(10)])], "has 10 completion(s)"),
    (lambda: [items(1)[0], (items(1, first=1)[0][0], items(1)[0][1])], "item 2: completion 'p0:a' belongs to prompt 'p0', not to 'p1'"),
    (lambda: [(items(1)[0][0], [completion("p0", "a"), completion("p0", "a")])], "completion id 'p0:a' stands twice"),
]


@pytest.mark.parametrize(("given", "problem"), PROMPTS, ids=[problem for _, problem in PROMPTS])
def test_bad_prompts_are_refused_whole(store: Store, given: Any, problem: str) -> None:
    store.create_project(project())
    with pytest.raises(HeedfulError) as caught:
        store.add_prompts("helpful", given())
    assert problem in str(caught.value)
    assert list(store.prompts("helpful")) == []


def test_bad_values_in_prompts_are_refused(store: Store) -> None:
    import dataclasses

    store.create_project(project())
    prompt, shown = items(1)[0]
    for changes, problem in (
        ({"columns": {"x": float("nan")}}, "holds something that JSON does not"),
        ({"columns": {"x": object()}}, "holds something that JSON does not"),
        ({"id": "p\n0"}, "characters that cannot be shown"),
        ({"id": "x" * 501}, "has a name of 501 characters"),
    ):
        with pytest.raises(HeedfulError, match=problem):
            store.add_prompts("helpful", [(dataclasses.replace(prompt, **changes), shown)])  # type: ignore[arg-type]
    for changes, problem in (({"text": None}, "is None"), ({"finish_reason": "tired"}, "is 'tired'")):
        with pytest.raises(HeedfulError, match=problem):
            store.add_prompts("helpful", [(prompt, [shown[0], dataclasses.replace(shown[1], **changes)])])  # type: ignore[arg-type]
    store.add_prompts("helpful", items(1))
    with pytest.raises(HeedfulError, match="prompt id 'p0' stands twice"):
        store.add_prompts("helpful", items(3))
    assert len(list(store.prompts("helpful"))) == 1
