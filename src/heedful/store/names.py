"""Names and ids that come from outside."""

from __future__ import annotations

from collections.abc import Mapping

from heedful.errors import DataProblem, SettingProblem

LONGEST_NAME = 200
LONGEST_ID = 500
LONGEST_REASON = 10_000


def refuse_bad_name(kind: str, name: object, longest: int = LONGEST_NAME) -> None:
    """Raise DataProblem for a name that no database, page or log could show as it is."""
    if not isinstance(name, str) or not name.strip() or name != name.strip():
        raise DataProblem(f"the {kind} is called {name!r}", "Give it a name that neither begins nor ends with a space.")
    if len(name) > longest:
        raise DataProblem(f"the {kind} called {name[:40]!r}... has a name of {len(name)} characters", f"Use at most {longest}.")
    if not name.isprintable():
        raise DataProblem(f"the {kind} is called {name!r}, which holds characters that cannot be shown", "Use printable characters.")


def refuse_bad_reason(what: str, why: str) -> None:
    """Raise SettingProblem for a decision without a reason, or with one that nobody would read."""
    if not why.strip():
        raise SettingProblem(f"{what} was given no reason", "Say why: somebody will ask.")
    if len(why) > LONGEST_REASON:
        raise SettingProblem(f"the reason for {what} has {len(why)} characters", f"Say it in at most {LONGEST_REASON}.")


def refuse_bad_strata(strata: Mapping[str, object]) -> None:
    """Raise DataProblem for the strata of a population (value by dimension) of which one has a bad name."""
    for dimension, value in strata.items():
        refuse_bad_name("dimension", dimension)
        refuse_bad_name("stratum", value)
