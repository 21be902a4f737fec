"""Who judges what, and in which order completions are shown. Pure.

Both depend on a seed and on names only, so they can be worked out again at any time.
:func:`assign` plans a whole panel beforehand; people who come and go are asked one task at a time
by :mod:`heedful.feedback.asking`, which draws the kind of task here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import TYPE_CHECKING, Literal

from heedful.errors import DataProblem, SettingProblem

if TYPE_CHECKING:
    from heedful.store.projects import Project

Assignment = dict[str, list[str]]
"""Prompt id to the labelers who judge it."""

Kind = Literal["random", "calibration", "repeat", "directed"]
"""How the next task is chosen; see :mod:`heedful.feedback.asking`."""


def assign(prompt_ids: Sequence[str], labelers: Sequence[str], labelers_per_prompt: int, seed: int) -> Assignment:
    """Give every prompt ``labelers_per_prompt`` different labelers, with equal loads.

    Labelers are taken one by one: the least loaded first, which keeps all loads within one of
    each other; among those the one who has met the labelers already on the prompt least often,
    so that every two labelers come to share prompts; among those by chance.

    Raises SettingProblem where there are too few labelers, and DataProblem for repeated prompts.
    """
    _check(prompt_ids, labelers, labelers_per_prompt)
    chance = Random(f"assign {seed}")
    load: Counter[str] = Counter()
    met: Counter[frozenset[str]] = Counter()
    assignment: Assignment = {}
    for prompt_id in prompt_ids:
        team: list[str] = []
        for _ in range(labelers_per_prompt):
            free = [name for name in labelers if name not in team]
            team.append(min(free, key=lambda name: (load[name], sum(met[frozenset((name, mate))] for mate in team), chance.random())))
            load[team[-1]] += 1
        met.update(frozenset(two) for two in combinations(team, 2))
        assignment[prompt_id] = team
    return assignment


def shown_order(seed: int, labeler: str, prompt_id: str, completion_ids: Sequence[str]) -> list[str]:
    """The completions in the random order in which this labeler sees them.

    It does not depend on the order they come in, which could tell which model wrote what.
    """
    order = sorted(completion_ids)
    Random(f"order {(seed, labeler, prompt_id)!r}").shuffle(order)
    return order


def other_order(seed: int, labeler_id: int, prompt_id: int, first: Sequence[int]) -> list[int]:
    """Another order than the ``first``, for the same labeler and prompt; a single completion has none."""
    order, chance = list(first), Random(f"other order {(seed, labeler_id, prompt_id)!r}")
    while len(order) > 1 and order == list(first):
        chance.shuffle(order)
    return order


def kinds_in_order(asked: Project, chance: Random) -> list[Kind]:
    """The kind of task that comes next, by the project's shares, and what to fall back on where there is none of it.

    Repetitions are nothing to fall back on: they come at their share or not at all.
    """
    draw, drawn = chance.random(), "directed"
    shares: list[tuple[Kind, float]] = [
        ("random", asked.random_share),
        ("calibration", asked.calibration_share),
        ("repeat", asked.repeat_share),
    ]
    for kind, share in shares:
        if draw < share:
            drawn = kind
            break
        draw -= share
    fallback: list[Kind] = ["directed", "random", "calibration"]
    return list(dict.fromkeys([drawn, *fallback]))  # type: ignore[list-item]


def _check(prompt_ids: Sequence[str], labelers: Sequence[str], labelers_per_prompt: int) -> None:
    repeated = [name for name, times in Counter(labelers).items() if times > 1]
    if repeated:
        raise SettingProblem(f"labeler {repeated[0]!r} is named twice", "Give every labeler a name of their own.")
    if not 1 <= labelers_per_prompt <= len(labelers):
        raise SettingProblem(
            f"labelers_per_prompt is {labelers_per_prompt} with {len(labelers)} labeler(s)",
            f"Set it between 1 and {len(labelers)}, or invite more labelers." if labelers else "Invite labelers first.",
        )
    twice = [prompt_id for prompt_id, times in Counter(prompt_ids).items() if times > 1]
    if twice:
        raise DataProblem(f"prompt id {twice[0]!r} stands twice", "Give every prompt an id of its own.")
