"""What people type into forms, as settings; every mistake becomes a sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.errors import SettingProblem
from heedful.feedback.criteria import refuse_turned, usual_questions
from heedful.store.comprehension import Question
from heedful.store.projects import CHANGEABLE, Project
from heedful.web.access import text

WHOLE = ("overlap", "max_overlap", "max_shown", "seed")
SHARES = ("random_share", "calibration_share", "repeat_share", "decided")
MINUTES = {"lease": 60, "repeat_after": 3600}
"""Durations as people give them, lease in minutes and repeat_after in hours, and how many seconds that is."""


def project_of(form: Any) -> Project:
    """A new project; without a question it asks what is usual. Raises SettingProblem for what does not make one."""
    named = {name: text(form, name) for name in ("name", "criterion", "question", "higher_is", "task", "tie_policy")}
    named["question"] = named["question"] or usual_questions(named["criterion"]).get(named["task"], "")
    if not named["question"]:
        raise SettingProblem("the project asks nothing", "Write the question that labelers answer.")
    refuse_turned(named["criterion"], named["higher_is"])
    return Project(**named, **numbers(form, WHOLE), **_changeable(form), coverage=coverage_of(text(form, "coverage")))  # type: ignore[arg-type]


def changes_of(form: Any, before: Project) -> dict[str, Any]:
    """What a form changes of a project; nothing else may change once people are asked."""
    given = {
        **_changeable(form),
        **numbers(form, ("max_overlap", "max_shown")),
        "tie_policy": text(form, "tie_policy"),
        "state": text(form, "state"),
    }
    return {name: value for name, value in given.items() if name in CHANGEABLE and value != getattr(before, name)}


def _changeable(form: Any) -> dict[str, Any]:
    shares = {name: value / 100 for name, value in numbers(form, SHARES, whole=False).items()}
    times = {name: int(value * MINUTES[name]) for name, value in numbers(form, tuple(MINUTES), whole=False).items()}
    return {**shares, **times, "content_warning": text(form, "content_warning") or None}


def numbers(form: Any, names: Sequence[str], whole: bool = True) -> dict[str, Any]:
    """The fields of a form that are numbers; those that are not there are left out."""
    found = {}
    for name in names:
        given = text(form, name).rstrip("%").strip()
        if not given:
            continue
        try:
            found[name] = int(given) if whole else float(given)
        except (ValueError, OverflowError):
            raise SettingProblem(f"{name} is {given[:40]!r}", "Write a number.") from None
        if abs(found[name]) > 1e9 or found[name] != found[name]:
            raise SettingProblem(f"{name} is {given[:40]!r}", "Write a smaller number.")
    return found


def as_fields(project: Project) -> dict[str, str]:
    """A project as its form shows it."""
    shown = {f.name: str(getattr(project, f.name) or "") for f in dataclasses.fields(Project)}
    shown |= {name: f"{100 * getattr(project, name):g}" for name in SHARES}
    shown |= {name: f"{getattr(project, name) / seconds:g}" for name, seconds in MINUTES.items()}
    kept = [f"{d}={v}:{n}" for d, values in sorted(project.coverage.items()) for v, n in sorted(values.items())]
    return shown | {name: str(getattr(project, name)) for name in WHOLE} | {"coverage": ", ".join(kept)}


def new_password(form: Any) -> str:
    """A password that was typed twice. Raises SettingProblem where it was not the same."""
    password = str(form.get("password", ""))
    if password != form.get("again", ""):
        raise SettingProblem("the two passwords are not the same", "Type the same password twice.")
    return password


def strata_of(typed: str) -> dict[str, str]:
    """``language=native, age=30-44`` as strata."""
    found: dict[str, str] = {}
    for piece in filter(None, (piece.strip() for piece in typed.split(","))):
        dimension, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or not dimension or not value or dimension in found:
            raise SettingProblem(f"the strata say {piece[:80]!r}", "Write them like: language=native, age=30-44")
        found[dimension] = value
    return found


def coverage_of(typed: str) -> dict[str, dict[str, int]]:
    """``language=native:1, age=60+:1`` as places that are kept for strata."""
    found: dict[str, dict[str, int]] = {}
    for piece in filter(None, (piece.strip() for piece in typed.split(","))):
        stratum, colon, count = piece.rpartition(":")
        dimension, equals, value = (part.strip() for part in stratum.partition("="))
        if not (colon and equals and dimension and value and count.strip().isascii() and count.strip().isdigit() and len(count) < 5):
            raise SettingProblem(f"the coverage says {piece[:80]!r}", "Write it like: language=native:1, age=60+:1")
        found.setdefault(dimension, {})[value] = int(count)
    return found


def questions_of(typed: str) -> list[Question]:
    """Questions as people type them: ``? question``, ``- choice``, ``* the right choice``, ``! why``."""
    blocks: list[dict[str, Any]] = []
    for number, line in enumerate(typed.splitlines(), 1):
        mark, rest = line.strip()[:1], line.strip()[1:].strip()
        if not mark:
            continue
        if mark == "?":
            blocks.append({"question": rest, "choices": [], "right": [], "why": ""})
        elif mark in "-*!" and blocks:
            _add(blocks[-1], mark, rest)
        else:
            raise SettingProblem(f"line {number} of the questions is {line.strip()[:60]!r}", "Begin it with ?, -, * or !")
    return [_question(block) for block in blocks]


def _add(block: dict[str, Any], mark: str, rest: str) -> None:
    if mark == "!":
        block["why"] = rest
        return
    if mark == "*":
        block["right"].append(len(block["choices"]))
    block["choices"].append(rest)


def _question(block: Mapping[str, Any]) -> Question:
    if len(block["right"]) != 1:
        raise SettingProblem(f"{block['question'][:60]!r} has {len(block['right'])} right choices", "Mark exactly one with *")
    return Question(block["question"], block["choices"], block["right"][0], block["why"])


def questions_typed(questions: Sequence[Question]) -> str:
    """The inverse of :func:`questions_of`."""
    blocks = []
    for q in questions:
        choices = [f"{'*' if number == q.right else '-'} {choice}" for number, choice in enumerate(q.choices)]
        blocks.append("\n".join([f"? {q.question}", *choices, *([f"! {q.why}"] if q.why else [])]))
    return "\n\n".join(blocks)
