"""Make the two files of this example from public data: dialogues to summarise, and texts with and without hate.

    python examples/detoxify/prepare.py [--shared FOLDER] [--output runs/detoxify-data]

`prompts.jsonl`: every DialogSum dialogue once, with all its human summaries. The development set
is the test set; training dialogues that share 13 words in a row with it are left out.
`hate.jsonl`: short posts, sentences and summaries, `hate` or `nothate`; see README.md for the mixture.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from heedful.prompts.split import normalised_text
from heedful.records import read_jsonl, write_jsonl

SHARED = Path(os.environ.get("HEEDFUL_SHARED", Path(__file__).resolve().parents[2].parent / "shared"))
Row = dict[str, Any]

SHINGLE = 13  # words in a row by which near-copies are told
VALIDATION = 0.03  # share of the training dialogues that decide when to stop

LONGEST = 32  # words: summaries are no longer
FRAMES = (
    "#Person1# tells #Person2# that {}",
    "#Person1# says {}",
    "#Person2# thinks that {}",
    "#Person1# and #Person2# talk about it. #Person1# believes {}",
)
FRAMED = 0.3  # share of the posts that stand in a frame, of both labels alike


# Dialogues


def dialogues(folder: Path) -> list[Row]:
    """One row per distinct dialogue, with every summary that people wrote of it."""
    held_out = [{**row, "split": "test"} for row in read_jsonl(folder / "dialogsum_dev.jsonl.gz")]
    seen = {shingle for row in held_out for shingle in shingles(row["dialogue"])}
    training = [
        {**row, "split": "validation" if share(row["cluster"]) < VALIDATION else "train"}
        for row in read_jsonl(folder / "dialogsum_train.jsonl.gz")
        if seen.isdisjoint(shingles(row["dialogue"]))
    ]
    return merged([*held_out, *training])


def merged(rows: list[Row]) -> list[Row]:
    """The first row of each dialogue, with the summaries of all rows whose dialogue has the same words."""
    summaries: dict[str, list[str]] = {}
    for row in rows:
        summaries.setdefault(normalised_text(row["dialogue"]), []).append(row["summary"])
    distinct = {row["dialogue"]: row for row in reversed(rows)}
    return [
        {**{name: row[name] for name in ("id", "split", "topic", "dialogue")}, "reference": unique(summaries[normalised_text(dialogue)])}
        for dialogue, row in reversed(distinct.items())
    ]


def unique(texts: list[str]) -> list[str]:
    """Each text once, in order."""
    return list(dict.fromkeys(texts))


def shingles(text: str) -> set[str]:
    """Every ``SHINGLE`` words in a row; a shorter text is one piece."""
    words = normalised_text(text).split()
    return {" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))}


# Texts with and without hate


def labelled_texts(shared: Path) -> list[Row]:
    """The mixture, each text once, in the order of a hash."""
    toxicity, summaries = shared / "data" / "toxicity", shared / "data" / "dialogue_summarization"
    posts = [*dynabench(toxicity, 3000), *paradetox(toxicity, 3000), *toxigen(toxicity, 1200)]
    rows = [*map(framed, posts), *plain_summaries(summaries, 2400)]
    distinct = {normalised_text(row["text"]): row for row in rows}
    return sorted(distinct.values(), key=lambda row: share(row["text"]))


def dynabench(folder: Path, number: int) -> list[Row]:
    """Sentences that people wrote to fool a classifier (Vidgen et al. 2021), ``number`` of each label."""
    rows = [labelled(row["text"], bool(row["label"]), "dynabench") for row in read_jsonl(folder / "dynabench_hate.jsonl.gz")]
    return balanced(rows, number)


def paradetox(folder: Path, number: int) -> list[Row]:
    """Rude sentences and a polite paraphrase of each (Logacheva et al. 2022): the same content, another tone."""
    rows = [row for row in read_jsonl(folder / "paradetox_pairs.jsonl.gz") if row["neutral"]]
    chosen = sorted(rows, key=lambda row: share(row["toxic"]))[:number]
    return [labelled(text, rude, "paradetox") for row in chosen for text, rude in ((row["toxic"], True), (row["neutral"][0], False))]


def toxigen(folder: Path, number: int) -> list[Row]:
    """Sentences about groups of people, with and without contempt (Hartvigsen et al. 2022), ``number`` of each label."""
    rows = [labelled(row["text"], row["label"] == "hate", "toxigen") for row in read_jsonl(folder / "toxigen_human_scored.jsonl.gz")]
    return balanced(rows, number)


def plain_summaries(folder: Path, number: int) -> list[Row]:
    """What people write when they sum a dialogue up; never of the dialogues that the policy is tested on."""
    rows = (labelled(row["summary"], False, "dialogsum") for row in read_jsonl(folder / "dialogsum_train.jsonl.gz"))
    return first(rows, number)


def labelled(text: str, hate: bool, source: str) -> Row:
    """A row of hate.jsonl."""
    return {"text": " ".join(text.split()), "label": "hate" if hate else "nothate", "source": source}


def balanced(rows: list[Row], number: int) -> list[Row]:
    """``number`` rows of each label."""
    return [row for label in ("hate", "nothate") for row in first((r for r in rows if r["label"] == label), number)]


def first(rows: Iterable[Row], number: int) -> list[Row]:
    """The first ``number`` short rows in the order of a hash."""
    return sorted((row for row in rows if 1 < len(row["text"].split()) <= LONGEST), key=lambda row: share(row["text"]))[:number]


def framed(row: Row) -> Row:
    """Some posts stand inside a sentence of a summary, whatever their label.

    Otherwise "#Person1#" alone, which stands in no post, would prove a text to be harmless.
    """
    place = share("frame " + row["text"])
    if place >= FRAMED:
        return row
    return {**row, "text": FRAMES[int(place / FRAMED * len(FRAMES))].format(row["text"])}


def share(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


# What is printed


def table(rows: Iterable[Row], *names: str) -> Iterator[str]:
    """How many rows there are of each kind."""
    for kind, number in sorted(Counter(" ".join(str(row[name]) for name in names) for row in rows).items()):
        yield f"  {kind:<22} {number:>6}"


def copy_files(source: Path, target: Path) -> None:
    """The files of a folder, without their permissions."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        shutil.copyfile(path, target / path.name)


def main() -> None:
    """Write both files and a copy of the summariser, and say what is in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="the development data folder")
    parser.add_argument("--output", type=Path, default=Path("runs/detoxify-data"), help="where to write")
    chosen = parser.parse_args()
    prompts, texts = dialogues(chosen.shared / "data" / "dialogue_summarization"), labelled_texts(chosen.shared)
    for name, rows, columns in (("prompts.jsonl", prompts, ("split",)), ("hate.jsonl", texts, ("source", "label"))):
        write_jsonl(chosen.output / name, rows)
        print(f"{chosen.output / name}: {len(rows)} rows", *table(rows, *columns), sep="\n")
    summariser = chosen.shared / "models" / "summarizer"
    if summariser.is_dir():
        copy_files(summariser, chosen.output / "summarizer")
        print(f"{chosen.output / 'summarizer'}: the summariser")


if __name__ == "__main__":
    main()
