"""Made-up but realistic rows of feedback for the tests of its figures."""

from __future__ import annotations

from datetime import date, timedelta
from random import Random

from heedful.maths.statistics import wilson

Rows = list[dict[str, object]]


def labelers() -> Rows:
    """Nine who agree as published labelers do, one who guesses, one who reads the scale upside down."""
    chance, rows = Random(0), []
    for name, rate in (
        ("ada", 0.78),
        ("ben", 0.74),
        ("王小明", 0.76),
        ("Émile de la Tour-Saint-Martin", 0.71),
        ("dan", 0.69),
        ("eve", 0.75),
    ):
        judged = chance.randint(40, 400)
        share = wilson(round(rate * judged), judged)
        rows.append(
            {"labeler": name, "agreement": share.estimate, "low": share.low, "high": share.high, "judgements": judged, "note": "agrees"}
        )
    for name, right, note in (("rory", 93, "no better than guessing"), ("uma", 50, "reads the scale upside down")):
        share = wilson(right, 180)
        rows.append(
            {
                "labeler": name,
                "agreement": share.estimate,
                "low": share.low,
                "high": share.high,
                "judgements": 180,
                "note": note,
                "flagged": True,
            }
        )
    return rows


def strata() -> Rows:
    counts = {
        "language": {"native": 31, "learnt": 14, "not stated": 6},
        "age": {"18-29": 22, "30-44": 17, "45-59": 8, "60+": 3, "not stated": 1},
        "region": {"Europe": 41, "Africa": 3},
    }
    return [
        {"stratum": stratum, "group": group, "people": people} for stratum, groups in counts.items() for group, people in groups.items()
    ]


def calibration() -> Rows:
    rows: Rows = []
    for predicted, observed, number in ((0.54, 0.52, 420), (0.65, 0.66, 610), (0.75, 0.73, 800), (0.85, 0.82, 1240), (0.95, 0.91, 2100)):
        share = wilson(round(observed * number), number)
        rows.append({"predicted": predicted, "observed": share.estimate, "low": share.low, "high": share.high, "n": number})
    return rows


def days(number: int = 24) -> Rows:
    chance, first = Random(1), date(2025, 3, 3)
    rows: Rows = []
    for k in range(number):
        day = first + timedelta(k)
        if day.weekday() < 5:
            rows.append({"day": f"{day}T09:30:00Z", "judgements": chance.randint(20, 90)})
    return rows
