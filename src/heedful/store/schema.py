"""The tables of a store, as the code of today sees them.

Migrations build the tables (``migrations/versions``); a test holds the two together. In one glance:

    project ── criterion             what is judged, and how people are asked
      ├── instructions ── acknowledgement      versions, and who has read which
      ├── prompt ── completion ── completion_origin    what is judged; who wrote it stands apart
      │     └── slot ── judgement_revision       one labeler's place at one prompt; what they said
      │          └── concern                     what they had to say about the task itself
      ├── quarantine                 decisions on whose judgements count, by whom and why
      └── derived_run ── derived_pair, derived_labeler    made from judgements; can be made again
    labeler ── labeler_stratum ── stratum    who judges; the strata of the population stand apart
    event, chain                     everything that happened, in a chain of hashes

Who may come in, and whether they have understood what is asked, stands in ``schema_access``.

Three kinds of row. *Facts* are never changed or removed: triggers in the database forbid it for
``event``, ``judgement_revision``, ``instructions``, ``acknowledgement``, ``concern`` and
``quarantine``. *States* change: ``project``, ``labeler``, ``slot``, and of ``prompt`` whether it is withdrawn and its overlap. *Derived*
rows may be thrown away. No count is stored anywhere: whatever can be counted, is. The view
``judgement`` shows of every judged slot the latest revision: one per slot, by construction.
"""

from __future__ import annotations

import sqlalchemy as sa

from heedful.store import schema_access
from heedful.store.columns import Id, Json, Moment, metadata, partial, reference, words

__all__ = ["VERSION", "metadata", "schema_access"]

VERSION = "0006"
"""The newest migration; a store that says otherwise is older or newer than this code."""

criterion = sa.Table(
    "criterion",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("question", Json, nullable=False),
    sa.Column("higher_is", sa.String(6), nullable=False),
    words("higher_is", "better", "worse"),
    sa.UniqueConstraint("name", "question", "higher_is"),
)

project = sa.Table(
    "project",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("criterion_id", Id, reference("criterion.id"), nullable=False),
    sa.Column("task", sa.String(10), nullable=False),
    sa.Column("tie_policy", sa.String(7), nullable=False),
    sa.Column("overlap", sa.Integer, nullable=False),
    sa.Column("max_overlap", sa.Integer, nullable=False),
    sa.Column("decided", sa.Float, nullable=False),
    sa.Column("random_share", sa.Float, nullable=False),
    sa.Column("calibration_share", sa.Float, nullable=False),
    sa.Column("repeat_share", sa.Float, nullable=False),
    sa.Column("repeat_after", sa.Integer, nullable=False),
    sa.Column("lease", sa.Integer, nullable=False),
    sa.Column("coverage", Json, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("content_warning", Json),
    sa.Column("max_shown", sa.Integer, nullable=False, server_default="9"),
    words("state", "active", "paused", "archived"),
    words("task", "ranking", "thumbs", "correction"),
    words("tie_policy", "none", "sparing", "free"),
    sa.CheckConstraint("1 <= overlap AND overlap <= max_overlap", name="overlap"),
)

instructions = sa.Table(
    "instructions",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("project_id", Id, reference("project.id"), nullable=False),
    sa.Column("version", sa.String(64), nullable=False),
    sa.Column("text", Json),  # null: judgements were imported that name this version, and nobody knows what it said
    sa.Column("published_at", Moment),
    sa.Index(None, "project_id", "version"),
)

labeler = sa.Table(
    "labeler",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("name", sa.String(200), nullable=False, unique=True),
    sa.Column("kind", sa.String(9), nullable=False),
    sa.Column("state", sa.String(11), nullable=False),
    sa.Column("added_at", Moment, nullable=False),
    words("kind", "person", "ai", "simulated"),
    words("state", "active", "paused", "deactivated"),
)

stratum = sa.Table(
    "stratum",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("dimension", sa.String(200), nullable=False),
    sa.Column("value", sa.String(200), nullable=False),
    sa.UniqueConstraint("dimension", "value"),
)

labeler_stratum = sa.Table(
    "labeler_stratum",
    metadata,
    sa.Column("labeler_id", Id, reference("labeler.id"), primary_key=True),
    sa.Column("stratum_id", Id, reference("stratum.id"), primary_key=True),
    sa.Index(None, "stratum_id"),
)

acknowledgement = sa.Table(
    "acknowledgement",
    metadata,
    sa.Column("labeler_id", Id, reference("labeler.id"), primary_key=True),
    sa.Column("instructions_id", Id, reference("instructions.id"), primary_key=True),
    sa.Column("at", Moment, nullable=False),
    sa.Index(None, "instructions_id"),
)

prompt = sa.Table(
    "prompt",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("project_id", Id, reference("project.id"), nullable=False),
    sa.Column("external_id", sa.String(500), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),  # 0, 1, 2, ... in the project: what a uniform draw draws
    sa.Column("content", Json, nullable=False),
    sa.Column("reference", Json),
    sa.Column("columns", Json, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),  # of all that a labeler is shown of it, and of where it came from
    sa.Column("event", Id, reference("event.number", deferrable=True, initially="DEFERRED"), nullable=False),
    sa.Column("calibration", sa.Boolean, nullable=False),
    sa.Column("withdrawn", sa.Boolean, nullable=False),
    sa.Column("overlap", sa.Integer, nullable=False),
    sa.UniqueConstraint("project_id", "external_id"),
    sa.UniqueConstraint("project_id", "number"),
    sa.UniqueConstraint("id", "project_id"),  # so that a slot's project can be held to its prompt's
    sa.Index("ix_prompt_event", "event", "id"),
)
_few = prompt.c.calibration, prompt.c.withdrawn
sa.Index("ix_prompt_calibration", prompt.c.project_id, prompt.c.number, sqlite_where=_few[0], postgresql_where=_few[0])
sa.Index("ix_prompt_withdrawn", prompt.c.project_id, sqlite_where=_few[1], postgresql_where=_few[1])

completion = sa.Table(
    "completion",
    metadata,
    sa.Column("id", Id, primary_key=True, autoincrement=False),
    sa.Column("prompt_id", Id, reference("prompt.id"), nullable=False),
    sa.Column("text", Json, nullable=False),
    sa.Index(None, "prompt_id"),
)

completion_origin = sa.Table(
    "completion_origin",
    metadata,
    sa.Column("completion_id", Id, reference("completion.id"), primary_key=True, autoincrement=False),
    sa.Column("project_id", Id, reference("project.id"), nullable=False),
    sa.Column("external_id", sa.String(500), nullable=False),  # may name the model, so it stands here
    sa.Column("model", Json, nullable=False),
    sa.Column("seed", Json, nullable=False),
    sa.Column("sampling", Json, nullable=False),
    sa.Column("token_ids", Json, nullable=False),
    sa.Column("finish_reason", sa.String(6), nullable=False),
    sa.UniqueConstraint("project_id", "external_id"),
)

slot = sa.Table(
    "slot",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("project_id", Id, nullable=False),
    sa.Column("prompt_id", Id, nullable=False),
    sa.Column("k", sa.Integer),  # which of the prompt's places of the overlap: 1, 2, ...; null outside of it
    sa.Column("purpose", sa.String(11), nullable=False),
    sa.Column("state", sa.String(7), nullable=False),
    sa.Column("stratum_id", Id, reference("stratum.id")),  # whom the place is kept for
    sa.Column("labeler_id", Id, reference("labeler.id")),
    sa.Column("at_random", sa.Boolean, nullable=False),
    sa.Column("token", sa.String(64), unique=True),
    sa.Column("asked_at", Moment),
    sa.Column("lease_until", Moment),
    sa.Column("shown", Json),  # completion ids in the order in which the labeler sees them
    sa.Column("retired_in", Id, reference("event.number")),  # since which event the judgement no longer counts
    sa.ForeignKeyConstraint(["prompt_id", "project_id"], ["prompt.id", "prompt.project_id"], ondelete="RESTRICT"),
    words("purpose", "overlap", "calibration", "repeat", "extra", "ruling"),
    words("state", "open", "leased", "judged", "skipped", "lapsed", "retired"),
    sa.CheckConstraint("(state = 'open') = (labeler_id IS NULL)", name="labeler"),
    sa.CheckConstraint("(state = 'open') = (shown IS NULL)", name="shown"),
    sa.CheckConstraint("(state = 'leased') = (lease_until IS NOT NULL)", name="lease"),
    sa.CheckConstraint("(state = 'retired') = (retired_in IS NOT NULL)", name="retired"),
    sa.CheckConstraint("(k IS NOT NULL) = (purpose = 'overlap' AND state IN ('open', 'leased', 'judged'))", name="k"),
    # The overlap is exact because these two hold, whoever does what at the same time:
    sa.UniqueConstraint("prompt_id", "k"),
    partial(
        "uq_slot_voice", "prompt_id", "labeler_id", where="purpose <> 'repeat' AND state <> 'lapsed' AND state <> 'retired'", unique=True
    ),
    partial("uq_slot_repeat", "prompt_id", "labeler_id", where="purpose = 'repeat' AND state <> 'retired'", unique=True),
    # Whoever opens a second tab gets the same task again.
    partial("uq_slot_lease", "project_id", "labeler_id", where="state = 'leased'", unique=True),
    partial("ix_slot_places", "project_id", "stratum_id", "prompt_id", "k", where="state IN ('open', 'leased')"),
    partial("ix_slot_judged", "project_id", "id", where="state IN ('judged', 'retired')"),
    sa.Index("ix_slot_labeler", "project_id", "labeler_id", "state", "purpose"),
)

judgement_revision = sa.Table(
    "judgement_revision",
    metadata,
    sa.Column("slot_id", Id, reference("slot.id"), primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key", sa.String(200), nullable=False, unique=True),  # the sender's: the same key again is the same answer
    sa.Column("instructions_id", Id, reference("instructions.id"), nullable=False),
    sa.Column("answer", Json, nullable=False),
    sa.Column("active_ms", sa.BigInteger),  # all time spent on the judgement up to this revision
    sa.Column("judged_at", Moment),  # null: imported without a time
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("event", Id, reference("event.number", deferrable=True, initially="DEFERRED"), nullable=False),
    sa.Index("ix_judgement_revision_event", "event", "slot_id", "number"),
)

concern = sa.Table(
    "concern",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("slot_id", Id, reference("slot.id"), nullable=False),
    sa.Column("skipped", sa.Boolean, nullable=False),
    sa.Column("reason", Json, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Index(None, "slot_id"),
)

event = sa.Table(
    "event",
    metadata,
    sa.Column("number", Id, primary_key=True, autoincrement=False),
    sa.Column("at", Moment, nullable=False),
    sa.Column("actor", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(50), nullable=False),
    sa.Column("details", Json, nullable=False),
    sa.Column("previous", sa.String(64), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
)

chain = sa.Table(
    "chain",  # one row: where the chain of events ends. Whoever holds it writes the next event.
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", Id, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.CheckConstraint("id = 1", name="one"),
)

derived_run = sa.Table(
    "derived_run",
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("project_id", Id, reference("project.id"), nullable=False),
    sa.Column("algorithm", sa.String(200), nullable=False),
    sa.Column("version", sa.String(50), nullable=False),
    sa.Column("parameters", Json, nullable=False),
    sa.Column("as_of", Id, reference("event.number"), nullable=False),
    sa.Column("input_sha256", sa.String(64), nullable=False),
    sa.Column("made_at", Moment, nullable=False),
    sa.Column("summary", Json),  # what was found of the project as a whole
    sa.Index(None, "project_id", "id"),
)

derived_pair = sa.Table(
    "derived_pair",
    metadata,
    sa.Column("run_id", Id, reference("derived_run.id"), primary_key=True),
    sa.Column("chosen_id", Id, reference("completion.id"), primary_key=True),
    sa.Column("rejected_id", Id, reference("completion.id"), primary_key=True),
    sa.Column("prompt_id", Id, reference("prompt.id"), nullable=False),
    sa.Column("p", sa.Float, nullable=False),
    sa.Column("details", Json, nullable=False),
    sa.CheckConstraint("0 <= p AND p <= 1", name="p"),
    sa.CheckConstraint("chosen_id <> rejected_id", name="two"),
    sa.Index(None, "run_id", "prompt_id", "p"),
)

derived_labeler = sa.Table(
    "derived_labeler",
    metadata,
    sa.Column("run_id", Id, reference("derived_run.id"), primary_key=True),
    sa.Column("labeler_id", Id, reference("labeler.id"), primary_key=True),
    sa.Column("finding", sa.String(50), nullable=False),  # the verdict, by the name that it had first
    sa.Column("details", Json, nullable=False),
)

quarantine = sa.Table(
    "quarantine",  # the latest decision on a labeler holds
    metadata,
    sa.Column("id", Id, primary_key=True),
    sa.Column("project_id", Id, reference("project.id"), nullable=False),
    sa.Column("labeler_id", Id, reference("labeler.id"), nullable=False),
    sa.Column("quarantined", sa.Boolean, nullable=False),
    sa.Column("decided_by", sa.String(200), nullable=False),
    sa.Column("why", Json, nullable=False),
    sa.Column("at", Moment, nullable=False),
    sa.Index(None, "project_id", "labeler_id", "id"),
)
