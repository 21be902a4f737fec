"""What people say of a run's completions, by way of a store: the run's own, or the one that people label in.

A run's own store is ``judgements.db`` in the stage's folder. Whichever it is, the run records
number and hash of what it took, so that a label that comes later cannot change a result.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from heedful.errors import DataProblem, SettingProblem
from heedful.feedback.criteria import Criterion, criterion_named, refuse_turned
from heedful.feedback.said import Said, said_in
from heedful.jobs.workspace import Workspace
from heedful.records import Completion, Labeler, Prompt, Ranking

if TYPE_CHECKING:
    import sqlalchemy as sa

    from heedful.feedback.agreed import Consensus
    from heedful.feedback.labelers import LabelerReport
    from heedful.store import Snapshot, Store


def criterion_of(ws: Workspace) -> Criterion:
    """The criterion of the settings: a built-in one, or the user's own question.

    Raises SettingProblem for a built-in one taken the other way round. In a store that people label in, only a new project is
    refused for that, when it is made: one that is there already is read as it is.
    """
    chosen = ws.settings.feedback
    if not chosen.question:
        return criterion_named(chosen.criterion)
    if chosen.source != "store":
        refuse_turned(chosen.criterion, chosen.higher_is)
    return Criterion(chosen.criterion, chosen.question, chosen.higher_is)


def collect(ws: Workspace, folder: Path, criterion: Criterion) -> Said:
    """What was said of the run's completions. What is not in the store yet is put there first.

    Raises DataProblem where nobody who counts has judged them yet: then people are asked, and the run goes on later.
    """
    shared = ws.settings.feedback.source == "store"
    asked, completions = ws.prompts("train"), ws.completions()
    with _open(ws, folder) as store:
        project = _project(ws, store, criterion)
        store.write(lambda c: add_unknown(c, project, asked, completions, store.actor, store.clock()))
        if not shared and store.snapshot(project).judgements == 0:
            _keep(store, project, ws.source.rankings(asked, completions), criterion, ws.source.labelers())
        said = said_in(store, project).about({c.id for c in completions})
    if not said.counting(said.judgements):
        quarantined = f"; in quarantine are {', '.join(sorted(said.quarantined))}" if said.judgements else ""
        raise DataProblem(
            f"nobody who counts has judged this run's completions yet (project {project!r} in {store.database.where}{quarantined})",
            "Let people judge them there, then go on with --resume.",
        )
    return said


def keep(ws: Workspace, folder: Path, said: Said, agreed: Consensus, reports: Sequence[LabelerReport]) -> None:
    """Put what was worked out beside the judgements that it was worked out from."""
    assert said.snapshot is not None
    with _open(ws, folder) as store:
        save(store, said.snapshot, agreed, reports)


def save(store: Store, made_from: Snapshot, agreed: Consensus, reports: Sequence[LabelerReport]) -> int:
    """Store a consensus and what is said of labelers, stamped with how and from what they were made; returns the run's number."""
    from heedful.store import derived

    pairs = [
        derived.DerivedPair(p.prompt_id, p.chosen_id, p.rejected_id, p.p, {name: getattr(p, name) for name in _EVIDENCE})
        for p in agreed.pairs
    ]
    found = [derived.DerivedLabeler(r.labeler, r.verdict, r.to_dict()) for r in reports]
    parameters = {**agreed.parameters, "rankings_sha256": agreed.input_sha256}
    made = (made_from, agreed.algorithm, agreed.version, parameters)
    return store.write(lambda c: derived.save(c, made_from.project, *made, pairs, found, store.clock()))


_EVIDENCE = ("votes_for", "votes_against", "ties", "by_flag", "margin", "margin_sd")


def _open(ws: Workspace, folder: Path) -> Store:
    from heedful.store import Store

    chosen = ws.settings.feedback
    where = chosen.path if chosen.source == "store" else folder / "judgements.db"
    return Store.open(where, create=True, actor="heed run", warn=ws.progress.say)


def _project(ws: Workspace, store: Store, criterion: Criterion) -> str:
    """The project of the settings, which is made where there is none. Raises SettingProblem where it asks for something else."""
    from heedful.feedback.instructions import instructions_for
    from heedful.store import Project, projects

    chosen = ws.settings.feedback
    if chosen.project not in store.read(projects.names):
        refuse_turned(criterion.name, criterion.higher_is)
        overlap = chosen.labelers_per_prompt
        asked = (criterion.name, criterion.question, criterion.higher_is)
        store.create_project(Project(chosen.project, *asked, overlap=overlap, max_overlap=max(5, overlap), seed=ws.settings.seed))
        store.publish(chosen.project, instructions_for(criterion).text)
    _, there = store.read(lambda c: projects.find(c, chosen.project))
    if (there.criterion, there.higher_is) != (criterion.name, criterion.higher_is):
        raise SettingProblem(
            f"project {chosen.project!r} is about {there.criterion!r} (higher is {there.higher_is}), "
            f"and the run about {criterion.name!r} (higher is {criterion.higher_is})",
            "Set feedback.criterion, feedback.higher_is with a feedback.question, or feedback.project.",
        )
    return chosen.project


def add_unknown(
    connection: sa.Connection, project: str, asked: Iterable[Prompt], completions: Iterable[Completion], actor: str, now: datetime
) -> int:
    """Put prompts that a project does not have yet into it, with their completions; returns their number.

    Those without a completion cannot be judged and are left out.
    """
    from heedful.store import projects, prompts

    by_prompt: dict[str, list[Completion]] = {}
    for completion in completions:
        by_prompt.setdefault(completion.prompt_id, []).append(completion)
    items = [(prompt, by_prompt[prompt.id]) for prompt in asked if prompt.id in by_prompt]
    project_id, _ = projects.find(connection, project)
    return prompts.add(connection, project, prompts.unknown(connection, project_id, items), False, actor, now)


def _keep(store: Store, project: str, rankings: list[Ranking], criterion: Criterion, people: Sequence[Labeler]) -> None:
    """Put rankings from elsewhere into the run's own store; of several by one labeler of one prompt the last counts, repeats apart.

    Labelers of whom nothing but the name is known are persons.
    """
    last = {(row.prompt_id, row.labeler, row.purpose == "repeat"): row for row in rankings if row.criterion == criterion.name}
    if rankings and not last:
        named = ", ".join(sorted({row.criterion for row in rankings}))
        raise DataProblem(f"there are no rankings by {criterion.name!r} (there are: {named})", "Set feedback.criterion.")
    there, known = {labeler.name for labeler in store.labelers()}, {labeler.name: labeler for labeler in people}
    store.add_labelers(*(known.get(name, Labeler(name)) for name in sorted({row.labeler for row in rankings} - there)))
    store.import_judgements(project, last.values())
