"""From prompts to pairs: the jobs whose results are rows that people can read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heedful.errors import DataProblem
from heedful.jobs.check import check_run
from heedful.jobs.judgements import collect
from heedful.jobs.workspace import Workspace
from heedful.records import Ranking, write_atomically, write_jsonl

if TYPE_CHECKING:
    from heedful.feedback.agreed import Consensus


def load_prompts(ws: Workspace, folder: Path, needed: Sequence[str] = ("train", "validation", "test")) -> dict[str, Any]:
    """Read, split and freeze the prompts; every later stage reads these files. Splits that are ``needed`` may not be empty.

    Prompts that are too long for the model are counted, and cut, dropped or refused as the settings say.
    """
    from heedful.prompts.chat import encode_prompts

    found, splits = {}, {}
    for split, prompts in ws.source.prompts().items():
        _, report = encode_prompts(prompts, ws.tokenizer, ws.network.encoder_decoder, ws.max_prompt_tokens, ws.settings.prompts.too_long)
        if report.too_long:
            ws.progress.say(f"{split}: {report.sentence()}")
        kept = splits[split] = [prompts[i] for i in report.kept]
        found[split] = {"prompts": len(kept), "too_long": report.too_long, "sha256": write_jsonl(folder / f"{split}.jsonl", kept)}
    check_run(ws, splits, needed)
    return {"splits": found, "line": ", ".join(f"{row['prompts']} {split}" for split, row in found.items())}


def sample(ws: Workspace, folder: Path) -> dict[str, Any]:
    """Several completions of each training prompt that people will judge."""
    from heedful.completions.sample import sample_completions
    from heedful.engines.base import Sampling
    from heedful.engines.sampling import LocalSampler

    chosen = ws.settings.completions
    prompts = ws.prompts("train")[: chosen.prompts]
    completions = sample_completions(
        LocalSampler(ws.network, "reference"),
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
    """Rankings, what is to be said of each labeler, and the consensus of those who are not in doubt."""
    from heedful.feedback.agreement import panel_agreement
    from heedful.feedback.consensus import consensus
    from heedful.feedback.labelers import flagged, labeler_reports

    criterion = criterion_of(ws)
    collected = collect(ws, folder, criterion)
    rankings = collected.rankings
    words = {c.id: len(c.text.split()) for c in ws.completions()}
    reports = labeler_reports(rankings, criterion, words=words)
    in_doubt = flagged(reports)
    excluded = in_doubt if ws.settings.feedback.quarantine_flagged else []
    agreed = consensus(rankings, criterion, exclude=excluded)
    write_jsonl(folder / "rankings.jsonl", rankings)
    write_jsonl(folder / "labelers.jsonl", reports)
    write_atomically(folder / "consensus.json", json.dumps(agreed.to_dict()).encode())
    return {
        "line": f"{len(rankings)} rankings by {len(reports)} labelers; to look at: {', '.join(in_doubt) or 'none'}",
        "rankings": len(rankings),
        "labelers": len(reports),
        "judgements": {"event": collected.snapshot.event, "sha256": collected.snapshot.sha256, "set_aside": collected.set_aside},
        "labelers_flagged": in_doubt,
        "quarantined": excluded,
        "consensus": agreed.reason,
        "decided_pairs": len(agreed.decided),
        "agreement": panel_agreement(rankings, criterion, exclude=excluded).to_dict(),
    }


def build_pairs(ws: Workspace, folder: Path) -> dict[str, Any]:
    """A frozen, hashed snapshot of pairs, split by prompt; training reads nothing else."""
    from heedful.pairs.audit import audit
    from heedful.pairs.snapshot import freeze, split_pairs

    from_file = ws.settings.reward.kind == "pairs"
    rankings = [] if from_file else read_rankings(ws.folder("feedback") / "rankings.jsonl")
    agreed = None if from_file else _agreed(ws)
    pairs = _pairs_from_file(ws) if agreed is None else _pairs_from_consensus(ws, agreed, rankings)
    split = split_pairs(pairs, ws.settings.reward.held_out, ws.settings.prompts.shuffle_seed)
    _check_enough(ws, len(split["train"]))
    report = audit(split, rankings, criterion_of(ws).preferred)
    for warning in [*report.warnings, *report.labeler_warnings]:
        ws.progress.say(warning)
    parents = {"source": ws.source.fingerprint()}
    if agreed is None:
        snapshot = freeze(split, folder, parents, "user file")
    else:
        parents["rankings"] = agreed.input_sha256
        snapshot = freeze(split, folder, parents, agreed.algorithm, int(agreed.version), agreed.parameters)
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


def _agreed(ws: Workspace) -> Consensus:
    from heedful.feedback.agreed import Consensus

    return Consensus.from_dict(json.loads((ws.folder("feedback") / "consensus.json").read_text()))


def _pairs_from_consensus(ws: Workspace, agreed: Consensus, rankings: Sequence[Ranking]) -> list[Any]:
    from heedful.pairs.build import from_consensus

    versions = ",".join(sorted({r.instructions_version for r in rankings}))
    return from_consensus(agreed, ws.prompts("train"), ws.completions(), criterion_of(ws).name, versions)


def _pairs_from_file(ws: Workspace) -> list[Any]:
    from heedful.pairs.load import load_pairs

    return load_pairs(Path(ws.settings.reward.path), ws.progress.say)


def read_rankings(path: Path) -> list[Ranking]:
    """Rankings from a JSON-lines file; a row that is none is named by its number."""
    from heedful.pairs.formats import rankings

    return [row for row in rankings.read(path) if isinstance(row, Ranking)]
