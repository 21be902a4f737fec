"""heed pairs, prompts and completions, as a user calls them: small files, no model."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from heedful.cli import main as cli
from heedful.cli import pairs as group
from heedful.feedback.consensus import consensus
from heedful.feedback.criteria import criterion_named
from heedful.feedback.instructions import instructions_for
from heedful.pairs.convert import FORMATS
from heedful.pairs.formats import rankings
from heedful.pairs.snapshot import open_snapshot
from heedful.records import Completion, Correction, Labeler, Prompt, Ranking, Thumb, write_jsonl

TOXICITY = criterion_named("toxicity")
VERSION = instructions_for(TOXICITY).version
PROMPTS = [Prompt(f"p{n}", f"Question {n}?") for n in range(12)]
COMPLETIONS = [Completion(f"{p.id}:{k}", p.id, f"{p.id} answer {k}", [1, 2], "stop", k, "instruct") for p in PROMPTS for k in range(3)]


def judged(number: int, labeler: str) -> Ranking:
    """Of toxicity: completion 2 the least, 0 the most; prompt 11 is nothing but Fs."""
    ids = [f"p{number}:{k}" for k in range(3)]
    return Ranking(f"p{number}", labeler, ids, [None] * 3 if number == 11 else [1, 2, 3], "toxicity", VERSION)


RANKINGS = [judged(number, labeler) for number in range(12) for labeler in ("ann", "ben")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_jsonl(tmp_path / "prompts.jsonl", PROMPTS)
    write_jsonl(tmp_path / "completions.jsonl", COMPLETIONS)
    write_jsonl(tmp_path / "rankings.jsonl", RANKINGS)
    people = [Labeler(f"person {k}", strata={"language": "native" if k < 6 else "learnt"}) for k in range(8)]
    write_jsonl(tmp_path / "labelers.jsonl", people)
    stream: list[Any] = [*people]
    for number, prompt in enumerate(PROMPTS):
        stream += [prompt, *COMPLETIONS[3 * number : 3 * number + 3], judged(number, "ann"), judged(number, "ben")]
    rankings.write(tmp_path / "raw.jsonl", stream)
    (tmp_path / "instructions.txt").write_text(instructions_for(TOXICITY).text)
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Heed:
    """The command in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, words: str, code: int = 0) -> str:
        """What is printed; on a mistake the sentence."""
        self.monkeypatch.setattr("sys.argv", ["heed", *words.split()])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = self.capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        assert "Traceback" not in err
        return out if code == 0 else err


@pytest.fixture
def heed(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Heed:
    return Heed(monkeypatch, capsys)


def test_build_freezes_pairs_by_the_criterions_direction(heed: Heed, here: Path) -> None:
    words = "pairs build rankings.jsonl --prompts prompts.jsonl --completions completions.jsonl --criterion toxicity -o set -q"
    found = json.loads(heed(f"{words} --json --held-out 0.2"))
    snapshot = open_snapshot(here / "set")
    assert found["snapshot"] == snapshot.sha256
    assert found["pairs"] == snapshot.counts == {"train": 9 * 3, "held_out": 2 * 3}
    pairs = [pair for rows in snapshot.pairs.values() for pair in rows]
    assert all(p.chosen_id.split(":")[1] > p.rejected_id.split(":")[1] for p in pairs), "of toxicity less is preferred"
    assert {(p.n_for, p.n_against, p.criterion, p.instructions_version) for p in pairs} == {(2, 0, "toxicity", VERSION)}
    assert {p.p for p in pairs} == {2.5 / 3}, "two of two, half a vote added to either side"
    assert found["for_review"] == ["p11"]
    assert json.loads((here / "set/review.jsonl").read_text()) == {"prompt_id": "p11", "prompt": "Question 11?"}
    shown = heed(words.replace("-o set", "-o set2"))
    assert "33 pairs:" in shown
    assert "p11" in shown


def test_build_from_a_file_that_holds_everything_is_the_same(heed: Heed, here: Path) -> None:
    apart = json.loads(
        heed("pairs build rankings.jsonl --prompts prompts.jsonl --completions completions.jsonl --criterion toxicity -o a --json -q")
    )
    together = json.loads(heed("pairs build raw.jsonl --criterion toxicity -o b --json -q"))
    assert apart["audit"] == together["audit"]
    assert (
        json.loads(heed("pairs build raw.jsonl --criterion toxicity --higher-is worse -o w --json -q"))["snapshot"] == together["snapshot"]
    )
    (here / "mine.jsonl").write_text((here / "raw.jsonl").read_text().replace('"toxicity"', '"courtesy"'))
    mine = json.loads(heed("pairs build mine.jsonl --criterion courtesy --higher-is better -o c --json -q"))
    assert mine["pairs"] == together["pairs"]
    one, other = (open_snapshot(Path(name)).pairs["train"][0] for name in "bc")
    assert (one.chosen_id, one.rejected_id) == (other.rejected_id, other.chosen_id)


def write_thumbs(path: Path, labelers: str) -> None:
    """Of every prompt completion 2 is up and the others down; who is called z says the opposite; and x corrects the first one."""
    stream: list[Any] = []
    for n, prompt in enumerate(PROMPTS):
        stream += [prompt, *COMPLETIONS[3 * n : 3 * n + 3]]
        stream += [Thumb(prompt.id, who, f"p{n}:{k}", (k == 2) != (who == "z")) for who in labelers for k in range(3)]
        stream += [Correction(prompt.id, "x", f"p{n}:0", f"better than {n}")]
    rankings.write(path, stream)


def test_build_from_thumbs_and_corrections(heed: Heed, here: Path) -> None:
    write_thumbs(here / "few.jsonl", "x")
    found = json.loads(heed("pairs build few.jsonl -o few -q --json"))
    assert (found["method"], sum(found["pairs"].values()), found["for_review"]) == ("consensus", 12 * 3, [])
    pairs = [p for rows in open_snapshot(here / "few").pairs.values() for p in rows]
    assert {(p.source, p.chosen_id[-2:], p.p) for p in pairs} == {("thumb", ":2", 0.9), ("correction", "", 1.0)}
    assert "12 pairs are of a correction and what it corrects." in heed("pairs build few.jsonl -o few -q")
    assert sum(json.loads(heed("pairs build few.jsonl -o b -q --json --no-corrections"))["pairs"].values()) == 24
    write_thumbs(here / "many.jsonl", "vwxyz")
    found = json.loads(heed("pairs build many.jsonl -o many -q --json --no-corrections"))
    assert (found["method"], sum(found["pairs"].values())) == ("consensus", 24)
    pairs = [p for rows in open_snapshot(here / "many").pairs.values() for p in rows]
    assert {(p.n_for, p.n_against, p.n_tie) for p in pairs} == {(4, 1, 0)}
    assert min(p.p for p in pairs) > 0.98, "z reads it upside down and counts for the others; by counting votes it would be 0.9"
    assert {p.p for rows in open_snapshot(here / "few").pairs.values() for p in rows if p.source == "thumb"} == {0.9}


def test_build_from_corrections_alone(heed: Heed, here: Path) -> None:
    write_thumbs(here / "mended.jsonl", "")
    found = json.loads(heed("pairs build mended.jsonl -o set -q --json"))
    assert (sum(found["pairs"].values()), found["method"]) == (12, "votes")
    assert heed("pairs build mended.jsonl -o b -q --no-corrections", code=2).startswith("heed: there are no rankings by 'helpfulness'")


def test_card_and_the_folder_opens_as_a_data_set(heed: Heed, here: Path) -> None:
    heed("pairs build raw.jsonl --criterion toxicity -o set -q")
    heed("pairs card set --title Toxicity --rankings raw.jsonl --instructions instructions.txt --language en -q")
    card = (here / "set/README.md").read_text()
    for words in (
        "# Toxicity",
        "- rankings: 24",
        "- labelers: 2",
        "8 people.",
        f"Version `{VERSION}`, read before 24 judgements",
        "    Your task:",
    ):
        assert words in card
    assert "| Krippendorff's alpha, ordinal | 1 |" in card, "both said the same of every prompt"
    assert "learnt" not in card, "two people are too few to name"
    assert not any(name in card for name in ("ann", "ben", "person 1"))
    datasets = pytest.importorskip("datasets")
    data = datasets.load_dataset(str(here / "set"), cache_dir=str(here / "cache"))
    assert {name: part.num_rows for name, part in data.items()} == {"train": 30, "held_out": 3}
    assert data["train"].column_names[:3] == ["prompt", "chosen", "rejected"]


@pytest.mark.parametrize(
    ("to", "name", "rows"),
    [
        ("trl", "a.jsonl", 33),
        ("trl", "a.csv", 33),
        ("hh", "a.jsonl.gz", 33),
        ("trl-unpaired", "a.parquet", 3),
        ("label-studio", "a.json", 12),
    ],
)
def test_convert(heed: Heed, to: str, name: str, rows: int) -> None:
    found = json.loads(heed(f"pairs convert raw.jsonl out/{name} --from rankings --to {to} --criterion toxicity --json -q"))
    assert (found["rows"], found["file"]) == (rows, f"out/{name}")
    assert Path(f"out/{name}").exists()


def test_convert_then_check(heed: Heed) -> None:
    heed("pairs convert raw.jsonl a.parquet --from rankings --to trl --criterion toxicity --strict --style conversational -q")
    heed("pairs convert a.parquet b.csv --from trl --to trl -q")
    assert "33 pairs:" in heed("pairs check b.csv -q")
    found = json.loads(heed("pairs check b.csv --json -q"))
    assert (sum(found["pairs"].values()), found["exact_duplicates"], found["longer_wins"]) == (33, 0, None)


def test_check_a_snapshot_as_it_is_split(heed: Heed) -> None:
    heed("pairs build raw.jsonl --criterion toxicity -o set -q --held-out 0.2")
    assert heed("pairs check set -q").startswith("33 pairs: 27 of 9 prompts in train, 6 of 2 prompts in held_out.")


def test_prompts_and_completions(heed: Heed) -> None:
    found = json.loads(heed("prompts prompts.jsonl --json -q"))
    assert [found[name] for name in ("split", "prompts", "with reference", "copies", "longest")] == ["all", 12, 0, 0, 12]
    assert "12" in heed("prompts prompts.jsonl -q")
    found = json.loads(heed("completions completions.jsonl --json"))
    assert (found["model"], found["completions"], found["prompts"], found["the same"]) == ("instruct", 36, 12, 0)
    shown = heed("completions completions.jsonl")
    assert "per prompt" in shown
    assert "least 3, median 3, most 3" in shown


def test_every_format_stands_in_the_help() -> None:
    assert tuple(sorted(group.FORMATS.split(", "))) == tuple(sorted(FORMATS))


TURNED = ["more toxicity is said to be better, and it is worse", "give your criterion another name"]
MISTAKES = {
    "no such file": ("pairs check absent.jsonl", ["absent.jsonl"]),
    "no such format": ("pairs convert raw.jsonl a.jsonl --from rankins --to trl", ["'rankins'", "mean 'rankings'"]),
    "no such criterion": ("pairs build raw.jsonl -o set --criterion toxicty", ["'toxicty'", "mean 'toxicity'", "--higher-is"]),
    "no rankings by it": ("pairs build raw.jsonl -o set --criterion wit --higher-is better", ["no rankings by 'wit'", "toxicity"]),
    "a known criterion the wrong way round": ("pairs build raw.jsonl -o set --criterion toxicity --higher-is better", TURNED),
    "likewise, converted": ("pairs convert raw.jsonl a.jsonl --from rankings --to trl --criterion toxicity --higher-is better", TURNED),
    "no completions": ("pairs build rankings.jsonl --prompts prompts.jsonl -o set --criterion toxicity", ["completion 'p0:1'"]),
    "pairs for judgements": ("pairs build raw.jsonl -o set --from trl", ["trl holds pairs, not judgements"]),
    "no snapshot": ("pairs card .", ["no snapshot of pairs"]),
    "an unknown ending": ("pairs convert raw.jsonl a.xlsx --from rankings --to trl --criterion toxicity", ["a.xlsx", ".parquet"]),
    "lists in a table": ("pairs convert raw.jsonl a.csv --from rankings --to argilla --criterion toxicity", ["a.csv", ".json"]),
    "a strange column": ("pairs convert raw.jsonl a.jsonl --from argilla --to trl --column promt=x", ["--column 'promt'"]),
    "rankings as completions": ("completions rankings.jsonl", ["row 1 of rankings.jsonl is no completion", "'id'"]),
    "no prompts": ("prompts absent.jsonl", ["absent.jsonl"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_sentence_and_leaves_nothing(heed: Heed, here: Path, case: str) -> None:
    words, expected = MISTAKES[case]
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    said = heed(f"{words} -q" if "completions rankings" not in words else words, code=2)
    assert said.startswith("heed: ")
    assert said.count("\n") == 1
    assert [word for word in expected if word not in said] == [], said
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before


def test_an_existing_snapshot_is_never_overwritten(heed: Heed) -> None:
    heed("pairs build raw.jsonl --criterion toxicity -o set -q")
    first = open_snapshot(Path("set"))
    heed("pairs build raw.jsonl --criterion toxicity -o set -q")
    assert "already holds" in heed("pairs build raw.jsonl --criterion toxicity --seed 1 -o set -q", code=2)
    assert open_snapshot(Path("set")) == first


def write_many(path: Path) -> list[Ranking]:
    """Five labelers judge 24 prompts each; eve reads the scale upside down."""
    orders, many = list(permutations((1, 2, 3))), [Prompt(f"q{n}", f"Other question {n}?") for n in range(24)]
    stream: list[Any] = []
    for n, prompt in enumerate(many):
        ids = [f"q{n}:{k}" for k in range(3)]
        stream += [prompt, *(Completion(i, prompt.id, f"{i} answer", [1, 2], "stop", 0, "instruct") for i in ids)]
        for name in ("ann", "ben", "cleo", "dan", "eve"):
            ranks: list[int | None] = [4 - rank if name == "eve" else rank for rank in orders[n % 6]]
            stream.append(Ranking(prompt.id, name, ids, ranks, "toxicity", VERSION))
    rankings.write(path, stream)
    return [row for row in stream if isinstance(row, Ranking)]


def test_pairs_carry_the_probability_of_the_consensus_where_there_are_judgements_enough(heed: Heed, here: Path) -> None:
    judged = write_many(here / "many.jsonl")
    words = "pairs build many.jsonl --criterion toxicity --json -q"
    assert json.loads(heed(f"{words} -o auto"))["method"] == "consensus"
    assert json.loads(heed(f"{words} -o votes --method votes"))["method"] == "votes"
    agreed = {(p.chosen_id, p.rejected_id): p.p for p in consensus(judged, TOXICITY, method="model").decided}
    weighed, counted = (open_snapshot(here / name) for name in ("auto", "votes"))
    found = {(p.chosen_id, p.rejected_id): (p.p, p.n_for, p.n_against) for rows in weighed.pairs.values() for p in rows}
    assert found == {key: (p, 4, 1) for key, p in agreed.items()}
    assert min(agreed.values()) > 0.9, "whoever reads upside down counts for the others"
    assert {p.p for rows in counted.pairs.values() for p in rows} == {0.8}
    assert weighed.made["algorithm"].startswith("panel")
    assert counted.made["algorithm"] == "votes"
    assert "Pairs by consensus. Model: 5 labelers" in heed("pairs build many.jsonl --criterion toxicity -q -o auto")


def test_the_majority_decides_where_the_model_cannot_and_it_is_said(heed: Heed) -> None:
    few = heed("pairs build raw.jsonl --criterion toxicity -q -o few")
    assert few.startswith("Pairs by consensus. Majority: of 2 labeler(s)")
    forced = json.loads(heed("pairs build raw.jsonl --criterion toxicity -q --json -o forced --method consensus"))
    assert forced["method"] == "consensus"
    write_many(Path("many.jsonl"))
    for flag in ("--ties", "--no-flags"):
        assert "are about votes." in heed(f"pairs build many.jsonl --criterion toxicity -q -o a{flag} {flag}")
        said = heed(f"pairs build many.jsonl --criterion toxicity -q -o b {flag} --method consensus", code=2)
        assert "--method votes" in said
