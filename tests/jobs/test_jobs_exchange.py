"""Out of a store, into another, and out again: nothing is lost whatever people were asked for."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heedful.errors import DataProblem
from heedful.feedback.criteria import CRITERIA
from heedful.jobs.exchange import export_said, import_said
from heedful.pairs.convert import Choices, convert
from heedful.pairs.formats import rankings as raw
from heedful.records import Correction, Labeler, Ranking, Thumb, write_jsonl
from heedful.store import Answer, Store, projects
from stores import items, ready, work

Task = Literal["ranking", "thumbs", "correction"]
HELPFUL = CRITERIA["helpfulness"]
QUICK = {("ranking", ".jsonl.gz"), ("thumbs", ".json"), ("correction", ".jsonl")}
"""Every kind and every ending once; the other pairs of them are slow tests."""
WORDS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)


def bring_in(store: Path, file: Path, project: str = "helpful", **texts: Path | None) -> dict[str, int]:
    return import_said(str(store), file, project, None, Choices(HELPFUL), from_name="rankings", texts=texts)


def take_out(store: Path, file: Path) -> dict[str, int]:
    with Store.open(store) as opened:
        return export_said(opened, "helpful", file, strata=True)


def some_answer(task: Task, shown: int, chance: Random, text: str) -> Answer:
    """Whatever one may answer to a task of this type."""
    corrections = {i: text for i in range(shown) if chance.random() < 0.3}
    if task == "ranking":
        ranks = [chance.choice([None, *range(1, shown + 1)]) for _ in range(shown)]
        return Answer(ranks, {i: text for i, rank in enumerate(ranks) if rank is None}, None, corrections, chance.choice([None, 0]))
    if task == "thumbs":
        return Answer(thumbs=[chance.random() < 0.5 for _ in range(shown)], corrections=corrections)
    return Answer(corrections=corrections or {chance.randrange(shown): text})


@pytest.mark.parametrize(
    ("task", "ending"),
    [
        pytest.param(task, ending, marks=[] if (task, ending) in QUICK else [pytest.mark.slow])
        for task in ("ranking", "thumbs", "correction")
        for ending in (".jsonl", ".json", ".jsonl.gz")
    ],
)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), text=WORDS)
def test_out_in_and_out_again_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path, task: Task, ending: str, seed: int, text: str
) -> None:
    folder, chance = tmp_path_factory.mktemp("law"), Random(seed)
    first, second = folder / "first.db", folder / "second.db"
    first.write_bytes(sqlite_template.read_bytes())
    second.write_bytes(sqlite_template.read_bytes())
    with Store.open(first) as store:
        shares = {"repeat_share": 0.4, "repeat_after": 0, "calibration_share": 0.2}
        version = ready(store, prompts=4, labelers=3, completions=chance.randint(2, 4), task=task, seed=seed, overlap=2, **shares)
        store.add_prompts("helpful", items(1, first=10), calibration=True)
        store.add_labelers(Labeler("ai", "ai", {"language": "none"}))
        store.acknowledge("helpful", "ai", version)
        for name in ("l0", "ai", "l1", "l2"):
            work(store, name, times=chance.randint(0, 5), how=lambda t: some_answer(task, len(t.completions), chance, text))
    counts = take_out(first, folder / f"one{ending}")
    found = bring_in(second, folder / f"one{ending}")
    assert take_out(second, folder / f"two{ending}") == counts
    assert (folder / f"one{ending}").read_bytes() == (folder / f"two{ending}").read_bytes()
    with Store.open(first) as one, Store.open(second) as other:
        assert found["judgements"] == one.snapshot("helpful").judgements == other.snapshot("helpful").judgements
        assert other.read(lambda c: projects.find(c, "helpful"))[1].task == (task if found["judgements"] else "ranking")
        assert other.check().problem == ""
        before = other.check()
    assert bring_in(second, folder / f"one{ending}") == {**dict.fromkeys(found, 0), "there_before": found["judgements"]}
    with Store.open(second) as other:
        assert other.check() == before, "the same again leaves no trace"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Thumbs of two people on two prompts, sorted by completion as other tools do, with their texts."""
    (p, ps), (q, qs) = items(2, completions=2)
    said: list[Any] = [Thumb(c.prompt_id, who, c.id, up) for c in (*ps, *qs) for who, up in (("ann", True), ("ben", c.id[-1] == "a"))]
    raw.write(tmp_path / "thumbs.jsonl", [p, *ps, q, *qs, *said, Correction("p0", "ben", "p0:b", "better")])
    return tmp_path / "thumbs.jsonl"


def test_rows_of_an_answer_need_not_stand_together(tmp_path: Path, file: Path) -> None:
    assert bring_in(tmp_path / "new.db", file) == {"prompts": 2, "labelers": 2, "judgements": 4, "there_before": 0, "naming_their_model": 0}
    with Store.open(tmp_path / "new.db") as store:
        assert [status.complete for status in store.status()] == [0], "of an overlap of three"
        said = list(store.judgements("helpful"))
    assert len(said) == 9
    assert {row.criterion for row in said} == {"helpfulness"}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (Thumb("p0", "ann", "p0:a", False), "row 16 of thumbs.jsonl: labeler 'ann' has judged completion 'p0:a' of prompt 'p0' already"),
        (Thumb("p0", "cleo", "p0:z", False), "row 16 of thumbs.jsonl: 'p0:z' is no completion"),
        (Thumb("p7", "cleo", "p7:a", False), "row 16 of thumbs.jsonl: there is no prompt 'p7'"),
        (Ranking("p0", "cleo", ["p0:a", "p0:b"], [1, 2], "helpfulness", ""), "row 1 of"),
        (Correction("p0", "cleo", "p0:a", "so"), "row 16 of thumbs.jsonl: labeler 'cleo' corrects prompt 'p0' without"),
    ],
)
def test_a_bad_row_is_named_by_its_number_and_leaves_no_store(tmp_path: Path, file: Path, row: Any, fault: str) -> None:
    with file.open("a") as handle:
        kind = type(row).__name__.lower()
        write_jsonl(tmp_path / "more.jsonl", [{"record": kind, **row.to_dict()}])
        handle.write((tmp_path / "more.jsonl").read_text())
    with pytest.raises(DataProblem) as caught:
        bring_in(tmp_path / "new.db", file)
    expected = fault if fault != "row 1 of" else "it is a thumb, and the project asks for rankings"
    assert expected in str(caught.value)
    assert not (tmp_path / "new.db").exists()


def test_a_project_of_another_type_is_refused_and_stays(tmp_path: Path, file: Path) -> None:
    with Store.open(tmp_path / "there.db", create=True) as store:
        ready(store, prompts=2, completions=2)
        before = store.check()
        with pytest.raises(DataProblem, match=r"row 7 of thumbs.jsonl: it is a thumb, and the project asks for rankings"):
            bring_in(tmp_path / "there.db", file)
        assert store.check() == before


FIXTURES = Path(__file__).parents[1] / "pairs/formats/fixtures"
TOOLS = [
    ("argilla_server.json", "argilla", 2),
    ("argilla_logged.json", "argilla", 3),
    ("label_studio_ranker.json", "label-studio", 3),
    ("openai_comparisons.jsonl", "openai", 3),
]


@pytest.mark.parametrize(("name", "format_name", "rankings"), TOOLS)
def test_other_tools_rankings_come_in_once(tmp_path: Path, name: str, format_name: str, rankings: int) -> None:
    """They name no version of instructions, and nobody makes one up."""
    where = str(tmp_path / "new.db")
    given_ = (where, FIXTURES / name, "theirs", HELPFUL, Choices(HELPFUL))
    found = import_said(*given_, from_name=format_name, texts={})
    assert found["judgements"] == rankings
    assert import_said(*given_, from_name=format_name, texts={})["there_before"] == rankings
    with Store.open(where) as store:
        assert {row.instructions_version for row in store.judgements("theirs")} == {""}
        assert store.check().problem == ""


def test_what_a_tool_can_hold_comes_back_through_it(tmp_path: Path) -> None:
    """Ranks with ties go out as Label Studio's and Argilla's files and come back."""
    chance, texts = Random(0), items(3)
    said = [
        Ranking(p.id, who, [c.id for c in cs], [chance.randint(1, 3) for _ in cs], "helpfulness", "") for p, cs in texts for who in "ab"
    ]
    raw.write(tmp_path / "raw.jsonl", [row for p, cs in texts for row in (p, *cs, *(r for r in said if r.prompt_id == p.id))])
    for name in ("label-studio", "argilla"):
        convert(tmp_path / "raw.jsonl", tmp_path / f"{name}.json", "rankings", name, Choices(HELPFUL))
        import_said(str(tmp_path / f"{name}.db"), tmp_path / f"{name}.json", "p", HELPFUL, Choices(HELPFUL), from_name=name, texts={})
        with Store.open(tmp_path / f"{name}.db") as store:
            words = {c.id: c.text for c in store.completions("p")}
            found = [(r.prompt_id, {words[c]: r.rank_of(c) for c in r.completion_ids}) for r in rankings_of(store)]
        expected = [(r.prompt_id, {c.text: r.rank_of(c.id) for p, cs in texts if p.id == r.prompt_id for c in cs}) for r in said]
        assert [(p, levelled(ranks)) for p, ranks in found] == [(p, levelled(ranks)) for p, ranks in expected]


def rankings_of(store: Store) -> list[Ranking]:
    return [row for row in store.judgements("p") if isinstance(row, Ranking)]


def levelled(ranks: dict[str, int | None]) -> dict[str, int | None]:
    """Ranks without gaps, as other tools have them."""
    steps = sorted({rank for rank in ranks.values() if rank is not None})
    return {text: rank and steps.index(rank) + 1 for text, rank in ranks.items()}
