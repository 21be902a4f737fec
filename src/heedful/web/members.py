"""Who works on a project, and what is decided about them: for pages and for the API alike."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import sqlalchemy as sa

from heedful.errors import DataProblem, SettingProblem
from heedful.store import Store, accounts, api_tokens, comprehension, invitations, labelers
from heedful.store.accounts import Member
from heedful.store.names import refuse_bad_name
from heedful.web import analysis
from heedful.web.access import Refusal, Visitor

LONGEST_INVITATION = 60
JUDGES_FOR = 90
"""Days for which a judge's token works, unless somebody says otherwise."""


def member(store: Store, project_id: int, number: int) -> Member:
    """Somebody of this very project, by their account: others cannot be touched from here. Raises Refusal."""
    found = store.read(lambda c: [m for m in accounts.members(c, project_id) if m.account.id == number])
    if not found:
        raise Refusal(404, "not_found", "There is nobody like that in this project.")
    return found[0]


def invite(store: Store, visitor: Visitor, role: str, strata: Mapping[str, str], days: int) -> str:
    """The secret of an invitation to a project. Raises SettingProblem for a role that there is not, or for too long."""
    if not 1 <= days <= LONGEST_INVITATION:
        raise SettingProblem(f"the invitation should last {days} days", f"Choose 1 to {LONGEST_INVITATION}.")
    whom = (role, visitor.project_id, strata, visitor.user)
    return store.write(lambda c: invitations.make(c, *whom, store.clock(), timedelta(days=days)))


def add_judge(store: Store, visitor: Visitor, name: str, days: int) -> str:
    """A program that judges under a name of its own: an account as which nobody signs in; returns its token, which is told only now.

    Raises DataProblem for a name that is taken, SettingProblem for a token that should last too long.
    """
    refuse_bad_name("judge", name, 100)
    by, now = visitor.user.actor, store.clock()

    def work(c: sa.Connection) -> str:
        judge = accounts.create(c, name, None, False, {}, by, now, kind="ai")
        accounts.set_role(c, judge.id, visitor.project_id, "labeler", by, now)
        return api_tokens.make(c, judge, "to judge", ["label"], days, now, by)

    return store.write(work)


def renew_token(store: Store, visitor: Visitor, number: int, days: int) -> str:
    """Another token for a program that has nothing but one; those that it had work no longer. It is told only now.

    Raises DataProblem for anybody who can sign in: with their token one would judge in their name, elsewhere too.
    SettingProblem for a token that should last too long.
    """
    judge, by, now = member(store, visitor.project_id, number).account, visitor.user.actor, store.clock()

    def work(c: sa.Connection) -> str:
        accounts.hold(c, judge.id)  # so that of two who do this at once, the second one's token is the one that works
        if judge.id not in accounts.by_token_alone(c, visitor.project_id):
            raise DataProblem(f"{judge.labeler} is no program that acts by a token alone", "Whoever can sign in makes their own tokens.")
        api_tokens.revoke_all(c, judge, by, now)
        return api_tokens.make(c, judge, "to judge", ["label"], days, now, by)

    return store.write(work)


def decide(store: Store, visitor: Visitor, labeler: str, aside: bool, why: str) -> None:
    """Quarantine somebody's judgements, or let them count again. Raises DataProblem for whoever could not have judged here."""
    known = {m.account.labeler for m in store.read(lambda c: accounts.members(c, visitor.project_id))}
    found = analysis.newest(store, visitor.asked.name)
    if labeler not in known | {one.labeler for one in (found.labelers if found else [])}:
        raise DataProblem("there is no such labeler in this project", "Check the name.")
    store.write(lambda c: labelers.decide(c, visitor.asked.name, labeler, aside, visitor.user.actor, why, store.clock()))


def decide_check(store: Store, visitor: Visitor, number: int, decision: str, why: str) -> None:
    """Decide on somebody who has used up their tries at the questions. Raises SettingProblem for no decision, or none that has a reason."""
    who = member(store, visitor.project_id, number).account
    what = (visitor.project_id, who.labeler_id, decision, visitor.user.actor, why)
    store.write(lambda c: comprehension.decide(c, *what, store.clock()))


def pause(store: Store, visitor: Visitor, number: int, paused: bool) -> None:
    """Ask somebody nothing new here, or let them go on."""
    member(store, visitor.project_id, number)
    store.write(lambda c: accounts.set_paused(c, number, visitor.project_id, paused, visitor.user.actor, store.clock()))


def set_kind(store: Store, visitor: Visitor, number: int, kind: str) -> None:
    """Say whether a person or a program judges. Raises SettingProblem for anything else."""
    if kind not in ("person", "ai"):
        raise SettingProblem(f"an account cannot be {kind!r}", "Choose person or ai.")
    labeler = member(store, visitor.project_id, number).account.labeler
    store.write(lambda c: labelers.set_kind(c, labeler, kind, visitor.user.actor, store.clock()))
