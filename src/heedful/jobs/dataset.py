"""A data set of pairs from files of judgements, outside a run: built, audited, frozen, described."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from heedful.checkpoints import file_sha256
from heedful.errors import FileProblem, SettingProblem
from heedful.records import Completion, Labeler, Pair, Prompt, Ranking, open_binary, write_jsonl

if TYPE_CHECKING:
    from heedful.feedback.criteria import Criterion
    from heedful.feedback.said import Said
    from heedful.pairs.convert import Choices
    from heedful.pairs.formats.judgements import Gathered

Say = Callable[[str], None]
Method = Literal["auto", "consensus", "votes"]


def build_dataset(
    judgements: Path,
    folder: Path,
    choices: Choices,
    criterion: Criterion,
    *,
    from_name: str = "rankings",
    prompts: Path | None = None,
    completions: Path | None = None,
    method: Method = "auto",
    held_out: float = 0.1,
    seed: int = 0,
) -> dict[str, Any]:
    """Freeze the pairs of a file of judgements in ``folder``, split by prompt, and say what is odd about them.

    Prompts and completions that the file does not hold itself come from ``prompts`` and
    ``completions``. ``method``: ``auto`` takes the consensus, by its model or, where there is too little for it, by the
    majority; ``consensus`` takes its model in any case, ``votes`` the share of votes. Prompts whose every
    completion got an F are listed in ``review.jsonl``.

    Raises DataProblem, FileProblem and SettingProblem as reading, building and freezing do.
    """
    from heedful.pairs.audit import audit, sentences
    from heedful.pairs.build import for_review, from_thumbs
    from heedful.pairs.snapshot import freeze, split_pairs

    found = gather_judgements(judgements, choices, from_name, prompts, completions)
    texts = found.prompts.values(), found.completions.values()
    made = _make_pairs(found, criterion, choices, method)
    split = split_pairs(made.pairs, held_out, seed)
    judged = [r for r in found.rankings if r.criterion == criterion.name]
    thumbs = [t for t in found.thumbs if t.criterion in ("", criterion.name)]
    report = audit(split, judged, criterion.preferred, from_thumbs(thumbs, *texts))
    parents = {"judgements": judgements, "prompts": prompts, "completions": completions}
    snapshot = freeze(
        split,
        folder,
        {name: file_sha256(path) for name, path in parents.items() if path},
        algorithm=made.algorithm,
        version=made.version,
        parameters={**criterion.to_dict(), **made.parameters, "held_out": held_out, "seed": seed},
    )
    review = for_review(judged, criterion) if judged else []
    if review:
        write_jsonl(folder / "review.jsonl", ({"prompt_id": name, "prompt": found.prompts[name].prompt} for name in review))
    return {
        "snapshot": snapshot.sha256,
        "method": made.method,
        "pairs": snapshot.counts,
        "prompts": report.prompts,
        "for_review": review,
        "folder": str(folder),
        "said": [made.sentence, *sentences(report)],
        "audit": report.to_dict(),
    }


@dataclass(frozen=True)
class _Made:
    """Pairs, and how they were made."""

    method: Literal["consensus", "votes"]
    sentence: str
    pairs: list[Pair]
    parameters: dict[str, Any]
    algorithm: str = "votes"
    version: str = ""


def _make_pairs(found: Gathered, criterion: Criterion, choices: Choices, method: Method) -> _Made:
    """From rankings, or from thumbs where nothing was ranked; and from corrections, unless they are left out.

    Raises SettingProblem where what only votes know is asked of the consensus, DataProblem where there is nothing to learn from.
    """
    from heedful.jobs.said import said_of
    from heedful.pairs.build import pairs_from_corrections

    texts, said = (found.prompts.values(), found.completions.values()), said_of(found, "the file", criterion)
    mended = pairs_from_corrections(said.corrections, *texts, criterion.name) if choices.corrections else []
    if said.on_thumbs:
        made = _from_thumbs(said, found, method)
    elif said.rankings or not mended:
        made = _from_rankings(found, criterion, choices, method)
    else:
        made = _Made("votes", "There are no rankings and no thumbs.", [], {})
    if not mended:
        return made
    sentence = f"{made.sentence} {len(mended)} pairs are of a correction and what it corrects."
    return replace(made, sentence=sentence, pairs=[*made.pairs, *mended], parameters={**made.parameters, "corrections": True})


def _from_rankings(found: Gathered, criterion: Criterion, choices: Choices, method: Method) -> _Made:
    """What the consensus prefers, by its model or by the majority, as in a run and in the app; or what more votes prefer, if asked."""
    from heedful.feedback.consensus import consensus
    from heedful.pairs.build import from_consensus, from_rankings, versions_read

    texts = found.prompts.values(), found.completions.values()
    only_votes = choices.ties or not choices.flags
    if method == "consensus" and only_votes:
        raise SettingProblem(
            "--ties and --no-flags are about votes, and --method is 'consensus'", "Choose --method votes, or leave them out."
        )
    if method == "votes" or only_votes:
        reason = "They were asked for." if method == "votes" else "--ties and --no-flags are about votes."
        pairs = from_rankings(found.rankings, *texts, criterion, flags=choices.flags, ties=choices.ties)
        return _Made("votes", f"Pairs by counting votes. {reason}", pairs, {"flags": choices.flags, "ties": choices.ties})
    agreed = consensus(found.rankings, criterion, method="auto" if method == "auto" else "model")
    versions = versions_read(row for row in found.rankings if row.criterion == criterion.name)
    pairs = from_consensus(agreed, *texts, criterion.name, versions)
    return _Made("consensus", f"Pairs by consensus. {agreed.reason}", pairs, agreed.parameters, agreed.algorithm, agreed.version)


def _from_thumbs(said: Said, found: Gathered, method: Method) -> _Made:
    """What is up before what is down, as sure as the consensus of thumbs is."""
    from heedful.feedback import findings
    from heedful.feedback.agreed import DECIDED
    from heedful.feedback.labels import share_up
    from heedful.pairs.build import pairs_from_thumbs

    asked_for: dict[Method, Literal["auto", "model", "majority"]] = {"auto": "auto", "consensus": "model", "votes": "majority"}
    agreed = findings.agree_on_thumbs(said, asked_for[method])
    texts, up = (found.prompts.values(), found.completions.values()), share_up(agreed)
    pairs = pairs_from_thumbs(said.counting(said.thumbs), *texts, said.criterion.name, up, least=DECIDED)
    kind: Literal["consensus", "votes"] = "votes" if method == "votes" else "consensus"
    sentence = f"Pairs of a thumb up and a thumb down, by {'counting votes' if kind == 'votes' else kind}. {agreed.reason}"
    return _Made(kind, sentence, pairs, {**agreed.parameters, "decided": DECIDED, "of": "thumbs"}, agreed.algorithm, agreed.version)


def describe_dataset(
    folder: Path,
    title: str,
    *,
    rankings: Path | None = None,
    labelers: Path | None = None,
    instructions: Sequence[Path] = (),
    languages: Sequence[str] = (),
    say: Say = lambda _: None,
) -> Path:
    """Write ``README.md`` into a snapshot's folder and return its path.

    With the ``rankings`` that the pairs were made from it tells how many there are, how well labelers
    agree, and which instructions they had read; with ``labelers`` (or their lines in the same file) of
    which strata they are.

    Raises FileProblem where the snapshot is missing or damaged, DataProblem where a file is not what it should be.
    """
    from heedful.feedback.criteria import Criterion
    from heedful.feedback.instructions import Instructions
    from heedful.pairs.audit import audit
    from heedful.pairs.snapshot import open_snapshot
    from heedful.report.dataset_card import DatasetFacts, write_dataset_card

    snapshot = open_snapshot(folder)
    made = snapshot.made["parameters"]
    criterion = Criterion.from_dict(made) if {"name", "question"} <= made.keys() else None
    judged, people = _judged(rankings, labelers, criterion, say)
    report = audit(snapshot.pairs, judged, criterion.preferred if criterion else None)
    texts = [Instructions(_text(path)) for path in instructions]
    facts = DatasetFacts(
        title,
        snapshot.sha256,
        {name: {"pairs": number, "prompts": report.prompts[name]} for name, number in report.pairs.items()},
        snapshot.made,
        counts={"rankings": len(judged), "labelers": len({r.labeler for r in judged})} if judged else {},
        agreement=_agreement(judged, criterion),
        labelers=people,
        instructions={text.version: text.text for text in texts},
        versions=Counter(r.instructions_version for r in judged),
        warnings=report.warnings,
        languages=languages,
    )
    write_dataset_card(facts, folder / "README.md")
    return folder / "README.md"


def read_prompts(path: Path, say: Say = lambda _: None) -> list[Prompt]:
    """The prompts of a file in any format that ``heed run`` takes."""
    from heedful.prompts.load import load_prompts
    from heedful.settings import PromptSettings

    return load_prompts(PromptSettings(path=str(path)), say)


def read_completions(path: Path) -> Iterator[Completion]:
    """The completions of a file; raises DataProblem for a row that is none, and for an id that stands for two texts."""
    from heedful.pairs.formats import rankings

    return (item for item in rankings.read(path, default="completion") if isinstance(item, Completion))


def gather_judgements(judgements: Path, choices: Choices, from_name: str, prompts: Path | None, completions: Path | None) -> Gathered:
    """A file of judgements in any format that holds some, with texts from other files where it has none of its own.

    Raises SettingProblem for a format that holds none, and what reading raises.
    """
    from heedful.pairs.convert import FORMATS, format_named
    from heedful.pairs.formats.judgements import gather

    reads = format_named(from_name)
    if reads.holds != "judgements" or reads.read is None:
        known = ", ".join(name for name, one in FORMATS.items() if one.holds == "judgements")
        raise SettingProblem(f"{from_name} holds {reads.holds}, not judgements", f"Choose one of {known}.")
    found = gather(reads.read(judgements, choices))
    if completions:
        gather(read_completions(completions), found)
    if prompts:
        gather(read_prompts(prompts, choices.say), found)
    return found


def _judged(rankings: Path | None, labelers: Path | None, criterion: Criterion | None, say: Say) -> tuple[list[Ranking], list[Labeler]]:
    """The rankings by the criterion, repeats left out, and who is known about; nothing of a file that is not named."""
    from heedful.pairs.formats import rankings as raw
    from heedful.pairs.formats.judgements import gather

    found = gather(raw.read(rankings, say) if rankings else [])
    people = gather(raw.read(labelers, say, "labeler") if labelers else [], found).labelers
    wanted = criterion.name if criterion else None
    judged = [r for r in found.rankings if r.purpose != "repeat" and wanted in (None, r.criterion)]
    return judged, list(people.values())


def _agreement(judged: list[Ranking], criterion: Criterion | None) -> dict[str, Any]:
    """How well labelers agree two by two; nothing where no two judged the same prompt."""
    from heedful.feedback.agreement import panel_agreement
    from heedful.maths.statistics import Interval

    if not judged or criterion is None:
        return {}
    found = panel_agreement(judged, criterion)
    share = Interval(found.agreement, found.low, found.high)
    return {"labelers who agree, two by two": share, "Krippendorff's alpha, ordinal": found.alpha} if found.pairs else {}


def _text(path: Path) -> str:
    with open_binary(path) as handle:
        try:
            return str(handle.read().decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise FileProblem(f"{path} is not UTF-8 text (byte {error.start})", "Save it as UTF-8.") from None
