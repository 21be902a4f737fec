"""The data set's card: what a hub reads in it, and what nobody may learn from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful.maths.statistics import Interval
from heedful.records import Labeler
from heedful.report.dataset_card import DatasetFacts, render_dataset_card, write_dataset_card

yaml = pytest.importorskip("yaml")
HOSTILE = 'A "set" of <script>\n---\nlicense: stolen'
PEOPLE = [Labeler(f"person-{k}", "person", {"age": age}) for k, age in enumerate(["18-29"] * 9 + ["30-44"] * 3 + ["45+"] * 2)]


def facts(**changes: object) -> DatasetFacts:
    known = {
        "title": HOSTILE,
        "sha256": "a" * 64,
        "splits": {"train": {"pairs": 1051, "prompts": 180}, "held_out": {"pairs": 118, "prompts": 20}},
        "made": {"algorithm": "votes", "version": 1, "parameters": {"flags": True}, "parents": {"judgements": "b" * 64}},
        "counts": {"rankings": 600},
        "agreement": {"two by two": Interval(0.74, 0.71, 0.77), "alpha": None},
        "labelers": [*PEOPLE, Labeler("judge-9", "ai", {"age": "18-29"})],
        "instructions": {"v1": "Rank them.\n# not a heading"},
        "versions": {"v1": 500, "v2": 100},
        "warnings": ["The longer one wins."],
        "languages": ["en"],
    }
    return DatasetFacts(**(known | changes))  # type: ignore[arg-type]


def front_matter(card: str) -> dict[str, object]:
    start, block, _ = card.split("---\n", 2)
    assert start == ""
    return dict(yaml.safe_load(block))


def test_the_front_matter_is_what_a_hub_reads() -> None:
    card = render_dataset_card(facts())
    found = front_matter(card)
    assert found["pretty_name"] == HOSTILE
    assert found["size_categories"] == ["1K<n<10K"]
    assert found["language"] == ["en"]
    assert "license" not in found, "that is for its owner to say"
    assert "# license: yours to choose" in card
    (config,) = found["configs"]  # type: ignore[misc]
    assert [(f["split"], f["path"]) for f in config["data_files"]] == [("train", "train.jsonl"), ("held_out", "held_out.jsonl")]
    hub = pytest.importorskip("huggingface_hub")
    assert hub.DatasetCard(card).data.pretty_name == HOSTILE


@pytest.mark.parametrize(
    ("pairs", "size"), [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (99_999, "10K<n<100K"), (10**6, "1M<n<10M"), (10**12, "100M<n<1B")]
)
def test_sizes_are_the_hubs_words(pairs: int, size: str) -> None:
    assert front_matter(render_dataset_card(facts(splits={"train": {"pairs": pairs, "prompts": 1}})))["size_categories"] == [size]


def test_everything_handed_in_is_told() -> None:
    card = render_dataset_card(facts())
    for words in (
        "| train | 1051 | 180 |",
        "a" * 64,
        "b" * 64,
        "votes, version 1",
        "- rankings: 600",
        "0.74 \\[0.71, 0.77\\]",
        "| alpha | unknown |",
    ):
        assert words in card
    assert "Version `v1`, read before 500 judgements:\n\n    Rank them.\n    # not a heading" in card
    assert "Version `v2`, read before 100 judgements:\n\nThe text is not recorded." in card
    assert "- The longer one wins." in card
    assert "<script>" not in card.split("---\n", 2)[2], "the rest is Markdown, where it would be run"


def test_small_strata_and_names_stay_hidden() -> None:
    card = render_dataset_card(facts())
    assert "14 people, 1 AI judges." in card
    assert "| 18-29 | 9 |" in card
    assert "| 2 smaller group(s) together | 5 |" in card
    for hidden in ("30-44", "45+", "person-", "judge-9"):
        assert hidden not in card
    alone = render_dataset_card(facts(labelers=PEOPLE[-2:]))
    assert "| 1 smaller group(s) together | fewer than 5 |" in alone


def test_what_is_not_known_is_said() -> None:
    bare = render_dataset_card(DatasetFacts("t", "c" * 64, {"train": {"pairs": 1, "prompts": 1}}))
    for words in (
        "Agreement was not measured.",
        "It is not recorded who.",
        "The instructions are not recorded.",
        "unknown, version unknown",
    ):
        assert words in bare
    assert "What to look at" not in bare


def test_it_is_written_whole(tmp_path: Path) -> None:
    write_dataset_card(facts(), tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text() == render_dataset_card(facts())
