"""From prompts to pairs: the jobs whose results are rows that people can read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.errors import DataProblem
from heedful.jobs.check import check_run
from heedful.jobs.judgements import collect, keep
from heedful.jobs.workspace import Workspace
from heedful.records import Ranking, write_atomically, write_jsonl

if TYPE_CHECKING:
    from heedful.feedback.agreed import Consensus
    from heedful.pairs.formats.judgements import Item


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
    """Rankings, what is to be said of each labeler, and the consensus.

    The consensus's model weighs everybody by what they are worth, so nobody has to be left out; where
    there is too little for it and the majority decides, those in doubt are, if the settings say so.
    """
    from heedful.feedback.agreement import panel_agreement
    from heedful.feedback.consensus import consensus
    from heedful.feedback.labelers import flagged, labeler_reports
    from heedful.feedback.panel import FitOnce
    from heedful.feedback.said import words_of

    criterion = criterion_of(ws)
    collected = collect(ws, folder, criterion)
    rankings = collected.rankings
    words = words_of(ws.completions())
    fit = FitOnce()
    reports = labeler_reports(rankings, criterion, collected.labelers, words, fit=fit)
    in_doubt = flagged(reports)
    agreed = consensus(rankings, criterion, fit=fit)
    if agreed.method == "majority" and ws.settings.feedback.quarantine_flagged:
        agreed = consensus(rankings, criterion, exclude=in_doubt)
    write_jsonl(folder / "rankings.jsonl", rankings)
    write_jsonl(folder / "labelers.jsonl", reports)
    write_atomically(folder / "consensus.json", json.dumps(agreed.to_dict()).encode())
    keep(ws, folder, collected, agreed, reports)
    return {
        "line": f"{len(rankings)} rankings by {len(reports)} labelers; to look at: {', '.join(in_doubt) or 'none'}",
        "rankings": len(rankings),
        "labelers": len(reports),
        "judgements": {"event": collected.snapshot.event, "sha256": collected.snapshot.sha256, "set_aside": collected.set_aside},
        "consensus": {name: getattr(agreed, name) for name in ("method", "reason", "algorithm", "version", "input_sha256")},
        "labelers_flagged": in_doubt,
        "quarantined": agreed.excluded,
        "decided_pairs": len(agreed.decided),
        "agreement": panel_agreement(rankings, criterion, exclude=in_doubt).to_dict(),
    }


def build_pairs(ws: Workspace, folder: Path) -> dict[str, Any]:
    """A frozen, hashed snapshot of pairs, split by prompt; training reads nothing else."""
    from heedful.pairs.audit import audit
    from heedful.pairs.snapshot import freeze, split_pairs

    from_file = ws.settings.reward.kind == "pairs"
    rankings = [] if from_file else read_rankings(ws.folder("feedback") / "rankings.jsonl")
    agreed = None if from_file else _consensus(ws)
    pairs = _pairs_from_file(ws) if agreed is None else _pairs_from_consensus(ws, agreed, rankings)
    split = split_pairs(pairs, ws.settings.reward.held_out, ws.settings.prompts.shuffle_seed)
    _check_enough(ws, len(split["train"]))
    report = audit(split, rankings, criterion_of(ws).preferred)
    for warning in [*report.warnings, *report.labeler_warnings]:
        ws.progress.say(warning)
    snapshot = freeze(split, folder, {"source": ws.source.fingerprint(), **_parents(ws, agreed)}, **_made(agreed))
    line = ", ".join(f"{count} {name}" for name, count in snapshot.counts.items()) + f", snapshot {snapshot.sha256[:12]}"
    return {"line": line, "snapshot": snapshot.sha256, "counts": snapshot.counts, "audit": report.to_dict()}


def _check_enough(ws: Workspace, pairs: int) -> None:
    needed = ws.settings.dpo.batch_size
    if ws.settings.policy.algorithm == "dpo" and pairs < needed:
        raise DataProblem(
            f"there are {pairs} pairs to learn from, fewer than one batch of {needed}", "Lower dpo.batch_size, or give more pairs."
        )


def criterion_of(ws: Workspace) -> Any:
    """The criterion of the settings: a built-in one, or the user's own question."""
    from heedful.feedback.criteria import Criterion, criterion_named

    chosen = ws.settings.feedback
    return Criterion(chosen.criterion, chosen.question, chosen.higher_is) if chosen.question else criterion_named(chosen.criterion)


def _consensus(ws: Workspace) -> Consensus:
    from heedful.feedback.agreed import Consensus

    return Consensus.from_dict(json.loads((ws.folder("feedback") / "consensus.json").read_text()))


def _pairs_from_consensus(ws: Workspace, agreed: Consensus, rankings: Sequence[Ranking]) -> list[Any]:
    from heedful.pairs.build import from_consensus, versions_read

    return from_consensus(agreed, ws.prompts("train"), ws.completions(), criterion_of(ws).name, versions_read(rankings))


def _made(agreed: Consensus | None) -> dict[str, Any]:
    """How the pairs were made, as their snapshot says it."""
    if agreed is None:
        return {"algorithm": "user file"}
    return {"algorithm": agreed.algorithm, "version": agreed.version, "parameters": agreed.parameters}


def _parents(ws: Workspace, agreed: Consensus | None) -> dict[str, str]:
    """From what: the judgements as they stood, and of them the rankings that counted."""
    return {"judgements": ws.result("feedback")["judgements"]["sha256"], "rankings": agreed.input_sha256} if agreed else {}


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
