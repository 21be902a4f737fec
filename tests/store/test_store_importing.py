"""Judgements from elsewhere: all or none, back out as they came, and every bad row named."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.records import Correction, Ranking, Thumb
from heedful.store import Answer, Store
from heedful.store.importing import Imported
from heedful.store.judgements import as_answered
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
    assert empty.import_judgements("helpful", write(tmp_path / "r.jsonl", *given)) == Imported(7, 0, 3)
    expected = [Ranking.from_dict(r) for r in given]
    assert list(empty.judgements("helpful")) == expected
    assert empty.check().problem == ""
    other = [Ranking.from_dict(r.to_dict()) for r in empty.judgements("helpful")]
    assert other == expected


def test_an_import_fills_places_and_adds_those_that_are_wanting(empty: Store, clock: Clock) -> None:
    empty.import_judgements(
        "helpful", [Ranking.from_dict(row("p0", name)) for name in ("a", "b", "c")] + [Ranking.from_dict(row("p1", "a"))]
    )
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
    assert empty.import_judgements("helpful", given) == Imported(20, 0, 5)
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
        empty.import_judgements("helpful", path)
    assert problem in str(caught.value)
    assert len(str(caught.value)) < 600
    after = empty.check()
    assert (after.problem, after.last_sha256) == ("", before.last_sha256)
    assert (empty.labelers(), list(empty.judgements("helpful"))) == ([], [])
    assert empty.status()[0].places_open == 8


TIMES: dict[str, Any] = {"criterion": "helpfulness", "instructions_version": "v1", "active_ms": 900}


def thumb(prompt: str, labeler: str, letter: str, label: Any, **changes: Any) -> dict[str, Any]:
    about = {"record": "thumb", "prompt_id": prompt, "labeler": labeler, "completion_id": f"{prompt}:{letter}", "label": label}
    return {**about, **TIMES, **changes}


def correction(prompt: str, labeler: str, letter: str, text: Any = "better so", **changes: Any) -> dict[str, Any]:
    about = {"record": "correction", "prompt_id": prompt, "labeler": labeler, "completion_id": f"{prompt}:{letter}", "text": text}
    return {**about, **TIMES, **changes}


def as_record(given: dict[str, Any]) -> Any:
    kinds: dict[str, Any] = {"ranking": Ranking, "thumb": Thumb, "correction": Correction}
    return kinds[given.get("record", "ranking")].from_dict(given)


@pytest.fixture
def thumbs(store: Store) -> Store:
    """A project that asks for thumbs, with two prompts, and nobody yet."""
    store.create_project(project(overlap=2, task="thumbs"))
    store.add_prompts("helpful", items(2))
    return store


def test_thumbs_and_corrections_of_a_labeler_are_one_answer(thumbs: Store, tmp_path: Path) -> None:
    when = {"judged_at": "2025-05-05T05:05:05+00:00"}
    given = [
        thumb("p0", "ann", "c", True, **when),
        thumb("p0", "ben", "a", False),
        thumb("p0", "ann", "a", False, **when),
        correction("p0", "ann", "a", "say \x00 this", **when),
        thumb("p1", "ann", "b", True, purpose="calibration"),
        thumb("p1", "ann", "b", False, purpose="repeat"),
    ]
    assert thumbs.import_judgements("helpful", write(tmp_path / "r.jsonl", *given)) == Imported(4, 0, 2)
    expected = [as_record(given[i]) for i in (0, 2, 3, 1, 4, 5)]
    assert list(thumbs.judgements("helpful")) == expected, "the rows of one answer stand together, in the order shown"
    assert (thumbs.snapshot("helpful").judgements, thumbs.status()[0].complete) == (4, 1), "both places of p0 are filled"
    assert thumbs.check().problem == ""


def test_an_answer_that_was_imported_is_one_that_could_have_been_given(thumbs: Store) -> None:
    """What an import stores and what the page stores of the same answer is the same."""
    from stores import answer, join, next_task

    version = thumbs.publish("helpful", "Judge.")
    join(thumbs, "ann", version)
    said = Answer(thumbs=[True, False, True], corrections={1: "so"}, active_ms=0)
    answer(thumbs, next_task(thumbs, "ann"), "ann", said)
    [*there] = thumbs.judgements("helpful")
    thumbs.import_judgements("helpful", [dataclasses.replace(row, labeler="ben") for row in there])
    first, second = (thumbs.read(lambda c, s=s: as_answered(c, s)) for s in slots(thumbs))  # type: ignore[misc]
    assert first == second == said


def slots(store: Store) -> list[int]:
    import sqlalchemy as sa

    return store.read(lambda c: list(c.execute(sa.text("SELECT id FROM slot WHERE state = 'judged' ORDER BY id")).scalars()))


def test_rankings_and_corrections_alone_are_answers_too(empty: Store, store: Store) -> None:
    both = [row(active_ms=900), correction("p0", "ann", "a")]
    assert empty.import_judgements("helpful", map(as_record, both)) == Imported(1, 0, 1)
    assert list(empty.judgements("helpful")) == [as_record(given) for given in both]
    store.create_project(project("mended", task="correction"))
    more = [
        (dataclasses.replace(p, id="m0"), [dataclasses.replace(c, id=f"m0:{c.id[-1]}", prompt_id="m0") for c in cs]) for p, cs in items(1)
    ]
    store.add_prompts("mended", more)
    mended = [correction("m0", "ann", "b", criterion=""), correction("m0", "ann", "a", "", criterion="")]
    assert store.import_judgements("mended", map(as_record, mended)) == Imported(1, 0, 0)
    assert list(store.judgements("mended")) == [as_record({**given, "criterion": "helpfulness"}) for given in mended]
    assert store.check().problem == ""


def test_the_same_again_changes_nothing(thumbs: Store) -> None:
    given = [as_record(r) for r in (thumb("p0", "ann", "a", True), correction("p0", "ann", "a"), thumb("p1", "ben", "b", False))]
    assert thumbs.import_judgements("helpful", given) == Imported(2, 0, 2)
    before = thumbs.check()
    assert thumbs.import_judgements("helpful", given) == Imported(0, 2, 0)
    assert thumbs.check() == before
    more = [*given, as_record(thumb("p1", "cleo", "b", True))]
    assert thumbs.import_judgements("helpful", more) == Imported(1, 2, 1), "what is new in it is stored"
    assert [row for row in thumbs.judgements("helpful") if row.labeler == "cleo"] == more[3:]


def test_the_same_twice_in_one_file_is_a_mistake_wherever_it_stands(thumbs: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from heedful.store import importing

    monkeypatch.setattr(importing, "_AT_ONCE", 1)
    given = [as_record(thumb(prompt, "ann", "a", True)) for prompt in ("p0", "p1", "p0")]
    with pytest.raises(HeedfulError, match="record 3: labeler 'ann' has judged prompt 'p0' already"):
        thumbs.import_judgements("helpful", given)
    assert list(thumbs.judgements("helpful")) == []


@pytest.mark.parametrize(
    "change",
    [{"label": False}, {"active_ms": 901}, {"instructions_version": "v2"}, {"judged_at": "2025-05-05T05:05Z"}, {"purpose": "extra"}],
)
def test_whoever_said_something_else_is_not_overwritten(thumbs: Store, change: dict[str, Any]) -> None:
    thumbs.import_judgements("helpful", [as_record(thumb("p0", "ann", "a", True))])
    before = thumbs.check()
    with pytest.raises(HeedfulError, match="record 1: labeler 'ann' has judged prompt 'p0' already"):
        thumbs.import_judgements("helpful", [as_record({**thumb("p0", "ann", "a", True), **change})])
    assert thumbs.check() == before


def test_what_was_revised_since_is_known_too(thumbs: Store) -> None:
    """The first answer comes again after the labeler thought better of it: it is there, and the revision still counts."""
    from stores import answer, join, next_task

    version = thumbs.publish("helpful", "Judge.")
    join(thumbs, "ann", version)
    task = next_task(thumbs, "ann")
    answer(thumbs, task, "ann", Answer(thumbs=[True, True, True]))
    first = list(thumbs.judgements("helpful"))
    answer(thumbs, task, "ann", Answer(thumbs=[False, True, True]))
    assert thumbs.import_judgements("helpful", first) == Imported(0, 1, 0)
    assert [row.label for row in thumbs.judgements("helpful") if isinstance(row, Thumb)] == [False, True, True]


ODD = [
    (row("p0", "ann", criterion="helpfulness"), "row 2 of r.jsonl: it is a ranking, and the project asks for thumbs"),
    (thumb("p0", "ann", "a", True), "row 2 of r.jsonl: labeler 'ann' has judged completion 'p0:a' of prompt 'p0' already"),
    (thumb("p0", "ann", "z", True), "row 2 of r.jsonl: 'p0:z' is no completion of prompt 'p0'"),
    (thumb("p9", "ben", "a", True), "row 2 of r.jsonl: there is no prompt 'p9'"),
    (thumb("p0", "ben", "a", 1), "row 2 of r.jsonl: label is 1; it is true"),
    (thumb("p0", "ben", "a", True, completion_id=7), "row 2 of r.jsonl: completion_id is 7"),
    (thumb("p0", "ben", "a", True, criterion="wit"), "row 2 of r.jsonl: it is by 'wit'"),
    (thumb("p0", "ben", "a", True, judged_at="noon"), "row 2 of r.jsonl: judged_at is 'noon'"),
    (thumb("p0", "ann", "b", True, active_ms=1), "row 2 of r.jsonl: active_ms is 1, and 900 in row 1 of r.jsonl"),
    (thumb("p0", "ann", "b", True, instructions_version="v2"), "row 2 of r.jsonl: instructions_version is 'v2', and 'v1' in row 1"),
    (thumb("p0", "ann", "b", True, purpose="extra"), "row 2 of r.jsonl: purpose is 'extra', and 'overlap' in row 1"),
    (correction("p0", "ann", "b"), "row 2 of r.jsonl: 'p0:b' is corrected by labeler 'ann', and has no thumb"),
    (correction("p0", "ben", "b"), "row 2 of r.jsonl: labeler 'ben' corrects prompt 'p0' without thumbs"),
    (correction("p0", "ann", "a", None), "row 2 of r.jsonl: text is None"),
    (correction("p0", "ann", "a", "x" * 100_001), "row 2 of r.jsonl: text has 100001 characters"),
    ({"record": "thumb", "prompt_id": "p0"}, "row 2 of r.jsonl is no thumb: missing 3 required positional arguments"),
    ({"record": "thum"}, "'record' in row 2 of r.jsonl is 'thum'. Did you mean 'thumb'?"),
]


@pytest.mark.parametrize(("bad", "problem"), ODD, ids=[problem[18:60] for _, problem in ODD])
def test_a_bad_thumb_or_correction_is_named_and_nothing_is_half_imported(thumbs: Store, tmp_path: Path, bad: Any, problem: str) -> None:
    path = write(tmp_path / "r.jsonl", thumb("p0", "ann", "a", True), bad, thumb("p1", "ann", "a", True))
    before = thumbs.check()
    with pytest.raises(HeedfulError) as caught:
        thumbs.import_judgements("helpful", path)
    assert problem in str(caught.value)
    assert thumbs.check() == before
    assert (thumbs.labelers(), list(thumbs.judgements("helpful"))) == ([], [])


def test_only_what_is_asked_for_is_taken(empty: Store) -> None:
    with pytest.raises(HeedfulError, match="record 1: it is a thumb, and the project asks for rankings"):
        empty.import_judgements("helpful", [as_record(thumb("p0", "ann", "a", True))])
    with pytest.raises(HeedfulError, match="record 1: labeler 'ann' corrects prompt 'p0' without rankings"):
        empty.import_judgements("helpful", [as_record(correction("p0", "ann", "a"))])
    given = row(completion_ids=["p0:b", "p0:c"], ranks=[1, 2], active_ms=900)
    with pytest.raises(HeedfulError, match="record 2: 'p0:a' is corrected by labeler 'ann', and has no rank"):
        empty.import_judgements("helpful", map(as_record, [given, correction("p0", "ann", "a")]))


def test_what_people_are_at_is_not_disturbed(store: Store) -> None:
    """Somebody holds a place while rankings come in: theirs stays theirs, and the overlap grows."""
    from stores import answer, next_task

    ready(store, prompts=1, labelers=1, overlap=1)
    task = next_task(store, "l0")
    with pytest.raises(HeedfulError, match="labeler 'l0' is being asked about prompt 'p0' already"):
        store.import_judgements("helpful", [Ranking.from_dict(row("p0", "l0"))])
    store.import_judgements("helpful", [Ranking.from_dict(row("p0", "ann"))])
    assert answer(store, task, "l0").purpose == "overlap"
    assert store.status()[0].places == 2
    assert store.check().problem == ""


PROMPTS = [
    (lambda: [items(1)[0], items(1)[0]], "prompt id 'p0' stands twice"),
    (lambda: [(items(1)[0][0], items(1)[0][1][:1])], "item 1: prompt 'p0' has 1 completion(s)"),
    (lambda: [(items(1)[0][0], [completion("p0", f"{i}") for i in range(10)])], "has 10 completion(s)"),
    (lambda: items(2, completions=3) + items(1, completions=6, first=2), "item 3: prompt 'p2' has 6 completion(s), and a task of"),
    (lambda: [items(1)[0], (items(1, first=1)[0][0], items(1)[0][1])], "item 2: completion 'p0:a' belongs to prompt 'p0', not to 'p1'"),
    (lambda: [(items(1)[0][0], [completion("p0", "a"), completion("p0", "a")])], "completion id 'p0:a' stands twice"),
]


@pytest.mark.parametrize(("given", "problem"), PROMPTS, ids=[problem for _, problem in PROMPTS])
def test_bad_prompts_are_refused_whole(store: Store, given: Any, problem: str) -> None:
    store.create_project(project(max_shown=5))
    with pytest.raises(HeedfulError) as caught:
        store.add_prompts("helpful", given())
    assert problem in str(caught.value)
    assert list(store.prompts("helpful")) == []


def test_bad_values_in_prompts_are_refused(store: Store) -> None:
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
