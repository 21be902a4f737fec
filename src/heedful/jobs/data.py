"""From prompts to pairs: the jobs whose results are rows that people can read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.errors import DataProblem
from heedful.jobs.check import check_run
from heedful.jobs.judgements import collect, criterion_of, keep
from heedful.jobs.workspace import Workspace
from heedful.records import Pair, Ranking, write_atomically, write_jsonl

if TYPE_CHECKING:
    from heedful.feedback.agreed import Consensus
    from heedful.feedback.labels import LabelConsensus
    from heedful.feedback.said import Said
    from heedful.pairs.formats.judgements import Gathered, Item


def load_prompts(ws: Workspace, folder: Path, needed: Sequence[str] = ("train", "validation", "test")) -> dict[str, Any]:
    """Read, split and freeze the prompts; every later stage reads these files. Splits that are ``needed`` may not be empty.

    Prompts that are too long for the model are counted, and cut, dropped or refused as the settings say.
    """
    from heedful.prompts.chat import encode_prompts

    found, splits, said = {}, {}, []
    for split, prompts in ws.source.prompts().items():
        _, report = encode_prompts(prompts, ws.tokenizer, ws.network.encoder_decoder, ws.max_prompt_tokens, ws.settings.prompts.too_long)
        if report.too_long:
            ws.progress.say(f"{split}: {report.sentence()}")
        kept = splits[split] = [prompts[i] for i in report.kept]
        found[split] = {"prompts": len(kept), "too_long": report.too_long, "sha256": write_jsonl(folder / f"{split}.jsonl", kept)}
        said.append(f"{len(kept)} {split}" + (f" ({report.too_long} too long, {report.done})" if report.too_long else ""))
    check_run(ws, splits, needed)
    return {"splits": found, "line": ", ".join(said)}


def sample(ws: Workspace, folder: Path) -> dict[str, Any]:
    """Several completions of each training prompt that people will judge."""
    from heedful.completions.sample import sample_completions
    from heedful.engines.base import Sampling
    from heedful.engines.sampling import LocalSampler

    chosen = ws.settings.completions
    prompts = ws.prompts("train")[: chosen.prompts]
    completions = sample_completions(
        LocalSampler(ws.network, "reference", say=ws.progress.say),
        ws.tokenizer,
        prompts,
        ws.encode(prompts),
        Sampling(chosen.max_new_tokens, chosen.temperature, chosen.top_p),
        per_prompt=chosen.per_prompt,
        seed=ws.settings.seed,
        model="instruct",
        progress=ws.progress,
    )
    write_jsonl(folder / "completions.jsonl", completions)
    cut = sum(c.finish_reason == "length" for c in completions)
    line = f"{len(completions)} of {len(prompts)} prompts, {cut} cut off"
    return {"line": line, "prompts": len(prompts), "completions": len(completions), "cut_off": cut}


def judge(ws: Workspace, folder: Path) -> dict[str, Any]:
    """What people said and, of rankings or else of thumbs, their consensus; of who ranks also what there is to say of them.

    Whose work is in quarantine by a person's decision does not count, and what somebody ruled on is settled, as in the app and
    for ``heed feedback``.
    """
    from heedful.pairs.formats import rankings

    said = collect(ws, folder, criterion_of(ws))
    assert said.snapshot is not None
    rankings.write(folder / "judgements.jsonl", said.counting(said.judgements))
    found = _thumbs(said, folder) if said.on_thumbs else _rankings(ws, said, folder) if said.counted else {"labelers_flagged": []}
    counts = {"rankings": len(said.counted), "thumbs": len(said.counting(said.thumbs)), "corrections": len(said.counting(said.corrections))}
    people = len({row.labeler for row in said.counting(said.judgements)})
    told = " and ".join(f"{n} {kind}" for kind, n in counts.items() if n)
    return {
        "line": f"{told} by {people} labelers; to look at: {', '.join(found['labelers_flagged']) or 'none'}",
        **counts,
        "labelers": people,
        "judgements": {"event": said.snapshot.event, "sha256": said.snapshot.sha256, "quarantined": sorted(said.quarantined)},
        "ruled_on": len(said.ruled_on),
        **found,
    }


def _rankings(ws: Workspace, said: Said, folder: Path) -> dict[str, Any]:
    """The consensus of rankings, and what is to be said of each labeler.

    The consensus's model weighs everybody by what they are worth, so nobody has to be excluded; where there is too
    little for it and the majority decides, those in doubt are excluded only if the settings say so.
    """
    from heedful.feedback import findings
    from heedful.feedback.agreement import panel_agreement
    from heedful.feedback.labelers import flagged
    from heedful.feedback.panel import FitOnce

    fit = FitOnce()
    reports = findings.report_all(said, fit)
    in_doubt = [name for name in flagged(reports) if name not in said.quarantined]
    agreed = findings.agree(said, fit=fit)
    if agreed.method == "majority" and ws.settings.feedback.exclude_flagged:
        agreed = findings.agree(said, exclude=in_doubt)
    write_jsonl(folder / "labelers.jsonl", reports)
    keep(ws, folder, said, agreed, reports)
    return {
        **_consensus_of("rankings", agreed, folder),
        "labelers_flagged": in_doubt,
        "excluded": agreed.excluded,
        "decided_pairs": len(agreed.decided),
        "agreement": panel_agreement(said.counted, said.criterion).to_dict(),
    }


def _thumbs(said: Said, folder: Path) -> dict[str, Any]:
    """The consensus of thumbs."""
    from heedful.feedback import findings

    return {**_consensus_of("thumbs", findings.agree_on_thumbs(said), folder), "labelers_flagged": []}


def _consensus_of(what: str, agreed: Consensus | LabelConsensus, folder: Path) -> dict[str, Any]:
    """Keep a consensus in the stage's folder, and say how it was made."""
    write_atomically(folder / "consensus.json", json.dumps({"of": what, **agreed.to_dict()}).encode())
    names = ("method", "reason", "algorithm", "version", "input_sha256")
    return {"consensus": {"of": what, **{name: getattr(agreed, name) for name in names}}}


def build_pairs(ws: Workspace, folder: Path) -> dict[str, Any]:
    """A frozen, hashed snapshot of pairs, split by prompt; training reads nothing else."""
    from heedful.pairs.audit import audit
    from heedful.pairs.formats.judgements import Gathered, gather
    from heedful.pairs.snapshot import freeze, split_pairs

    from_file = ws.settings.reward.kind == "pairs"
    said = Gathered() if from_file else gather(read_judgements(ws.folder("feedback") / "judgements.jsonl"))
    agreed = None if from_file else _consensus(ws)
    pairs = _pairs_from_file(ws) if from_file else _pairs_from(ws, agreed, said)
    split = split_pairs(pairs, ws.settings.reward.held_out, ws.settings.prompts.shuffle_seed)
    _check_enough(ws, len(split["train"]))
    report = audit(split, said.rankings, criterion_of(ws).preferred)
    for warning in [*report.warnings, *report.labeler_warnings]:
        ws.progress.say(warning)
    made = {"algorithm": "user file"} if from_file else _made(agreed)
    snapshot = freeze(split, folder, {"source": ws.source.fingerprint(), **_parents(ws)}, **made)
    line = ", ".join(f"{count} {name}" for name, count in snapshot.counts.items()) + f", snapshot {snapshot.sha256[:12]}"
    return {"line": line, "snapshot": snapshot.sha256, "counts": snapshot.counts, "audit": report.to_dict()}


def _check_enough(ws: Workspace, pairs: int) -> None:
    needed = ws.settings.dpo.batch_size
    if ws.settings.policy.algorithm == "dpo" and pairs < needed:
        raise DataProblem(
            f"there are {pairs} pairs to learn from, fewer than one batch of {needed}", "Lower dpo.batch_size, or give more pairs."
        )


def _consensus(ws: Workspace) -> Consensus | LabelConsensus | None:
    """The consensus that the stage before kept; ``None`` where people only corrected."""
    from heedful.feedback.agreed import Consensus
    from heedful.feedback.labels import LabelConsensus

    path = ws.folder("feedback") / "consensus.json"
    if not path.exists():
        return None
    row = json.loads(path.read_text())
    return Consensus.from_dict(row) if row["of"] == "rankings" else LabelConsensus.from_dict(row)


def _pairs_from(ws: Workspace, agreed: Consensus | LabelConsensus | None, said: Gathered) -> list[Pair]:
    """What the consensus prefers, and corrections before what they correct."""
    from heedful.feedback.agreed import DECIDED, Consensus
    from heedful.feedback.labels import share_up
    from heedful.pairs.build import from_consensus, pairs_from_corrections, pairs_from_thumbs, versions_read

    texts, name = (ws.prompts("train"), ws.completions()), criterion_of(ws).name
    mended = pairs_from_corrections(said.corrections, *texts, name)
    if agreed is None:
        return mended
    if isinstance(agreed, Consensus):
        return [*from_consensus(agreed, *texts, name, versions_read(said.rankings)), *mended]
    return [*pairs_from_thumbs(said.thumbs, *texts, name, share_up(agreed), least=DECIDED), *mended]


def _made(agreed: Consensus | LabelConsensus | None) -> dict[str, Any]:
    """How the pairs were made, as their snapshot says it."""
    if agreed is None:
        return {"algorithm": "corrections"}
    return {"algorithm": agreed.algorithm, "version": agreed.version, "parameters": agreed.parameters}


def _parents(ws: Workspace) -> dict[str, str]:
    """From what: the judgements as they stood, and of them the rankings or thumbs that the consensus counted."""
    if ws.settings.reward.kind == "pairs":
        return {}
    found = ws.result("feedback")
    counted = {made["of"]: made["input_sha256"]} if (made := found.get("consensus")) else {}
    return {"judgements": found["judgements"]["sha256"], **counted}


def _pairs_from_file(ws: Workspace) -> list[Any]:
    from heedful.pairs.load import load_pairs

    return load_pairs(Path(ws.settings.reward.path), ws.progress.say)


def read_rankings(path: Path) -> list[Ranking]:
    """The rankings of a JSON-lines file of judgements."""
    return [row for row in read_judgements(path) if isinstance(row, Ranking)]


def read_judgements(path: Path) -> Iterator[Item]:
    """A JSON-lines file of rankings, and of who judged where it says so; a row that is neither is named by its number."""
    from heedful.pairs.formats import rankings

    return rankings.read(path)
